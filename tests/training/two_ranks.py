"""A small CBiGAN run; one process of those that `WORLD_SIZE` and `RANK` describe, or the only one.

Usage: two_ranks.py FOLDER, where each process leaves its tensors, curves and the errors it met.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist

from onlygood.core.errors import ConfigError, TrainingDiverged, TrainingInterrupted
from onlygood.core.gradients import Balance
from onlygood.core.method import InputShape
from onlygood.core.optimizers import SGD
from onlygood.core.settings import Training, View
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss
from onlygood.data.source import ImageSource
from onlygood.detector.learning import surveyed
from onlygood.detector.raw_scores import RawScorer
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig
from onlygood.methods.deep_svdd import DeepSVDD, DeepSVDDConfig
from onlygood.methods.gaussian import Gaussian, GaussianConfig
from onlygood.methods.reflect import Reflect, ReflectConfig
from onlygood.training import History, Trainer, distributed
from tests.training.toys import Moment, Small, Toy, fit, stop, textures


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


def of_the_whole_batch() -> tuple[Toy, History]:
    """Terms that a mean over images cannot say, and one of images that depends on them."""

    def build(t: Toy) -> list[Stage]:
        def loss(batch: Batch) -> Loss:
            grey = batch.normal.mean((1, 2, 3))
            codes = t.one.weight * grey + t.two.weight * batch.uniforms()
            codes_of_all = batch.whole(codes)
            dispersion = (codes_of_all - codes_of_all.mean()).square().mean()
            radius = codes_of_all.quantile(0.7)
            return Loss.weighted(
                radius=(1.0, radius),
                crowding=(0.01, 1 / dispersion),
                outside=(1.0, (codes - radius).relu() / dispersion),
            )

        # Unlike Adam it takes notice of the scale of gradients.
        sgd = SGD(lr=1e-3, momentum=0.5)
        both = Update(name="both", trains=(t.one, t.two), loss=loss, optimizer=sgd)
        return [Stage(name="only", updates=[both])]

    toy = Toy(build)
    return toy, fit(toy, steps=5, log_every=1)


def balanced() -> tuple[Toy, History]:
    """Two parts of a loss, whose gradients are sized up before they are added."""

    def build(t: Toy) -> list[Stage]:
        def loss(batch: Batch) -> Loss:
            grey = batch.normal.mean((1, 2, 3))
            game = (t.one.weight * grey - t.two.weight).square()
            error = (t.two.weight * grey.square() - t.one.weight * batch.uniforms()).square()
            return Loss.weighted(game=(1.0, game)).balancing(error=(1.0, error))

        modules = {"one": t.one, "two": t.two}
        rule = Balance(modules=modules, every=2, window=2, smoothing=0.5, size="l2")
        sgd = SGD(lr=1e-2, momentum=0.5)
        update = Update(
            name="balanced", trains=(t.one, t.two), loss=loss, optimizer=sgd, gradients=rule
        )
        return [Stage(name="only", updates=[update])]

    toy = Toy(build)
    return toy, fit(toy, steps=6, log_every=1)


def broken_off(folder: Path) -> tuple[dict[str, Tensor], str]:
    """A run without a break, one that went on from a checkpoint, and what the break said."""

    def train(method: Small, **resumed: object) -> None:
        settings = Training(steps=8, batch_size=4, precision="float32")
        trainer = Trainer(settings, device="cpu", run_dir=folder / "run", fingerprint="small")
        known = textures(2, 4, 2, seed=2)
        trainer.fit(method, textures(7, 4, 2, draws=2), anomalous=known, **resumed)

    def at_moment(moment: Moment) -> None:
        # Process 0 alone hears of it, and tells the others.
        if moment == ("critic", 2) and distributed.rank() == 0:
            stop()

    broken, unbroken, resumed = Small(), Small(), Small(seed=distributed.rank())
    train(unbroken)
    broken.at_moment = at_moment
    words = said(TrainingInterrupted, lambda: train(broken))
    train(resumed, resume=True)
    runs = {"unbroken": unbroken, "resumed": resumed}
    return {f"{n}.{k}": v for n, run in runs.items() for k, v in run.state_dict().items()}, words


def of_statistics() -> dict[str, Tensor]:
    """What methods learn of pictures that each process sees a part of; how many it sees."""
    shape = InputShape(1, 32, 32)
    gaussian, reflect = (
        Gaussian(GaussianConfig(positions="all"), shape),
        Reflect(ReflectConfig(), shape),
    )
    found: dict[str, Tensor] = {}
    for method in (gaussian, reflect):
        images = textures(18, 32, 1)
        Trainer(Training(batch_size=4), device="cpu").fit(method, images)
        name = type(method).__name__
        found |= {f"{name}.{key}": tensor for key, tensor in method.state_dict().items()}
        found[f"seen.{name}"] = torch.tensor(images.seen)
    # 70 pictures are three batches, of which one process scores two.
    pixels = np.random.RandomState(0).randint(0, 256, (70, 32, 32), np.uint8)
    scorer = RawScorer(gaussian, View(size=32, channels=1), torch.device("cpu"))
    survey = surveyed(scorer, ImageSource.of([*pixels, b"no picture"]))
    assert len(survey.pictures) == 70 and len(survey.unreadable) == 1
    found["survey"] = torch.from_numpy(survey.totals)
    return found


def measured() -> dict[str, Tensor]:
    """What batch normalisation of two stages has measured, and what was fitted to it."""
    torch.manual_seed(distributed.rank())
    method = DeepSVDD(DeepSVDDConfig(widths=(2, 2), latent=16), InputShape(1, 32, 32))
    settings = Training(steps=4, batch_size=4, precision="float32")
    Trainer(settings, device="cpu").fit(method, textures(12, 32, 1))
    return {f"measured.{name}": tensor for name, tensor in method.state_dict().items()}


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
    toy, other = of_the_whole_batch()
    third, of_parts = balanced()
    records = [*history.records, *other.records, *of_parts.records]
    words["curves"] = json.dumps([{k: v for k, v in r.items() if "/" in k} for r in records])
    trained = {**method.state_dict(), **toy.state_dict(prefix="toy."), **of_statistics()}
    trained |= third.state_dict(prefix="balanced.")
    if distributed.world() > 1:
        runs, words["interrupted"] = broken_off(folder)
        trained |= measured() | runs
    tensors = {name: tensor.contiguous() for name, tensor in trained.items()}
    save_file(tensors, folder / f"{distributed.rank()}-of-{distributed.world()}", words)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
