import pytest

from onlygood.evaluation.claims import CLAIMS, Claim, Finding, Side, findings, holds
from onlygood.evaluation.records import Line
from onlygood.methods import METHODS
from onlygood.settings import describe
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
    assert finding.differences == {0: {"round": pytest.approx(0.1)}}
    assert (finding.dataset, finding.protocol) == ("toy", "gpnd")
    assert finding.settings == "small, alpha=0.9"


def test_seeds_and_classes_are_kept_apart() -> None:
    lines = [
        setting(0.5 + alpha * (seed + 1) / 10, seed, normal, alpha=alpha)
        for alpha in (0.0, 1.0)
        for seed in (0, 1)
        for normal in ("round", "long")
    ]
    [finding] = found(lines)["consistency beats none, projection discriminator"]
    assert finding.differences == {
        0: {"round": pytest.approx(0.1), "long": pytest.approx(0.1)},
        1: {"round": pytest.approx(0.2), "long": pytest.approx(0.2)},
    }


def test_each_pair_of_settings_is_a_finding() -> None:
    lines = [setting(0.7, alpha=0.0), setting(0.8, alpha=0.9), setting(0.9, alpha=0.5)]
    assert len(found(lines)["consistency beats none, projection discriminator"]) == 2


def test_both_sides_may_be_named() -> None:
    lines = [setting(0.8), setting(0.7, discriminator="concatenate")]
    [finding] = found(lines)["projection beats concatenation"]
    assert finding.differences[0]["round"] == pytest.approx(0.1)


def test_parts_of_one_score_are_compared_in_one_record() -> None:
    one = line(0.9, method="ama", parts={"a": 0.9, "r": 0.6})
    [finding] = found([one])["the A-score beats the R-score"]
    assert finding.differences[0]["round"] == pytest.approx(0.3)


def test_fields_that_do_nothing_may_differ() -> None:
    sides = [{"weights": "normalised", "gamma_encoder": 1.0}, {"weights": "fixed"}]
    lines = [line(0.7, method="piad", resolved={"gamma_encoder": 10.0, **side}) for side in sides]
    [finding] = found(lines)["normalised weights equal hand-chosen ones"]
    assert holds(finding) == "one seed only: yes"


def test_fields_that_are_newer_than_a_record_may_differ() -> None:
    lines = [setting(0.8, new_field=1), setting(0.7, alpha=0.0)]
    assert "consistency beats none, projection discriminator" in found(lines)


def test_records_that_do_not_tell_their_settings_prove_nothing() -> None:
    assert found([line(0.9, resolved={}), line(0.5, resolved={}, seed=1)]) == {}


def finding(*means: float, equal: bool = False) -> Finding:
    claim = Claim(words="", paper="", method="", published="", worse=Side(), equal=equal)
    return Finding(claim, "toy", "gpnd", "", {seed: {"a": m} for seed, m in enumerate(means)})


@pytest.mark.parametrize(
    ("means", "equal", "words"),
    [
        ((0.1, 0.01, 0.2), False, "holds"),
        ((-0.1, -0.01, 0.0), False, "does not hold"),
        ((0.1, -0.01, 0.2), False, "in 2 of 3 seeds"),
        ((0.1,), False, "one seed only: yes"),
        ((-0.1,), False, "one seed only: no"),
        ((0.009, -0.01), True, "holds"),
        ((0.02, -0.02), True, "does not hold"),
    ],
)
def test_a_claim_holds_by_its_sign(means: tuple[float, ...], equal: bool, words: str) -> None:
    assert holds(finding(*means, equal=equal)) == words


def test_a_seed_counts_with_the_mean_over_its_classes() -> None:
    one = finding(0.0)._replace(differences={0: {"a": 0.3, "b": -0.1}, 1: {"a": 0.1}})
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
