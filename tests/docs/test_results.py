from pathlib import Path

from onlygood.evaluation.records import read
from onlygood.evaluation.tables import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_records_say() -> None:
    records = sorted((ROOT / "results").glob("*.jsonl"))
    assert records
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert text == page(read(*records)), "make results"
