import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onlygood.core.errors import ConfigError
from onlygood.core.settings import View
from onlygood.data.align import UNMOVED, Pose, aligned, reference_text
from onlygood.data.mask import mask_text
from onlygood.data.source import ImageSource
from onlygood.detector import Detector, learning
from onlygood.detector.learning import learn, new_network, remarks, settings_of, settled
from onlygood.methods import METHODS
from onlygood.training.trainer import _seeded_globally
from tests import parts


def pictures(*sizes: int, channels: int = 1) -> ImageSource:
    return ImageSource.of([np.full((side, side + 9, channels), 64, np.uint8) for side in sizes])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((28, 28), 48), ((55,), 48), ((56,), 224), ((28, 300, 300), 224), ((1024,), 224)],
)
def test_the_size_is_settled_by_the_longer_sides(sizes: tuple[int, ...], expected: int) -> None:
    assert settled(View(size=0), pictures(*sizes), METHODS["pca"]).size == expected


@pytest.mark.parametrize(("channels", "expected"), [(1, 1), (3, 3)])
def test_channels_are_settled_by_the_pictures(channels: int, expected: int) -> None:
    view = settled(View(size=32), pictures(28, channels=channels), METHODS["pca"])
    assert (view.size, view.channels) == (32, expected)


def test_pictures_that_are_made_much_smaller_are_spoken_of() -> None:
    view = View(size=224, channels=1, aspect=4 / 3, pad="none")
    large = ImageSource.of([np.full((1500, 2000), 64, np.uint8)] * 2 + [b"none"])
    assert remarks(view, large) == [
        "pictures of 2,000 x 1,500 pixels are seen at 224 x 168, 8.9 times smaller: a defect less "
        "than some 107 pixels wide may not be found; size=448 sees twice as finely, and takes "
        "longer"
    ]
    assert remarks(view, pictures(100, 438)) == []
    assert remarks(view, ImageSource.of([b"none"])) == []
    middle = View(size=224, channels=1, aspect=4 / 3, pad="none", roi=(0.4, 0.4, 0.6, 0.6))
    assert remarks(middle, large) == []


def test_how_much_a_mask_ignores_is_said() -> None:
    """One that is inverted, or of colours that were thought to be others, is seen by it."""
    mask = np.full((40, 50, 1), 255, np.uint8)
    mask[0, 0] = 0
    view = View(size=32, channels=1, aspect=1.0, pad="none", ignore=mask_text(mask))
    assert remarks(view, pictures(28)) == ["the mask ignores 99.95 % of each picture"]
    assert remarks(view, ImageSource.of([b"none"])) == ["the mask ignores 99.95 % of each picture"]
    thick = replace(view, ignore=mask_text(255 - mask))
    assert remarks(thick, pictures(28)) == ["the mask ignores 0.05 % of each picture"]


def test_a_part_that_lies_differently_in_each_picture_is_spoken_of() -> None:
    drawn = np.full((60, 80, 1), 60, np.uint8)
    drawn[20:40, 20:60] = 150
    drawn[24:36, 26:34] = 220
    shifts = (UNMOVED, Pose(0.0, 0.1, 0.0), Pose(0.0, 0.0, 0.1))
    source = ImageSource.of([aligned(drawn, at) for at in shifts])
    view = View(size=64, channels=1, aspect=4 / 3, pad="none")
    assert remarks(view, source) == [
        "the first pictures show one thing that lies differently in each: turned by 0.0 degrees "
        "and shifted by 10.0 % of the longer side (medians); align=auto lays all alike: it finds "
        "more, above all with few pictures, and takes longer"
    ]
    assert remarks(replace(view, align=reference_text(drawn)), source) == []
    assert remarks(replace(view, tile=32), source) == []


def test_twelve_bits_in_sixteen_are_spoken_of() -> None:
    view = View(size=32, channels=1, aspect=1.0, pad="none")
    deep = np.linspace(0, 4095, 32 * 32).astype(np.uint16).reshape(1, 32, 32)
    (words,) = remarks(view, ImageSource.of(deep))
    assert words.startswith("the first pictures are nearly black, with values up to 15 of 255; ")
    assert remarks(view, ImageSource.of(deep << 4)) == []


