"""`onlygood doctor`."""

import os
import platform
import re
import sys
from typing import Any

from onlygood.cli.voice import Json, Voice, table
from onlygood.core.errors import OnlygoodError

EXTRAS = {
    "train": ("torch", "safetensors", "sklearn", "scipy", "matplotlib", "jinja2"),
    "runtime": ("onnxruntime",),
    "demo": ("elpv_dataset",),
    "parquet": ("pyarrow",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "onnxruntime"),
    "scale": ("pyarrow", "onnxruntime"),
    "ray": ("ray", "pyarrow", "onnxruntime"),
    "mlflow": ("mlflow",),
    "tensorboard": ("tensorboardX",),
    "align": ("cv2",),
    "timm": ("timm", "torchvision"),
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
        ("torch threads", "no torch" if facts["threads"] is None else str(facts["threads"])),
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
    """Of onlygood and of what it needs to learn or to score, where that is installed."""
    from importlib.metadata import PackageNotFoundError, requires, version

    wanted = re.compile(r"^([\w.-]+)[^;]*(; extra == .(train|runtime).)?$")
    found = {"onlygood": version("onlygood")}
    for text in requires("onlygood") or ():
        if match := wanted.match(text):
            try:
                found[match[1]] = version(match[1])
            except PackageNotFoundError:
                found[match[1]] = "not installed"
    return found


def _machine() -> dict[str, Any]:
    from onlygood.core.machine import memory

    found = memory()
    total, free = (None, None) if found is None else (found[0] / 2**30, found[1] / 2**30)
    return {
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        **_of_torch(),
        "memory_gib": total,
        "free_memory_gib": free,
    }


def _of_torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {"threads": None, "gpus": [], "bf16": None}
    from onlygood.training.precision import has_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "bf16": has_bf16(device),
    }


def _datasets() -> dict[str, bool]:
    """Whether the files of each data set are found where they are usually installed."""
    from onlygood.data.readers import DATASETS

    found: dict[str, bool] = {}
    for dataset in DATASETS.values():
        if dataset.family not in found:
            try:
                (dataset.find or dataset.read)(None)
                found[dataset.family] = True
            except OnlygoodError:
                found[dataset.family] = False
    return found


def _gib(size: float | None) -> str:
    return "not told by this system" if size is None else f"{size:.1f} GiB"
