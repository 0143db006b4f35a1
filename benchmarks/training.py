"""How fast does CBiGAN train, against a plain loop over the same networks and losses?

The plain loop is what a researcher would write: float32, NCHW, Adam as it comes, nothing frozen.
All variants take turns, round by round, in one process, so that a drift of the machine meets all
of them alike. A step is one critic update and one update of encoder and generator, each on a
fresh batch; images/s counts the images of both. Pictures lie in memory: this measures steps.

    python benchmarks/training.py --json training.json
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from measure import Spread, in_words, machine, table, write_json
from onlygood import ImageSource
from onlygood.core.method import InputShape
from onlygood.core.settings import Training, View
from onlygood.data.store import PictureStore
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig, Pass
from onlygood.networks.residual import Encoder, Generator, PairCritic
from onlygood.training import Trainer
from onlygood.training.precision import has_bf16

PICTURES = 128
"""Random ones; their content does not change the work."""

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Steps = Callable[[int], None]
"""Makes a number of training steps."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained on."""

    name: str
    side: int
    """Pixels that the networks see."""
    steps: int
    """Of one round."""
    crops_of: int = 0
    """Cut from pictures of this size, turned by up to 45 degrees; 0: the pictures themselves."""

    @property
    def view(self) -> View:
        """The settings that belong to it."""
        if not self.crops_of:
            return View(size=self.side, channels=3)
        return View(size=self.crops_of, tile=self.side, rotate=(0.0, 45.0), channels=3)


