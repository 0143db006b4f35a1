"""What pages say of methods by their classes: stages, settings, presets, departures, who can what.

    python docs/make/pages.py

Rewrites these parts of docs/methods/*.md and docs/use.md; a test says when one is behind.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from blocks import FIGURES, replaced, table, with_rows

from onlygood.core.method import Method
from onlygood.core.resolving import BUDGETS, describe
from onlygood.methods import METHODS
from onlygood.training.health import ALIKE

ROOT = Path(__file__).parents[2]
CODE = r"How it is trained, in full:\n\n```python\ndef stages\(self\).*?\n```\n\n"
CODE_TEXT = "How it is trained, in full:\n\n```python\n{stages}\n```\n\n"
LOG = r"(?m)^## What the log should look like\n.*?\n\n(?=## )"
DEPARTURES = r"(?m)^## Departures\n.*?\n\n(?=## )"
SETTINGS = r"(?m)^## Settings\n.*?^\| preset \|.*?\n\n"
NO_STEPS = """## What the log should look like

One line with `stage`, `step` 0, `images` and `seconds`: nothing is trained step by step, so there
is nothing that could go wrong on the way, and the verdict says so.

"""
LOGGED = {
    "gradient_norm": (
        "norm of the gradient over all weights that are trained, before the optimiser",
        "falls with the loss, or stays of one order of magnitude",
        "peaks far above it, or grows steadily: lower the learning rate; exactly 0: nothing is "
        "learnt any more, and the verdict says so",
    ),
    "reconstruction_spread": (
        "how far what is given back is from its batch's mean, in units of the same of pictures",
        "comes close to 1",
        f"under {ALIKE['reconstruction_spread'][0]}: all pictures are given back alike, and the "
        "verdict says so",
    ),
    "diversity": (
        "how far generated pictures are from their batch's mean, RMS over pixels in the range of "
        "the generator's output, [-1, 1] or [0, 1]",
        "about that of the training pictures",
        f"under {ALIKE['diversity'][0]}: the generator has collapsed, and the verdict says so",
    ),
}
"""What the log holds of many methods: what it is, what is sound, what is bad."""
SETTINGS_TEXT = """## Settings

{fields}

`onlygood methods {name}` prints the same, and the settings of pictures and of training that all
methods share. {training}

{presets}

"""
BY_STEPS = """`fit` takes the preset `default` unless another is named; a budget that you name
(`--minutes 30`) replaces that of the preset."""
IN_ONE_PASS = """Those of training have no effect, but for `batch_size` and `cache_gib` on how
pictures are read."""
USE = ROOT / "docs" / "use.md"
FIELDS = ("field", "without a preset", "meaning")
PRESETS = ("preset", "what it is", "its settings")
CAN = (
    *("method", "heat maps", "squares only", "learns", "frozen backbone", "known bad ones"),
    "export",
)


def page_of(name: str) -> Path:
    """The page of a method."""
    return ROOT / "docs" / "methods" / f"{name}.md"


def rewritten(page: str, method: type[Method]) -> str:
    """A method's page with all that comes from its class as the class has it."""
    page = replaced(page, CODE, CODE_TEXT.format(stages=stages(method)))
    if not takes_steps(method):
        page = replaced(page, LOG, NO_STEPS)
    for term, words in LOGGED.items():
        page = re.sub(_row(term), rf"| \1 | {' | '.join(words)} |\n", page)
    page = replaced(page, SETTINGS, settings(method))
    return replaced(page, DEPARTURES, f"## Departures\n\n{departures(method)}\n\n")


def by_hand(page: str) -> str:
    """A method's page without all that, and without what comes from records."""
    # Words by hand may follow the settings, without a heading: departures would end behind them.
    for part in (CODE, DEPARTURES, SETTINGS, FIGURES):
        page = replaced(page, part, "")
    for term in LOGGED:
        page = re.sub(_row(term), "", page)
    return page.replace(NO_STEPS, "")


def takes_steps(method: type[Method]) -> bool:
    """Whether it is trained step by step: who is has a budget for steps."""
    return any(name in method.presets["default"].training for name in BUDGETS)


def stages(method: type[Method]) -> str:
    """How it is trained, as the code says it."""
    return textwrap.dedent(inspect.getsource(method.stages)).rstrip()


def settings(method: type[Method]) -> str:
    """The section that has a row for each field of its config, and one for each preset."""
    described = describe(method.config_class)
    return SETTINGS_TEXT.format(
        name=method.__module__.rpartition(".")[2],  # One file a method.
        fields=table(FIELDS, [(f"`{f.name}`", str(f.default), f.doc) for f in described]),
        training=BY_STEPS if takes_steps(method) else IN_ONE_PASS,
        presets=table(PRESETS, presets(method)),
    )


def presets(method: type[Method]) -> list[Sequence[str]]:
    """A row for each preset."""
    rows: list[Sequence[str]] = []
    for key, preset in method.presets.items():
        bundles = (preset.config, preset.view, preset.training)
        chosen = ", ".join(f"{k}={v}" for bundle in bundles for k, v in bundle.items())
        rows.append((f"`{key}`", preset.summary, chosen))
    return rows


def departures(method: type[Method]) -> str:
    """What its file says of departures, as Markdown, which wants an empty line before lists."""
    words = inspect.cleandoc(sys.modules[method.__module__].__doc__ or "")
    lines: list[str] = []
    for line in words[words.index("Departures from the paper") :].splitlines():
        starts = line.startswith("Departures from ")
        listed = line.startswith("- ") and not lines[-1].startswith(("- ", "  "))
        if lines and lines[-1] and (starts or listed):
            lines.append("")
        lines.append(line.replace("Departures from ", "From ", 1) if starts else line)
    return "\n".join(lines)


def _row(term: str) -> str:
    """The pattern of a row of the log's table about this term alone; its first cell is a group."""
    return rf"(?m)^\| (`[^`|]+/{term}`(?:, `[^`|]+/{term}`)*) \|.*\n"


def can(name: str, method: type[Method]) -> Sequence[str]:
    """Its row in the table of all methods."""
    cannot = "takes gradient steps for each picture" if method.searches else method.unexportable
    return (
        f"[`{name}`](methods/{name}.md)",
        "yes" if method.localizes else "no",
        "yes" if method.square else "",
        "by gradient steps" if takes_steps(method) else "in one pass",
        "yes" if "backbone" in {f.name for f in fields(method.config_class)} else "",
        "learns from them" if method.uses_anomalous else "",
        f"no: {cannot}" if cannot else "yes",
    )


def used(page: str) -> str:
    """docs/use.md with the table of all methods as the classes have it."""
    return with_rows(page, CAN, [can(name, method) for name, method in METHODS.items()])


if __name__ == "__main__":
    for name, method in METHODS.items():
        path = page_of(name)
        path.write_text(rewritten(path.read_text("utf-8"), method), "utf-8")
    USE.write_text(used(USE.read_text("utf-8")), "utf-8")
