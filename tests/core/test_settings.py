from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from onlygood.core.errors import ConfigError
from onlygood.core.settings import (
    BELOW_ONE,
    SHARE,
    Preset,
    Settings,
    Training,
    View,
    number,
)


def test_by_default_whole_pictures_are_seen_without_augmentation():
    view = View()
    assert (view.size, view.tile, view.sides) == (128, 0, (128, 128))
    assert (view.rotate, view.flip) == ((0.0, 0.0), False)


def test_networks_see_a_tile_where_there_is_one():
    assert View(size=512, tile=64).sides == (64, 64)


@pytest.mark.parametrize(
    ("view", "shape", "canvas"),
    [
        (View(size=224), (224, 224), (224, 224)),
        (View(size=224, aspect=1600 / 600), (88, 224), (88, 224)),
        (View(size=224, aspect=600 / 1600), (224, 88), (224, 88)),
        (View(size=64, aspect=60.0), (16, 64), (16, 64)),
        (View(size=8, aspect=60.0), (8, 8), (8, 8)),
        (View(size=24, aspect=20 / 24), (24, 24), (24, 24)),
        (View(size=64, aspect=2.0, pad="square"), (32, 64), (64, 64)),
        (View(size=64, aspect=2.0, tile=40), (32, 64), (40, 64)),
    ],
)
def test_the_aspect_is_kept_in_steps(view: View, shape: tuple[int, int], canvas: tuple[int, int]):
    assert (view.shape, view.canvas) == (shape, canvas)


def test_by_default_there_is_no_budget():
    training = Training()
    assert (training.steps, training.images, training.minutes) == (0, 0, 0.0)
    assert (training.batch_size, training.precision) == (32, "auto")


def test_a_preset_changes_nothing_by_itself():
    preset = Preset(summary="as it is")
    assert not (preset.config or preset.view or preset.training)


@pytest.mark.parametrize("settings", [View(), Training(), Preset(summary="")])
def test_settings_do_not_change(settings: View | Training | Preset):
    with pytest.raises(FrozenInstanceError):
        settings.size = 3  # type: ignore[union-attr, misc]


@pytest.mark.parametrize("cls", [View, Training, Preset])
def test_settings_are_given_by_name(cls: type):
    with pytest.raises(TypeError, match="positional"):
        cls(1)


@pytest.mark.parametrize(
    ("beyond", "words"),
    [
        ({"size": 2**14 + 1}, "size must be 16384 or less, got 16385"),
        ({"smooth": 1e300}, r"smooth must be in \[0, 1\], got 1e\+300"),
        ({"smooth": float("nan")}, "smooth must be in"),
        ({"aspect": -1.0}, "aspect must be 0"),
        ({"aspect": 100.0}, "aspect must be 0"),
        ({"roi": (0.0, 0.0, 1.5, 1.0)}, "roi must be in"),
        ({"roi": (0.6, 0.0, 0.4, 1.0)}, "roi is left, top, right, bottom"),
        ({"crop": 20, "aspect": 2.0}, "crop=20 cuts out a square, whose aspect is 1, not 2"),
    ],
)
def test_what_no_machine_could_do_is_refused(beyond: dict[str, float], words: str):
    View(size=2**14, smooth=1.0)
    with pytest.raises(ConfigError, match=words):
        View(**beyond)


@dataclass(frozen=True, kw_only=True)
class Rates(Settings):
    share: float = number(0.5, SHARE)
    both: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_of_a_range_belong_to_it(share: float):
    assert Rates(share=share).share == share


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"share": 1.01}, r"share must be in \[0, 1\], got 1.01"),
        ({"both": (0.0, 1.0)}, r"both must be in \[0, 1\), got \(0.0, 1.0\)"),
    ],
)
def test_numbers_out_of_their_range_are_refused(given: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        Rates(**given)
