import inspect
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from onlygood import Detector, ImageSource, registry
from onlygood.core.errors import ConfigError, DataError, TrainingInterrupted
from onlygood.core.files import held
from onlygood.core.method import Method
from onlygood.core.resolving import Resolved
from onlygood.core.stage import Stage
from onlygood.data.layout import Labelled
from onlygood.data.source import Picture
from onlygood.detector import learning
from onlygood.detector.learning import Learned, learn
from onlygood.evaluation import bench
from onlygood.evaluation.bench import LOCK, Cell, commit, due, result_of, run, run_cell
from onlygood.evaluation.protocols import Task, Tasks, gpnd, official, official_known
from onlygood.evaluation.records import append, key_of, read
from onlygood.evaluation.tables import sheets
from onlygood.methods.autoencoder import Autoencoder
from onlygood.methods.pca import PCA
from onlygood.training.reporting import Silent
from tests import parts
from tests.evaluation.toysets import NAMES, toy

TINY_NET = {"size": 32, "width": 2, "latent": 4, "batch_size": 4}
KEYS = {
    *("method", "config_hash", "preset", "settings", "dataset", "protocol", "class", "seed"),
    *("schedule", "steps", "auroc", "parts", "average_precision", "f1_max", "fpr_at_95_tpr"),
    *("max_balanced_accuracy", "max_balanced_accuracy_by_kind", "training_seconds"),
    *("images_per_second", "n_train", "n_normal", "n_anomalous", "verdict", "device", "threads"),
    *("n_known", "precision", "versions", "commit", "split_seed", "resolved", "images"),
}


def cell(**changes: Any) -> Cell:
    usual = Cell(
        method="pca",
        preset="default",
        settings={"size": 8, "components": 2},
        dataset="toy",
        protocol="gpnd",
        normal="round",
        seed=0,
    )
    return replace(usual, **changes)


def network(**changes: Any) -> Cell:
    return cell(method="autoencoder", settings=TINY_NET | {"steps": 4} | changes)


def tasks(made: list[str] | None = None) -> Tasks:
    def task(name: str) -> Task:
        if made is not None:
            made.append(name)
        return gpnd(toy(), NAMES.index(name))

    return Tasks(NAMES, NAMES, task)


def solar() -> Task:
    """Parts as made up elsewhere, in the place of the cells."""
    train = ImageSource.of(list(parts.normal(60)))
    pictures = [*parts.normal(20, seed=5), *parts.scratched(10)]
    labels = np.arange(30) >= 20
    kinds = ["good"] * 20 + ["scratch"] * 10
    test = Labelled(ImageSource.of(pictures), labels, kinds, [None] * 30, "parts")
    return Task(train, test, calibrates=True)


def test_a_line_says_all_that_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "uses_bf16", lambda *_: True)
    line = run_cell(cell(), gpnd(toy(), 0))
    assert set(line) == KEYS
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert (line["class"], line["split_seed"], line["seed"]) == ("round", 0, 0)
    assert (line["n_train"], line["n_normal"], line["n_anomalous"]) == (12, 3, 3)
    assert (line["schedule"], line["steps"], line["precision"]) == ("no steps", 0, "float32")
    assert line["settings"] == {"size": "8", "components": "2"}
    assert (line["resolved"]["components"], line["resolved"]["overlap"]) == (2, 0.0)
    libraries = {"python", "onlygood", "torch", "numpy", "pillow", "scikit-learn"}
    assert set(line["versions"]) == libraries


def test_images_per_second_are_those_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(bench, "time", clock)
    assert run_cell(cell(), gpnd(toy(), 0))["images_per_second"] == 6 / 2


def test_cells_and_what_came_out_of_them_in_words() -> None:
    assert result_of({"auroc": 0.98765, "verdict": "well"}) == "AUROC 0.9877, well"
    assert cell().title != cell(settings={"size": 8}).title  # they are two runs of a tracker


