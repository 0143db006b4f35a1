from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onlygood.core.errors import ConfigError, DataError, ModelFileError
from onlygood.data.readers import LabelledSet
from onlygood.evaluation import protocols, reproduce
from onlygood.evaluation.paper_tables import (
    TABLES,
    Block,
    CountedTable,
    MeasuredTable,
    Row,
    Way,
)
from onlygood.evaluation.records import Line
from onlygood.evaluation.reproduce import Missing, Plan, counts, plan, sheets
from onlygood.evaluation.tables import Sheet
from tests.evaluation.lines import line
from tests.evaluation.toysets import toy


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str, folder: Path | None) -> LabelledSet:
        if name == "coil100":
            raise DataError("coil100 is not here")
        return toy(name)

    monkeypatch.setattr(protocols, "read_set", read)


PIAD = Row(
    "PIAD",
    [
        Way("knn:default", {"k": "3"}, classes=["long"], remark="another"),
        Way("pca:default", weights="net", instead={"components": "2"}),
    ],
)
TABLE = MeasuredTable(
    paper="PIAD",
    printed_as="Table 3",
    what="toys",
    blocks=[
        Block(protocol="gpnd", datasets=["fashion-mnist"], rows=[Row("GPND"), PIAD]),
        Block(protocol="gpnd", datasets=["coil100"], rows=[Row("OCGAN"), PIAD]),
    ],
)


def without(name: str) -> None:
    raise ModelFileError(f"no weights of {name}")


def words(found: Plan) -> list[str]:
    return [
        f"{p.cell.method}:{p.cell.preset} {p.cell.normal} {p.cell.seed} {p.cell.settings}"
        for p in found.planned
        if p.row is PIAD
    ]


def test_rows_become_cells_and_what_is_missing_is_named() -> None:
    found = plan(TABLE, seeds=[0, 1], classes=["round", "long"])
    assert words(found) == [
        "pca:default round 0 {}",
        "knn:default long 0 {'k': '3'}",
        "pca:default round 1 {}",
        "knn:default long 1 {'k': '3'}",
    ]
    floor = [p.cell.normal for p in found.planned if p.cell.method == "mean_picture"]
    assert floor == ["round", "long"] * 2
    assert found.missing == [
        Missing("data", "coil100 is not here"),
        Missing("method", "GPND"),
        Missing("method", "OCGAN"),
    ]
    [(where, cells)] = found.cells.items()
    assert (where, len(cells)) == (("gpnd", "fashion-mnist"), 8)


def test_settings_stand_in_for_weights_that_are_not_here() -> None:
    found = plan(TABLE, classes=["square"], weights=without)
    assert words(found) == ["pca:default square 0 {'components': '2'}"]
    [lacking] = [one.words for one in found.missing if one.what == "weights"]
    assert lacking == "no weights of net; until then rows are run with components=2"
    [sheet] = sheets(TABLE, found, recorded(found, VALUES))
    assert [row["remark"] for row in rows([sheet]) if row["row"] == "PIAD"][1:] == ["without net"]


def test_what_is_said_is_for_the_rows_that_have_it() -> None:
    found = plan(TABLE, settings={"k": "9", "size": "8"})
    assert words(found) == [
        "pca:default round 0 {'size': '8'}",
        "pca:default square 0 {'size': '8'}",
        "knn:default long 0 {'k': '9', 'size': '8'}",
    ]
    assert all(not p.cell.settings for p in found.planned if p.cell.method == "mean_picture")


