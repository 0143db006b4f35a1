"""The runtime in other processes."""

import copy
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import ConfigError, ModelFileError, OnlygoodError
from onlygood.core.settings import View
from onlygood.data.align import reference_text
from onlygood.deploy.runtime import Raw, Runtime
from onlygood.deploy.runtime.runtime import _check_sizes
from tests.conftest import unchecked
from tests.deploy.stream import altered, anomalous, another, normal, pixels

pytestmark = pytest.mark.slow

PICTURES = [normal(1), anomalous(2)]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_says_the_same(
    model: Path, monkeypatch: pytest.MonkeyPatch, copied: Callable[[Runtime], Runtime]
) -> None:
    monkeypatch.chdir(model.parent)
    runtime = Runtime.load(model.name, threads=1)
    monkeypatch.chdir("/")  # where a copy is made has nothing to do with where the file is
    again = copied(runtime)
    assert again is not runtime and again.sha256 == runtime.sha256
    assert [r.score for r in again.score(PICTURES)] == [r.score for r in runtime.score(PICTURES)]


def test_threads_and_spinning_are_as_asked_for_of_copies_too(model: Path) -> None:
    for threads, spin in ((1, False), (2, True)):
        for runtime in (made := Runtime.load(model, threads=threads, spin=spin), copy.copy(made)):
            options = runtime._session.get_session_options()
            assert options.intra_op_num_threads == threads
            spins = options.get_session_config_entry("session.intra_op.allow_spinning")
            assert spins == str(int(spin))


def test_other_processes_take_it(model: Path) -> None:
    runtime = Runtime.load(model, threads=1)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(runtime.score, PICTURES, maps=False).result(60)
    assert found == runtime.score(PICTURES, maps=False)


def test_no_copy_is_made_of_a_file_that_changed(model: Path) -> None:
    runtime = Runtime.load(model)
    another(model)
    with pytest.raises(ModelFileError, match="is not the model that was asked for"):
        copy.deepcopy(runtime)


def test_a_digest_may_be_in_capitals(model: Path) -> None:
    digest = Runtime.load(model).sha256
    assert Runtime.load(model, sha256=digest[:12].upper()).sha256 == digest


def test_a_score_that_is_no_number_is_said_with_its_picture(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Raw(np.array([1.0, np.nan]), np.ones((2, 1), np.float32), None)
    monkeypatch.setattr(Runtime, "run", lambda *_: raw)
    with pytest.raises(OnlygoodError, match=r"bytes\[1\]: the score is not finite"):
        Runtime.load(model).score(PICTURES)


def test_frames_are_scored_as_they_come(model: Path) -> None:
    taken: list[int] = []

    def camera() -> Iterator[bytes]:
        for i in range(300):  # perhaps without an end
            taken.append(i)
            yield PICTURES[i % 2]

    results = Runtime.load(model, threads=1).stream(camera(), maps=False)
    assert [next(results).name for _ in range(2)] == ["generator[0]", "generator[1]"]
    results.close()
    assert len(taken) <= 64 + 32


@pytest.mark.parametrize("keep", [False, True])
def test_a_camera_is_answered_before_the_next_frame(model: Path, keep: bool) -> None:
    taken: list[int] = []

    def camera() -> Iterator[bytes]:
        for i in range(3):
            taken.append(i)
            yield PICTURES[i % 2]

    results = Runtime.load(model, threads=1).stream(camera(), keep=keep, batch_size=1)
    assert [(result.name, len(taken), result.picture is not None) for result in results] == [
        (f"generator[{i}]", i + 1, keep) for i in range(3)
    ]


def test_what_is_cut_out_may_be_larger_than_what_is_seen(model: Path) -> None:
    view = Runtime.load(model).facts["view"]
    altered(model, view={**view, "crop": 5000, "aspect": 1.0})
    (result,) = Runtime.load(model, threads=1).score([normal(1)])
    assert result.decision == "error"
    assert "too small for the 5000 x 5000 pixels" in str(result.error)


@pytest.mark.parametrize("terms", [1, 100])
@pytest.mark.parametrize("sizes", [{"size": 4}, {"size": 4096}, {"size": 32, "crop": 4}])
def test_the_smallest_and_the_largest_are_taken(sizes: dict[str, int], terms: int) -> None:
    _check_sizes(View(channels=1, **sizes), terms)


def test_a_sound_model_that_aligns_says_what_it_needs(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = reference_text(np.asarray(pixels(normal(0))))
    altered(model, view={**Runtime.load(model).facts["view"], "align": reference})
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"^alignment needs OpenCV; run `pip install"):
        Runtime.load(model)


def test_a_path_is_text_or_a_path() -> None:
    message = "path must be a path, as text or a Path, got None"
    with unchecked(), pytest.raises(ConfigError, match=message):
        Runtime.load(None)  # type: ignore[arg-type]
