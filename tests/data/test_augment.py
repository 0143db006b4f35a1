from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.data import augment as room
from onlygood.data.augment import draws_needed
from onlygood.data.preprocess import to_images

PICTURES = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.manual_seed(0)).to(torch.uint8)


def augment(pictures: Tensor, draws: Tensor, view: View) -> Tensor:
    """Augment all pictures, in order."""
    return room.augment(pictures, torch.arange(len(pictures)), draws, view)


def same(a: Tensor, b: Tensor, atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def turned(degrees: float, **view: object) -> Tensor:
    """Turn by an exact angle: a range without width."""
    chosen = View(channels=3, size=16, rotate=(degrees, degrees), **view)  # type: ignore[arg-type]
    return augment(PICTURES, torch.full((4, draws_needed(chosen)), 0.5), chosen)


def test_columns_are_there_where_their_setting_is():
    assert draws_needed(View(channels=3)) == 0
    assert draws_needed(View(channels=3, rotate=(0.0, 45.0))) == 1
    assert draws_needed(View(channels=3, tile=8)) == 2
    assert draws_needed(View(channels=3, flip=True)) == 1
    assert draws_needed(View(channels=3, tile=8, rotate=(-1.0, 1.0), flip=True)) == 4
    with pytest.raises(ShapeError, match="takes 2 draws a picture, got 1"):
        augment(PICTURES, torch.rand(4, 1), View(channels=3, size=16, tile=8))


def test_without_randomness_pictures_pass():
    same(augment(PICTURES, torch.rand(4, 0), View(channels=3, size=16)), to_images(PICTURES))


def test_no_turn_is_the_picture_itself():
    view = View(channels=3, size=16, rotate=(-30.0, 30.0))
    same(augment(PICTURES, torch.full((4, 1), 0.5), view), to_images(PICTURES), atol=1e-5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact_and_clockwise(quarters: int):
    expected = torch.rot90(to_images(PICTURES), -quarters, (2, 3))
    same(turned(90.0 * quarters), expected, atol=1e-5)


def test_a_quarter_turned_tile_is_the_turned_middle():
    same(turned(90.0, tile=8), torch.rot90(to_images(PICTURES), -1, (2, 3))[:, :, 4:12, 4:12], 1e-5)


def test_pictures_that_are_no_squares_are_turned_and_cut_alike():
    # 16 x 32 pixels.
    lying, pictures = View(channels=3, size=32, aspect=2.0), torch.cat([PICTURES, PICTURES], 3)
    half = augment(pictures, torch.zeros(4, 1), replace(lying, rotate=(180.0, 180.0)))
    same(half, torch.rot90(to_images(pictures), 2, (2, 3)), 1e-5)
    turned_tile = replace(lying, tile=8, rotate=(90.0, 90.0))
    found = augment(pictures, torch.tensor([[0.5, 0.0, 1.0]] * 4), turned_tile)
    same(found, torch.rot90(to_images(pictures)[:, :, 8:, :8], -1, (2, 3)), 1e-5)
    found = augment(pictures, torch.tensor([[0.999, 0.0]] * 4), replace(lying, tile=8))
    same(found, to_images(pictures)[:, :, :8, 24:])


def test_a_turn_repeats_the_edges():
    white = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    found = augment(white, torch.rand(1, 1), View(channels=3, size=16, rotate=(1.0, 89.0)))
    same(found, torch.ones(1, 3, 16, 16), atol=1e-6)


def test_each_picture_has_its_own_angle():
    view = View(channels=3, size=16, rotate=(0.0, 180.0))
    found = augment(PICTURES, torch.tensor([[0.0], [0.5], [0.0], [0.5]]), view)
    same(found[::2], to_images(PICTURES)[::2], atol=1e-5)
    same(found[1::2], torch.rot90(to_images(PICTURES), -1, (2, 3))[1::2], atol=1e-5)


def test_mirroring_takes_the_lower_half_of_the_draws():
    found = augment(
        PICTURES, torch.tensor([[0.0], [0.49], [0.5], [0.99]]), View(channels=3, size=16, flip=True)
    )
    same(found[:2], to_images(PICTURES)[:2].flip(3))
    same(found[2:], to_images(PICTURES)[2:])


def test_crops_copy_pixels_and_reach_every_place():
    view = View(channels=3, size=16, tile=5)  # 12 places
    draws = torch.tensor([[0.0, 0.0], [0.999999, 0.0], [0.5, 0.25], [1 - 2**-24, 1 - 2**-24]])
    found = augment(PICTURES, draws, view)
    for i, (left, top) in enumerate([(0, 0), (11, 0), (6, 3), (11, 11)]):
        same(found[i], to_images(PICTURES)[i, :, top : top + 5, left : left + 5])


def test_the_mirror_comes_after_the_crop():
    view = View(channels=3, size=16, tile=5, flip=True)
    found = augment(PICTURES, torch.tensor([[0.0, 0.0, 0.0]] * 4), view)
    same(found, to_images(PICTURES)[:, :, :5, :5].flip(3))


@pytest.mark.parametrize("tile", [5, 8, 11])
def test_turned_tiles_show_no_padding(tile: int):
    """A ramp is bilinear everywhere but where edges are repeated, so its slope gives them away."""
    ramp = torch.arange(16, dtype=torch.uint8).mul(15).expand(256, 1, 16, 16)
    view = View(size=16, channels=1, tile=tile, rotate=(0.0, 45.0))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.37, 0.81, 1 - 2**-24])] * 3)
    draws = torch.cat([corners, torch.rand(192, 3, generator=torch.manual_seed(1))])
    found = augment(ramp, draws, view) * 255 / 15
    angle = torch.deg2rad(45 * draws[:, 0])[:, None, None]
    across, down = found[:, 0].diff(dim=2), found[:, 0].diff(dim=1)
    same(across, angle.cos().expand_as(across), atol=1e-3)
    same(down, angle.sin().expand_as(down), atol=1e-3)


