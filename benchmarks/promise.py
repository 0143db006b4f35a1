"""Does the threshold keep its promise? Simulated where the true false-positive rate is known.

Each draw calibrates on n scores of a known distribution; its survival function then gives the
false-positive rate of the threshold exactly, without test pictures.

    python benchmarks/promise.py --json promise.json
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from measure import table, write_json
from onlygood.core.errors import CalibrationError
from onlygood.decision.calibration import Calibration
from onlygood.decision.thresholds import order_statistic_rank

DISTRIBUTIONS = {
    "normal": stats.norm(),
    "log-normal": stats.lognorm(1.0),
    "tied (Poisson 2)": stats.poisson(2),
}
PROMISES = ((200, 0.05, 0.1), (300, 0.01, 0.1), (50, 0.01, 0.1))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one promise came to under one distribution."""

    n: int
    target_fpr: float
    risk: float
    distribution: str
    feasible: bool
    promised_fpr: float
    above: float
    """Calibration scores above the threshold, mean over draws."""
    mean_fpr: float
    broken: float
    """Share of draws whose true false-positive rate exceeds `promised_fpr`."""
    broken_standard_error: float
    """Of a share that is exactly `risk`."""
    broken_in_theory: float
    """What `broken` tends to for continuous scores; with ties it is less."""
    above_target: float
    """Share of draws whose true false-positive rate exceeds `target_fpr`."""
    kept: bool
    """Whether `broken` is at most `risk`, within 3 standard errors."""


def measure(
    n: int, target_fpr: float, risk: float, name: str, draws: int, seed: tuple[int, ...]
) -> Row:
    """Calibrate on `draws` samples of n scores and look up the true rates."""
    distribution = DISTRIBUTIONS[name]
    samples = distribution.rvs(size=(draws, n), random_state=np.random.default_rng(seed))
    calibrations = [
        Calibration.fit(sample, target_fpr=target_fpr, confidence=1 - risk, infeasible="best")
        for sample in samples
    ]
    thresholds = np.array([calibration.threshold for calibration in calibrations])
    rates = distribution.sf(thresholds)
    promised = calibrations[0].promised_fpr
    allowed = n - (order_statistic_rank(n, target_fpr, 1 - risk) or n)
    broken = float((rates > promised).mean())
    standard_error = float(np.sqrt(risk * (1 - risk) / draws))
    return Row(
        n=n,
        target_fpr=target_fpr,
        risk=risk,
        distribution=name,
        feasible=not calibrations[0].note,
        promised_fpr=promised,
        above=float((samples > thresholds[:, None]).sum(1).mean()),
        mean_fpr=float(rates.mean()),
        broken=broken,
        broken_standard_error=standard_error,
        broken_in_theory=float(stats.binom.cdf(allowed, n, promised)),
        above_target=float((rates > target_fpr).mean()),
        kept=broken <= risk + 3 * standard_error,
    )


def refusal(n: int, target_fpr: float, risk: float) -> str:
    """What the default says to a request that n scores cannot support; empty when they can."""
    try:
        Calibration.fit(np.arange(float(n)), target_fpr=target_fpr, confidence=1 - risk)
    except CalibrationError as error:
        return str(error)
    return ""


COLUMNS = (
    *("n", "target", "risk", "scores", "feasible", "promised", "above", "mean FPR"),
    *("FPR > promised", "in theory", "FPR > target", "kept"),
)


def cells(row: Row) -> tuple[str, ...]:
    """A row in words."""
    return (
        *(f"{row.n}", f"{row.target_fpr:.0%}", f"{row.risk:.0%}", row.distribution),
        *("yes" if row.feasible else "no", f"{row.promised_fpr:.2%}", f"{row.above:.1f}"),
        *(f"{row.mean_fpr:.2%}", f"{row.broken:.1%} ± {row.broken_standard_error:.1%}"),
        *(f"{row.broken_in_theory:.1%}", f"{row.above_target:.1%}", "yes" if row.kept else "NO"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="calibration sets for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    rows = [
        measure(n, target_fpr, risk, name, options.draws, (options.seed, row))
        for row, ((n, target_fpr, risk), name) in enumerate(product(PROMISES, DISTRIBUTIONS))
    ]
    refusals = {
        f"n={n}, target {a:.0%}": said for n, a, r in PROMISES if (said := refusal(n, a, r))
    }
    print(table(COLUMNS, list(map(cells, rows))))
    for request, said in refusals.items():
        print(f"\n{request}: refused: {said}")
    if options.json:
        figures = {
            "draws": options.draws,
            "seed": options.seed,
            "rows": [asdict(row) for row in rows],
            "refusals": refusals,
        }
        write_json(options.json, figures)
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
