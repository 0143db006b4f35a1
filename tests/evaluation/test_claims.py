import pytest

from onlygood.core.resolving import describe
from onlygood.evaluation.claims import CLAIMS, Claim, Finding, Pair, Side, findings, holds
from onlygood.evaluation.records import Line
from onlygood.methods import METHODS
from tests.evaluation.lines import line, setting


def found(lines: list[Line]) -> dict[str, list[Finding]]:
    return {claim.words: found for claim, found in findings(lines) if found}


def test_pairs_differ_in_the_claim_alone() -> None:
    lines = [
        setting(0.8, alpha=0.9),
        setting(0.7, alpha=0.0),
        setting(0.1, alpha=0.0, steps=20),
        setting(0.1, seed=1, alpha=0.0),
        setting(0.1, normal="long", alpha=0.0),
    ]
    [finding] = found(lines)["consistency beats none, projection discriminator"]
    assert finding.pairs == {0: {"round": (0.8, 0.7)}}
    assert (finding.dataset, finding.protocol) == ("toy", "gpnd")
    assert finding.settings == "small, alpha=0.9"


def test_cells_of_two_devices_are_told() -> None:
    elsewhere = setting(0.7, alpha=0.0) | {"device": "another"}
    [finding] = found([setting(0.8, alpha=0.9), elsewhere])[
        "consistency beats none, projection discriminator"
    ]
    assert finding.apart == {(0, "round")}


def test_seeds_and_classes_are_kept_apart() -> None:
    lines = [
        setting(0.5 + alpha * (seed + 1) / 10, seed, normal, alpha=alpha)
        for alpha in (0.0, 1.0)
        for seed in (0, 1)
        for normal in ("round", "long")
    ]
    [finding] = found(lines)["consistency beats none, projection discriminator"]
    assert {seed: set(classes) for seed, classes in finding.pairs.items()} == {
        0: {"round", "long"},
        1: {"round", "long"},
    }
    assert finding.differences == pytest.approx([0.1, 0.2])


def test_each_pair_of_settings_is_a_finding() -> None:
    lines = [setting(0.7, alpha=0.0), setting(0.8, alpha=0.9), setting(0.9, alpha=0.5)]
    assert len(found(lines)["consistency beats none, projection discriminator"]) == 2


def test_findings_that_are_equal_in_words_are_told_apart_by_hashes() -> None:
    lines = [
        setting(0.7 + better / 10, alpha=0.9 * better) | {"settings": {}, "config_hash": name}
        for better, name in ((0, "a"), (1, "b"))
    ]
    wider = [x | {"config_hash": x["config_hash"] * 2} for x in lines]
    wider = [x | {"resolved": x["resolved"] | {"width": 64}} for x in wider]
    words = "consistency beats none, projection discriminator"
    assert [one.settings for one in found(lines)[words]] == ["small"]
    both = [x | {"resolved": {"width": 32} | x["resolved"]} for x in [*lines, *wider]]
    assert [one.settings for one in found(both)[words]] == ["small (b, a)", "small (bb, aa)"]


def test_seeds_before_and_after_a_default_changed_are_no_finding_of_both() -> None:
    """The hash is of what is not at its default, and so the same on both sides."""
    pairs = [
        side | {"resolved": side["resolved"] | {"width": width}}
        for seed, width in ((0, 32), (1, 64))
        for side in (setting(0.8, seed, alpha=0.9), setting(0.7, seed, alpha=0.0))
    ]
    two = found(pairs)["consistency beats none, projection discriminator"]
    assert [(f.settings, list(f.pairs)) for f in two] == [
        ("small, alpha=0.9, width=32", [0]),
        ("small, alpha=0.9, width=64", [1]),
    ]
    egbad = [
        line(0.7, method="egbad", seed=seed, resolved={"lr": rate})
        for seed, rate in ((0, 1.0), (1, 2.0))
    ]
    alad = [line(0.8, method="alad", seed=seed, resolved={"lr": 3.0}) for seed in (0, 1)]
    two = found([*alad, *egbad])["three critics beat one of pairs"]
    assert [f.settings for f in two] == [
        "small, against small, lr=1.0",
        "small, against small, lr=2.0",
    ]


