import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.method import InputShape
from onlygood.methods import reflect
from onlygood.methods.reflect import Reflect, ReflectConfig
from onlygood.networks.patches import enlarged
from tests.methods.pattern import (
    SHAPE,
    assert_a_defect_stands_out,
    assert_parts_make_the_whole,
    images,
)

DETAIL, FINE, COARSE = 24, 40, 80
"""Channels of the layers."""


def fitted(train: Tensor, **config: object) -> Reflect:
    method = Reflect(ReflectConfig(**config), SHAPE)  # type: ignore[arg-type]
    with torch.no_grad():
        method.learn(method.measure(iter(train.split(8)), 0))
    return method


def test_layers_of_one_stride_are_one_grid() -> None:
    layers = ("stride8", "stride16a", "stride16")
    coarse, fine = Reflect(ReflectConfig(layers=layers), SHAPE).features(images(2))
    assert [tuple(f.shape) for f in coarse] == [(2, 6, 4, FINE), (2, 3, 2, COARSE + 112)]
    assert [tuple(f.shape) for f in fine] == [(2, 12, 8, DETAIL)]
    assert Reflect(ReflectConfig(detail=""), SHAPE).features(images(2))[1] == []


@pytest.mark.parametrize("detail", ["stride8", "stride16"])
def test_a_detail_that_is_none_is_refused(detail: str) -> None:
    with pytest.raises(ConfigError, match=f'detail must be finer than layers, got "{detail}"'):
        Reflect(ReflectConfig(detail=detail), SHAPE)


def test_the_detail_sharpens_the_map_and_changes_no_score() -> None:
    train, x = images(60), images(3, seed=1)
    both, plain = (fitted(train, detail=detail).score(x) for detail in ("stride4", ""))
    torch.testing.assert_close(both.total, plain.total)
    detail = fitted(train).detail
    assert detail is not None
    fine = enlarged(detail(fitted(train).features(x)[1]), 48, 32)
    torch.testing.assert_close(both.map, (plain.map * fine).sqrt())
    assert detail.block == 4  # of the 16 pixels that two positions of `layers` take


def test_what_is_not_aligned_has_kinds_of_ground_and_a_score_of_both_grids() -> None:
    draw = torch.Generator().manual_seed(0)
    loose = Reflect(ReflectConfig(kinds=3), InputShape(1, 128, 128))
    x = torch.rand(2, 1, 128, 128, generator=draw)
    with torch.no_grad():
        loose.learn(loose.measure(iter(torch.rand(3, 10, 1, 128, 128, generator=draw)), 0))
        scores = loose.score(x)
        coarse, fine = loose.features(x)
        assert loose.detail is not None
        detail = loose.detail(fine)
        both = (enlarged(loose.distances(coarse), 32, 32) * detail).sqrt()
    torch.testing.assert_close(scores.total, both.flatten(1).topk(24).values.mean(1))
    tight = fitted(images(30))
    for method, matrices, kinds in ((loose, 3, True), (tight, 3 * 2, False)):
        assert method.detail is not None
        for distances in (method.distances, method.detail):
            assert (len(distances.whitening.rows), distances.of_kinds) == (matrices, kinds)


