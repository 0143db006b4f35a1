"""`onlygood calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from onlygood.cli.voice import Force, Json, Quiet, Voice
from onlygood.core.errors import DataError

NAMED = 3
"""Pictures with the highest scores that are named on the screen."""


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Normal pictures that the model has not seen; without it the scores in the model.",
        ),
    ] = None,
    target_fpr: Annotated[
        float | None,
        typer.Option(
            help="Share of normal pictures that may be called anomalous.", show_default="as it is"
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Probability that this promise holds.", show_default="as it is"),
    ] = None,
    strict_fpr: Annotated[
        float | None,
        typer.Option(
            help="Smaller share for a second threshold, between the two is unsure; 0: none.",
            show_default="as it is",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="MODEL2",
            help="The model file to write.",
            show_default="MODEL",
        ),
    ] = None,
    overwrite: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Set the thresholds anew, without training."""
    from onlygood.cli.files import beside, check_model, check_new

    voice = Voice(json=json, quiet=quiet)
    target = model if output is None else output
    if target == model:
        check_new(target, overwrite=True)
    else:
        check_model(target, overwrite)
    if folder is not None and not folder.exists():
        raise DataError(f"there is no {folder}; name a folder of normal pictures")

    from onlygood.detector import Detector

    detector = Detector.load(model)
    before = detector.calibration
    target_fpr = before.target_fpr if target_fpr is None else target_fpr
    if strict_fpr is None and before.strict_fpr is not None:
        if before.strict_fpr < target_fpr:
            strict_fpr = before.strict_fpr
        else:
            voice.say(f"no second threshold any more: {before.strict_fpr:g} is not smaller")
    detector = detector.calibrate(
        folder,
        target_fpr=target_fpr,
        confidence=before.confidence if confidence is None else confidence,
        strict_fpr=strict_fpr or None,
    )
    detector.save(target)
    if (page := beside(target, ".html")).exists():
        voice.say(f"{page} is as it was and tells of the calibration before")
    unusual = detector.calibrated_on.unusual if folder is not None else ()
    if folder is not None:
        voice.say(detector.provenance["calibration_pictures"])
        highest = ", ".join(f"{name} ({score:.4g})" for name, score in unusual[:NAMED])
        voice.say(
            f"highest scores of these: {highest}; look at them, as one that is not good raises the "
            "threshold, and take it out"
        )

    calibration = detector.calibration
    voice.show(
        f"threshold {before.threshold:.6g} -> {calibration.threshold:.6g}",
        f"{target}: {calibration.guarantee}",
    )
    voice.say(calibration.note)
    voice.answer(
        {
            "model": target,
            "threshold": calibration.threshold,
            "previous_threshold": before.threshold,
            "strict_threshold": calibration.strict_threshold,
            "target_fpr": calibration.target_fpr,
            "strict_fpr": calibration.strict_fpr,
            "confidence": calibration.confidence,
            "promised_fpr": calibration.promised_fpr,
            "n_calibration": calibration.n,
            "guarantee": calibration.guarantee,
            "note": calibration.note,
            "most_unusual": [picture._asdict() for picture in unusual],
        }
    )
