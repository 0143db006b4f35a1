from pathlib import Path

import pytest

from onlygood.scale import units
from onlygood.scale.units import Input, cut


def inputs(*pictures: int, size: int = 1) -> list[Input]:
    return [Input(f"s3://b/{i}", size, "0", pictures=n) for i, n in enumerate(pictures)]


def test_units_have_as_many_pictures_as_fit() -> None:
    lengths = [len(unit.inputs) for unit in cut(inputs(1, 1, 1, 5, 1, 1), "job", 2)]
    assert lengths == [2, 1, 1, 2]


def test_a_tar_file_is_a_unit() -> None:
    lengths = [len(unit.inputs) for unit in cut(inputs(1, 1, 0, 0, 1, 1), "job", 5)]
    assert lengths == [2, 1, 1, 2]


def test_units_have_as_many_bytes_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BYTES", 20)
    assert [len(unit.inputs) for unit in cut(inputs(1, 1, 1, size=10), "job")] == [2, 1]


def test_a_name_says_all_that_a_result_depends_on() -> None:
    (item,) = inputs(1)
    changes = {"uri": "s3://b/other", "size": 2, "stamp": "1", "group": 0}
    others = [item._replace(**{name: value}) for name, value in changes.items()]
    found = [unit.name for unit in cut([item, *others], "job", 1)]
    found += [unit.name for unit in cut([item], "another job", 1)]
    assert len(set(found)) == 6
    assert next(cut([item], "job", 9)).name == found[0]


def test_what_is_listed_twice_is_one_unit() -> None:
    assert len(list(cut(inputs(1) * 3, "job", 1))) == 1


def test_the_page_says_how_large_a_unit_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    assert f"up to {units.PICTURES:,} pictures or {units.BYTES // 2**20} MiB" in page
