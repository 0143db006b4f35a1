"""`onlygood demo`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table

DATASET = "elpv-mono"
METHODS = {"reflect": "default", "cbigan": "small", "pca": "default"}
"""What is compared, and with which preset; the report is about the first."""
REPORTED = "reflect"


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="For all that is written.")
    ] = Path("onlygood-demo"),
    minutes: Annotated[
        float, typer.Option(min=0.01, help="Training time of each method that trains by steps.")
    ] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1)] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn from photographs of sound solar cells, and find the defective ones."""
    voice = Voice(json=json, quiet=quiet)
    voice.answer(run(folder, minutes=minutes, seed=seed, voice=voice))


def run(folder: Path, *, minutes: float, seed: int, voice: Voice) -> dict[str, Any]:
    """Fit and evaluate the demo's methods on one split; gives the figures that it shows."""
    from onlygood.data.readers import write_dataset
    from onlygood.detector import Detector
    from onlygood.evaluation.evaluate import evaluate
    from onlygood.report.page import write_report
    from onlygood.reporting import evaluation_report

    pictures = folder / DATASET
    if not pictures.exists():
        voice.say(f"writing photographs of solar cells to {pictures}")
        write_dataset(DATASET, pictures)
    report = folder / f"{REPORTED}.html"
    figures: dict[str, dict[str, Any]] = {}
    for method, preset in METHODS.items():
        voice.say(f"{method}: learning from {pictures / 'train' / 'good'}")
        detector = Detector.fit(
            method,
            pictures / "train" / "good",
            preset=preset,
            seed=seed,
            settings={"minutes": minutes},
            reporter=voice.reporter(),
        )
        detector.save(folder / f"{method}.safetensors")
        voice.say(f"{method}: scoring {pictures / 'test'}")
        evaluation = evaluate(detector, pictures / "test")
        if method == REPORTED:
            write_report(evaluation_report(detector, evaluation), report)
        promised = detector.calibration.promised_fpr
        figures[method] = evaluation.to_json() | {"promised_false_positive_rate": promised}

    winner = max(figures, key=lambda method: figures[method]["auroc"])
    counts = figures[winner]
    voice.show(
        f"{counts['n_normal']} sound and {counts['n_anomalous']} defective solar cells, "
        "none of them seen in training:",
        table(
            "method",
            "AUROC",
            "images/s",
            "false alarms, promised",
            "found",
            "defects found",
            rows=[
                (
                    method,
                    f"{f['auroc']:.3f}",
                    f"{f['images_per_second']:.0f}",
                    f"at most {100 * f['promised_false_positive_rate']:.3g} %",
                    f"{100 * f['false_positive_rate']:.1f} %",
                    f"{100 * f['true_positive_rate']:.1f} %",
                )
                for method, f in figures.items()
            ],
        ),
        f"{winner} wins here (largest AUROC).",
        f"report: {report}",
    )
    return {
        "dataset": DATASET,
        "minutes": minutes,
        "seed": seed,
        "winner": winner,
        "report": report,
        "methods": figures,
    }
