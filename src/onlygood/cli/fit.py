"""`onlygood fit`."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from onlygood.cli.bench import said
from onlygood.cli.voice import Force, Json, Quiet, Voice
from onlygood.core.errors import ConfigError, DataError

DEFAULT_METHOD = "reflect"


def fit(
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD",
            help="See `onlygood methods`, or path/to/mine.py:Mine; left out, it is reflect.",
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Normal pictures, at any depth.")
    ] = None,
    *,
    model: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")
    ],
    preset: Annotated[
        str | None, typer.Option(help="Named settings of the method; see `onlygood methods NAME`.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings in a TOML file; the command line wins.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything random; stored.")
    ] = 0,
    minutes: Annotated[float | None, typer.Option(min=0, help="Training time.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps.")] = None,
    target_fpr: Annotated[
        float, typer.Option(help="Share of normal pictures that may be called anomalous.")
    ] = 0.05,
    confidence: Annotated[float, typer.Option(help="Probability that this promise holds.")] = 0.9,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Pattern in a name, folders in it, that tells the part it shows."
        ),
    ] = None,
    anomalous: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Known anomalous pictures, for methods that learn from them."
        ),
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of pictures to learn nothing from, one a line, as the report has them.",
        ),
    ] = None,
    ignore: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Picture as large as all others: what is not black in it never counts.",
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURE|auto",
            help="Turn and shift all pictures to lie like this one; auto: like the most usual one.",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints and the health log; kept.",
            show_default="MODEL.run, removed when the model is written",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was interrupted.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Report to write.", show_default="MODEL.html")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    tracker: Annotated[
        Literal["mlflow", "tensorboard"] | None,
        typer.Option(
            help="Keep curves, settings, pictures and the report there, too: TensorBoard in runs/, "
            "MLflow where MLFLOW_TRACKING_URI leads."
        ),
    ] = None,
    overwrite: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn from a folder of normal pictures; calibrate, save the model, write a report."""
    from onlygood.cli.files import beside, check_model, check_writable, name_of, writing

    voice = Voice(json=json, quiet=quiet)
    # Refused before torch is imported: such mistakes should cost no time.
    check_model(model, overwrite)
    page = None if no_report else report or beside(model, ".html")
    if page is not None:
        check_writable(page)
    run = beside(model, ".run") if run_dir is None else run_dir
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is no folder, and the run needs one; say --run-dir FOLDER")
    if model in (page, run):
        raise ConfigError(
            f"{model} would be the model and its {'report' if model == page else 'run folder'} at "
            "once; name two files"
        )
    method, folder, from_file, preset = _request(first, second, config, preset)
    budget = {"minutes": minutes, "steps": steps}
    settings = from_file | said(assignments)
    settings |= {name: value for name, value in budget.items() if value is not None}

    from onlygood.data.leave_out import read_names
    from onlygood.detector import Detector
    from onlygood.tracking import tracking

    # Under torchrun one process keeps what all have done.
    kept = tracker if voice.first else None
    spare = run if run_dir is None and voice.first else None
    with _no_empty(spare), tracking(kept, name_of(model), voice.reporter()) as reporter:
        detector = Detector.fit(
            method,
            folder,
            preset=preset,
            seed=seed,
            settings=settings,
            anomalous=anomalous,
            ignore=ignore,
            align=align,
            target_fpr=target_fpr,
            confidence=confidence,
            group_by=group_by,
            leave_out=() if leave_out is None else read_names(leave_out),
            run_dir=run,
            resume=resume,
            reporter=reporter,
        )
        if not voice.first:
            return
        detector.save(model)
        if run_dir is None:
            _discard(run)
        calibration = detector.calibration
        try:
            if page is not None or kept is not None:
                from onlygood.report.filling import fit_report
                from onlygood.report.page import write_report

                content = fit_report(detector)
                if page is not None:
                    with writing(f"the report {page} ({model} is written)"):
                        write_report(content, page)
                if kept is not None:
                    reporter.keep(detector, content, page)
        finally:  # A report that cannot be written costs none of these words.
            voice.say(detector.verdict)
            voice.show(f"{model}: {calibration.guarantee}")
            voice.say(calibration.note)

    if page is not None:
        voice.show(f"report: {page}")
    voice.answer(
        {
            "model": model,
            "method": method,
            "preset": preset,
            "seed": seed,
            "report": page,
            "threshold": calibration.threshold,
            "target_fpr": calibration.target_fpr,
            "confidence": calibration.confidence,
            "promised_fpr": calibration.promised_fpr,
            "n_calibration": calibration.n,
            "guarantee": calibration.guarantee,
            "note": calibration.note,
            "verdict": detector.verdict,
            "most_unusual": [picture._asdict() for picture in detector.calibrated_on.unusual],
            "provenance": detector.provenance,
        }
    )


def _request(
    first: str | None, second: str | None, config: Path | None, preset: str | None
) -> tuple[str, Path, dict[str, object], str]:
    """Method, folder, settings and preset from positional words, file and options."""
    from onlygood.core.resolving import FileSettings, load_toml

    if first is None:
        raise ConfigError("fit needs a folder of normal pictures: onlygood fit FOLDER -o MODEL")
    file = FileSettings(None, None, {}) if config is None else load_toml(config)
    # One word alone is the folder: the method is what most users have no opinion on.
    folder = Path(first if second is None else second)
    method = (file.method or DEFAULT_METHOD) if second is None else first

    from onlygood.methods import METHODS
    from onlygood.registry import introduce, method_named

    if not folder.exists():
        if str(folder) in METHODS:
            named = "FOLDER" if second is None else first
            raise ConfigError(
                f"the folder of normal pictures comes last: onlygood fit {folder} {named} -o MODEL"
            )
        raise DataError(f"there is no {folder}; name a folder of normal pictures")
    method = introduce(method)
    method_named(method)  # Refused before any pictures are looked at.
    return method, folder, file.overrides, preset or file.preset or "default"


@contextmanager
def _no_empty(run: Path | None) -> Iterator[None]:
    """Leave no folder of a run that fails before it has anything to keep."""
    try:
        yield
    except BaseException:
        from onlygood.training.trainer import CHECKPOINT, LOG

        if run is not None and not (run / CHECKPOINT).exists():
            with suppress(OSError):  # was never made
                if (run / LOG).stat().st_size == 0:
                    _discard(run)
        raise


def _discard(run: Path) -> None:
    """Remove what training has written to a folder, and the folder if that was all."""
    from onlygood.training.trainer import CHECKPOINT, LOG

    for name in (CHECKPOINT, LOG):
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds other files, or was never made
        run.rmdir()