def test_maps_lie_where_the_network_saw_what_is_unusual() -> None:
    """Of 152 pixels it sees 19 positions of 8, and 10 of 16: the first of these lies half before.

    All of them see what they see of the same picture with 8 pixels more.
    """
    x = torch.rand(6, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    config = ReflectConfig(detail="", light="kept", positions="all")
    method, smaller = (Reflect(config, InputShape(1, side, side)) for side in (160, 152))
    with torch.no_grad():
        method.learn(method.measure(iter([x]), 0))
    # What is usual next to an edge is of one size alone.
    method.distances.usual.distances.store(torch.zeros(0))
    smaller.load_state_dict(method.state_dict())
    whole, cut = method.score(x[:1]).map, smaller.score(x[:1, :, 8:, 8:]).map
    assert whole is not None
    assert cut is not None
    # As far as an edge is not seen.
    torch.testing.assert_close(cut[:, 80:, 80:], whole[:, 88:, 88:], rtol=2e-3, atol=0)


def test_features_are_averaged_over_neighbouring_positions() -> None:
    x = images(2)
    plain, averaged = (
        Reflect(ReflectConfig(averaged=on), SHAPE).features(x)[0][0] for on in (False, True)
    )
    near = {"rtol": 1e-3, "atol": 5e-3}  # in 16 bits
    torch.testing.assert_close(averaged[:, 2, 1], plain[:, 1:4, :3].mean((1, 2)), **near)
    torch.testing.assert_close(averaged[:, 0, 3], plain[:, :2, 2:].mean((1, 2)), **near)


def test_light_is_evened_of_all_but_tiny_pictures() -> None:
    tiny, large = (InputShape(1, 48, side) for side in (64, 65))
    assert not Reflect(ReflectConfig(), tiny).evened
    assert Reflect(ReflectConfig(), large).evened
    assert Reflect(ReflectConfig(light="evened"), tiny).evened
    assert not Reflect(ReflectConfig(light="kept"), large).evened


def test_light_changes_nothing_but_what_says_how_it_was() -> None:
    method = Reflect(ReflectConfig(light="evened"), SHAPE)
    x = images(2)
    (as_lit, _), (bright, _) = method.features(x), method.features(x + 0.1)
    for one, other in zip(as_lit[:2], bright[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    mean, std = as_lit[2].flatten(1).T
    near = {"rtol": 1e-3, "atol": 1e-3}  # in 16 bits
    torch.testing.assert_close(mean, x.mean((1, 2, 3)), **near)
    torch.testing.assert_close(std, x.std((1, 2, 3), correction=0), **near)
    torch.testing.assert_close(bright[2], as_lit[2] + torch.tensor([0.1, 0.0]), **near)


def test_less_contrast_changes_features_less_where_light_is_evened() -> None:
    x = images(2)

    def change(light: str) -> Tensor:
        method = Reflect(ReflectConfig(light=light), SHAPE)  # type: ignore[arg-type]
        one, other = (method.features(pictures)[0][0] for pictures in (x, 0.5 * x + 0.3))
        return (one - other).square().mean() / one.var()

    assert change("evened") < 0.1 * change("kept")


def test_a_picture_that_is_too_dark_stands_out_though_light_is_evened() -> None:
    method = fitted(images(40), light="evened")
    x = images(4, seed=1)
    assert (method.score(0.5 * x).total > 1.2 * method.score(x).total.max()).all()


def test_a_blank_picture_has_a_score() -> None:
    method = fitted(images(40), light="evened")
    blank = torch.zeros(1, 1, 48, 32)
    assert method.score(blank).total > 1.2 * method.score(images(4, seed=1)).total.max()


def test_the_score_is_the_mean_of_the_worst_positions() -> None:
    train, test = images(20), images(3, seed=1)
    totals = [fitted(train, worst=worst).score(test).total for worst in (1, 6, 24, 1000)]
    assert (totals[0] > totals[1]).all()
    assert (totals[1] > totals[2]).all()
    assert torch.equal(totals[2], totals[3])


def test_a_defect_stands_out_where_it_is() -> None:
    assert_a_defect_stands_out(fitted(images(200), worst=1, block=1, averaged=False), 1.5)


def test_of_more_pictures_than_there_is_room_for_a_sample_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = 12 * 8 * DETAIL + 6 * 4 * FINE + 3 * 2 * COARSE
    assert Reflect(ReflectConfig(), SHAPE).room == reflect.NUMBERS // numbers
    monkeypatch.setattr(reflect, "NUMBERS", 20 * numbers)
    some = fitted(images(50))
    assert torch.isfinite(some.score(images(2, seed=1)).total).all()
    monkeypatch.undo()
    assert not torch.equal(
        some.distances.grids[0].mean.rows, fitted(images(50)).distances.grids[0].mean.rows
    )


@pytest.mark.parametrize("room", [20, 1000])
def test_parts_of_a_pass_make_the_whole(room: int) -> None:
    whole, parted = (Reflect(ReflectConfig(), SHAPE) for _ in range(2))
    whole.room = parted.room = room
    assert_parts_make_the_whole(whole, parted, images(60))


def test_alike_images_are_no_error() -> None:
    same = images(1).expand(4, 1, 48, 32)
    method = fitted(same)
    same_again, other = method.score(torch.cat([same[:1], images(1, seed=1)])).total
    assert other > 10 * same_again


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="at least 2 training pictures, got 1"):
        fitted(images(1))


def test_what_16_bits_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="regularisation must be 1e-5 or more"):
        ReflectConfig(regularisation=1e-9)


def test_what_is_learnt_from_is_what_is_scored() -> None:
    method = Reflect(ReflectConfig(light="kept"), SHAPE)
    x = images(3)
    held = method.measure([x], 0).taken()
    scored = [grid.flatten(1) for part in method.features(x) for grid in part]
    assert torch.equal(held.float(), torch.cat(scored, 1))