CASES: tuple[Case, ...] = (
    Case(name="object, 128 px", side=128, steps=3),
    Case(name="texture, 64 px", side=64, steps=8),
    Case(name="texture, 64 px, turned crops of 512 px", side=64, steps=8, crops_of=512),
)
QUICK: tuple[Case, ...] = (
    Case(name="object, 32 px", side=32, steps=1),
    Case(name="texture, 32 px, turned crops of 64 px", side=32, steps=1, crops_of=64),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant of one case."""

    case: str
    variant: str
    images_per_second: Spread
    seconds_per_step: float
    ratio: Spread | None
    """To the plain loop, round by round; None where the case has no plain loop."""


class Plain:
    """CBiGAN written down once more, without any of this package but the networks."""

    def __init__(self, shape: InputShape, config: CBiGANConfig) -> None:
        self.config = config
        self.encoder = Encoder(shape, config.latent, config.width).to(DEVICE)
        self.generator = Generator(shape, config.latent, config.width).to(DEVICE)
        self.critic = PairCritic(shape, config.latent, config.width).to(DEVICE)
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), lr=config.lr, betas=config.critic_betas
        )
        self.generator_optimizer = torch.optim.Adam(
            [*self.encoder.parameters(), *self.generator.parameters()],
            lr=config.lr,
            betas=config.generator_betas,
        )

    def critic_loss(self, x: Tensor, z: Tensor, epsilon: Tensor) -> Tensor:
        """Wasserstein loss with a two-sided gradient penalty."""
        z_x, x_z = self.encoder(x).detach(), self.generator(z).detach()
        real, fake = self.critic(x, z_x).value, self.critic(x_z, z).value
        penalty = self.gradient_penalty(x, x_z, z_x, z, epsilon)
        return fake.mean() - real.mean() + self.config.penalty_weight * penalty

    def gradient_penalty(
        self, x: Tensor, x_z: Tensor, z_x: Tensor, z: Tensor, epsilon: Tensor
    ) -> Tensor:
        """Mean squared distance of the gradient's norm from 1 between real and fake pairs."""
        e = epsilon[:, None, None, None]
        x_between = (e * x + (1 - e) * x_z).requires_grad_()
        e = epsilon[:, None]
        z_between = (e * z_x + (1 - e) * z).requires_grad_()
        value = self.critic(x_between, z_between).value
        gradients = torch.autograd.grad(
            value, (x_between, z_between), torch.ones_like(value), create_graph=True
        )
        norm = torch.cat([g.flatten(1) for g in gradients], 1).norm(dim=1)
        return ((norm - 1) ** 2).mean()

    def generator_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """Adversarial loss of encoder and generator, and consistency both ways."""
        z_x, x_z = self.encoder(x), self.generator(z)
        adversarial = self.critic(x, z_x).value.mean() - self.critic(x_z, z).value.mean()
        consistency_x = nn.functional.l1_loss(self.generator(z_x), x, reduction="sum")
        consistency_z = nn.functional.l1_loss(self.encoder(x_z), z, reduction="sum")
        consistency = (consistency_x + consistency_z) / len(x)
        return (1 - self.config.alpha) * adversarial + self.config.alpha * consistency

    def train(self, images: Tensor, steps: int, batch_size: int) -> None:
        """Train on random batches of images that lie ready as float32."""
        for _ in range(steps):
            for _ in range(self.config.critic_steps):
                x, z = self.batch(images, batch_size)
                self.critic_optimizer.zero_grad()
                loss = self.critic_loss(x, z, torch.rand(len(x), device=DEVICE))
                loss.backward()
                self.critic_optimizer.step()
            for _ in range(self.config.generator_steps):
                x, z = self.batch(images, batch_size)
                self.generator_optimizer.zero_grad()
                loss = self.generator_loss(x, z)
                loss.backward()
                self.generator_optimizer.step()

    def batch(self, images: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
        """Images, and codes from the prior."""
        x = images[torch.randint(len(images), (batch_size,), device=DEVICE)]
        return x, torch.randn(batch_size, self.config.latent, device=DEVICE)


def plain(config: CBiGANConfig, pictures: np.ndarray, batch_size: int) -> Steps:
    """The plain loop."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().to(DEVICE) / 255
    loop = Plain(InputShape(*images.shape[1:]), config)
    return lambda steps: loop.train(images, steps, batch_size)


def ours(
    config: CBiGANConfig,
    pictures: np.ndarray,
    batch_size: int,
    view: View,
    precision: Any,
    float32_penalty: bool = False,
) -> Steps:
    """The trainer, fed by the store that `fit` feeds it by."""
    method = CBiGAN(config, InputShape(3, view.side, view.side))
    if float32_penalty:
        method.gradient_penalty = _in_float32(method.gradient_penalty)
    store = PictureStore(ImageSource.of(pictures), view, device=DEVICE)
    store.fill()

    def train(steps: int) -> None:
        training = Training(steps=steps, batch_size=batch_size, precision=precision)
        Trainer(training, device=DEVICE).fit(method, store)

    return train


def _in_float32(penalty: Callable[[Pass, Tensor], Tensor]) -> Callable[[Pass, Tensor], Tensor]:
    """The same penalty with its critic outside of autocast."""

    def outside(p: Pass, epsilon: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, enabled=False):
            return penalty(Pass(*(tensor.float() for tensor in p)), epsilon)

    return outside


def variants(case: Case, config: CBiGANConfig, batch_size: int) -> dict[str, Steps]:
    """Everything that takes turns in one case, the plain loop first where there is one."""
    random = np.random.default_rng(0)
    size = case.view.size
    pictures = random.integers(0, 256, (PICTURES, size, size, 3), dtype=np.uint8)
    made: dict[str, Steps] = {}
    if not case.crops_of:
        made["plain loop, float32, NCHW"] = plain(config, pictures, batch_size)
    made["trainer, float32"] = ours(config, pictures, batch_size, case.view, "float32")
    if has_bf16(DEVICE):
        made["trainer, bf16, penalty's critic in float32"] = ours(
            config, pictures, batch_size, case.view, "bf16", float32_penalty=True
        )
    resolved = "bf16" if has_bf16(DEVICE) else "float32"
    made[f"trainer, auto (= {resolved})"] = ours(config, pictures, batch_size, case.view, "auto")
    return made


def measure(case: Case, config: CBiGANConfig, batch_size: int, rounds: int) -> list[Row]:
    """Alternating rounds of all variants, after one step each to warm up."""
    made = variants(case, config, batch_size)
    for train in made.values():
        train(1)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, train in made.items():
            seconds[name].append(_timed(train, case.steps))
    images = batch_size * (config.critic_steps + config.generator_steps) * case.steps
    first = seconds[next(iter(made))]
    return [
        Row(
            case=case.name,
            variant=name,
            images_per_second=Spread.of([images / s for s in taken]),
            seconds_per_step=Spread.of(taken).median / case.steps,
            ratio=None
            if case.crops_of
            else Spread.of([p / s for p, s in zip(first, taken, strict=True)]),
        )
        for name, taken in seconds.items()
    ]


def _timed(train: Steps, steps: int) -> float:
    _wait()
    began = time.perf_counter()
    train(steps)
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all cases and variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each variant")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    # The paper's step whatever the defaults are: one update of each player, Wasserstein.
    config = CBiGANConfig(
        width=2 if options.quick else 16,
        game="wasserstein",
        penalty="two_sided",
        critic_steps=1,
        generator_steps=1,
        ema_decay=0.0,
        output="sigmoid",
    )
    cases, rounds, batch_size = CASES, options.rounds, options.batch_size
    if options.quick:
        cases, rounds, batch_size = QUICK, 1, 4
    facts = machine()
    settings = {"batch_size": batch_size, "channels": 3, "rounds": rounds, **asdict(config)}
    print(in_words(facts))
    print(
        f"batch {batch_size}, 3 channels, width {config.width}, {rounds} alternating rounds of "
        f"{', '.join(f'{case.steps} steps ({case.name})' for case in cases)}; "
        "median (min–max)\n"
    )
    rows = [row for case in cases for row in measure(case, config, batch_size, rounds)]
    print(
        table(
            ("case", "variant", "images/s", "s/step", "ratio to the plain loop"),
            [
                (
                    row.case,
                    row.variant,
                    f"{row.images_per_second:.1f}",
                    f"{row.seconds_per_step:.3f}",
                    "–" if row.ratio is None else f"{row.ratio:.2f}",
                )
                for row in rows
            ],
        )
    )
    if options.json:
        write_json(
            options.json,
            {"machine": facts, "settings": settings, "rows": [asdict(row) for row in rows]},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
