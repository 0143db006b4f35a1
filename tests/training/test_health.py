import json
from pathlib import Path

import numpy as np
import pytest
import torch

from onlygood.core.errors import ModelFileError
from onlygood.core.optimizers import Adam
from onlygood.core.stage import Stage
from onlygood.training.health import (
    WITHOUT_STEPS,
    Log,
    Record,
    curves,
    names,
    series,
    verdict,
)
from onlygood.training.trainer import LOG
from tests.training.toys import Searching, Toy, fit, numbered


def run(**curves: list[float]) -> list[Record]:
    """Records of a run; `game__real` is the entry `game/real`."""
    length = max(map(len, curves.values()))
    return [
        {"stage": "s", "step": step}
        | {name.replace("__", "/"): curve[step] for name, curve in curves.items()}
        for step in range(length)
    ]


FALLING = [10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.0]
FLAT = [10.0] * 10


def test_sound():
    assert verdict(run(g__consistency_x=FALLING, g__diversity=[0.2] * 10)) == (
        True,
        "training looks sound: g/consistency_x fell from 10 to 1.05",
    )


def test_of_few_records_the_last_one_is_the_end():
    words = "training looks sound: g/reconstruction fell from 5 to 1"
    assert verdict(run(g__reconstruction=[5.0, 4.0, 3.0, 2.0, 1.0])) == (True, words)


def test_sound_without_reconstruction():
    assert verdict(run(g__loss=FLAT)) == (
        True,
        "training looks sound: all losses are finite; whether anything was learnt is not judged",
    )


@pytest.mark.parametrize("curve", [FLAT, FALLING[::-1], [10.0] * 8 + [9.5, 9.5]])
@pytest.mark.parametrize("name", ["g__reconstruction", "g__consistency_x"])
def test_not_learnt(name: str, curve: list[float]):
    healthy, words = verdict(run(**{name: curve}))
    assert not healthy
    assert f"{name.replace('__', '/')} did not fall" in words
    assert "train longer" in words


def test_what_rises_asks_for_smaller_steps():
    assert "at a higher learning rate" in verdict(run(g__reconstruction=FLAT)).words
    assert "at a lower learning rate" in verdict(run(g__reconstruction=FALLING[::-1])).words


def test_a_critic_that_says_the_same_of_everything_has_died():
    alive = {"c__real": [0.3, 0.2, 0.4, 0.5, 0.3, -0.5], "c__fake": [-0.3, -0.2, 0.1, 0.2, 0.2, 0]}
    assert verdict(run(**alive)).healthy
    dead = {name: [curve[0], curve[1], *[-0.5, -0.4, -0.3]] for name, curve in alive.items()}
    healthy, words = verdict(run(**dead))
    assert not healthy
    assert "the same of what is real and what is made (c/real and c/fake are both -0.3)" in words
    # Equal by chance, once.
    assert verdict(run(c__real=[0.3, 0.2, 0.4, 0.5, 0.25], c__fake=[0, 0, 0, 0.1, 0.25])).healthy


def test_what_is_not_learnt_is_not_learnt_by_heart():
    held_out = [5.0, 3.0, 2.0, 2.5, 4.0]
    for curve, learnt in ((FALLING[:5], True), (FLAT[:5], False)):
        words = verdict(run(validation__total=held_out, g__reconstruction=curve)).words
        assert ("by heart" in words) == learnt


def test_dead():
    healthy, words = verdict(run(g__reconstruction=FALLING, g__gradient_norm=[3.0] + [0.0] * 9))
    assert not healthy
    # Of one stage there is no other to tell it from.
    assert words.startswith("no gradient is left (g/gradient_norm is 0)")
    assert verdict(run(g__reconstruction=FALLING, g__gradient_norm=[3.0] * 9 + [0.0])).healthy


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("diversity", "generated pictures are all alike (g/diversity is 0.001)"),
        ("code_spread", "all pictures have one code (g/code_spread is 0.001)"),
        (
            "reconstruction_spread",
            "all pictures are given back alike (g/reconstruction_spread is 0.001)",
        ),
    ],
)
def test_collapsed(entry: str, says: str):
    curve = {f"g__{entry}": [0.2] * 7 + [0.001] * 3}
    healthy, words = verdict(run(g__consistency_x=FALLING, **curve))
    assert not healthy
    assert says in words
    assert "did not fall" not in words
    assert "collapsed; take a lower learning rate" in words or "comes through; take a l" in words
    # Nothing has changed: that rates are too high is one of the things that it may be.
    healthy, words = verdict(run(g__consistency_x=FLAT, **{f"g__{entry}": [0.001] * 10}))
    assert not healthy
    assert says.replace(")", ", as at first)") in words
    assert "or nothing is learnt yet; train longer, or take another learning rate" in words
    assert "lower learning rate" not in words
    assert verdict(
        run(g__consistency_x=FALLING, **{f"g__{entry}": [0.001] * 7 + [0.2] * 3})
    ).healthy


