"""The command line. Verbs import what they need when they run: `--help` never imports torch."""

import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from onlygood.cli.bench import bench
from onlygood.cli.calibrate import calibrate
from onlygood.cli.compare import compare
from onlygood.cli.data import data
from onlygood.cli.demo import demo
from onlygood.cli.doctor import doctor
from onlygood.cli.evaluate import evaluate
from onlygood.cli.export import export, validate
from onlygood.cli.fetch import fetch
from onlygood.cli.fit import fit
from onlygood.cli.methods import methods
from onlygood.cli.score import score
from onlygood.cli.serve import serve
from onlygood.cli.voice import OutputError, Voice, give_up_output, prepare_streams
from onlygood.core.errors import OnlygoodError, ScoringInterrupted, TrainingInterrupted

FAILED = 1
INTERRUPTED = 130
"""What a shell reports of a process that Ctrl-C ended; Typer returns it for KeyboardInterrupt."""
NARROW = 70
"""Columns of a terminal below which help is plain: tables there cut names of options."""

NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory", re.IGNORECASE)
"""How torch and ONNX Runtime say it."""

EXTRA_OF = {
    **dict.fromkeys(("torch", "safetensors", "sklearn", "scipy", "matplotlib", "jinja2"), "train"),
    "onnxruntime": "runtime",
    "pyarrow": "scale",
    "ray": "ray",
    **dict.fromkeys(("fastapi", "uvicorn", "python_multipart", "prometheus_client"), "serve"),
    **{"mlflow": "mlflow", "tensorboardX": "tensorboard"},
}
"""What brings a package that a verb may miss."""

app = typer.Typer(
    name="onlygood",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    *(fit, score, evaluate, compare, calibrate, export, validate, serve),
    *(methods, data, fetch, demo, doctor),
):
    app.command()(verb)
app.add_typer(bench, name="bench")


def _version(wanted: bool) -> bool:
    if wanted:
        import onlygood

        typer.echo(f"onlygood {onlygood.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _onlygood(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Learns from good pictures only, and finds the anomalous ones and the places in them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    0: done, and with `--fail-on-anomaly` all pictures are normal; 1: an error; 2: some are
    anomalous or unsure (`--fail-on-anomaly`); 130: interrupted.
    """
    prepare_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    voice = Voice(json="--json" in words)
    # Odd but readable pictures (damaged EXIF, say) are no business of the user's.
    warnings.filterwarnings("ignore", module="PIL")
    app.rich_markup_mode = "rich" if shutil.get_terminal_size().columns >= NARROW else None
    try:
        # Not standalone: Typer would exit with 2 on a misspelt option, and 2 means anomalies here.
        status = app(words or ["--help"], prog_name="onlygood", standalone_mode=False) or 0
        sys.stdout.flush()
    except (ScoringInterrupted, TrainingInterrupted) as error:
        return _fail(voice, str(error), INTERRUPTED)
    except OutputError as error:
        give_up_output()
        return _fail(voice, str(error))
    except OnlygoodError as error:
        return _fail(voice, str(error))
    except ModuleNotFoundError as error:
        if (extra := EXTRA_OF.get((error.name or "").partition(".")[0])) is None:
            raise
        advice = f"this needs {error.name}: run `pip install 'onlygood[{extra}]'`"
        return _fail(voice, advice)
    except TyperException as error:
        return _fail(voice, f"{error.format_message()} (see --help)")
    except BrokenPipeError:
        give_up_output()  # The reader has gone, `| head` for example.
        return FAILED
    except (MemoryError, RuntimeError) as error:  # torch's and ONNX Runtime's are the latter
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        return _fail(voice, "this needs more memory than there is; make pictures or models smaller")
    except OSError as error:
        return _fail(voice, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if status == INTERRUPTED:
        return _fail(voice, "interrupted; no file was left half written", INTERRUPTED)
    return int(status)


def _fail(voice: Voice, words: str, status: int = FAILED) -> int:
    voice.error(words)
    try:
        voice.answer({"error": words})
        sys.stdout.flush()
    except (OSError, OutputError):
        give_up_output()
    return status
