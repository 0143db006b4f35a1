"""`onlygood doctor`."""

import os
import platform
import re
import sys
from typing import Any

from onlygood.cli.voice import Json, Voice, table

EXTRAS = {
    "demo": ("elpv_dataset",),
    "parquet": ("pyarrow",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "serve": ("fastapi", "uvicorn", "multipart", "prometheus_client", "onnxruntime"),
    "ray": ("ray",),
    "augment": ("kornia",),
    "hub": ("huggingface_hub",),
}
"""What each extra makes importable."""


def doctor(json: Json = False) -> None:
    """Say what this machine has: versions, cores, bf16, memory, extras, data sets."""
    from importlib.util import find_spec

    voice = Voice(json=json)
    extras = {extra: all(map(find_spec, modules)) for extra, modules in EXTRAS.items()}
    facts = {
        "python": platform.python_version(),
        "versions": _versions(),
        **_machine(),
        "extras": extras,
        "datasets": _datasets(),
    }
    rows = [("Python", facts["python"]), *facts["versions"].items()]
    rows += [
        ("processor cores", str(facts["cores"])),
        ("torch threads", str(facts["threads"])),
        ("GPUs", ", ".join(facts["gpus"]) or "none"),
        ("bf16 in hardware", "yes" if facts["bf16"] else "no"),
        ("memory", _gib(facts["memory_gib"])),
        ("of it free", _gib(facts["free_memory_gib"])),
    ]
    for extra, there in extras.items():
        advice = f"missing: pip install 'onlygood[{extra}]'"
        rows.append((f"extra {extra}", "installed" if there else advice))
    for family, there in facts["datasets"].items():
        rows.append((f"data set {family}", "found" if there else "not found"))
    voice.show(table("what", "here", rows=rows))
    voice.answer(facts)


def _versions() -> dict[str, str]:
    """Of onlygood and of what it needs."""
    from importlib.metadata import requires, version

    needed = [text for text in requires("onlygood") or () if "extra ==" not in text]
    names = ["onlygood", *(re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed)]
    return {name: version(name) for name in names}


def _machine() -> dict[str, Any]:
    import torch

    from onlygood.training.precision import has_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    total, free = _memory()
    return {
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "bf16": has_bf16(device),
        "memory_gib": total,
        "free_memory_gib": free,
    }


def _memory() -> tuple[float | None, float | None]:
    """GiB in all and free, where the system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        pages = (os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None, None
    return page * pages[0] / 2**30, page * pages[1] / 2**30


def _datasets() -> dict[str, bool]:
    """Whether the files of each data set are found where they are usually installed."""
    from onlygood.core.errors import OnlygoodError
    from onlygood.data.readers import DATASETS

    found: dict[str, bool] = {}
    for name, dataset in DATASETS.items():
        family = name.rpartition("-")[0]
        if family not in found:  # its splits come from the same files
            try:
                dataset.read(None)
                found[family] = True
            except OnlygoodError:
                found[family] = False
    return found


def _gib(size: float | None) -> str:
    return "not told by this system" if size is None else f"{size:.1f} GiB"