def test_runaway_gap():
    gap = {"c__real": [1.0] * 8 + [5.1e3] * 2, "c__fake": [0.5] * 8 + [-5.1e3] * 2}
    healthy, words = verdict(run(**gap))
    assert not healthy
    assert "the critic's gap ran away (1.02e+04)" in words


def test_a_gap_that_grows_a_little_is_no_runaway():
    gap = {"c__real": [1.0] * 8 + [4.9e3] * 2, "c__fake": [0.5] * 8 + [-4.9e3] * 2}
    assert verdict(run(**gap, c__slow=[1.0] * 8 + [1e6] * 2)).healthy


def test_a_gap_that_was_large_at_first_may_be_large():
    wide = {"c__real": [3e3] * 8 + [2e4] * 2, "c__fake": [-3e3] * 8 + [-2e4] * 2}
    assert verdict(run(**wide)).healthy


def test_small_scores_are_overfitted_like_large_ones():
    assert not verdict(run(validation__total=[0.05, 0.03, 0.02, 0.025, 0.04])).healthy


def test_the_whole_score_of_held_out_pictures_speaks_for_its_parts():
    curves = {"validation__part": [5.0, 3.0, 2.0, 2.5, 4.0], "validation__total": [5.0] * 5}
    assert verdict(run(**curves)).healthy


def test_overfitted():
    healthy, words = verdict(run(validation__total=[5.0, 3.0, 2.0, 2.5, 4.0]))
    assert not healthy
    assert "score 2 times their best" in words
    assert "by heart" in words


@pytest.mark.parametrize(
    "curve",
    [
        [5.0, 3.0, 2.0, 2.5, 2.9],
        [5.0, 3.0, 2.0, 9.0],  # Too few to say anything.
        # Scores may be zero or negative; then there is no "times as large".
        [-5.0, -5.2, -5.1, -5.0, -4.9],
        [1.0, 0.0, 1.0, 1.0, 1.0],
    ],
)
def test_not_overfitted(curve: list[float]):
    assert verdict(run(validation__total=curve)).healthy


# Ten looks, the last five of which count.
SETTLED = [9.0, 5.0, 7.0, 5.0, 4.0, 3.0, 2.9, 3.0, 2.9, 3.0]


@pytest.mark.parametrize(
    ("curve", "swings"),
    [
        (SETTLED, False),
        ([*SETTLED[:6], 2.5, 3.0, 2.5, 3.0], True),
        # Down, up, and no more: it may be learning by heart, or have met something new.
        ([*SETTLED[:6], 2.5, 2.5, 3.0, 3.0], False),
        # It did swing, but has settled.
        ([9.0, 5.0, 9.0, 5.0, 9.0, 3.0, 2.0, 2.0, 2.0, 2.0], False),
        # In small steps.
        ([9.0] * 20 + [3.0, 2.8, 2.6, 2.8, 3.0, 2.8, 2.6, 2.8, 3.0, 3.0], True),
        # Too few looks.
        ([2.5, 3.0, 2.5, 3.0, 2.5], False),
        ([9.0, 5.0, 2.5, 3.0, 2.5, 3.0, 2.5], False),
        ([9.0, 5.0, 4.0, 2.5, 3.0, 2.5, 3.0, 2.5], True),
        # Of what can be 0 or negative no share says anything.
        ([-1.0, 1.0] * 5, False),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 0.0, 1.0, 0.0, 1.0, 0.0], False),
    ],
)
def test_what_held_out_pictures_score_still_swings(curve: list[float], swings: bool):
    healthy, words = verdict(run(validation__total=curve))
    assert healthy != swings
    assert ("validation/total still goes up and down by" in words) == swings
    assert "by heart" not in words


def batches(swing: float, *, noise: float) -> list[float]:
    """Means over batches, 90: falling, then a wave of a length of 10 around 1."""
    draws = np.random.RandomState(0).randn(90)
    falling = 10 * 0.8 ** np.arange(90)
    return list(1 + falling + swing * np.sin(np.arange(90) * 2 * np.pi / 10) + noise * draws)


