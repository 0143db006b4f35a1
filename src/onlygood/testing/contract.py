"""What every method promises; `onlygood.testing` runs it on one of yours."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from onlygood.core.errors import TrainingInterrupted
from onlygood.core.method import InputShape, Method
from onlygood.core.resolving import BUDGETS, describe, resolve
from onlygood.core.stage import Batch, Stage
from onlygood.core.terms import Loss
from onlygood.data.preprocess import check_view
from onlygood.data.source import ImageSource
from onlygood.detector import Detector
from onlygood.detector.learning import settled
from onlygood.evaluation.evaluate import evaluate
from onlygood.registry import method_named
from onlygood.testing import cases
from onlygood.testing.cases import (
    case_of,
    fresh,
    images,
    resolved,
    scored,
    store,
    train,
    trained,
    updates,
)
from onlygood.training import Trainer
from onlygood.training.precision import SAFE_ROWS


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    after = module.state_dict()
    assert set(after) == set(before)
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


# What it says of itself ----------------------------------------------------------------------


def test_every_setting_has_one_line_on_it(name: str) -> None:
    for field in describe(method_named(name).config_class):
        assert field.doc.endswith("."), f"{field.name} needs a docstring that is a sentence"
        assert "\n" not in field.doc, f"the docstring of {field.name} must be one line"


def test_its_settings_are_frozen(name: str) -> None:
    config = method_named(name).config_class()
    # One that has no settings has none to change.
    for setting in describe(type(config)):
        with pytest.raises(AttributeError):
            setattr(config, setting.name, setting.default)


def test_every_preset_can_be_used(name: str) -> None:
    cls = method_named(name)
    assert "default" in cls.presets
    for key, preset in cls.presets.items():
        assert preset.summary, f"preset {key} needs a summary"
        config, view, training = resolve(
            name,
            cls.config_class,
            cls.presets,
            preset=key,
            overrides={**case_of(name).tiny, "channels": 1},
        )
        view = settled(view, ImageSource.of(cases.pictures()), cls)
        check_view(view)
        network = cls(config, InputShape(1, *view.sides))
        if any(stage.updates and not stage.budget for stage in network.stages()):
            assert any(getattr(training, budget) for budget in BUDGETS), f"{key}: no budget"


# Training ------------------------------------------------------------------------------------


def test_losses_are_finite(name: str) -> None:
    for update in updates(fresh(name)):
        loss = update.loss(cases.batch())
        assert loss.total.shape == ()
        assert torch.isfinite(loss.total), update.name
        assert loss.terms
        for term, value in loss.terms.items():
            assert torch.isfinite(value), f"{update.name}/{term}"
            assert not value.requires_grad


def test_every_parameter_is_trained_or_frozen(name: str) -> None:
    method = fresh(name)
    trained = {
        id(p)
        for stage in method.stages()
        for update in stage.updates
        for module in update.trains
        for p in module.parameters()
    }
    frozen = {id(p) for p in method.frozen()}
    assert not trained & frozen
    left_out = [n for n, p in method.named_parameters() if id(p) not in trained | frozen]
    assert not left_out, "trained by no update and not listed in frozen()"


def test_an_update_reaches_exactly_what_it_trains(name: str) -> None:
    method = fresh(name)
    for update in updates(method):
        names = {id(p): n for n, p in method.named_parameters()}
        training = resolved(name, steps=update.every).training  # so that it runs once
        own = [p for module in update.trains for p in module.parameters()]
        # Annotated, as torch says that none can be None.
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            update.loss(cases.batch()).total, own, allow_unused=True
        )
        unreached = [names[id(p)] for p, g in zip(own, gradients, strict=True) if g is None]
        assert not unreached, f"the loss of {update.name} does not depend on them"

        before = state(method)
        alone = Stage(name="alone", updates=[update])
        method.stages = lambda alone=alone: [alone]  # type: ignore[method-assign, misc]
        Trainer(training).fit(method, store(resolved(name).view))
        moved = changed(method, before)
        inside = {names[id(p)] for p in own}
        assert moved <= inside | {n for n, _ in method.named_buffers()}
        for module in update.trains:
            assert moved & {names[id(p)] for p in module.parameters()}


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    assert not changed(train(name, fresh(name), steps=2), state(train(name, fresh(name), steps=2)))


def interrupted(method: Method, number: int) -> Method:
    """The same, with Ctrl-C in the eleventh step of one of its stages."""
    stages = list(method.stages())
    update, *others = stages[number].updates

    def loss(batch: Batch) -> Loss:
        if batch.progress.step + 1 == 11:
            signal.raise_signal(signal.SIGINT)
        return update.loss(batch)

    stages[number] = replace(stages[number], updates=[replace(update, loss=loss), *others])
    method.stages = lambda: stages  # type: ignore[method-assign]
    return method


@pytest.mark.slow
def test_resuming_is_exact(name: str, tmp_path: Path) -> None:
    training = [i for i, stage in enumerate(fresh(name).stages()) if stage.updates]
    if not training:
        pytest.skip("it takes no steps, so there is nothing to go on with")
    # Of each stage 21 steps, so that averages move in step 10, before the break, and in step 20.
    steps = 21 * len(training)
    unbroken = train(name, fresh(name), steps=steps)
    for i in training:
        with pytest.raises(TrainingInterrupted):
            resume = i != training[0]
            train(name, interrupted(fresh(name), i), steps=steps, run_dir=tmp_path, resume=resume)
    resumed = train(name, fresh(name), steps=steps, run_dir=tmp_path, resume=True)
    assert not changed(resumed, state(unbroken))


def test_it_trains_in_bf16(name: str) -> None:
    # Fewer pictures are computed in float32 on some processors.
    method = train(name, fresh(name), steps=2, precision="bf16", batch_size=SAFE_ROWS)
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert torch.isfinite(method.score(images()).total).all()


# Scoring -------------------------------------------------------------------------------------


def test_a_score_is_one_finite_number_for_each_image(name: str) -> None:
    x = images(5)
    scores = scored(name, x)
    assert scores.total.shape == (5,)
    assert torch.isfinite(scores.total).all()
    assert scores.terms
    for term, values in scores.terms.items():
        assert term.isidentifier()
        assert values.shape == (5,)
        assert torch.isfinite(values).all()
    if method_named(name).localizes:
        assert scores.map is not None
        assert scores.map.shape == (5, cases.SIDE, cases.SIDE)
        assert torch.isfinite(scores.map).all()
    else:
        assert scores.map is None


def test_scores_differ_between_images(name: str) -> None:
    assert len(scored(name, images(5)).total.unique()) == 5


def test_scoring_is_deterministic(name: str) -> None:
    first, second = scored(name, images()), scored(name, images())
    assert torch.equal(first.total, second.total)
    assert (first.map is None) == (second.map is None)
    if first.map is not None and second.map is not None:
        assert torch.equal(first.map, second.map)


def test_a_score_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    x = images(5)
    together, alone = scored(name, x), [scored(name, image[None]) for image in x]
    torch.testing.assert_close(
        torch.cat([one.total for one in alone]), together.total, rtol=1e-4, atol=0
    )
    for term, values in together.terms.items():
        each = torch.cat([one.terms[term] for one in alone])
        torch.testing.assert_close(each, values, rtol=1e-4, atol=1e-5)
    if together.map is not None:
        each = torch.cat([one.map for one in alone if one.map is not None])
        # Of a map that is zero nearly everywhere, what rounding leaves is small beside its maximum.
        least = 1e-5 * max(1.0, together.map.abs().max().item())
        torch.testing.assert_close(each, together.map, rtol=1e-4, atol=least)


def test_scores_follow_their_images(name: str) -> None:
    x, order = images(5), torch.tensor([3, 0, 4, 2, 1])
    straight, mixed = scored(name, x), scored(name, x[order])
    torch.testing.assert_close(mixed.total, straight.total[order], rtol=1e-4, atol=0)
    if straight.map is not None:
        torch.testing.assert_close(mixed.map, straight.map[order], rtol=1e-4, atol=1e-6)


def test_scoring_changes_nothing(name: str) -> None:
    method = trained(name)
    before = state(method)
    # Python's own generator is left out: the type checks of these tests draw from it.
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state(legacy=False))
    scored(name, images())
    assert not changed(method, before)
    assert not method.training
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state(legacy=False)) == numpy_state


def test_it_says_whether_it_searches(name: str) -> None:
    """A method that takes gradient steps when it scores has `searches = True`, no other has."""
    method, x = trained(name), images()
    with torch.inference_mode():
        if method.searches:
            with pytest.raises(RuntimeError, match="a search needs gradients"):
                method.score(x)
        else:
            torch.testing.assert_close(method.score(x).total, scored(name, x).total)


# As a whole ----------------------------------------------------------------------------------


LOAD = """
import json, sys
from pathlib import Path
import numpy as np
from onlygood import Detector