def test_figures_are_those_of_a_method_trained_on_all_normal_pictures() -> None:
    one, task = cell(), gpnd(toy(), 1)
    scorer = learn("pca", one.resolved, task.train, seed=0).scorer
    scores = scorer.survey(task.test.source).totals
    line = run_cell(one, task)
    assert line["auroc"] == line["parts"]["residual"] == roc_auc_score(task.test.labels, scores)
    assert line["n_train"] == len(task.train)


def test_solar_cells_are_judged_by_a_calibrated_detector() -> None:
    one = cell(protocol="elpv", settings=parts.TINY, seed=3)
    line = run_cell(one, solar())
    detector = Detector.fit("pca", solar().train, settings=parts.TINY, seed=3)
    assert set(line) == KEYS | {
        *("false_positive_rate", "true_positive_rate", "promised_fpr", "n_calibration"),
        *("pixel_auroc", "pixel_average_precision", "pixel_f1_max", "aupro", "aupro_at_5"),
    }
    assert line["pixel_auroc"] is None
    assert line["n_train"] + line["n_calibration"] == 60
    assert line["promised_fpr"] == detector.calibration.promised_fpr
    scores = [result.score for result in detector.score(solar().test.source, maps=False)]
    assert line["auroc"] == roc_auc_score(solar().test.labels, scores)


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    file, made, said = tmp_path / "r.jsonl", [], []
    cells = [cell(normal=name, seed=seed) for seed in (0, 1) for name in ("round", "long")]
    first = list(run(cells[:2], tasks(made), file))
    assert made == ["round", "long"]
    again = list(run(cells, tasks(made), file, say=said.append))
    assert [(line["class"], line["seed"]) for line in again] == [("round", 1), ("long", 1)]
    assert made == ["round", "long"] * 2
    assert said[0] == "1/4 toy gpnd round: pca:default seed 0: is there"
    assert read(file) == [*first, *again]
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_what_another_process_has_done_or_is_at_is_not_run_again(tmp_path: Path) -> None:
    file, said = tmp_path / "r.jsonl", []
    cells = [cell(seed=seed) for seed in range(3)]
    (one, _, _) = due(cells, file)
    one.folder.mkdir(parents=True)
    with held(one.folder / LOCK) as ours:
        assert ours
        mine = run(cells, tasks(), file, say=said.append)
        assert next(mine)["seed"] == 1
        assert [line["seed"] for line in run(cells[2:], tasks(), file)] == [2]
        assert not list(mine)
    where = "toy gpnd round: pca:default seed"
    assert said[0] == f"1/3 {where} 0: another process is at it"
    assert said[-1] == f"3/3 {where} 2: is there"
    assert [line["seed"] for line in run(cells, tasks(), file)] == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_what_another_process_ends_just_before_the_lock_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.jsonl"

    @contextmanager
    def late(path: Path) -> Iterator[bool]:
        append(file, line)
        with held(path) as ours:
            yield ours

    [line] = run([cell()], tasks(), tmp_path / "other.jsonl")
    monkeypatch.setattr(bench, "held", late)
    assert not list(run([cell()], tasks(), file))
    assert len(file.read_text().splitlines()) == 1


def test_a_cell_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(_: str) -> Task:
        raise DataError("a picture cannot be read")

    with pytest.raises(DataError, match="a picture cannot be read"):
        list(run([cell()], Tasks(NAMES, NAMES, broken), tmp_path / "r.jsonl"))
    assert not list(tmp_path.iterdir())


def test_methods_of_a_class_share_its_pictures(tmp_path: Path) -> None:
    made: list[str] = []
    both = [cell(), cell(settings={"size": 8, "components": 3})]
    assert len(list(run(both, tasks(made), tmp_path / "r"))) == 2
    assert made == ["round"]