def test_both_sides_may_be_named() -> None:
    lines = [setting(0.8), setting(0.7, discriminator="concatenate")]
    [finding] = found(lines)["projection beats concatenation"]
    assert finding.pairs[0]["round"] == (0.8, 0.7)


def test_parts_of_one_score_are_compared_in_one_record() -> None:
    one = line(0.9, method="ama", parts={"a": 0.9, "r": 0.6})
    [finding] = found([one])["the A-score beats the R-score"]
    assert finding.pairs[0]["round"] == (0.9, 0.6)
    # Not the score of one training with that of another.
    other = line(0.8, method="ama", parts={"a": 0.8, "r": 0.7}, config_hash="bbbb")
    two = found([one, other])["the A-score beats the R-score"]
    assert [f.pairs[0]["round"] for f in two] == [(0.9, 0.6), (0.8, 0.7)]


def test_a_claim_of_pixels_is_judged_by_pixels() -> None:
    lines = [
        floor(0.1, pixel_auroc=0.4),
        *(
            line(0.5, method="ae_ssim", resolved={"distance": d}, pixel_auroc=p)
            for d, p in (("ssim", 0.8), ("l2", 0.6))
        ),
    ]
    [finding] = found(lines)["structural similarity beats the squared error, AUROC of pixels"]
    assert finding.pairs[0]["round"] == (0.8, 0.6) and finding.floor == 0.4
    assert not found([one | {"pixel_auroc": None} for one in lines])


def test_fields_that_do_nothing_may_differ() -> None:
    sides = [{"weights": "normalised", "gamma_encoder": 1.0}, {"weights": "fixed"}]
    usual = {"distance": "mse", "gamma_encoder": 10.0}
    lines = [line(0.7, method="piad", resolved={**usual, **side}) for side in sides]
    assert len(found(lines)["normalised weights equal hand-chosen ones"]) == 1


def test_hand_chosen_weights_are_compared_under_the_error_they_were_chosen_for() -> None:
    lines = [
        line(0.7, method="piad", resolved={"distance": "rel_perc_l1", "weights": weights})
        for weights in ("normalised", "fixed")
    ]
    assert found(lines) == {}


def test_fields_that_are_newer_than_a_record_are_as_by_default_in_it() -> None:
    for align, pairs in (("", 1), ("rotation", 0)):
        lines = [setting(0.8, align=align), setting(0.7, alpha=0.0)]
        assert (
            len(found(lines).get("consistency beats none, projection discriminator", [])) == pairs
        )


def test_two_methods_are_compared_by_a_preset_of_one_name_on_the_same_pictures() -> None:
    def both(**changes: object) -> list[Line]:
        settings = {"size": 32, "lr": 1.0, "steps": 10}
        other = {"resolved": {**settings, "lr": 2.0, "steps": 20}} | changes
        return [line(0.8, method="alad", resolved=settings), line(0.7, method="egbad", **other)]

    [finding] = found(both())["three critics beat one of pairs"]
    assert finding.pairs == {0: {"round": (0.8, 0.7)}}
    assert finding.settings == "small, against small"
    [finding] = found(both(settings={"steps": "20"}))["three critics beat one of pairs"]
    assert finding.settings == "small, against small, steps=20"
    assert found(both(preset="paper")) == found(both(resolved={"size": 64})) == {}
    assert found(both(settings={"width": "1"})) == {}


def test_records_that_do_not_tell_their_settings_prove_nothing() -> None:
    assert found([line(0.9, resolved={}), line(0.5, resolved={}, seed=1)]) == {}


def floor(auroc: float, normal: str = "round", **changes: object) -> Line:
    return line(auroc, method="mean_picture", **{"class": normal, **changes})


