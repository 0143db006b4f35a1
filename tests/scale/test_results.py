from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from onlygood.decision import drift
from onlygood.decision.calibration import Calibration
from onlygood.scale import results
from onlygood.scale.manifest import prepare
from onlygood.scale.places import Place
from onlygood.scale.results import rate
from onlygood.scale.units import Input

CALIBRATION = Calibration(scores=np.arange(21.0))


def summary(folder: Path, *units: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a job whose units have found this."""
    about = {"model": {"sha256": "0"}, "maps": "none", "sources": []}
    place = Place(folder)
    inputs = [Input(f"file:///{i}.png", 1, "0") for i in range(len(units))]
    manifest = prepare(place, about, inputs, pictures=1, update=False)
    (folder / "parts").mkdir()
    columns = [(name, pa.string()) for name in ("uri", "decision", "error")]
    schema = pa.schema([*columns, ("p_value", pa.float64())])
    for name, rows in zip(manifest.names, units, strict=True):
        table = pa.Table.from_pylist(rows, schema)
        parquet.write_table(table, folder / "parts" / f"{name}.parquet")
    return results.summary(place, manifest, [], CALIBRATION)


def test_so_many_bad_pictures_are_named_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "SHOWN", 3)
    bad = [{"uri": f"{i}", "decision": "error", "error": "is empty"} for i in range(4)]
    told = summary(tmp_path, bad[:2], bad[2:])
    assert told["errors"] == [{"uri": f"{i}", "error": "is empty"} for i in range(3)]
    assert told["counts"]["error"] == 4


@pytest.mark.parametrize("looked_at", [100, 22])
def test_drift_is_judged_by_the_p_values_or_an_even_choice_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    seen: list[list[float]] = []

    def verdict(ascending: np.ndarray, _: Calibration) -> drift.Drift:
        seen.append(ascending.tolist())
        return drift.Drift("too_few", len(ascending), None, "")

    monkeypatch.setattr(drift, "verdict", verdict)
    monkeypatch.setattr(results, "LOOKED_AT", looked_at)
    # Each that a picture can have, twice: not all are a whole number again, times 22.
    p_values = [k / 22 for k in range(1, 23)]
    rows = [{"uri": "", "decision": "normal", "p_value": p} for p in reversed(p_values)]
    summary(tmp_path, rows, rows)
    assert seen == [sorted(2 * p_values) if looked_at > 44 else p_values]


def test_an_interval_holds_its_share_and_is_one_of_shares() -> None:
    for n in range(1, 60):
        none, every = rate(0, n), rate(n, n)
        assert none is not None and (none["low"], none["share"]) == (0, 0)
        assert every is not None and (every["high"], every["share"]) == (1, 1)