def test_shared_features_change_no_figure_and_tell_no_times(tmp_path: Path) -> None:
    cells = [
        cell(method=method, settings={"size": 32, "layers": "stride8"}, seed=seed)
        for method in ("gaussian", "patch_knn")
        for seed in (0, 1)
    ]
    alone = list(run(cells, tasks(), tmp_path / "alone.jsonl"))
    shared = list(run(cells, tasks(), tmp_path / "shared.jsonl", share_features=True))
    for one, other in zip(alone, shared, strict=True):
        assert other["auroc"] == pytest.approx(one["auroc"], abs=1e-6)
        assert (other["training_seconds"], other["images_per_second"]) == (None, None)
    ((table, *_),) = sheets(shared).values()
    assert table.rows[0][table.columns.index("AUROC")]
    assert "scoring, images/s" not in table.columns


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"size": 8, "components": 3}},
        {"seed": 1},
        {"dataset": "other"},
        {"protocol": "one-vs-rest"},
        {"normal": "long"},
        {"method": "autoencoder", "settings": {"size": 8}},
    ],
)
def test_what_makes_another_cell(changes: dict[str, Any]) -> None:
    assert cell(**changes).key != cell().key


def test_settings_count_wherever_they_come_from() -> None:
    default = cell(settings={})
    assert cell(settings={"size": "64"}).key == default.key  # as the preset says
    assert cell(settings={"components": 30}).key == default.key  # as the default is
    assert cell(settings={"size": 32}).key != default.key


def test_a_default_that_has_changed_runs_a_cell_again(tmp_path: Path) -> None:
    file = tmp_path / "r"
    [line] = run([cell()], tasks(), file)
    for resolved, ran in (({"new_field": 1}, 0), ({"smooth": 0.5}, 1)):
        file.write_text(json.dumps(line | {"resolved": line["resolved"] | resolved}) + "\n")
        assert len(list(run([cell()], tasks(), file))) == ran


OTHER = "# other\n"
"""What makes another file of one."""


def of_file(file: Path, cls: type[Method], addition: str = "") -> str:
    """The name of a method whose source is in a file, too."""
    file.write_text(Path(inspect.getfile(cls)).read_text() + addition)
    return registry.introduce(f"{file}:{cls.__name__}")


def test_a_method_whose_file_has_changed_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_introduced", {})
    file, mine = tmp_path / "r", tmp_path / "mine.py"

    def ran(addition: str, seeds: int) -> int:
        name = of_file(mine, PCA, addition)
        cells = [cell(method=name, seed=seed) for seed in range(seeds)]
        return len(list(run(cells, tasks(), file)))

    assert [ran("", 2), ran("", 2), ran(OTHER, 1)] == [2, 0, 1]
    # One seed of each text: there is no mean over both.
    ((table, *_),) = sheets(read(file)).values()
    settings = [row[table.columns.index("settings")] for row in table.rows]
    assert len({words.rpartition(", mine.py=")[2] for words in settings}) == 2
    before = [line | {"resolved": {"components": 2}} for line in read(file)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in before))
    assert ran("", 2) == 0  # hashes were not kept then


def test_a_checkpoint_of_another_file_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_introduced", {})

    def learnt(addition: str, resume: bool) -> Learned:
        one = replace(network(), method=of_file(tmp_path / "mine.py", Autoencoder, addition))
        train = tasks().task("round").train
        run_dir = tmp_path / "run"
        return learn(one.method, one.resolved, train, seed=0, run_dir=run_dir, resume=resume)

    learnt("", False)
    learnt("", True)
    with pytest.raises(ConfigError, match="belongs to a run with another method"):
        learnt(OTHER, True)


class Interrupting(Silent):
    """Sends SIGINT in a step of training."""

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        if terms:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_cell_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    cells = [cell(), network(steps=8, log_every=2)]
    with pytest.raises(TrainingInterrupted, match=r"in cell 2/2 toy.*repeat the command to go on"):
        list(run(cells, tasks(), file, reporter=Interrupting()))
    assert [line["method"] for line in read(file)] == ["pca"]
    assert len(list((tmp_path / "r.run").glob("*/checkpoint.safetensors"))) == 1
    [line] = run(cells, tasks(), file)
    whole = run_cell(cells[1], tasks().task("round"))
    assert (line["auroc"], line["parts"], line["steps"]) == (whole["auroc"], whole["parts"], 8)
    assert not (tmp_path / "r.run").exists()


