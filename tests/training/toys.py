"""Pictures and methods small enough to work out by hand."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from onlygood.core.images import Pick
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Optimizer
from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Ema, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.networks.modes import evaluating
from onlygood.networks.search import Aim, descended, starts
from onlygood.training import History, Trainer


class Pictures:
    """Training pictures in memory; draws, if any, brighten them a little."""

    def __init__(self, pixels: Tensor, *, draws: int = 0, views: int = 1) -> None:
        self.pixels, self.draws, self.views = pixels, draws, views
        self.seen = 0
        """Views that were asked for."""

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, plan: Iterable[Pick]) -> Iterator[Tensor]:
        for indices, draws in plan:
            self.seen += len(indices)
            yield self.pixels[indices] + 1e-3 * draws.sum(1).view(-1, 1, 1, 1)


def numbered(n: int, **settings: int) -> Pictures:
    """Pictures of a single grey, their number in hundredths: a batch tells what it is made of."""
    return Pictures((torch.arange(n) / 100).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), **settings)


def numbers(images: Tensor) -> list[int]:
    return (100 * images[:, 0, 0, 0]).round().int().tolist()


def textures(n: int, size: int, channels: int, seed: int = 0, **settings: int) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    return Pictures(torch.rand(n, channels, size, size, generator=generator), **settings)


class Player(nn.Module):
    """One number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))


class Seen(NamedTuple):
    """What an update was given."""

    update: str
    numbers: list[int]
    step: int
    epoch: int


class Toy(Method):
    """Two numbers, and a diary of what their updates were given."""

    config_class = object
    localizes = False
    presets: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, build: Callable[["Toy"], Sequence[Stage]]) -> None:
        super().__init__(None, InputShape(1, 2, 2))
        self.one, self.two = Player(2.0), Player(1.0)
        self.seen: list[Seen] = []
        self.build = build

    def stages(self) -> Sequence[Stage]:
        return self.build(self)

    def score(self, x: Tensor) -> Scores:
        return Scores.weighted(grey=(1.0, x.mean((1, 2, 3)) * self.one.weight))

    def update(
        self,
        name: str,
        *trains: nn.Module,
        term: Callable[[Batch], Tensor] | None = None,
        adam: Optimizer | tuple[Optimizer, ...] | None = None,
        **settings: Any,
    ) -> Update:
        """An update that pulls its first module down, or minimises `term`."""

        def loss(batch: Batch) -> Loss:
            p = batch.progress
            self.seen.append(Seen(name, numbers(batch.normal), p.step, p.epoch))
            value = term(batch) if term else trains[0].weight * batch.normal.mean((1, 2, 3))
            return Loss.weighted(value=(1.0, value))

        return Update(
            name=name, trains=trains, loss=loss, optimizer=adam or Adam(lr=0.1), **settings
        )


class Searching(Toy):
    """Finds for each picture by what `one` must be multiplied to give its grey."""

    searches = True
    searched = 0

    def score(self, x: Tensor) -> Scores:
        self.searched += 1
        grey = x.mean((1, 2, 3))

        def distance(z: Tensor) -> Tensor:
            return (self.one.weight * z[:, 0] - grey).square()

        (start,) = starts(x, 1, seed=0)
        (z,) = descended(lambda z: Aim(distance(z)), [start], Adam(lr=0.1), steps=3)
        return Scores.weighted(distance=(1.0, distance(z)))


def staged(*settings: dict[str, Any]) -> Toy:
    """Stages that train alike, named by their number from 0, each with settings of its own."""
    return Toy(
        lambda t: [
            Stage(name=str(i), updates=[t.update(str(i), t.one)], **own)
            for i, own in enumerate(settings)
        ]
    )


def steps_of(toy: Toy) -> list[int]:
    """How many steps each stage took, if it took any."""
    names = [seen.update for seen in toy.seen]
    return [names.count(name) for name in dict.fromkeys(names)]