folder = Path(sys.argv[1])
pictures = np.load(folder / "pictures.npy")
print(json.dumps({
    path.stem: [r.score for r in Detector.load(path).score(pictures, maps=False)]
    for path in folder.glob("*.safetensors")
}))
"""


@pytest.fixture(scope="module")
def told_and_loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Scores before saving, and after loading in one fresh process for all methods of this run."""
    asking = test_a_fresh_process_gives_equal_scores.__name__
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = [str(item.callspec.params["name"]) for item in items if item.originalname == asking]
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "pictures.npy", cases.pictures())
    told: dict[str, list[float]] = {}
    for method in names:
        tiny = {**case_of(method).tiny, "size": cases.SIDE, "steps": 3, "batch_size": 4}
        detector = Detector.fit(method, cases.pictures(), settings=tiny)
        detector.save(folder / f"{method}.safetensors")
        told[method] = [r.score for r in detector.score(cases.pictures(), maps=False)]
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return told, json.loads(done.stdout)


@pytest.mark.slow
def test_a_fresh_process_gives_equal_scores(
    name: str, told_and_loaded: tuple[dict[str, list[float]], dict[str, list[float]]]
) -> None:
    told, loaded = told_and_loaded
    assert loaded[name] == told[name]


@pytest.mark.slow
def test_it_learns(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    digits, case = cases.digits(), case_of(name)
    detector = Detector.fit(
        name, digits.normal, preset=case.preset, settings={**case.digits, "size": cases.SIDE}
    )
    for number, (picture, anomalous) in enumerate(zip(digits.test, digits.labels, strict=True)):
        folder = tmp_path / ("other" if anomalous else "good")
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    evaluation = evaluate(detector, tmp_path)
    assert evaluation.auroc is not None
    assert evaluation.auroc >= case.auroc
    assert set(evaluation.parts) == set(scored(name, images()).terms)
    for part, auroc in evaluation.parts.items():
        assert auroc is not None
        assert 0 <= auroc <= 1
        record_property(f"auroc_{part}", auroc)
