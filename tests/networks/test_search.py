from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from onlygood.core.optimizers import SGD, Adam, Schedule
from onlygood.networks.search import Aim, Copies, descended, starts

TARGETS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.0]])
OPTIMIZERS = [
    (Adam(lr=0.1, betas=(0.8, 0.9), weight_decay=0.01), torch.optim.Adam),
    (SGD(lr=0.05, momentum=0.9, nesterov=True), torch.optim.SGD),
    (SGD(lr=0.05, weight_decay=0.1), torch.optim.SGD),
]


def distance(z: Tensor, scale: Tensor) -> Tensor:
    return (scale * z - TARGETS[: len(z)]).square().sum(1)


@pytest.mark.parametrize(("optimizer", "reference"), OPTIMIZERS)
def test_steps_are_those_of_torch_for_all_tensors(optimizer, reference):
    fast = type(optimizer)(**{**vars(optimizer), "lr": 0.02, "schedule": Schedule(shares=(0.5,))})
    start = [torch.ones(3, 2), torch.full((3, 1), 0.7)]
    with torch.no_grad():
        found = descended(lambda *v: Aim(distance(*v)), start, [optimizer, fast], steps=6)

    expected = [tensor.clone().requires_grad_() for tensor in start]
    settings = {k: v for k, v in vars(optimizer).items() if k != "schedule"}
    moves = reference([{"params": [tensor]} for tensor in expected], **settings)
    for step in range(6):
        moves.param_groups[1]["lr"] = 0.02 * (0.1 if step >= 3 else 1)
        moves.zero_grad()
        distance(*expected).sum().backward()
        moves.step()
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach())
    assert torch.equal(start[0], torch.ones(3, 2))


def test_gradients_may_lie_otherwise_in_memory():
    torch.manual_seed(0)
    towards = torch.randn(2, 3, 4, 5)

    def aim(x: Tensor) -> Aim:
        laid = x.contiguous(memory_format=torch.channels_last)
        return Aim((laid - towards).square().flatten(1).sum(1))

    start = torch.zeros_like(towards)
    (found,) = descended(aim, [start], Adam(lr=0.1), steps=4)
    x = start.clone().requires_grad_()
    moves = torch.optim.Adam([x], lr=0.1)
    for _ in range(4):
        moves.zero_grad()
        (x - towards).square().sum().backward()
        moves.step()
    torch.testing.assert_close(found, x.detach())


def test_a_picture_that_is_done_stays_and_the_others_go_on():
    def aim(z: Tensor) -> Aim:
        return Aim((z - TARGETS).square().sum(1), done=z[:, 0] >= 0.4)

    start = torch.tensor([[0.4, 0.0], [0.2, 0.0], [-20.0, 0.0]])
    (found,) = descended(aim, [start], SGD(lr=0.25), steps=3)
    # Every step halves what is left to the target: 0.2 to 0.35 to 0.425, where it is done.
    assert torch.equal(found[0], start[0])
    torch.testing.assert_close(found[1], torch.tensor([0.425, 2.25]))
    torch.testing.assert_close(found[2], torch.tensor([4 - 24 / 8, 0.0]))


def test_a_gradient_can_be_scaled_and_a_place_clamped():
    def aim(z: Tensor) -> Aim:
        return Aim(z.sum(1), scale=torch.tensor([[1.0, 0.0]]).expand_as(z))

    (found,) = descended(
        aim, [torch.ones(2, 2)], SGD(lr=0.7), steps=2, project=lambda z: z.clamp(min=0)
    )
    assert found.tolist() == [[0, 1], [0, 1]]


@pytest.fixture
def generator() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    return network.eval()


def tuned(network: nn.Module, targets: Tensor, start: Tensor) -> Sequence[Tensor]:
    """Codes and weights with which the network gives targets back."""
    copies = Copies(network)
    return descended(
        lambda z, *weights: Aim((copies(weights, z) - targets).square().sum(1)),
        [start, *copies.start(len(targets))],
        [Adam(lr=0.1), *[Adam(lr=0.01)] * len(copies.names)],
        steps=5,
    )


def test_copies_of_weights_are_those_of_a_network_tuned_for_each_picture_alone(
    generator: nn.Sequential,
):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    (start,) = starts(TARGETS, 2, seed=3)
    z, *weights = tuned(generator, TARGETS, start)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    # By torch's optimiser on the network itself, for the second picture.
    code = start[1:2].clone().requires_grad_()
    moves = torch.optim.Adam(
        [{"params": [code], "lr": 0.1}, {"params": list(generator.parameters()), "lr": 0.01}]
    )
    for _ in range(5):
        moves.zero_grad()
        (generator(code) - TARGETS[1:2]).square().sum().backward()
        moves.step()
    torch.testing.assert_close(z[1:2], code.detach())
    for mine, theirs in zip(weights, generator.parameters(), strict=True):
        torch.testing.assert_close(mine[1], theirs.detach())


def test_a_picture_is_found_alone_as_in_a_batch(generator: nn.Sequential):
    (start,) = starts(TARGETS, 2, seed=3)
    together = tuned(generator, TARGETS, start)
    for i in range(3):
        (own,) = starts(TARGETS[i : i + 1], 2, seed=3)
        alone = tuned(generator, TARGETS[i : i + 1], own)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i])


def test_starts_are_fixed_by_the_seed_and_equal_for_all_pictures():
    state = torch.get_rng_state()
    places = starts(TARGETS, 4, seed=1, number=2)
    assert places.shape == (2, 3, 4)
    assert torch.equal(places, starts(TARGETS, 4, seed=1, number=2))
    assert torch.equal(places[:, 0], places[:, 2])
    assert not torch.equal(places[0], places[1])
    assert not torch.equal(places, starts(TARGETS, 4, seed=2, number=2))
    assert starts(TARGETS, 50, seed=1, draw=torch.rand).min() >= 0
    assert torch.equal(torch.get_rng_state(), state)


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="score under"):
        descended(lambda z: Aim(z.sum(1)), [torch.ones(1, 1)], SGD(), steps=1)