def test_the_floor_is_the_best_mean_picture_of_data_set_protocol_and_class() -> None:
    lines = [
        *(setting(auroc, alpha=alpha) for auroc, alpha in ((0.9, 0.9), (0.8, 0.0))),
        *(floor(0.3), floor(0.6, config_hash="l2"), floor(0.2, seed=1)),
        *(floor(0.99, "long"), floor(0.99, dataset="other"), floor(0.99, protocol="ood")),
    ]
    [finding] = found(lines)["consistency beats none, projection discriminator"]
    assert finding.floor == 0.6


def finding(*means: float, equal: bool = False, at: float = 0.7, floor: float = 0.6) -> Finding:
    claim = Claim(words="", paper="", method="", published="", worse=Side(), equal=equal)
    pairs = {seed: {"a": Pair(at + m, at)} for seed, m in enumerate(means)}
    return Finding(claim, "toy", "gpnd", "", pairs, {"a": floor})


@pytest.mark.parametrize(
    ("means", "equal", "words"),
    [
        ((0.1, 0.01, 0.2), False, "holds"),
        ((-0.09, -0.01, 0.0), False, "does not hold"),
        ((0.1, -0.01, 0.2), False, "in 2 of 3 seeds"),
        ((0.1,), False, "one seed only: yes"),
        ((-0.05,), False, "one seed only: no"),
        ((0.009, -0.009), True, "holds"),
        ((0.02, -0.02), True, "does not hold"),
    ],
)
def test_a_claim_holds_by_its_sign(means: tuple[float, ...], equal: bool, words: str) -> None:
    assert holds(finding(*means, equal=equal)) == words


@pytest.mark.parametrize("difference", [0.2, -0.2])
def test_nothing_is_judged_where_one_side_is_not_above_the_mean_picture(difference: float) -> None:
    assert holds(finding(difference, floor=0.8)) == "below the mean picture"
    assert holds(finding(difference, floor=min(0.7, 0.7 + difference))) == "below the mean picture"


def test_nothing_is_judged_where_a_class_has_no_mean_picture() -> None:
    one = finding(0.1)
    assert holds(one._replace(floors={})) == "no mean picture on these cells"
    pairs = {0: {"a": Pair(0.8, 0.7), "b": Pair(0.8, 0.7)}}
    assert holds(one._replace(pairs=pairs)) == "no mean picture on these cells"


def test_rounding_decides_nothing() -> None:
    """In numbers of a computer these classes differ by 1e-16, and these by more than 0.01."""
    cancelling = {0: {"a": Pair(0.8, 0.7), "b": Pair(0.5, 0.6)}}
    one = finding(0.1)._replace(pairs=cancelling, floors={"a": 0.1, "b": 0.1})
    assert one.differences[0] > 0
    assert holds(one) == "one seed only: no"
    equal = finding(0.1, equal=True)._replace(pairs={0: {"a": Pair(0.51, 0.5)}}, floors={"a": 0.1})
    assert holds(equal) == "one seed only: yes"


def test_a_seed_counts_with_the_mean_over_its_classes() -> None:
    pairs = {
        1: {"a": Pair(0.8, 0.7)},
        0: {"a": Pair(1.0, 0.7), "b": Pair(0.6, 0.7)},
    }
    one = finding()._replace(pairs=pairs, floors={"a": 0.6, "b": 0.4})
    assert one.differences == pytest.approx([0.1, 0.1])
    assert one.sides == pytest.approx((0.8, 0.7))
    assert one.floor == pytest.approx(0.55)
    assert holds(one) == "holds"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.method}: {claim.words}")
def test_claims_are_about_settings_that_there_are(claim: Claim) -> None:
    fields = {f.name: f for f in describe(METHODS[claim.method].config_class)}
    for side in (claim.better, claim.worse):
        for name, value in side.settings.items():
            METHODS[claim.method].config_class(**{name: value})
            assert name in fields
            assert type(value) is type(fields[name].default)
    assert set(claim.idle) <= set(fields)