def test_a_cell_begins_anew_where_another_version_has_left_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"of another version")
    line = run_cell(network(), tasks().task("round"), run_dir=tmp_path)
    assert line["auroc"] == run_cell(network(), tasks().task("round"))["auroc"]


def test_a_curve_ends_where_an_unbroken_run_does(tmp_path: Path) -> None:
    file = tmp_path / "r"
    [plain] = run([network()], tasks(), file)
    [line] = run([network()], tasks(), file, curve=2)
    assert line["curve"]["note"] == "diagnostic, selects nothing"
    assert [point["steps"] for point in line["curve"]["points"]] == [2, 4]
    assert line["curve"]["points"][-1]["auroc"] == line["auroc"] == plain["auroc"]
    assert key_of(line) == key_of(plain)
    assert line["resolved"] == plain["resolved"]
    assert line["schedule"] == plain["schedule"] == "4 steps of 4 images"
    assert not list(run([network()], tasks(), file, curve=2))
    [finer] = run([network()], tasks(), file, curve=4)
    assert [point["steps"] for point in finer["curve"]["points"]] == [1, 2, 3, 4]
    assert not list(run([network()], tasks(), file, curve=2))  # its points are among them


def test_networks_are_built_once_to_tell_a_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def takes(method: str, resolved: Resolved) -> bool:
        built.append(method)
        return True

    monkeypatch.setattr(bench, "takes_steps", takes)
    cells = [network(steps=6, width=3), network(steps=9, width=3)]
    cells += [replace(one, seed=1) for one in cells]
    assert [one.curve for one in due(cells, tmp_path / "r", curve=3)] == [3] * 4
    assert len(built) == 2


def test_the_points_of_a_curve_are_runs_of_their_own_where_stages_share_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = Autoencoder.stages

    def twice(method: Autoencoder) -> list[Stage]:
        (stage,) = stages(method)
        (update,) = stage.updates
        decoder = replace(update, trains=(method.generator,))
        return [stage, replace(stage, name="generator", updates=[decoder])]

    networks: list[Method] = []

    def keeping(*arguments: Any, **options: Any) -> Learned:
        learned = learn(*arguments, **options)
        networks.append(learned.scorer.network)
        return learned

    monkeypatch.setattr(Autoencoder, "stages", twice)
    monkeypatch.setattr(bench, "learn", keeping)
    task = tasks().task("round")
    line = run_cell(network(), task, curve=2)
    assert [point["steps"] for point in line["curve"]["points"]] == [2, 4]
    run_cell(network(steps=2), task)
    run_cell(network(), task)
    first, second, half, whole = (n.state_dict() for n in networks)
    for name in whole:
        assert torch.equal(first[name], half[name])
        assert torch.equal(second[name], whole[name])


def test_the_budgets_of_a_curve_do_not_repeat_what_is_noted() -> None:
    class Listening(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, words: str) -> None:
            self.notes.append(words)

    heard = Listening()
    run_cell(network(decay_from=0.5), tasks().task("round"), curve=2, reporter=heard)
    assert len(heard.notes) == 1


