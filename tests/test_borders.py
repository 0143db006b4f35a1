"""Who may import whom, and who may do what. The table is the picture of the architecture."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "onlygood"

BELOW: dict[str, set[str]] = {
    "core": set(),
    "losses": {"core"},
    "networks": {"core"},
    "methods": {"core", "losses", "networks"},
    "registry": {"core", "methods"},
    "training": {"core"},
    "data.decode": {"core"},
    "data.mask": {"core", "data.decode"},
    "data.align": {"core", "data.decode", "data.mask"},
    "data.resize": {"core", "data.decode", "data.mask", "data.align"},
    "data.apart": {"core", "data.decode", "data.align", "data.resize"},
    "data.items": {"core", "data.decode"},
    "data.source": {"core", "data.decode", "data.apart", "data.items"},
    "data.loading": {
        *("core", "data.decode", "data.align", "data.resize", "data.apart", "data.items"),
        "data.source",
    },
    "data": {
        *(
            "core",
            "data.decode",
            "data.mask",
            "data.align",
            "data.resize",
            "data.apart",
            "data.items",
            "data.source",
        ),
        "data.loading",
    },
    "decision": {"core"},
    "report": {"core", "decision"},
    "result": {"core", "data.loading", "data.resize", "decision", "report"},
    "evaluation.metrics": {"core"},
    "evaluation.promise": {"core", "decision", "evaluation.metrics"},
    "evaluation.evaluate": {
        *("core", "data", "decision", "result", "evaluation.metrics", "evaluation.promise"),
    },
    "detector.model_file": {"core"},
    "detector.raw_scores": {"core", "data", "training"},
    "detector.learning": {"core", "registry", "training", "data", "detector.raw_scores"},
    "detector.calibrating": {"core", "data", "decision", "detector.raw_scores"},
    "report.filling": {
        *("core", "data", "decision", "detector.raw_scores", "evaluation.evaluate", "report"),
        *("result", "training"),
    },
    "tracking": {"core", "report", "training"},
    "detector": {
        *("core", "registry", "training", "data", "decision", "report", "result"),
        *("detector.model_file", "detector.raw_scores", "detector.learning"),
        "detector.calibrating",
    },
    "sklearn": {"core", "data", "detector"},
    "evaluation": {
        *("core", "networks", "methods", "training", "data", "decision", "detector", "tracking"),
        *("evaluation.metrics", "evaluation.evaluate", "evaluation.promise"),
    },
    "deploy": set(),  # three rooms and nothing beside them
    "deploy.runtime.file": {"core"},
    # Where there is no torch; a test below says so.
    "deploy.runtime": {
        *("core", "decision", "result", "deploy.runtime.file"),
        *("data.align", "data.loading", "data.resize", "data.source"),
    },
    # Nor here.
    "deploy.service": set(),
    "deploy.service.batching": {"core"},
    "deploy.service.log_file": {"core"},
    "deploy.service.inspections": {"core", "deploy.service.log_file"},
    "deploy.service.metrics": set(),
    "deploy.service.recent": {"core", "data.align"},
    "deploy.service.schemas": set(),
    "deploy.service.settings": {"core"},
    "deploy.service.guard": {"deploy.service.settings"},
    "deploy.service.intake": {"core", "data.loading", "deploy.service.settings"},
    "deploy.service.model": {
        *("core", "decision", "deploy.runtime", "deploy.service.batching"),
        "deploy.service.settings",
    },
    "deploy.service.service": {
        *("core", "data.align", "data.loading", "data.resize", "data.source", "decision"),
        *("report", "deploy.service.batching", "deploy.service.inspections"),
        *("deploy.service.intake", "deploy.service.log_file", "deploy.service.metrics"),
        *("deploy.service.recent", "deploy.service.settings", "deploy.service.model"),
    },
    "deploy.service.server": {
        *("core", "data.apart", "deploy.service.batching", "deploy.service.guard"),
        *("deploy.service.intake", "deploy.service.log_file", "deploy.service.recent"),
        *("deploy.service.schemas", "deploy.service.service", "deploy.service.settings"),
        "deploy.service.model",
    },
    "deploy.service.listening": set(),
    # Where torch is needed; no two of them know each other.
    "deploy.export.graph": {"core", "data", "decision", "detector", "deploy.runtime.file"},
    "deploy.export.translate": {"core", "decision", "detector", "deploy.export.graph"},
    "deploy.export.quantise": {
        *("core", "data", "decision", "detector", "deploy.runtime.file"),
        *("deploy.export.graph", "deploy.export.translate"),
    },
    "deploy.export.onnx": {
        *("core", "data", "decision", "detector", "deploy.runtime.file"),
        *("deploy.export.quantise", "deploy.export.translate"),
    },
    "deploy.export.openvino": {"core", "deploy.runtime"},
    "deploy.export.validate": {
        *("core", "data", "result", "detector", "evaluation.metrics", "deploy.runtime"),
    },
    "deploy.export": {"deploy.export.onnx"},
    "scale.places": {"core"},
    "scale.units": set(),
    "scale.sources": {
        "core",
        "data.decode",
        "data.items",
        "data.source",
        "scale.places",
        "scale.units",
    },
    # Where there is no torch; a test below says so.
    "scale.work": {
        *("core", "data.decode", "data.items", "data.source", "deploy.runtime", "report", "result"),
        *("scale.places", "scale.sources", "scale.units"),
    },
    "scale.engine": {"core", "scale.places", "scale.units", "scale.work"},
    "scale.on_ray": {"core", "scale.engine", "scale.units", "scale.work"},
    # Cells are trained, so here torch is needed; nothing of the house imports it but the verb.
    "scale.bench": {"core", "evaluation", "scale.engine", "scale.on_ray"},
    "scale": {
        *("core", "decision", "deploy.runtime", "scale.places"),
        *("scale.sources", "scale.units", "scale.work", "scale.engine", "scale.on_ray"),
    },
    "testing": {"core", "registry", "data", "training", "detector", "evaluation.evaluate"},
    "cli": {
        *("core", "networks", "methods", "registry", "training", "data", "decision", "result"),
        *("detector", "report", "tracking", "evaluation", "scale"),
        *("deploy.export", "deploy.runtime", "deploy.service"),
    },
    "__main__": {"cli"},
}
"""Rooms from the ground up, and those that they may import, with all in these that lies below."""

THE_LOOP = {"backward", "step", "zero_grad", "requires_grad_", "autocast", "all_reduce"}
"""Called by the trainer alone."""

AT_THE_LINE = {
    "deploy/runtime": {"numpy", "jaxtyping", "onnxruntime"},
    "deploy/service": {
        *("numpy", "PIL", "jaxtyping"),
        *("fastapi", "starlette", "pydantic", "uvicorn", "python_multipart", "prometheus_client"),
    },
}
"""Rooms without torch, and the packages of others that each imports, in functions too."""

PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

MACHINE_PATH = re.compile(r"(?<![\w./])/(home|root|tmp|work|Users|mnt)/|\b[A-Z]:\\")

FILES = {
    path.relative_to(SRC).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(SRC.rglob("*.py"))
}
each_file = pytest.mark.parametrize("file", FILES)


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of modules, and of what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module(file: str) -> str:
    """Its name, without `onlygood.`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def around(name: str) -> list[str]:
    """The module or room of that name, then what it lies in, outwards."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def room(module: str) -> str | None:
    """The innermost room that `module`, without `onlygood.`, lies in."""
    return next((name for name in around(module) if name in BELOW), None)


def files_in(folder: str) -> list[str]:
    return [file for file in FILES if file.startswith(f"{folder}/")]


def importing(folder: str) -> str:
    return "import " + ", ".join(f"onlygood.{module(file)}" for file in files_in(folder))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_rooms_are_stacked() -> None:
    placed: set[str] = set()
    for name, below in BELOW.items():
        assert below <= placed, f"{name} imports what stands above it: {below - placed}"
        placed.add(name)


@each_file
def test_imports_only_what_is_below(file: str) -> None:
    if file == "__init__.py":
        return  # the façade names its parts, and imports none until it is asked for
    here = room(module(file))
    assert here is not None, f"{file} stands in no room; add one to BELOW"
    order = list(BELOW)
    for name in imports(FILES[file]):
        if name.startswith("onlygood.") and name != "onlygood.__version__":
            there = room(name.removeprefix("onlygood."))
            assert there is not None, f"{here} imports {name}, which stands in no room"
            allowed = {here, *BELOW[here]}.intersection(around(there))
            below = order.index(there) <= order.index(here)
            assert allowed and below, f"{here} may not import {name}"


@pytest.mark.parametrize("folder", AT_THE_LINE)
def test_the_line_needs_few_packages(folder: str) -> None:
    found = {name.partition(".")[0] for file in files_in(folder) for name in imports(FILES[file])}
    assert found - sys.stdlib_module_names - {"onlygood"} == AT_THE_LINE[folder]


@each_file
def test_the_loop_is_in_training_alone(file: str) -> None:
    if not file.startswith("training/"):
        called = {
            node.func.attr for node in calls(FILES[file]) if isinstance(node.func, ast.Attribute)
        }
        assert not called & THE_LOOP


@each_file
def test_nothing_is_unpickled(file: str) -> None:
    assert not {name.split(".")[0] for name in imports(FILES[file])} & PICKLERS
    loads = [call for call in calls(FILES[file]) if ast.unparse(call.func) == "torch.load"]
    assert all("weights_only=True" in map(ast.unparse, call.keywords) for call in loads)


@each_file
def test_no_guessing_by_attribute_and_no_bare_except(file: str) -> None:
    assert "hasattr" not in {ast.unparse(node.func) for node in calls(FILES[file])}
    handlers = [node for node in ast.walk(FILES[file]) if isinstance(node, ast.ExceptHandler)]
    assert all(handler.type is not None for handler in handlers)


@each_file
def test_annotations_are_not_postponed(file: str) -> None:
    # That would turn the shape checks of the tests off without a word.
    assert "__future__.annotations" not in set(imports(FILES[file]))


@each_file
def test_no_path_of_one_machine(file: str) -> None:
    strings = [
        node.value
        for node in ast.walk(FILES[file])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in strings if MACHINE_PATH.search(text)]


@pytest.mark.parametrize(
    "code",
    [
        "import onlygood",
        "import onlygood.core.resolving, onlygood.core.settings, onlygood.core.errors",
        "import onlygood.decision.calibration, onlygood.decision.thresholds",
        "import onlygood.deploy.runtime, onlygood.report.heatmap, onlygood.cli.files",
        *(pytest.param(importing(folder), id=folder) for folder in AT_THE_LINE),
        "import onlygood.scale.work",
        "import onlygood.scale",
        "from onlygood.cli import main; main(['serve', '--help'])",
        "from onlygood.cli import main; main(['--help'])",
        "from onlygood.cli import main; main(['fit', '--help'])",
        "from onlygood.cli import main; main(['bench', 'tables'])",
    ],
)
def test_is_free_of_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_numbers_either() -> None:
    check = "from onlygood.cli import main; main(['--help'])\nimport sys\n" + (
        "assert not {'numpy', 'PIL', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
