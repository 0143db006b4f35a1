"""`onlygood export` and `onlygood validate`."""

from pathlib import Path
from typing import Annotated

import typer

from onlygood.cli.voice import Force, Json, Quiet, Voice, table


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The file to write.", show_default="MODEL.onnx"
        ),
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Convolutions in 8 bits: normal pictures that took no part in training, which "
            "tell the ranges and set the thresholds anew.",
        ),
    ] = None,
    openvino: Annotated[
        bool,
        typer.Option(
            "--openvino", help="Write FILE.xml and FILE.bin besides, for programs with OpenVINO."
        ),
    ] = False,
    overwrite: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a model as one ONNX file that needs no torch: `onlygood score FILE.onnx PICTURES`."""
    from onlygood.cli.files import beside, check_new
    from onlygood.core.errors import ConfigError, DataError

    voice = Voice(json=json, quiet=quiet)
    target = beside(model, ".onnx") if output is None else output
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"{target}: an exported model is told by its suffix; name it .onnx")
    others = [target.with_suffix(suffix) for suffix in (".xml", ".bin") if openvino]
    for path in (target, *others):
        check_new(path, overwrite)
    if int8 is not None and not int8.exists():
        raise DataError(f"there is no {int8}; name a folder of normal pictures")

    from onlygood.data.layout import unseen
    from onlygood.deploy.export import export as run
    from onlygood.deploy.runtime import Runtime
    from onlygood.detector import Detector

    if openvino:
        from onlygood.deploy.export.openvino import require_openvino

        require_openvino()  # Before anything is written.
    detector = Detector.load(model)
    digest = run(detector, target, int8=None if int8 is None else unseen(int8).normal)
    # Read as it will be read: what cannot be used must not be found out at the line.
    runtime = Runtime.load(target)
    size = target.stat().st_size
    voice.show(f"{target}: {size / 1e6:.1f} MB, sha256 {digest}")
    if openvino:
        from onlygood.deploy.export.openvino import convert

        voice.show(f"the same for OpenVINO: {' and '.join(map(str, convert(target, runtime)))}")
    if int8 is not None:
        voice.say(f"calibrated anew on {runtime.provenance['calibration_pictures']}")
    voice.say(runtime.calibration.guarantee)
    voice.say(runtime.calibration.note)
    voice.answer(
        {
            "file": target,
            "bytes": size,
            "sha256": digest,
            "method": detector.method,
            "precision": runtime.precision,
            "openvino": others,
            "guarantee": runtime.calibration.guarantee,
        }
    )


def validate(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    exported: Annotated[Path, typer.Argument(metavar="FILE.onnx")],
    pictures: Annotated[
        Path,
        typer.Argument(
            metavar="PICTURES", help="A folder; of labelled ones the AUROC of both is told."
        ),
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Compare an exported model with its original on real pictures, and time both.

    Exit status: 0 they agree, 1 they do not.
    A file in 8 bits need not agree: then 0, and the difference is told.
    """
    from onlygood.core.errors import DataError

    voice = Voice(json=json, quiet=quiet)
    if not pictures.exists():
        raise DataError(f"there is no {pictures}; name a folder of pictures")

    from onlygood.deploy.export.validate import compare
    from onlygood.deploy.runtime import Runtime
    from onlygood.detector import Detector

    agreement = compare(Detector.load(model), Runtime.load(exported), pictures)
    voice.show(table("what", "here", rows=agreement.rows()), agreement.words)
    voice.answer(agreement.to_json())
    return 0 if agreement.agrees or agreement.precision == "int8" else 1