@pytest.mark.parametrize(
    ("swing", "noise", "swings"),
    [(0.0, 0.0, False), (0.0, 0.2, False), (0.3, 0.02, True), (0.05, 0.02, False)],
)
def test_a_reconstruction_that_swings_is_told_from_chance(swing: float, noise: float, swings: bool):
    healthy, words = verdict(run(g__reconstruction=batches(swing, noise=noise)))
    assert healthy != swings
    assert ("g/reconstruction still goes up and down by" in words) == swings


def test_held_out_pictures_say_more_than_batches():
    swinging = batches(0.3, noise=0.0)
    looks = [{"stage": "s", "step": 9 * step, "validation/total": 1.0} for step in range(10)]
    assert verdict([*run(g__reconstruction=swinging), *looks]).healthy


# Stages ----------------------------------------------------------------------------------------


def test_each_stage_is_judged_by_its_own_records():
    first = [record | {"stage": "first"} for record in run(g__reconstruction=[9.0] * 10)]
    second = run(g__reconstruction=FALLING, e__reconstruction=FALLING)
    assert verdict([*first, *second]).words.startswith("stage first: g/reconstruction did not fall")
    # As one curve it would not have fallen.
    third = [record | {"stage": "third"} for record in run(g__reconstruction=[2.0, *FALLING])]
    words = "training looks sound: g/reconstruction fell from 2 to 1.05"
    assert verdict([*second, *third]) == (True, words)


def test_held_out_pictures_speak_for_the_last_stage_alone():
    by_heart, swinging = [5.0, 3.0, 1.0, 2.5, 4.0], [1.0, 2.0] * 5
    last = run(validation__total=[80.0] * 10)
    for curve in (by_heart, swinging):
        first = [record | {"stage": "first"} for record in run(validation__total=curve)]
        assert not verdict(first).healthy
        assert verdict([*first, *last]).healthy


def test_looks_before_a_pass_that_changes_the_score_do_not_speak():
    swinging = [2.5, 3.0] * 5
    looks = run(validation__total=swinging, validation__r=swinging, validation__flat=[1.0] * 10)
    passed: Record = {"stage": "s", "step": 0, "images": 10}
    last = looks[-1]
    unchanged = verdict([*looks, passed, last])
    assert "validation/total still goes up" in unchanged.words
    half = verdict([*looks, passed, last | {"validation/total": 8.0}])
    assert "validation/r still goes up" in half.words
    assert "validation/total" not in half.words
    all_others = {"validation/total": 8.0, "validation/r": 8.0, "validation/flat": 8.0}
    assert verdict([*looks, passed, last | all_others]).healthy


def test_a_stage_with_a_pass_at_its_end_is_looked_at_before_and_after_it():
    def build(t: Toy) -> list[Stage]:
        def after(images: object) -> None:
            t.one.weight.data.fill_(7.0)

        return [Stage(name="only", updates=[t.update("two", t.two)], after=after)]

    history = fit(Toy(build), validation=numbered(3), steps=2)
    looks = [record for record in history.records if "validation/total" in record]
    assert [record["step"] for record in looks] == [2, 2]
    assert [record["validation/total"] for record in looks] == pytest.approx([0.02, 0.07])


def test_a_method_that_searches_is_not_watched_but_scores():
    toy = Searching(lambda t: [Stage(name="s", updates=[t.update("one", t.one)], after=list)])
    history = fit(toy, validation=numbered(3), steps=4, validate_every=1)
    assert toy.searched == 0
    assert not any(name.startswith("validation/") for name in names(history.records))
    pictures = numbered(5).pixels
    with torch.no_grad():
        together, alone = toy.score(pictures).total, toy.score(pictures[3:4]).total
    assert len(together.unique()) == 5
    torch.testing.assert_close(together[3:4], alone)


def test_all_complaints_are_told():
    healthy, words = verdict(run(g__reconstruction=FLAT, g__diversity=[0.0] * 10))
    assert not healthy
    assert words.count("; ") >= 1
    assert "did not fall" in words and "all alike" in words


@pytest.mark.parametrize("records", [[], [{"stage": "s", "step": 0, "images": 10}]])
def test_no_gradient_steps(records: list[Record]):
    assert verdict(records) == (True, WITHOUT_STEPS)


def test_a_short_run_is_not_judged():
    assert verdict(run(g__reconstruction=[1.0, 2.0, 3.0])).healthy


def test_curves_go_on_from_stage_to_stage():
    records: list[Record] = [
        {"stage": "a", "step": 2, "u/x": 3.0},
        {"stage": "a", "step": 4, "u/x": 2.0, "validation/total": 9.0},
        {"stage": "a", "step": 0, "images": 7},
        {"stage": "b", "step": 1, "v/x": 1.0, "validation/total": 8.0},
        {"stage": "c", "step": 3, "u/x": 0.0},
    ]
    assert curves(records) == {
        "u/x": [(2, 3.0), (4, 2.0), (8, 0.0)],
        "validation/total": [(4, 9.0), (5, 8.0)],
        "v/x": [(5, 1.0)],
    }


