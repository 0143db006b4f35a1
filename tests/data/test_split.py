from typing import Any

import numpy as np
import pytest

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.split import split

NAMES = [f"part{part:02d}_view{view}.png" for part in range(20) for view in range(3)]


def test_without_groups_the_counts_are_exact_and_nothing_is_lost():
    parts = split(NAMES, calibration=13, validation=7, seed=3)
    assert [len(part) for part in parts] == [40, 7, 13]
    assert sorted(np.concatenate(parts)) == list(range(60))
    assert all((np.diff(part) > 0).all() for part in parts)
    none = split(NAMES, calibration=0, validation=59, seed=3)
    assert [len(part) for part in none] == [1, 59, 0]


def test_groups_stay_together_and_counts_are_reached():
    parts = split(NAMES, calibration=13, validation=6, seed=3, group_by=r"part\d+")
    assert [len(part) for part in parts] == [60 - 15 - 6, 6, 15]
    groups = [{NAMES[i][:6] for i in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_the_first_group_of_the_pattern_names_the_group():
    whole = split(NAMES, calibration=9, validation=0, seed=0, group_by=r"view(\d)\.png")
    assert [len(part) for part in whole] == [40, 0, 20]
    assert len({NAMES[i][-5] for i in whole.calibration}) == 1


def test_large_groups_calibrate_as_often_as_small_ones():
    # 60 of 200 parts have 60 pictures, the others one; a fifth of all pictures.
    sizes = [60] * 60 + [1] * 140
    names = [f"{part}_{view}" for part, size in enumerate(sizes) for view in range(size)]
    shares = []
    for seed in range(100):
        parts = split(names, calibration=748, validation=0, seed=seed, group_by=r"^\d+")
        chosen = {int(names[i].partition("_")[0]) for i in parts.calibration}
        shares.append(np.mean([part < 60 for part in chosen]))
    assert abs(np.mean(shares) - 0.3) < 3 * np.std(shares) / 10


def test_training_keeps_a_group_however_much_is_asked():
    names = ["a"] * 10 + ["b"] * 10
    parts = split(names, calibration=15, validation=0, seed=0, group_by=".")
    assert [len(part) for part in parts] == [10, 0, 10]
    three = split([*names, "c"], calibration=15, validation=4, seed=0, group_by=".")
    assert min(len(part) for part in three) >= 1


def test_the_seed_alone_decides():
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    one = split(NAMES, calibration=10, validation=5, seed=4)
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    two = split(NAMES, calibration=10, validation=5, seed=4)
    other = split(NAMES, calibration=10, validation=5, seed=5)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert not all((a == b).all() for a, b in zip(one, other, strict=True))


def test_what_is_left_out_moves_as_few_as_can_be():
    whole = split(NAMES, calibration=20, validation=5, seed=4)
    out = {int(whole.calibration[3]), int(whole.train[5])}
    kept = [i for i in range(60) if i not in out]
    parts = split(NAMES, calibration=20, validation=5, seed=4, kept=kept)
    assert sorted(np.concatenate(parts)) == kept
    assert [len(part) for part in parts] == [33, 5, 20]
    # One of those that watched calibrates now, and one of those that trained watches.
    assert set(whole.calibration) - out < set(parts.calibration)
    assert len(set(whole.validation) & set(parts.validation)) == 4
    groups = split(NAMES, calibration=9, validation=0, seed=4, kept=kept, group_by=r"part\d+")
    assert sorted(np.concatenate(groups)) == kept


def test_the_draw_is_the_same_for_ever():
    parts = split(list("abcdefghij"), calibration=3, validation=2, seed=0)
    assert [part.tolist() for part in parts] == [[0, 4, 5, 7, 9], [6, 8], [1, 2, 3]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calibration": 60}, DataError, "leave none of 60 to train on"),
        ({"calibration": -1}, ConfigError, "counts must be 0 or more"),
        ({"group_by": "("}, ConfigError, "is no regular expression"),
        ({"group_by": "view[01]"}, DataError, r"part00_view2\.png: group_by .* does not match"),
        ({"group_by": "(x)?part"}, DataError, "does not match"),
        ({"group_by": "part"}, DataError, "3 parts need 3 groups, 'part' makes 1 of 60"),
        (
            {"calibration": 1, "validation": 1, "group_by": r"part\d"},
            *(DataError, "3 parts need 3 groups, .* makes 2 of 60"),
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        split(NAMES, **{"calibration": 5, "validation": 5, "seed": 0} | options)


def test_what_is_left_out_needs_no_group():
    names = [f"part{i // 3:02}_{i}.png" for i in range(30)]
    told = [*names, "overview.png"]
    asked = {"calibration": 9, "validation": 0, "seed": 4, "group_by": r"part\d+"}
    groups = split(told, **asked, kept=range(30))
    assert sorted(np.concatenate(groups)) == list(range(30))
    assert not {names[i][:6] for i in groups.train} & {names[i][:6] for i in groups.calibration}
    with pytest.raises(DataError, match=r"overview\.png: group_by"):
        split(told, **asked)
