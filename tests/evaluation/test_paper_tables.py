from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.readers import AttributePart, AttributeSet, LabelledSet
from onlygood.data.source import ImageSource
from onlygood.detector.learning import settings_of
from onlygood.evaluation import paper_tables, published
from onlygood.evaluation.paper_tables import (
    FLOOR,
    OBJECTS,
    TABLES,
    Block,
    CountedTable,
    MeasuredTable,
    Row,
    Way,
    place_of,
    sets_of,
    table_of,
)
from onlygood.evaluation.protocols import PROTOCOLS
from onlygood.evaluation.records import WHOLE
from tests.evaluation.toysets import NAMES, part, toy

MEASURED = {name: table for name, table in TABLES.items() if isinstance(table, MeasuredTable)}


def presets(table: str, printed: str, normal: str) -> list[tuple[str, dict[str, str]]]:
    rows = [row for row in MEASURED[table].rows if row.printed == printed]
    ways = [way for row in rows if (way := row.way(normal)) is not None]
    return [(way.preset, dict(way.settings)) for way in ways]


def test_every_printed_figure_stands_in_a_table() -> None:
    ours = {
        (table.paper, table.printed_as, dataset, block.protocol, row.printed)
        for table in MEASURED.values()
        for block in table.blocks
        for dataset in block.datasets
        for row in block.rows
    }
    printed = {(f.paper, f.table, f.dataset, f.protocol, f.method) for f in published._figures()}
    assert printed <= ours
    # Not every method was run on every pair of data sets; one figure has bars without numbers, and
    # an appendix is not to be had.
    more = {(paper, table) for paper, table, *_ in ours - printed}
    without = {("AMA", "appendix"), ("CE-BiGAN", "Fig. 5")}
    assert more == {("AMA", "Table 1"), ("PIAD", "Table 2"), *without}


@pytest.mark.parametrize("name", MEASURED)
def test_printed_figures_are_of_the_metric_and_the_classes_of_their_table(name: str) -> None:
    table = MEASURED[name]
    for block in table.blocks:
        printed = [f for row in block.rows for f in table.figures(block, row).values()]
        assert {figure.metric for figure in printed} <= {table.metric}
        # Where one class is printed and nothing else, that one is run.
        names = {figure.normal for figure in printed}
        assert set(block.classes) == (names - {"mean", WHOLE} if len(names) == 1 else set())


def test_rows_that_are_printed_apart_are_run_apart() -> None:
    alike = set()
    for block in (block for table in MEASURED.values() for block in table.blocks):
        rows: dict[str, str] = {}
        for row in (row for row in block.rows if row.ways):
            ways = str([(w.preset, w.settings, w.classes, w.part) for w in row.ways])
            if (other := rows.setdefault(ways, row.printed)) != row.printed:
                alike.add((other, row.printed))
    assert alike == {("CAVGA-Du (extra data)", "CAVGA-Ru (extra data)")}


def test_a_preset_that_is_named_after_a_data_set_is_for_that_one() -> None:
    known = {"mnist": ("3", "cifar"), "cifar10": ("cat", "mnist")}
    for block in (block for table in MEASURED.values() for block in table.blocks):
        if block.protocol == "one-vs-rest":
            normal, other = known[block.datasets[0]]
            ways = [way for row in block.rows if (way := row.way(normal))]
            assert len(ways) == len(block.rows)
            assert not [way.preset for way in ways if other in way.preset]


@pytest.mark.parametrize("name", MEASURED)
def test_rows_are_settings_that_there_are(name: str) -> None:
    for block in MEASURED[name].blocks:
        assert block.protocol in PROTOCOLS
        for way in (way for row in (*block.rows, FLOOR) for way in row.ways):
            method, _, preset = way.preset.partition(":")
            for more in ({}, way.instead):
                settings_of(method, preset, {**way.settings, **more})
            assert bool(way.weights) == bool(way.instead)


def test_each_category_of_mvtec_has_the_preset_that_it_needs() -> None:
    for table in ("cbigan-2", "cbigan-3"):
        assert presets(table, "CBiGAN", "tile") == [("cbigan:paper-texture", {})]
        assert presets(table, "CBiGAN", "screw") == [("cbigan:paper", {"rotate": "-45,45"})]
        assert presets(table, "CBiGAN", "cable") == [("cbigan:paper", {})]
        assert presets(table, "EGBAD", "wood") == [("cbigan:bigan-texture", {})]
        turned = {name for name in OBJECTS if presets(table, "CBiGAN", name)[0][1]}
        assert turned == {"bottle", "hazelnut", "metal_nut", "screw"}
    floor = [way.preset for name in ("tile", "cable") if (way := FLOOR.way(name))]
    assert floor == ["mean_picture:texture", "mean_picture:small"]


