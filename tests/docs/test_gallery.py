from pathlib import Path

import gallery
import pytest
from PIL import Image

from onlygood.methods import METHODS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_script_says() -> None:
    text = (DOCS / "gallery.md").read_text("utf-8")
    assert text == gallery.page(train=100), "python docs/make/gallery.py"


def test_every_method_is_drawn_with_all_that_it_says() -> None:
    """Reconstructions of those that reconstruct, heat maps of those that localise."""
    width = len(gallery.SHOWN) * (gallery.SIDE + gallery.GAP) - gallery.GAP
    for name in METHODS:
        height = len(gallery.rows(name)) * (gallery.SIDE + gallery.GAP) - gallery.GAP
        with Image.open(DOCS / "gallery" / f"{name}.webp") as drawn:
            assert drawn.size == (width, height), f"python docs/make/gallery.py {name}"


def test_the_gallery_is_small() -> None:
    files = list((DOCS / "gallery").iterdir())
    assert {file.stem for file in files} == {*METHODS, gallery.PICTURES.stem}
    assert sum(file.stat().st_size for file in files) < 1_500_000


def test_nothing_is_drawn_where_a_name_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "FOLDER", None)
    with pytest.raises(SystemExit, match="there is no reflekt; what can be drawn is heatmap, "):
        gallery.main(["pca", "reflekt"])


def test_rows_are_those_of_the_method() -> None:
    assert gallery.rows("autoencoder") == ["as given back", "heat maps"]
    assert gallery.rows("reflect") == ["heat maps"]
    assert gallery.rows("deep_svdd") == ["decisions"]
