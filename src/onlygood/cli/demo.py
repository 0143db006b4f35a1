"""`onlygood demo`."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from onlygood.cli.files import writing
from onlygood.cli.voice import Json, Quiet, Voice, table
from onlygood.core.text import fixed

DATASET = "elpv-mono"
FIRST = ("reflect", "pca")
"""What is always compared: fast enough that the answer is there in about a minute."""
PRESETS = {"cbigan": "small"}
"""Of methods that learn from a few hundred pictures in minutes; of others the default."""
REPORTED = "reflect"


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="For all that is written.")
    ] = Path("onlygood-demo"),
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="METHOD", help="Compare with this one, too; may be repeated."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.01, help="Training time of each method that trains by steps.")
    ] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1)] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn from photographs of sound solar cells, and find the defective ones.

    What is there when it is stopped stays: the model and the report of each method that was done.
    """
    voice = Voice(json=json, quiet=quiet)
    voice.answer(run(folder, more or (), minutes=minutes, seed=seed, voice=voice))


def run(
    folder: Path, more: Sequence[str], *, minutes: float, seed: int, voice: Voice
) -> dict[str, Any]:
    """Fit and evaluate the demo's methods on one split; gives the figures that it shows.

    Raises:
        ConfigError: a method is unknown; nothing is done then.
    """
    from onlygood import registry
    from onlygood.data.readers import write_dataset
    from onlygood.detector import Detector
    from onlygood.evaluation.evaluate import evaluate
    from onlygood.report.filling import evaluation_report
    from onlygood.report.page import write_report

    methods = tuple(dict.fromkeys((*FIRST, *map(registry.introduce, more))))
    for method in methods:
        registry.method_named(method)
    pictures = folder / DATASET
    if not pictures.exists():
        voice.say(f"writing photographs of solar cells to {pictures}")
        _write_whole(write_dataset, pictures)
    figures: dict[str, dict[str, Any]] = {}
    reports = {method: folder / f"{method}.html" for method in methods}
    try:
        for method in methods:
            voice.say(f"{method}: learning from {pictures / 'train' / 'good'}")
            detector = Detector.fit(
                method,
                pictures / "train" / "good",
                preset=PRESETS.get(method, "default"),
                seed=seed,
                settings={"minutes": minutes},
                reporter=voice.reporter(),
            )
            detector.save(folder / f"{method}.safetensors")
            voice.say(f"{method}: scoring {pictures / 'test'}")
            evaluation = evaluate(detector, pictures / "test")
            figures[method] = evaluation.to_json()
            content = evaluation_report(detector, evaluation)
            with writing(f"the report {reports[method]}"):
                write_report(content, reports[method])
            voice.show(f"{method}: AUROC {fixed(figures[method]['auroc'], 3)}; {reports[method]}")
    finally:
        if figures:  # who stops it sees what was done
            _show(voice, figures)
    return {
        "dataset": DATASET,
        "minutes": minutes,
        "seed": seed,
        "winner": _winner(figures),
        "report": reports[REPORTED],
        "methods": figures,
    }


def _write_whole(write: Callable[[str, Path], object], folder: Path) -> None:
    """Write the pictures so that the folder has all of them or is not there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(DATASET, partial)
    partial.rename(folder)


def _winner(figures: Mapping[str, Mapping[str, Any]]) -> str:
    return max(figures, key=lambda method: figures[method]["auroc"])


def _show(voice: Voice, figures: Mapping[str, Mapping[str, Any]]) -> None:
    """What was found of each method, side by side."""
    from onlygood.decision.calibration import percent

    counts = figures[_winner(figures)]
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
                    fixed(f["auroc"], 3),
                    f"{f['images_per_second']:.0f}",
                    f"at most {percent(f['promise']['promised'])}",
                    f"{fixed(100 * f['false_positive_rate'], 1, whole=100.0)} %",
                    f"{fixed(100 * f['true_positive_rate'], 1, whole=100.0)} %",
                )
                for method, f in figures.items()
            ],
        ),
        f"{_winner(figures)} wins here (largest AUROC).",
    )
    for method, f in figures.items():
        if f["promise"]["broken"]:
            voice.show(f"{method}: {f['promise']['words']}", f["promise"]["advice"], alarm=True)