def test_anogan_is_set_up_for_the_data_set() -> None:
    for table, normal, preset in (
        ("ce-bigan-1", "metal_nut", "paper"),
        ("cbigan-2", "tile", "paper"),
        ("ce-bigan-fig-5", "3", "mnist"),
        ("piad-2", "3", "mnist"),
        ("ama-2", "cat", "cifar10"),
    ):
        rows = {row.printed for row in MEASURED[table].rows if row.printed.startswith("AnoGAN")}
        assert dict(presets(table, *rows, normal)) == {f"anogan:{preset}": {}}


def test_likelihoods_are_learnt_as_long_as_their_data_set_asks_for() -> None:
    long = {"size": "32", "steps": "600000"}
    blocks = {b.datasets[0].partition("-vs-")[0]: b for b in MEASURED["ama-1"].blocks}
    found = [_ratio(blocks[name]).settings for name in ("fashion-mnist", "cifar10", "svhn")]
    assert found == [{}, long, long]
    assert "none for SVHN" in _ratio(blocks["svhn"]).remark


def test_the_r_score_is_a_part_of_a_score() -> None:
    parts = {row.printed: [w.part for w in row.ways if w.part] for row in MEASURED["ama-1"].rows}
    assert {name: part for name, part in parts.items() if part} == {
        "AMA with R-score instead of A-score": ["r"]
    }


def test_shallow_methods_see_pictures_in_their_own_size() -> None:
    for row in ("OC-SVM", "KDE"):
        found = [settings for _, settings in presets("piad-2", row, "3")]
        assert found == [{}, {"size": "32"}]


def _ratio(block: Block) -> Way:
    (row,) = (row for row in block.rows if row.printed == "Likelihood ratio on PixelCNN++")
    (way,) = row.ways
    return way


def test_what_needs_no_backbone_needs_no_weights() -> None:
    found = set()
    for table in MEASURED.values():
        for way in (way for row in table.rows for way in row.ways if "piad" in way.preset):
            config = settings_of("piad", way.preset.partition(":")[2], {}).config
            found.add((config.distance != "mse", way.weights, config.backbone))
    assert found == {(True, "vgg19", "vgg19"), (False, "", "vgg19")}


def test_a_row_without_a_way_is_run_on_nothing() -> None:
    assert Row("GANomaly").way("tile") is None


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ConfigError, match='unknown table "piad-4"; did you mean "piad-'):
        table_of("piad-4")


def test_where_the_data_sets_of_a_table_are_looked_for(tmp_path: Path) -> None:
    mvtec, several, pairs = (TABLES[name] for name in ("cbigan-2", "piad-3", "ama-1"))
    (tmp_path / "celeba").mkdir()
    assert place_of(mvtec, "mvtec", tmp_path) == tmp_path
    assert place_of(several, "celeba", tmp_path) == tmp_path
    assert place_of(several, "coil100", tmp_path) is None
    assert place_of(pairs, "cifar10-vs-svhn", tmp_path) == tmp_path
    assert place_of(mvtec, "mvtec", None) is None
    with pytest.raises(DataError, match="there is no folder"):
        place_of(mvtec, "mvtec", tmp_path / "none")


def test_what_is_here_is_told_for_both_of_a_pair(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    found = sets_of(TABLES["ama-1"], tmp_path)
    assert found["svhn"] and not found["omniglot"]
    assert set(found) >= {"mnist", "cifar10", "cifar100", "imagenet"}


# Counts ------------------------------------------------------------------------------------------


def counted(name: str) -> CountedTable:
    table = TABLES[name]
    assert isinstance(table, CountedTable)
    return table


def test_printed_numbers_add_up() -> None:
    # The totals that the MVTec AD paper states: 3,629 to train on, 467 and 1,258 to test on.
    totals = np.sum([row[:3] for row in counted("cbigan-1").printed.values()], 0)
    assert totals.tolist() == [3629, 467, 1258]


def test_pictures_of_a_category_are_counted(tmp_path: Path) -> None:
    for kind, number in (("train/good", 3), ("test/good", 2), ("test/cut", 1), ("test/dent", 3)):
        folder = tmp_path / "tile" / kind
        folder.mkdir(parents=True)
        for i in range(number):
            Image.new("L", (6, 6)).save(folder / f"{i}.png")
    assert counted("cbigan-1").count("tile", tmp_path) == (3, 2, 4, 6)


def test_pictures_of_data_sets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def faces(folder: Path | None) -> AttributeSet:
        some = AttributePart(ImageSource(list(part("f", (2,)).pictures)), np.zeros((2, 4), bool))
        return AttributeSet("celeba", ("a", "b", "c", "d"), some, some, some)

    def read(name: str, folder: Path | None) -> LabelledSet:
        whole = toy(name)._replace(class_names=("church", "bedroom", *NAMES[2:]))
        return whole._replace(test=part("test", (5, 6, 7)))

    monkeypatch.setattr(paper_tables, "read_set", read)
    monkeypatch.setattr(paper_tables, "celeba", faces)
    count = counted("piad-1").count
    assert count("mnist", None) == (3, 48)
    # Of LSUN, bedrooms alone.
    assert count("lsun", None) == (1, 16)
    assert count("celeba", None) == (4, 6)