def test_rows_are_chosen_by_what_is_printed() -> None:
    found = plan(TABLE, rows=["piad"])
    assert [one.words for one in found.missing] == ["coil100 is not here"]
    assert plan(TABLE, rows=["GPND"]).missing[1:] == [Missing("method", "GPND")]
    assert words(plan(TABLE, rows=["GPND"])) == []
    assert plan(TABLE, rows=["GPND, piad"]).rows == plan(TABLE, rows=["piad", "GPND"]).rows
    # A name may have a comma.
    found = plan(TABLES["ama-known"], rows=["AMA, semi-supervised"])
    assert {row.printed for row in found.rows} == {"AMA, semi-supervised"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rows": ["PIED"]}, 'no row "PIED"; did you mean "PIAD"'),
        ({"classes": ["rond"]}, 'no class "rond" in the data sets that are here; did you mean "ro'),
        ({"settings": {"compnents": 1}}, 'no row has a setting "compnents"; did you mean "compo'),
        ({"settings": {"components": "many"}}, "components takes a whole number, got 'many'"),
    ],
)
def test_misuse_is_refused_before_anything_is_run(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan(TABLE, **asked)


def test_a_folder_with_none_of_the_data_sets_is_refused(tmp_path: Path) -> None:
    alone = MeasuredTable(paper="P", printed_as="T", what="", blocks=[TABLE.blocks[1]])
    with pytest.raises(DataError, match="coil100 is not here"):
        plan(alone, tmp_path)
    assert not plan(alone).planned


def test_classes_that_are_not_here_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(name: str) -> protocols.Task:
        if name != "round":
            raise DataError(f"{name}: is lost")
        return protocols.official(toy(), 0)

    opened = protocols.Tasks(("round", "long", "square"), ("round", "long", "square"), task)
    monkeypatch.setattr("onlygood.evaluation.reproduce.open_tasks", lambda *_: opened)
    found = plan(TABLE)
    assert {p.cell.normal for p in found.planned} == {"round"}
    assert found.missing[0] == Missing("data", "long: is lost (nor square)")


# Sheets ------------------------------------------------------------------------------------------


def recorded(found: Plan, values: dict[tuple[str, int], float]) -> list[Line]:
    return [
        line(
            values[p.cell.normal, p.cell.seed],
            **p.cell.identity,
            settings={k: str(v) for k, v in p.cell.settings.items()},
            preset=p.cell.preset,
            resolved={},
            max_balanced_accuracy_by_kind=0.3,
        )
        for p in found.planned
        if (p.cell.normal, p.cell.seed) in values
    ]


def rows(found: Sequence[Sheet]) -> list[dict[str, str]]:
    return [dict(zip(sheet.columns, row, strict=True)) for sheet in found for row in sheet.rows]


VALUES = {
    ("round", 0): 0.4,
    ("square", 0): 0.6,
    ("long", 0): 0.8,
    ("round", 1): 0.6,
    ("square", 1): 0.6,
    ("long", 1): 0.9,
    ("round", 2): 1.0,
}


def test_ours_stand_beside_what_is_printed() -> None:
    found = plan(TABLE, seeds=[0, 1, 2])
    here, absent = sheets(TABLE, found, recorded(found, VALUES))
    assert here.title == "PIAD, Table 3: toys. fashion-mnist, gpnd: AUROC"
    gpnd, printed, ours, floor = rows([here])
    assert (gpnd["row"], gpnd["mean"], gpnd["round"]) == ("GPND", "0.933", "")
    assert (printed["row"], printed["run as"], printed["mean"]) == ("PIAD", "as printed", "0.949")
    assert ours["run as"] == "pca:default; knn:default, k=3"
    assert (ours["round"], ours["long"]) == ("0.667 ± 0.306", "0.850 ± 0.071")
    # The third seed has not been run on all classes.
    assert (ours["mean"], ours["seeds"]) == ("0.650 ± 0.071", "3")
    assert (ours["remark"], ours["schedule"]) == ("another", "10 steps of 4 images")
    assert (floor["row"], floor["run as"]) == ("mean picture", "mean_picture:small")
    assert [row["mean"] for row in rows([absent])] == ["0.995", "1.000"]


def test_a_record_of_another_default_is_not_ours() -> None:
    found = plan(TABLE, seeds=[0, 1])
    before = [x | {"resolved": {"size": 1}} for x in recorded(found, VALUES) if x["seed"] == 1]
    here, _ = sheets(TABLE, found, [*recorded(plan(TABLE), VALUES), *before])
    assert [(row["seeds"], row["round"]) for row in rows([here])[2:]] == [("1", "0.400")] * 2


def test_a_part_of_the_score_or_another_metric_may_count() -> None:
    block = Block(
        protocol="gpnd", datasets=["toy"], rows=[Row("R", [Way("pca:default", part="pixels")])]
    )
    table = MeasuredTable(paper="P", printed_as="T", what="", blocks=[block])
    found = plan(table, classes=["round"])
    lines = [x | {"parts": {"pixels": 0.125}} for x in recorded(found, {("round", 0): 0.4})]
    [ours, floor] = rows(list(sheets(table, found, lines)))
    assert (ours["round"], ours["run as"]) == ("0.125", "pca:default, pixels of the score")
    assert floor["round"] == "0.400"
    by_kind = MeasuredTable(
        paper="P", printed_as="T", what="", blocks=[block], metric="max_balanced_accuracy_by_kind"
    )
    assert rows(list(sheets(by_kind, found, lines)))[1]["round"] == "0.300"


def test_classes_that_are_not_asked_for_have_no_column() -> None:
    found = plan(TABLE, classes=["long"])
    [sheet] = sheets(TABLE, found, recorded(found, VALUES))
    assert [column for column in sheet.columns if column in ("round", "square", "long")] == ["long"]
    assert rows([sheet])[2]["long"] == "0.800"


def test_many_classes_have_their_mean_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "MANY", 2)
    found = plan(TABLE)
    here, _ = sheets(TABLE, found, recorded(found, VALUES))
    assert not {"round", "square", "long"} & set(here.columns)
    assert rows([here])[2]["mean"] == "0.600"


def test_counts_that_differ_are_said(tmp_path: Path) -> None:
    def count(name: str, folder: Path | None) -> tuple[int, ...]:
        if name == "c":
            raise DataError("c: is lost")
        return (1, 2)

    table = CountedTable(
        paper="P",
        printed_as="Table 1",
        what="pictures",
        columns=("train", "test"),
        printed={"a": (1, 2), "b": (1000, 3), "c": (5, 6)},
        datasets=("d",),
        count=count,
    )
    sheet, missing = counts(table)
    assert sheet.rows == [
        ("a", "as printed", "1", "2"),
        ("a", "as here", "1", "2"),
        ("b", "as printed", "1,000", "3"),
        ("b", "as here: differs", "1", "2"),
        ("c", "as printed", "5", "6"),
    ]
    assert missing == [Missing("data", "c: is lost")]
    assert len(counts(table, tmp_path)[0].rows) == 5
    lost = replace(table, printed={"c": (5, 6)})
    assert counts(lost)[1] == missing
    with pytest.raises(DataError, match="c: is lost"):
        counts(lost, tmp_path)
