from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import labelled, read_mask
from onlygood.data.readers import visa, write_dataset
from tests.data.pictures import write

ROWS = [
    ("pcb1", "train", "normal", "pcb1/Data/Images/Normal/0002.JPG", ""),
    ("pcb1", "train", "normal", "pcb1/Data/Images/Normal/0000.JPG", ""),
    ("pcb1", "test", "normal", "pcb1/Data/Images/Normal/0001.JPG", ""),
    (
        *("pcb1", "test", "anomaly"),
        *("pcb1/Data/Images/Anomaly/000.JPG", "pcb1/Data/Masks/Anomaly/000.png"),
    ),
    ("candle", "train", "normal", "candle/Data/Images/Normal/0000.JPG", ""),
]


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    root = tmp_path / "VisA"
    for row in ROWS:
        if row[0] == "pcb1":
            write(root / row[3], 50)
    mask = np.zeros((8, 8), np.uint8)
    mask[2, 3] = 1  # VisA counts kinds of defects in its masks
    (root / "pcb1/Data/Masks/Anomaly").mkdir(parents=True)
    Image.fromarray(mask).save(root / "pcb1/Data/Masks/Anomaly/000.png")
    table(root, ROWS)
    return root


def table(root: Path, rows: list[tuple[str, ...]]) -> None:
    (root / "split_csv").mkdir(exist_ok=True)
    lines = [("object", "split", "label", "image", "mask"), *rows]
    text = "".join(",".join(line) + "\r\n" for line in lines)
    (root / "split_csv/1cls.csv").write_text(text, newline="")


def test_a_category(boards: Path):
    train, test = visa("pcb1", boards)
    assert train.names == ["0002.JPG", "0000.JPG"]
    assert test.source.names == ["0001.JPG", "000.JPG"]
    assert (test.labels.tolist(), test.kinds) == ([False, True], ["good", "anomaly"])
    assert test.masks[0] is None and test.masks[1] is not None
    assert test.masks[1].path == boards / "pcb1/Data/Masks/Anomaly/000.png"
    assert np.argwhere(read_mask(test.masks[1], (8, 8))).tolist() == [[2, 3]]


def test_it_is_written_with_masks(boards: Path, tmp_path: Path):
    summary = write_dataset("visa-pcb1", tmp_path / "out", source=boards)
    assert (summary.train, summary.test_normal, summary.test_anomalous) == (2, 1, 1)
    found = labelled(tmp_path / "out")
    assert found.kinds == ["good", "anomaly"]
    assert [mask and mask.path for mask in found.masks] == [
        None, tmp_path / "out/ground_truth/anomaly/000_mask.png",
    ]  # fmt: skip


def test_what_is_wrong_is_named(boards: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="VisA has no category 'pcb5'; known: candle, capsules"):
        visa("pcb5", boards)
    with pytest.raises(DataError, match=r"Normal/0000\.JPG: is in the table of VisA but not here"):
        visa("candle", boards)
    with pytest.raises(DataError, match="VisA, fryum: a part is empty"):
        visa("fryum", boards)
    with pytest.raises(DataError, match=r"visa: no folder .*gone; give the folder that holds"):
        visa("candle", tmp_path / "gone")
    (boards / "pcb1/Data/Masks/Anomaly/000.png").unlink()
    with pytest.raises(DataError, match=r"000\.png: is in the table of VisA but not here"):
        visa("pcb1", boards)


@pytest.mark.parametrize(
    "rows",
    [
        [("pcb1", "train", "anomaly", "x", "")],
        [("pcb1", "validation", "normal", "x", "")],
        [("pcb1", "train")],
        [("pcb1", "train", "normal", '"x', "")],
    ],
)
def test_other_tables_are_refused(rows: list[tuple[str, ...]], boards: Path):
    table(boards, rows)
    with pytest.raises(DataError, match=r"1cls\.csv: is no table of object, split, label"):
        visa("pcb1", boards)


def test_a_missing_table_is_refused(boards: Path):
    (boards / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: is no table"):
        visa("pcb1", boards)
