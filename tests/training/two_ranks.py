"""A small CBiGAN run; one process of those that `WORLD_SIZE` and `RANK` describe, or the only one.

Usage: two_ranks.py FOLDER, where each process leaves its tensors, curves and the errors it met.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist

from onlygood.core.errors import ConfigError, TrainingDiverged
from onlygood.core.method import InputShape
from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Stage
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig
from onlygood.training import History, Trainer, distributed
from tests.training.toys import Toy, fit, textures


def fitted(batch_size: int) -> tuple[CBiGAN, History]:
    # Each process begins elsewhere; the weights of process 0 count.
    torch.manual_seed(distributed.rank())
    method = CBiGAN(CBiGANConfig(width=2, latent=4, alpha=0.1), InputShape(2, 32, 32))
    settings = Training(steps=4, batch_size=batch_size, precision="float32", log_every=1)
    return method, Trainer(settings, device="cpu").fit(method, textures(6, 32, 2, draws=1))


def diverging() -> None:
    """In the second step the last process alone meets a NaN."""

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            bad = batch.rank == 1 and batch.progress.step == 1
            return t.one.weight * torch.full((len(batch.normal),), math.nan if bad else 1.0)

        return [Stage(name="only", updates=[t.update("one", t.one, term=term)])]

    fit(Toy(build))


def said(error: type[Exception], run: Callable[[], object]) -> str:
    """What the error says that `run` ends with."""
    try:
        run()
    except error as caught:
        return str(caught)
    return ""


def main(folder: Path) -> None:
    # Some gradients are zero but for rounding, which Adam makes as large as all others. So that
    # what is left of it is less than Adam's eps, everything is in double precision, also what a
    # method wants in float32 where the rest is in bf16.
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double
    distributed.start()
    words: dict[str, str] = {}
    if distributed.world() > 1:
        words["refused"] = said(ConfigError, lambda: fitted(batch_size=3))
        words["diverged"] = said(TrainingDiverged, diverging)
    method, history = fitted(batch_size=4)
    curves = [{k: v for k, v in record.items() if "/" in k} for record in history.records]
    words["curves"] = json.dumps(curves)
    tensors = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
    save_file(tensors, folder / f"{distributed.rank()}-of-{distributed.world()}", words)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