def fit(
    toy: Toy,
    pictures: Pictures | None = None,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    validation: Pictures | None = None,
    anomalous: Pictures | None = None,
    **training: Any,
) -> History:
    settings = Training(**{"steps": 4, "batch_size": 4, "precision": "float32", **training})
    trainer = Trainer(settings, seed=seed, device="cpu", run_dir=run_dir, fingerprint="toy")
    return trainer.fit(
        toy,
        numbered(10) if pictures is None else pictures,
        validation=validation,
        anomalous=anomalous,
        resume=resume,
    )


def stop(number: int = signal.SIGINT) -> None:
    """What Ctrl-C does."""
    os.kill(os.getpid(), number)


Moment = tuple[str, int]
"""Name of an update or a pass, and the step of its stage in which it runs."""


class Small(Method):
    """Everything that a resumed run could forget.

    Averages, dropout, batch normalisation and a loss that goes by what it has measured, buffers
    filled by a pass, noise, known anomalous pictures, and kernels whose layout in memory is not the
    one on disk.
    """

    config_class = object
    localizes = False
    presets: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, seed: int = 0) -> None:
        super().__init__(None, InputShape(2, 4, 4))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(
                nn.Conv2d(2, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.3),
                nn.Conv2d(3, 2, 3, padding=1),
            )
            self.critic = nn.Sequential(
                nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(12, 1)
            )
        self.register_buffer("mean", torch.zeros(2, 4, 4))
        self.register_buffer("error", torch.zeros(()))
        self.at_moment: Callable[[Moment], None] = lambda moment: None

    def learn_mean(self, images: Iterable[Tensor]) -> None:
        self.at_moment(("before", 0))
        self.mean.copy_(torch.cat(list(images)).mean(0))

    def learn_error(self, images: Iterable[Tensor]) -> None:
        self.at_moment(("after", 0))
        self.error.copy_(torch.cat([self.score(x).total for x in images]).mean())

    def reconstruct(self, batch: Batch) -> Loss:
        self.at_moment(("autoencoder", batch.progress.step + 1))
        noisy = batch.normal + 0.1 * batch.normals(2, 4, 4)
        return Loss.weighted(
            reconstruction=(1.0, (self.encoder(noisy) - batch.normal).square().mean((1, 2, 3)))
        )

    def judge(self, batch: Batch) -> Loss:
        self.at_moment(("critic", batch.progress.step + 1))
        assert batch.anomalous is not None
        real, fake = self.critic(batch.normal), self.critic(self.encoder(batch.normal))
        with evaluating(self.encoder):
            known = self.critic(self.encoder(batch.anomalous))
        return Loss.weighted(
            real=(-1.0, real[:, 0].tanh()),
            fake=(1.0, fake[:, 0].tanh() * batch.uniforms()),
            known=(0.5, known[:, 0].tanh()),
        )

    def fool(self, batch: Batch) -> Loss:
        self.at_moment(("encoder", batch.progress.step + 1))
        return Loss.weighted(fooling=(-1.0, self.critic(self.encoder(batch.normal))[:, 0].tanh()))

    def stages(self) -> Sequence[Stage]:
        return [
            Stage(
                name="first",
                before=self.learn_mean,
                updates=[
                    Update(
                        name="autoencoder",
                        trains=(self.encoder,),
                        loss=self.reconstruct,
                        optimizer=Adam(lr=1e-2),
                    )
                ],
                ema=Ema(modules=(self.encoder,), decay=0.5, every=2, start=1),
            ),
            Stage(
                name="second",
                order="simultaneous",
                updates=[
                    Update(
                        name="critic",
                        trains=(self.critic,),
                        loss=self.judge,
                        optimizer=Adam(lr=1e-2),
                        repeat=2,
                        batch="shared",
                    ),
                    Update(
                        name="encoder",
                        trains=(self.encoder,),
                        loss=self.fool,
                        optimizer=Adam(lr=1e-2),
                        every=2,
                    ),
                ],
                ema=Ema(modules=(self.encoder, self.critic), decay=0.9, every=3),
                after=self.learn_error,
            ),
        ]

    def score(self, x: Tensor) -> Scores:
        rest = (self.encoder(x - self.mean) - x).square().mean((1, 2, 3))
        return Scores.weighted(rest=(1.0, rest))
