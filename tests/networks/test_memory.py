import numpy as np
import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ModelFileError
from onlygood.networks import memory
from onlygood.networks.memory import Memory, Sample, coreset, sample, squared_distances


def rows(n: int, features: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def filled(stored: Tensor) -> Memory:
    kept = Memory(*stored.shape[1:])
    kept.store(stored)
    return kept


def test_distances_are_those_of_the_differences() -> None:
    x, r = rows(5), rows(7, seed=1)
    expected = (x[:, None] - r).square().sum(2)
    torch.testing.assert_close(squared_distances(x, r), expected)
    assert (squared_distances(x, x) >= 0).all()


@pytest.mark.parametrize("block", [1, 20, 2**24])
def test_blocks_are_all_distances_in_order(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(memory, "BLOCK", block)
    x, r = rows(9), rows(7, seed=1)
    blocks = list(filled(r).blocks(x))
    assert max(map(len, blocks)) == max(1, min(9, block // 7))
    torch.testing.assert_close(torch.cat(blocks), squared_distances(x, r))


def test_blocks_keep_the_precision_of_what_is_asked() -> None:
    (block,) = filled(rows(3)).blocks(rows(2).double())
    assert block.dtype == torch.float64


@pytest.mark.parametrize("block", [1, 50, 2**24])
@pytest.mark.parametrize("kept", [4, 20])
def test_the_nearest_come_first(monkeypatch: pytest.MonkeyPatch, block: int, kept: int) -> None:
    monkeypatch.setattr(memory, "BLOCK", block)
    at_once = []

    def watched(x: Tensor, r: Tensor) -> Tensor:
        at_once.append(len(x))
        return squared_distances(x, r)

    monkeypatch.setattr(memory, "squared_distances", watched)
    x, r = rows(9), rows(kept, seed=1)
    expected = torch.cdist(x.double(), r.double()).sort(1).values[:, :3].float()
    torch.testing.assert_close(filled(r).nearest(x, 3), expected)
    # Distances from all that are kept, and differences from three of them, of 6 numbers each.
    assert max(at_once) == max(1, min(9, block // max(kept, 3 * 6)))


def test_what_is_stored_is_at_distance_zero_however_far_from_the_origin() -> None:
    r = 1000 + rows(8)
    assert torch.equal(filled(r).nearest(r, 1), torch.zeros(8, 1))


def test_no_more_neighbours_than_there_are() -> None:
    assert filled(rows(2)).nearest(rows(3), 5).shape == (3, 2)


def test_any_number_of_rows_is_loaded() -> None:
    holder = torch.nn.ModuleDict({"kept": Memory(3, None), "other": Memory()})
    state = {"kept.rows": torch.rand(5, 3, 2), "other.rows": torch.rand(4)}
    holder.load_state_dict(state)
    for name, tensor in state.items():
        assert torch.equal(holder.state_dict()[name], tensor)
    # Not the tensors that were given: what happens to those later must not reach the memory.
    state["kept.rows"].zero_()
    assert holder.state_dict()["kept.rows"].any()


@pytest.mark.parametrize("form", [(5, 4), (5,), (5, 3, 3)])
def test_rows_of_another_form_are_refused(form: tuple[int, ...]) -> None:
    holder = torch.nn.ModuleDict({"kept": Memory(3)})
    with pytest.raises(ModelFileError) as caught:
        holder.load_state_dict({"kept.rows": torch.zeros(form)})
    assert "kept.rows should be of shape (any, 3), got (5" in str(caught.value)


def test_files_hold_triangles_without_their_zeros() -> None:
    triangles = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0)).tril()
    kept = Memory(4, 4, triangular=True)
    kept.store(triangles)
    stored = kept.state_dict()
    assert stored["rows"].shape == (5, 10)
    again = Memory(4, 4, triangular=True)
    again.load_state_dict(stored)
    assert torch.equal(again.rows, triangles)
    with pytest.raises(ModelFileError, match=r"of shape \(any, 6\), got \(5, 10\)"):
        Memory(3, 3, triangular=True).load_state_dict(stored)


def test_an_empty_memory_of_triangles_is_stored_and_loaded() -> None:
    Memory(4, 4, triangular=True).load_state_dict(Memory(4, 4, triangular=True).state_dict())


def test_missing_rows_are_told_of() -> None:
    with pytest.raises(RuntimeError, match=r"Missing key.*rows"):
        Memory(3).load_state_dict({})


def test_a_sample_of_few_is_all() -> None:
    assert torch.equal(sample(iter(rows(10).split(4)), 10), rows(10))


def test_a_sample_does_not_depend_on_batches() -> None:
    whole = torch.arange(1000.0)[:, None]
    first = sample([whole], 50)
    assert first.shape == (50, 1)
    assert (first.diff(dim=0) > 0).all(), "in their order, and none twice"
    for size in (1, 7, 300):
        assert torch.equal(sample(whole.split(size), 50), first)


@pytest.mark.parametrize("sizes", [[400, 350, 250], [1, 9, 990]])
def test_samples_of_parts_make_that_of_the_whole(sizes: list[int]) -> None:
    whole = torch.arange(1000.0)[:, None]
    merged = Sample(50)
    for first, part in zip(np.cumsum([0, *sizes]), whole.split(sizes), strict=False):
        drawn = Sample(50, int(first))
        for batch in part.split(7):
            drawn.add(batch)
        merged.merge(Sample.of(drawn.tensors()))
    assert torch.equal(merged.taken(), sample([whole], 50))


def test_each_has_the_same_chance() -> None:
    chosen = sample(torch.arange(40_000.0)[:, None].split(999), 10_000)
    counts = torch.histc(chosen, bins=4, min=0, max=40_000)
    # 2500 each; the standard deviation is 38.
    assert (counts - 2500).abs().max() < 150


def test_a_sample_holds_a_quarter_more_than_its_limit_at_most() -> None:
    drawn = Sample(8)
    for batch in torch.arange(100.0)[:, None].split(3):
        drawn.add(batch)
        assert sum(map(len, drawn._rows)) <= 8 + 2


def test_a_sample_of_nothing_is_empty() -> None:
    assert len(sample([], 3)) == 0


def test_a_coreset_reaches_the_outskirts() -> None:
    crowd = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    corners = 50 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    chosen = coreset(torch.cat([crowd, corners]), 6)
    assert len(chosen) == 6
    assert all((chosen == corner).all(1).any() for corner in corners)


def test_a_coreset_is_greedy() -> None:
    line = torch.tensor([0.0, 1, 2, 3, 10])[:, None]
    assert coreset(line, 3).flatten().tolist() == [0, 10, 3]
    assert torch.equal(coreset(line, 5), line)