def test_what_is_said_stays() -> None:
    view = View(size=32, channels=3, aspect=2.0, pad="none")
    assert settled(view, pictures(28), METHODS["cbigan"]) == view
    found = settled(View(size=0, channels=3, aspect=1.0), pictures(28), METHODS["pca"])
    assert found == View(size=48, channels=3, aspect=1.0, pad="none")


@pytest.mark.parametrize(
    ("view", "shapes", "aspect"),
    [
        (View(), [(60, 160)] * 3, 160 / 60),
        (View(), [(60, 160), (60, 160), (90, 90)], 160 / 60),
        (View(), [(60, 160), (160, 60)], 1.0),
        (View(roi=(0.0, 0.0, 0.5, 1.0)), [(60, 160)], 80 / 60),
        (View(crop=50), [(60, 160)], 1.0),
        (View(), [(4, 1000)], 64.0),
    ],
)
def test_the_aspect_is_that_of_most_pictures(
    view: View, shapes: list[tuple[int, int]], aspect: float
) -> None:
    source = ImageSource.of([np.zeros(shape, np.uint8) for shape in shapes])
    assert settled(view, source, METHODS["pca"]).aspect == pytest.approx(aspect)


def test_only_whole_pictures_of_networks_that_need_squares_are_padded() -> None:
    def pad(name: str, **view: int) -> str:
        return settled(View(**view), pictures(28), METHODS[name]).pad

    assert (pad("cbigan"), pad("cbigan", tile=64), pad("reflect")) == ("square", "none", "none")


PICTURES = parts.normal(12)
TINY = {
    **{"size": 32, "channels": 1, "aspect": 1, "width": 2, "latent": 4},
    **{"steps": 2, "batch_size": 4, "precision": "float32"},
}


def test_the_seed_draws_the_first_weights_and_steers_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved, cls = settings_of("autoencoder", "default", TINY), METHODS["autoencoder"]
    first = [new_network(cls, resolved.config, resolved.view, seed) for seed in (1, 1, 2)]
    # From the same weights on.
    monkeypatch.setattr(learning, "new_network", lambda *settings: new_network(*settings[:3], 0))
    source = ImageSource.of(list(parts.normal(8)))
    last = [learn("autoencoder", resolved, source, seed=s).scorer.network for s in (1, 1, 2)]
    for networks in (first, last):
        one, again, other = (list(network.parameters()) for network in networks)
        assert all(map(torch.equal, one, again))
        assert not all(map(torch.equal, one, other))


def test_first_weights_are_those_of_the_seed_while_other_threads_fit() -> None:
    resolved, cls = settings_of("autoencoder", "default", TINY), METHODS["autoencoder"]

    def drawn(seed: int) -> list[torch.Tensor]:
        return list(new_network(cls, resolved.config, resolved.view, seed).parameters())

    def trained() -> None:
        while not drawn_all.is_set():
            with _seeded_globally(0):
                pass

    seeds, drawn_all = list(range(12)), threading.Event()
    alone = list(map(drawn, seeds))
    with ThreadPoolExecutor(4) as pool:
        pool.submit(trained)
        try:
            together = list(pool.map(drawn, seeds))
        finally:
            drawn_all.set()
    for one, other in zip(alone, together, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    "change",
    [
        {"pictures": parts.normal(12, seed=1)},
        *({"batch_size": 2}, {"precision": "bf16"}, {"decay_from": 0.5}, {"rotate": (0.0, 10.0)}),
    ],
    ids=lambda change: next(iter(change)),
)
def test_only_the_same_run_goes_on(tmp_path: Path, change: dict[str, Any]) -> None:
    def fitted(pictures: Any = PICTURES, *, resume: bool = False, **more: Any) -> None:
        settings = {**TINY, "aspect": 0, **more}
        Detector.fit(
            "autoencoder", list(pictures), settings=settings, run_dir=tmp_path, resume=resume
        )

    fitted()
    with pytest.raises(ConfigError, match="belongs to a run with another"):
        fitted(resume=True, **change)


def test_a_size_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "memory", lambda: (2**20, 2**20))
    with pytest.raises(ConfigError, match="make size smaller"):
        parts.fit(parts.normal(20), {"size": 1024})