def test_series_and_names():
    records: list[Record] = [
        {"stage": "s", "step": 1, "g/a": 1.0},
        {"stage": "s", "step": 2, "validation/total": 5.0},
        {"stage": "s", "step": 3, "g/a": 2.0, "g/b": 0.0},
    ]
    assert names(records) == ["g/a", "validation/total", "g/b"]
    assert series(records, "g/a") == [(1, 1.0), (3, 2.0)]


# The log -------------------------------------------------------------------------------------


def two_updates() -> Toy:
    return Toy(
        lambda t: [
            Stage(
                name="only",
                updates=[t.update("one", t.one), t.update("two", t.two, every=2)],
                before=list,
            )
        ]
    )


def test_the_log_has_the_documented_entries(tmp_path: Path):
    history = fit(
        two_updates(),
        validation=numbered(3),
        run_dir=tmp_path,
        steps=5,
        log_every=2,
        validate_every=4,
    )
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == history.records
    passed, *rest = lines
    assert set(passed) == {"stage", "step", "images", "seconds"}
    place = {"stage", "step", "images", "seconds"}
    one = {"one/value", "one/gradient_norm"}
    trained = [line for line in rest if "images_per_second" in line]
    assert [line["step"] for line in trained] == [1, 2, 4]
    assert set(trained[0]) == place | {"images_per_second"} | one
    assert set(trained[1]) == set(trained[0]) | {"two/value", "two/gradient_norm"}
    validated = [line for line in rest if "validation/total" in line]
    # The last look is at the end, whatever the interval.
    assert [line["step"] for line in validated] == [4, 5]
    assert set(validated[0]) == place | {"validation/total", "validation/grey"}
    assert [line["images"] for line in trained] == [10 + 4, 10 + 12, 10 + 24]
    assert all(line["stage"] == "only" for line in lines)


def test_what_is_logged_is_the_batch_mean_and_the_size_of_the_gradient():
    toy = two_updates()
    history = fit(toy, steps=2, log_every=1)
    grey = [sum(seen.numbers) / len(seen.numbers) / 100 for seen in toy.seen]
    first = history.records[1]
    assert first["one/value"] == pytest.approx(2.0 * grey[0])
    assert first["one/gradient_norm"] == pytest.approx(grey[0])
    assert "two/value" not in first
    assert history.records[2]["two/gradient_norm"] == pytest.approx(grey[2])


def test_of_repetitions_the_last_is_logged():
    adam = Adam(lr=0.1, betas=(0.0, 0.0))
    toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one, adam=adam, repeat=3)])])
    history = fit(toy, steps=1)
    grey = sum(toy.seen[2].numbers) / 400
    # Without memory each step of Adam is lr long; two went before.
    assert history.records[0]["one/value"] == pytest.approx((2.0 - 0.2) * grey, rel=1e-5)


def test_validation_is_the_mean_over_pictures_not_over_batches():
    # Five pictures in batches of four: the last one must not count for four.
    history = fit(
        Toy(lambda t: [Stage(name="only", updates=[t.update("two", t.two)])]),
        validation=numbered(5),
        steps=1,
    )
    last = history.records[-1]
    assert last["validation/total"] == pytest.approx(2.0 * 0.02)


def test_what_is_no_number_is_left_out(tmp_path: Path):
    log = Log(tmp_path / "log.jsonl")
    log.add({"stage": "s", "step": 1, "a": float("nan"), "b": float("inf"), "c": 1.0})
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text) == {"stage": "s", "step": 1, "c": 1.0}
    assert log.records == [json.loads(text)]


def test_records_reach_the_disk_at_once(tmp_path: Path):
    log = Log(tmp_path / "log.jsonl", [{"step": 1}])
    log.add({"step": 2})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    log.close()


def test_without_a_folder_the_log_is_in_memory():
    log = Log(None)
    log.add({"step": 1})
    log.close()
    assert log.records == [{"step": 1}]


@pytest.mark.parametrize("place", ["file/log.jsonl", "full"])
def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ModelFileError, match=f"^cannot write the log {tmp_path / place}: "):
        Log(tmp_path / place, [{"step": 1}])


def test_a_full_disk_ends_a_run_by_its_log(tmp_path: Path):
    (tmp_path / LOG).symlink_to("/dev/full")
    toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one)])])
    with pytest.raises(ModelFileError, match="No space left on device; free some space or name"):
        fit(toy, run_dir=tmp_path)
