from pathlib import Path

import pytest

from onlygood.cli.compare import _rows
from onlygood.data.layout import labelled
from onlygood.detector import Detector
from onlygood.evaluation.compare import Comparison, Difference, Disagreement, compare
from tests import parts
from tests.command_line import Run

assert _rows and compare  # Imported before fakes take the place of what they need.
SETTINGS = ("--set", "size=16", "--set", "components=4")


@pytest.fixture
def nuts(tmp_path: Path) -> Path:
    parts.write(parts.normal(30), tmp_path / "nuts/train/good")
    parts.write(parts.normal(12, seed=5), tmp_path / "nuts/test/good")
    parts.write(parts.scratched(12), tmp_path / "nuts/test/scratch")
    return tmp_path / "nuts"


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes the fakes of the other verbs."""
    monkeypatch.undo()


@pytest.mark.usefixtures("real")
def test_methods_are_fitted_and_set_against_each_other(run: Run, nuts: Path) -> None:
    words = ("compare", "pca", "mean_picture:small", nuts, "--set", "size=16", "--seed", "3")
    done = run(*words, "--json")
    assert done.status == 0, done.err
    a, b = (
        Detector.fit(method, nuts, preset=preset, settings={"size": 16}, seed=3)
        for method, preset in (("pca", "default"), ("mean_picture", "small"))
    )
    expected = compare(a, b, nuts)
    assert done.answer == {"a": "pca", "b": "mean_picture:small", **expected.to_json()}
    shown = run(*words).out
    assert shown.startswith("A: pca\nB: mean_picture:small\n")
    assert expected.words in shown
    assert "false alarms" in shown and "by A alone" in shown
    assert "kind of defect" not in shown  # There is one alone.
    parts.write(parts.scratched(3), nuts / "test/cut")
    rows = " ".join(run(*words).out.split())
    assert "pictures found by A by B AUROC of A of B" in rows and " cut 3 " in rows


@pytest.mark.usefixtures("real")
def test_a_model_against_itself(run: Run, nuts: Path) -> None:
    file = nuts.parent / "m.safetensors"
    Detector.fit("pca", nuts, settings=parts.TINY).save(file)
    assert run("compare", file, file, nuts / "test").out.startswith(f"A: {file}\nB: {file}\n")
    answer = run("compare", file, file, nuts / "test", "--json").answer
    assert (answer["auroc"]["difference"], answer["auroc"]["p_value"]) == (0, 1)
    assert (answer["false_alarms"]["a_alone"], answer["found"]["p_value"]) == (0, 1)
    assert answer["words"].startswith("these 12 normal and 12 anomalous pictures do not tell A")


@pytest.mark.usefixtures("real")
def test_few_pictures_and_unreadable_ones_are_told(run: Run, nuts: Path) -> None:
    file = nuts.parent / "m.safetensors"
    Detector.fit("pca", nuts, settings=parts.TINY).save(file)
    for path in sorted((nuts / "test/scratch").iterdir())[3:]:
        path.unlink()
    (nuts / "test/scratch/broken.png").touch()
    done = run("compare", file, file, nuts / "test")
    assert done.status == 0
    assert done.err == (
        f"{labelled(nuts / 'test').description}\n"
        "1 picture left out, as one of the two cannot read them\n"
    )
    assert "\nwith 3 anomalous pictures intervals are too narrow" in done.out


def test_what_is_less_than_one_is_not_shown_as_one_nor_nothing_as_less() -> None:
    order = Difference(0.99996, 1.0, -0.001, 0.00001, 0.997)
    alone = Disagreement(0.99997, 0.5, 1, 0, 0.996)
    counts = {"n_normal": 30_000, "n_anomalous": 20_000, "n_unreadable": 0, "description": ""}
    counts["n_known"] = (0, 0)
    found = Comparison(
        auroc=order, average_precision=order, false_alarms=alone, found=alone, kinds={}, **counts
    )
    auroc, *_, alarms, called = _rows(found)
    assert alarms[4] == "1 of 30000 by A alone, 0 by B alone"
    assert called[4] == "1 of 20000 by A alone, 0 by B alone"
    assert auroc[1:] == ("0.99996", "1.0000", "0.0000", "-0.0010 to 0.0000", "0.997")
    assert (*called[1:3], called[-1]) == ("0.99997", "0.5000", "0.996")
    assert "(AUROC, p = 0.997)" in found.words


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pca", "pac", "nuts"], 'unknown method "pac"; did you mean "pca"?'),
        (["pca", "knn", "nuts", "--set", "size=0.5"], "size takes a whole number"),
        (["pca", "knn", "nuts", "--set", "neighbors=3"], 'no setting "neighbors" for method "pca"'),
        (["m.onnx", "N.ONNX", "nuts", "--set", "size=8"], "--set is for what is fitted; A and B"),
        (["pca", "knn", "nuts/test"], "nuts/test: 12 of 12 pictures would both train and test"),
        (["pca", "gone.safetensors", "nuts"], "cannot read the model gone.safetensors"),
        (["pca", "knn", "none"], "there is no none; name a folder of labelled pictures"),
    ],
)
def test_misuse_is_said_before_anything_is_fitted(
    run: Run, nuts: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(nuts.parent)
    monkeypatch.setattr(Detector, "fit", lambda *_, **__: pytest.fail("fitted"))
    done = run("compare", *words)
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith(f"error: {says}")
