import numpy as np
import pytest

from onlygood.data.readers.defects import DEFECTS, Place, spoil


def place(channels: int = 3, ease: float = 0.5, seed: int = 0) -> Place:
    draw = np.random.default_rng(seed)
    weave = 90 + 40 * np.sin(np.indices((96, 96)).sum(0) / 2)[:, :, None]
    return Place(
        clean=weave + draw.normal(0, 4, (96, 96, channels)),
        other=lambda: draw.uniform(0, 255, (96, 96, channels)),
        ease=ease,
        draw=draw,
        on=np.ones((96, 96), bool),
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", DEFECTS)
def test_masks_hold_what_changed(kind: str, channels: int) -> None:
    for seed in range(4):
        here = place(channels, seed=seed)
        pixels, mask = spoil(kind, here)
        changed = (np.abs(pixels - here.clean) > 0.5).any(2)
        assert 0.0005 < mask.mean() < 0.3
        assert not changed[~mask].any()
        assert changed[mask].mean() > 0.75
        again = spoil(kind, place(channels, seed=seed))
        np.testing.assert_array_equal(pixels, again.pixels)


@pytest.mark.parametrize("kind", DEFECTS)
def test_easy_ones_differ_more_than_hard_ones(kind: str) -> None:
    hard, easy = (place(ease=ease) for ease in (0.0, 1.0))
    differences = [np.abs(spoil(kind, one).pixels - one.clean).sum() for one in (hard, easy)]
    assert differences[1] > differences[0]


def test_defects_lie_where_they_may() -> None:
    here = place()
    here.on[:, :60] = False
    for kind in ("hole", "colour", "turned"):
        _, mask = spoil(kind, here)
        assert np.nonzero(mask)[1].mean() > 55


def test_of_some_strips_one_is_drawn_over_in_which_something_is_missing() -> None:
    for seed in range(5):
        here = place(seed=seed)
        here.clean[:] = 100
        here.clean[:, 3::19] = 200  # a strip across these threads changes nothing
        _, mask = spoil("line", here)
        assert mask.any(1).sum() > 2 * mask.any(0).sum() > 0


def test_what_stays_as_it_was_is_not_in_the_mask() -> None:
    here = place()
    here.clean[:] = 100
    here.clean[:, 48:] = 200
    here.on[:, :46] = here.on[:, 50:] = False
    pixels, mask = spoil("blur", here)
    changed = np.nonzero((pixels != here.clean).any(2))[1]
    assert mask.any() and not mask[:, : changed.min() - 4].any()
    assert not mask[:, changed.max() + 4 :].any()
