"""`onlygood compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onlygood.cli.bench import method_and_preset, said
from onlygood.cli.voice import Json, Quiet, Voice, table
from onlygood.core.text import figure, fixed, many, signed

if TYPE_CHECKING:
    from onlygood.evaluation.compare import Comparison
    from onlygood.evaluation.evaluate import Judge

SIDE = "A model, or METHOD[:PRESET] to be fitted on the folder's training part."
MODELS = (".safetensors", ".onnx")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Labelled as for `evaluate`, or a CSV file; to fit, with a training part.",
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, help="Of what is fitted.")] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Any setting of what is fitted; may be repeated."
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Set two detectors against each other on the same pictures, with intervals and tests."""
    from onlygood.core.errors import ConfigError, DataError

    voice = Voice(json=json, quiet=quiet)
    if not folder.exists():
        raise DataError(f"there is no {folder}; name a folder of labelled pictures")
    settings = said(assignments)
    fitted = [side for side in (a, b) if not _is_model(side)]
    if settings and not fitted:
        raise ConfigError("--set is for what is fitted; A and B are models")

    from onlygood.cli.files import open_model
    from onlygood.data.layout import labelled
    from onlygood.data.readers.own import own
    from onlygood.detector import Detector
    from onlygood.detector.learning import settings_of
    from onlygood.evaluation.compare import compare as run

    named = {side: method_and_preset(side) for side in fitted}
    for method, preset in named.values():
        settings_of(method, preset or "default", settings)  # Refused before anything is fitted.
    test = own(folder).test if fitted else labelled(folder)
    voice.say(test.description)

    # Models come first: one that cannot be read should cost no training.
    judges: dict[str, Judge] = {
        side: open_model(Path(side)) for side in (a, b) if side not in named
    }
    for side, (method, preset) in named.items():
        voice.say(f"fitting {side}")
        judges[side] = Detector.fit(
            method,
            folder,
            preset=preset or "default",
            seed=seed,
            settings=settings,
            reporter=voice.reporter(),
        )

    found = run(judges[a], judges[b], test)
    # Above the table: names of two models may be long, or differ in their folders alone.
    voice.show(f"A: {a}", f"B: {b}")
    voice.show(table("measure", "A", "B", "A - B", "95 % interval", "p", rows=_rows(found)))
    kinds = [
        (kind, of_a.n, of_a.found, of_b.found, of_a.auroc, of_b.auroc)
        for kind, (of_a, of_b) in found.kinds.items()
    ]
    if len(kinds) > 1:
        heads = ("kind of defect", "pictures", "found by A", "by B", "AUROC of A", "of B")
        voice.show(table(*heads, rows=kinds))
    if found.n_unreadable:
        voice.say(
            f"{many(found.n_unreadable, 'picture')} left out, as one of the two cannot read them"
        )
    voice.show(*filter(None, (found.words, found.note)))
    voice.answer({"a": a, "b": b, **found.to_json()})


def _is_model(side: str) -> bool:
    return Path(side).suffix.lower() in MODELS


def _rows(found: "Comparison") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, of in (("AUROC", found.auroc), ("average precision", found.average_precision)):
        interval = "–"
        if of.low is not None and of.high is not None:
            interval = f"{signed(of.low, 4)} to {signed(of.high, 4)}"
        p_value = "" if of.p_value is None else figure(of.p_value, 2)
        rows.append((name, *_sides(of.a, of.b), interval, p_value))
    for name, called, n in (
        ("false alarms", found.false_alarms, found.n_normal),
        ("defects found", found.found, found.n_anomalous),
    ):
        alone = f"{called.a_alone} of {n} by A alone, {called.b_alone} by B alone"
        rows.append((name, *_sides(called.a, called.b), alone, figure(called.p_value, 2)))
    return rows


def _sides(a: float, b: float) -> tuple[str, str, str]:
    return fixed(a, 4), fixed(b, 4), signed(a - b, 4)