def test_a_curve_goes_on_in_a_folder_that_all_processes_see(tmp_path: Path) -> None:
    run_cell(network(), tasks().task("round"), curve=2, run_dir=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_curve_over_epochs() -> None:
    epochs = TINY_NET | {"epochs": 2}
    line = run_cell(cell(method="autoencoder", settings=epochs), tasks().task("round"), curve=2)
    assert [point["steps"] for point in line["curve"]["points"]] == [3, 6]


def test_a_method_without_steps_has_no_curve(tmp_path: Path) -> None:
    budgeted = cell(settings={"size": 8, "steps": 5})  # As others of the command have it.
    lines = run([cell(), budgeted], tasks(), tmp_path / "r", curve=3)
    assert ["curve" in line for line in lines] == [False, False]


def test_what_is_said_of_a_budget_is_what_it_means_to_the_method(tmp_path: Path) -> None:
    said: list[str] = []
    own: dict[str, object] = {"size": 32, "width": 1, "latent": 1, "batch_size": 8}
    own |= {"gan_epochs": 1, "encoder_steps": 1}  # Budgets of stages, and none of the run.
    idle = cell(settings={"size": 8, "steps": 5})
    of_stages = cell(method="f_anogan", preset="paper", settings=own)
    lines = run([idle, of_stages], tasks(), tmp_path / "r", say=said.append)
    words = ["no steps", "budgets of its stages in batches of 8 images"]
    assert [line["schedule"] for line in lines] == words
    assert [one.rpartition(": ")[2] for one in said[::2]] == words
    with pytest.raises(ConfigError, match="in epochs alone; f_anogan has budgets of its stages"):
        list(run([of_stages], tasks(), tmp_path / "other", curve=2))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"minutes": 1}, "autoencoder has 1 minute"),
        ({"minutes": 1, "steps": 4}, "autoencoder has 4 steps of .* or 1 minute"),
        ({"steps": 5}, "needs steps that 2 divides; autoencoder has 5; say --set steps=4"),
        ({"steps": 1}, "needs steps that 2 divides; autoencoder has 1; say --set steps=2"),
        ({"epochs": 3}, "needs epochs that 2 divides"),
    ],
)
def test_a_curve_needs_a_budget_that_can_be_parted(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    one = cell(method="autoencoder", settings=TINY_NET | settings)
    with pytest.raises(ConfigError, match=says):
        list(run([cell(), one], tasks(), tmp_path / "r", curve=2))
    assert not (tmp_path / "r").exists()


def test_wrong_settings_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no setting "alhpa"'):
        list(run([cell(), cell(settings={"alhpa": 1})], tasks(), tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_known_anomalous_pictures_are_learnt_from() -> None:
    one = cell(method="ama", settings=TINY_NET | {"steps": 2})
    without = run_cell(one, official(toy(), 0))
    line = run_cell(replace(one, protocol="one-vs-rest-known"), official_known(toy(train=20), 0))
    assert (without["n_known"], line["n_known"]) == (0, 2)
    calibrated = run_cell(replace(one, protocol="elpv"), solar()._replace(known=solar().train))
    assert calibrated["n_known"] == 60


def test_methods_that_cannot_use_known_pictures_are_refused_before_anything_is_run(
    tmp_path: Path,
) -> None:
    cells = [cell(method=name, settings={}, protocol="ood-known") for name in ("ama", "pca")]
    with pytest.raises(ConfigError, match=r'"pca" learns from normal pictures alone;.*them: ama'):
        list(run(cells, tasks(), tmp_path / "r"))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("calibrates", [False, True])
@pytest.mark.parametrize("damaged", ["train", "test"])
def test_no_picture_is_left_out(calibrates: bool, damaged: str) -> None:
    task = solar()._replace(calibrates=calibrates)
    bad = Picture("bad.png", b"no picture")
    if damaged == "train":
        task = task._replace(train=ImageSource([*task.train, *[bad] * 60]))
    else:
        test = task.test._replace(source=ImageSource([*list(task.test.source)[:-1], bad]))
        task = task._replace(test=test)
    with pytest.raises(DataError, match=r"bad\.png.*of another benchmark"):
        run_cell(cell(settings=parts.TINY), task)


def test_commit_is_that_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "onlygood"
    (package / "evaluation").mkdir(parents=True)
    file = package / "__init__.py"
    file.touch()
    monkeypatch.setattr(bench, "__file__", str(package / "evaluation" / "bench.py"))

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    assert commit() == "0.1.0"  # its own version, in somebody else's repository
    git("add", "src")
    git("commit", "-m", "first")
    head = git("rev-parse", "--short", "HEAD")
    (tmp_path / "results.jsonl").touch()
    assert commit() == head
    file.write_text("changed")
    assert commit() == f"{head}-dirty"
