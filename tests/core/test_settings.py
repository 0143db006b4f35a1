from dataclasses import FrozenInstanceError

import pytest

from onlygood.core.settings import Preset, Training, View


def test_by_default_whole_pictures_are_seen_without_augmentation():
    view = View()
    assert (view.size, view.tile, view.side) == (128, 0, 128)
    assert (view.rotate, view.flip) == ((0.0, 0.0), False)


def test_networks_see_a_tile_where_there_is_one():
    assert View(size=512, tile=64).side == 64


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
