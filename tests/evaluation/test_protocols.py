from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.readers import DATASETS, AttributePart, AttributeSet, LabelledSet, Part, elpv
from onlygood.data.readers.sets import KnownSplit
from onlygood.data.source import ImageSource
from onlygood.evaluation import protocols
from onlygood.evaluation.protocols import (
    COIL_OBJECTS,
    PROTOCOLS,
    TESTED_WHOLE,
    Task,
    attribute,
    choosing,
    gpnd,
    official,
    official_known,
    open_tasks,
    out_of_distribution,
    pair,
    semi_supervised,
)
from tests.evaluation.toysets import NAMES, part, toy


def names(task: Task, anomalous: bool) -> list[str]:
    where = np.flatnonzero(task.test.labels == anomalous)
    return task.test.source.subset(where).names


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy sets in the place of the readers."""
    sets = {name: toy(name) for name in ("toy", "other")}
    monkeypatch.setattr(protocols, "SETS", sets)
    monkeypatch.setattr(protocols, "read_set", lambda name, folder: sets[name])


def test_one_vs_rest_is_the_official_split() -> None:
    task = official(toy(), 1)
    assert task.train.names == [f"train/1/{n}" for n in range(10)]
    assert names(task, False) == [f"test/1/{n}" for n in range(5)]
    assert sorted(names(task, True)) == sorted(f"test/{c}/{n}" for c in (0, 2) for n in range(5))
    assert task.split_seed is None


def test_gpnd_parts_each_class_four_to_one() -> None:
    data = toy(train=10, test=5)
    task = gpnd(data, 1)
    normal = names(task, False)
    assert (len(task.train), len(normal), len(names(task, True))) == (12, 3, 3)
    everything = [name for name in data.merged().pictures.names if "/1/" in name]
    assert sorted([*task.train.names, *normal]) == sorted(everything)
    assert task.split_seed == 0


def test_gpnd_takes_anomalous_pictures_from_the_fifth_of_their_class() -> None:
    data = toy()
    held = {name for label in range(3) for name in names(gpnd(data, label), False)}
    for label in range(3):
        drawn = names(gpnd(data, label), True)
        assert len(set(drawn)) == len(drawn) == 3
        assert set(drawn) <= held
        assert not [name for name in drawn if f"/{label}/" in name]


def test_gpnd_draws_what_it_has_always_drawn() -> None:
    """All records are of these pictures."""
    assert [names(gpnd(toy(), label), True) for label in range(3)] == [
        "train/2/0 train/2/2 train/2/5".split(),
        "train/0/0 train/0/5 train/2/5".split(),
        "train/0/5 train/1/1 train/1/6".split(),
    ]


def test_gpnd_is_the_same_each_time_and_another_one_with_another_seed() -> None:
    first, again, other = gpnd(toy(), 0), gpnd(toy(), 0), gpnd(toy(), 0, seed=1)
    assert first.train.names == again.train.names
    assert first.test.source.names == again.test.source.names
    assert first.train.names != other.train.names


def test_gpnd_rounds_down_as_piad_counts() -> None:
    # COIL-100 has 72 views: 57 to train on, 15 in the test.
    task = gpnd(LabelledSet("coil", NAMES, part("train", ()), part("test", (72, 72, 72))), 2)
    assert (len(task.train), len(task.test.source)) == (57, 30)


def test_choosing_sees_nothing_that_a_table_tests() -> None:
    data = toy(train=20, test=10)
    tested = {name for label in range(3) for name in gpnd(data, label).test.source.names}
    for label in range(3):
        task = choosing(data, label)
        seen = {*task.train.names, *task.test.source.names}
        assert not seen & tested
        assert all(name.startswith("train/") for name in seen)
        assert set(task.train.names) < set(gpnd(data, label).train.names)
        assert len(names(task, False)) == len(names(task, True))


def test_choosing_takes_what_there_is_of_a_set_without_an_official_split() -> None:
    task = choosing(LabelledSet("coil", NAMES, part("train", ()), part("test", (50, 50, 50))), 1)
    assert (len(task.train), len(task.test.source)) == (32, 16)


def test_choosing_refuses_a_set_that_tables_test_whole() -> None:
    for name in TESTED_WHOLE:
        with pytest.raises(ConfigError, match=f"{name} has no training part and is tested whole"):
            open_tasks("choose", name)


def test_ood_draws_a_fifth() -> None:
    data, other = toy(test=10), toy("other", test=20)
    task = out_of_distribution(data, other)
    assert len(task.train) == 30
    assert names(task, False) == data.test.pictures.names
    drawn = names(task, True)
    assert len(drawn) == len(set(drawn)) == 6  # of 30 normal ones
    assert set(drawn) <= set(other.test.pictures.names)
    assert set(task.test.kinds) == {"good", "other"}
    assert drawn == names(out_of_distribution(data, other), True)
    assert drawn != names(out_of_distribution(data, other, seed=1), True)
    assert task.split_seed == 0


def test_ood_in_full_draws_nothing() -> None:
    task = out_of_distribution(toy(), toy("other", test=7), None)
    assert len(names(task, True)) == 21
    assert task.split_seed is None


def test_known_pictures_are_a_tenth_of_the_other_classes_in_training() -> None:
    data = toy(train=40)
    task = official_known(data, 1)
    assert task.known is not None and task.split_seed == 0
    assert len(task.known) == len(set(task.known.names)) == 4
    assert {name.split("/")[0] for name in task.known.names} == {"train"}
    assert not [name for name in task.known.names if name.split("/")[1] == "1"]
    assert not set(task.known.names) & {*task.train.names, *task.test.source.names}
    without = official(data, 1)
    assert without.known is None
    assert task.train.names == without.train.names
    assert task.test.source.names == without.test.source.names
    assert official_known(data, 1).known.names == task.known.names
    other = semi_supervised(without, data.train.pictures, seed=1).known
    assert other is not None and other.names != task.known.names
    with pytest.raises(DataError, match="has no training part to take known anomalous pictures"):
        semi_supervised(without, ImageSource([]))


@pytest.mark.usefixtures("installed")
def test_known_pictures_of_another_data_set_are_those_of_its_training_part() -> None:
    task = open_tasks("ood-known", "toy-vs-other").task("all")
    assert task.known is not None
    assert len(task.known) == 3  # of 30 normal ones
    assert set(task.known.names) <= set(toy("other").train.pictures.names)
    without = open_tasks("ood", "toy-vs-other").task("all")
    assert task.test.source.names == without.test.source.names
    knowing = {name for name, protocol in PROTOCOLS.items() if protocol.known}
    assert knowing == {"ood-known", "one-vs-rest-known"}


def test_a_pair_leaves_the_other_classes_out() -> None:
    task = pair(toy(), 0, 2)
    assert {name.split("/")[1] for name in task.train.names} == {"0"}
    assert set(task.test.kinds) == {"good", "long"}


def test_attributes() -> None:
    has = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)

    def pictures(name: str) -> AttributePart:
        return AttributePart(part(name, (4,)).pictures, has)

    faces = AttributeSet(
        "celeba", ("Bald", "Bangs"), pictures("train"), pictures("val"), pictures("test")
    )
    task = attribute(faces, "Bald")
    assert task.train.names == ["train/0/0", "train/0/1"]
    assert (names(task, False), names(task, True)) == (
        ["test/0/0", "test/0/1"],
        ["test/0/2", "test/0/3"],
    )
    alone = attribute(faces, "Bald", ["Bangs"])
    assert alone.train.names == ["train/0/0"]
    assert (names(alone, False), names(alone, True)) == (["test/0/0"], ["test/0/2"])


@pytest.mark.parametrize(
    "make",
    [
        lambda data: official(data, 0),
        lambda data: out_of_distribution(data, data),
        lambda data: pair(data, 0, 1),
    ],
)
def test_a_part_that_is_missing_is_said(make: object) -> None:
    nothing = Part(ImageSource([]), np.empty(0, np.int64))
    assert callable(make)
    with pytest.raises(DataError, match="a part is empty"):
        make(toy()._replace(train=nothing))


def test_solar_cells_train_in_the_order_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for n in range(20):
        (tmp_path / "images" / f"cell{n:04}.png").touch()
        rows.append(f"images/cell{n:04}.png {float(n % 2)} mono")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    task = open_tasks("elpv", "elpv-mono", tmp_path).task("all")
    assert task.train.names == sorted(elpv("mono", tmp_path).train.names)
    assert len(task.train) == 7
    assert task.calibrates


def test_halves_of_made_sets_are_chosen_on_or_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (choose, report, _) in protocols.MADE.items():
        known = [one.removeprefix(f"{name}-") for one in DATASETS if one.startswith(f"{name}-")]
        assert sorted(known) == sorted([*choose, *report])
        assert len(set(known)) == len(known)
        assert open_tasks("choose", name).usual == choose
        assert open_tasks(name, name).usual == report
    split = KnownSplit(*official(toy(), 0)[:2])
    fake = protocols.Halves(("a",), ("b",), lambda *_: split)
    monkeypatch.setitem(protocols.MADE, "surfaces", fake)
    for protocol, one in (("choose", "a"), ("surfaces", "b")):
        tasks = open_tasks(protocol, "surfaces")
        assert tasks.classes == (one,)
        task = tasks.task(one)
        assert task.calibrates and task.train is split.train
    with pytest.raises(ConfigError, match='made for parts, got "surfaces"'):
        open_tasks("parts", "surfaces")


@pytest.mark.usefixtures("installed")
def test_tasks_by_name() -> None:
    tasks = open_tasks("gpnd", "toy")
    assert tasks.classes == NAMES
    assert tasks.task("long").train.names == gpnd(toy(), 2).train.names
    assert open_tasks("one-vs-rest", "toy").task("long").split_seed is None
    whole = open_tasks("ood", "toy-vs-other")
    assert whole.classes == ("all",)
    assert len(whole.task("all").test.source) == 18
    assert len(open_tasks("ood-full", "toy-vs-other").task("all").test.source) == 30


@pytest.mark.usefixtures("installed")
def test_one_folder_is_not_two_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, Path | None]] = []

    def read(name: str, folder: Path | None) -> LabelledSet:
        asked.append((name, folder))
        return toy(name)

    monkeypatch.setattr(protocols, "read_set", read)
    (tmp_path / "other").mkdir()
    open_tasks("ood", "toy-vs-other", tmp_path).task("all")
    assert sorted(asked) == [("other", tmp_path / "other"), ("toy", None)]


def test_faces_have_none_of_the_other_attributes_in_one_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(protocols, "celeba", lambda folder: None)

    def made(_: None, name: str, others: list[str]) -> Task:
        asked.append((name, others))
        return official(toy(), 0)

    monkeypatch.setattr(protocols, "attribute", made)
    for protocol in ("celeba-attributes", "celeba-five"):
        open_tasks(protocol, "celeba").task("Bald")
    others = ["Mustache", "Bangs", "Eyeglasses", "Wearing_Hat"]
    assert asked == [("Bald", []), ("Bald", others)]


@pytest.mark.usefixtures("installed")
def test_classes_by_name_or_position() -> None:
    tasks = open_tasks("gpnd", "toy")
    assert tasks.chosen([]) == NAMES
    assert tasks.chosen(["long", "0", "2"]) == ("long", "round")
    with pytest.raises(ConfigError, match='no class "lang"; did you mean "long"'):
        tasks.chosen(["lang"])
    with pytest.raises(ConfigError, match='no class "3"'):
        tasks.chosen(["3"])


def test_coil_objects_are_thirty() -> None:
    assert len(set(COIL_OBJECTS)) == 30


def test_an_object_that_a_folder_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "read_set", lambda name, folder: toy(NAMES))
    tasks = open_tasks("gpnd", "coil100")
    assert (tasks.classes, tasks.usual) == (NAMES, COIL_OBJECTS)
    with pytest.raises(
        DataError, match=f"coil100: the folder has no pictures of {COIL_OBJECTS[0]}"
    ):
        tasks.task(COIL_OBJECTS[0])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("protocol", "dataset", "says"),
    [
        ("gpmd", "toy", 'unknown protocol "gpmd"; did you mean "gpnd"'),
        ("ood", "toy", 'takes two data sets, such as "fashion-mnist-vs-mnist", got "toy"'),
        ("ood", "toy-vs-nothing", "takes two data sets"),
        ("visa", "toy", 'made for visa, got "toy"'),
        ("elpv", "elpv", 'made for elpv-mono and elpv-poly, got "elpv"'),
    ],
)
def test_what_fits_not_together_is_refused(protocol: str, dataset: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_tasks(protocol, dataset)


def test_mvtec_without_its_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mvtec: no folder .*; give the folder that holds the cat"):
        open_tasks("mvtec", "mvtec", tmp_path / "none")
    with pytest.raises(DataError, match="has no folder of MVTec AD; give the one that holds"):
        open_tasks("mvtec", "mvtec", tmp_path)
