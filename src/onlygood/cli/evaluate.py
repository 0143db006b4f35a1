"""`onlygood evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table
from onlygood.core.errors import ConfigError, DataError
from onlygood.core.text import left_out

LABELS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1_max": "F1, best threshold",
    "max_balanced_accuracy": "balanced accuracy, best threshold",
    "false_positive_rate": "false-positive rate",
    "true_positive_rate": "true-positive rate",
    "threshold": "threshold",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel average precision",
    "pixel_f1_max": "pixel F1, best threshold",
    "aupro": "AUPRO",
    "aupro_at_5": "AUPRO up to 5 %",
    "n_normal": "normal pictures",
    "n_anomalous": "anomalous pictures",
    "images_per_second": "images/s",
}


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="`good` against all other folders in it, or a data set in MVTec layout.",
        ),
    ],
    report: Annotated[Path | None, typer.Option(help="Write a report here, .html.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score labelled pictures and say how well normal and anomalous ones are told apart."""
    from onlygood.cli.files import check_writable, open_model, writing

    voice = Voice(json=json, quiet=quiet)
    if report is not None:
        check_writable(report)
    if not folder.exists():
        raise DataError(f"there is no {folder}; name a folder of labelled pictures")

    from onlygood.detector import Detector
    from onlygood.evaluation.evaluate import evaluate as run
    from onlygood.evaluation.evaluate import labelled_pictures

    detector = open_model(model)
    if report is not None and not isinstance(detector, Detector):
        raise ConfigError(
            f"{model} has no training history for a report; give the model it was exported from"
        )
    # How the folder is understood is told before minutes go into it.
    pictures = labelled_pictures(folder)
    voice.say(pictures.description)
    evaluation = run(detector, pictures)
    figures = evaluation.to_json()
    try:
        if report is not None and isinstance(detector, Detector):
            from onlygood.report.filling import evaluation_report
            from onlygood.report.page import write_report

            content = evaluation_report(detector, evaluation)
            with writing(f"the report {report}"):
                write_report(content, report)
    finally:  # A report that cannot be written costs no figures.
        voice.show(table("measure", "value", rows=_rows(figures)))
        kinds = [(kind, *told.values()) for kind, told in figures["kinds"].items()]
        if len(kinds) > 1:  # Of one alone the figures above tell the same.
            voice.show(table("kind of defect", "pictures", "found", "AUROC", rows=kinds))
        voice.say(left_out([one.error for one in evaluation.results if one.error is not None]))
        voice.show(figures["words"])
        promise = figures["promise"]
        voice.say(f"promised: {detector.calibration.guarantee}")
        voice.show(*filter(None, (promise["words"], promise["advice"])), alarm=promise["broken"])
    if report is not None:
        voice.show(f"report: {report}")
    voice.answer(figures)


def _rows(figures: dict[str, Any]) -> list[tuple[str, int | float]]:
    shown = [(label, figures[key]) for key, label in LABELS.items() if figures.get(key) is not None]
    return shown + [(f"AUROC of part {name}", value) for name, value in figures["parts"].items()]