def test_turned_tiles_lie_everywhere_inside():
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).expand(2, 1, 64, 64)
    view = View(size=64, channels=1, tile=8, rotate=(45.0, 45.0))
    found = augment(ramp, torch.tensor([[0.0, 0.0, 0.0], [0.0, 1 - 2**-24, 0.0]]), view) * 255 / 4
    reach = 8 / 2**0.5
    centres = found[:, 0, 3:5, 3:5].mean((1, 2))
    same(centres, torch.tensor([reach - 0.5, 64 - reach - 0.5]), atol=1e-3)


def test_a_window_gives_what_the_whole_picture_would():
    """The same tile of a larger picture whose middle is the small one."""
    large = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    large[:, :, 24:40, 24:40] = PICTURES
    draws = torch.tensor([[0.3, 0.5, 0.5]] * 4)
    small = augment(PICTURES, draws, View(channels=3, size=16, tile=8, rotate=(0.0, 45.0)))
    same(
        augment(large, draws, View(channels=3, size=64, tile=8, rotate=(0.0, 45.0))),
        small,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "view",
    [
        View(channels=3, size=16),
        View(channels=3, size=16, tile=6),
        View(channels=3, size=16, rotate=(-20.0, 50.0)),
    ],
)
def test_indices_choose_pictures(view: View):
    draws = torch.rand(3, draws_needed(view), generator=torch.manual_seed(4))
    chosen = torch.tensor([3, 0, 3])
    found = room.augment(PICTURES, chosen, draws, view)
    same(found, augment(PICTURES[chosen], draws, view))


def test_a_picture_is_augmented_alone_as_in_a_batch():
    view = View(channels=3, size=16, tile=6, rotate=(-20.0, 50.0), flip=True)
    draws = torch.rand(4, 4, generator=torch.manual_seed(2))
    together = augment(PICTURES, draws, view)
    for i in range(4):
        same(augment(PICTURES[i : i + 1], draws[i : i + 1], view)[0], together[i])
    assert together.is_contiguous(memory_format=torch.channels_last)
