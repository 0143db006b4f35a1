"""How fast do the methods train, against a plain loop over the same networks and losses?

The plain loop is what a careful researcher would write: float32, NCHW, Adam as it comes, gradients
for the networks alone that an update trains. It adds up the parts of a loss as they are; that
spares it a pass backward for each step of piad, whose rule balances two parts. All variants take
turns, round by round, in one process, so that a drift of the machine meets all of them alike. A
step is one run of all updates of a method; images/s counts the images of all of them. Pictures lie
in memory: this measures steps.

Floating-point operations are those of matrix products and convolutions that one step of the plain
loop calls for, two for each multiplication and addition; second derivatives count as what is
computed for them. What they reach is set beside what a large matrix product, and a convolution,
reach in the same run.

    python benchmarks/training.py --json training.json
    python benchmarks/training.py --batches
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from measure import Spread, in_words, machine, table, write_json
from onlygood import ImageSource
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.resolving import Resolved
from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Update
from onlygood.data.store import PictureStore
from onlygood.detector.learning import settings_of
from onlygood.methods.cbigan import Pass
from onlygood.networks.backbones import named
from onlygood.networks.backbones.architectures import ARCHITECTURES
from onlygood.registry import method_named
from onlygood.training import Trainer
from onlygood.training.precision import has_bf16

PICTURES = 128
"""Random ones; their content does not change the work."""

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Steps = Callable[[int], None]
"""Makes a number of training steps."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method at a setting."""

    name: str
    method: str
    preset: str = "paper"
    settings: Mapping[str, object] = field(default_factory=dict)
    """Beyond the preset."""
    channels: int = 3
    steps: int
    """Of one round."""
    alone: bool = False
    """Whether the trainer as it comes is all that is measured."""

    @property
    def resolved(self) -> Resolved:
        """Complete settings."""
        chosen = {"channels": self.channels, **self.settings}
        return settings_of(self.method, self.preset, chosen)


CASES: tuple[Case, ...] = (
    Case(name="cbigan, object, 128 px", method="cbigan", steps=3),
    Case(name="cbigan, texture, 64 px", method="cbigan", settings={"size": 64}, steps=8),
    Case(
        name="cbigan, texture, turned crops of 512 px",
        method="cbigan",
        preset="paper-texture",
        steps=8,
    ),
    Case(name="cebigan, 128 px", method="cebigan", steps=2),
    Case(name="ama, 32 px, batch 64", method="ama", settings={"batch_size": 64}, steps=1),
    Case(name="piad, 32 px, grey", method="piad", preset="mnist", channels=1, steps=10),
    Case(
        name="piad, 32 px, grey, VGG-19",
        method="piad",
        preset="paper-mnist",
        channels=1,
        steps=6,
    ),
)
BATCHES: tuple[Case, ...] = tuple(
    Case(
        name=f"{method}:small, batch {batch_size}",
        method=method,
        preset="small",
        settings={"batch_size": batch_size, "minutes": 0},
        channels=1,
        steps=3,
        alone=True,
    )
    for method in ("cebigan", "cbigan", "piad", "ama")
    for batch_size in (32, 64, 128)
)
"""Whether larger batches use the processor better."""
_TINY = {"size": 32, "width": 2, "batch_size": 4}
QUICK: tuple[Case, ...] = (
    Case(name="cbigan, 32 px", method="cbigan", settings=_TINY, steps=1),
    Case(
        name="cbigan, turned crops of 64 px",
        method="cbigan",
        preset="paper-texture",
        settings={**_TINY, "size": 64, "tile": 32},
        steps=1,
    ),
    Case(name="piad, 32 px", method="piad", preset="mnist", settings=_TINY, channels=1, steps=1),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant of one case."""

    case: str
    batch_size: int
    variant: str
    images_per_second: Spread
    seconds_per_step: float
    ratio: Spread | None
    """To the plain loop, round by round; None where the case has no plain loop."""
    gflop_per_step: float
    """Floating-point operations in units of 1e9."""
    gflop_per_second: float
    share: float
    """Of what a matrix product reaches in the same precision."""


class Plain:
    """Any method's updates in turn, without the trainer."""

    def __init__(self, method: Method, images: Tensor, batch_size: int) -> None:
        self.method, self.images, self.batch_size = method.to(DEVICE), images, batch_size
        self.generator = torch.Generator(DEVICE).manual_seed(0)
        stages = method.stages()
        with torch.no_grad():
            for stage in stages:
                if stage.before is not None:
                    stage.before([images])
        self.updates = [update for stage in stages for update in stage.updates]
        self.optimizers = [_optimizer(update) for update in self.updates]
        method.train()

    def train(self, steps: int) -> None:
        """Make steps on random batches."""
        for _ in range(steps):
            batch: Batch | None = None
            for update, optimizer in zip(self.updates, self.optimizers, strict=True):
                trained = {p for module in update.trains for p in module.parameters()}
                for parameter in self.method.parameters():
                    parameter.requires_grad = parameter in trained
                for _ in range(update.repeat):
                    if batch is None or update.batch == "fresh":
                        batch = self.batch()
                    optimizer.zero_grad()
                    loss = update.loss(batch)
                    loss.whole.backward()
                    optimizer.step()

    def batch(self) -> Batch:
        """Random images, with noise."""
        x = self.images[torch.randint(len(self.images), (self.batch_size,), device=DEVICE)]
        return Batch(normal=x, generator=self.generator)


def _optimizer(update: Update) -> torch.optim.Adam:
    groups = []
    for module, adam in zip(update.trains, update.optimizers, strict=True):
        assert isinstance(adam, Adam), adam
        groups.append({"params": list(module.parameters()), "lr": adam.lr, "betas": adam.betas})
    return torch.optim.Adam(groups)


def network(case: Case) -> Method:
    """A fresh method; a VGG-19 gets random weights, as its own have to be fetched."""
    config, view, _ = case.resolved
    with ExitStack() as changed:
        if vars(config).get("backbone") == "vgg19":
            changed.enter_context(patch.object(named, "fetched", Path))
            changed.enter_context(patch.object(named, "read", _random_vgg19))
        return method_named(case.method)(config, InputShape(view.channels, *view.sides))


def _random_vgg19(name: str, path: Path) -> dict[str, Tensor]:
    """Weights that are as fast as the real ones."""
    rows = ARCHITECTURES["vgg19"].rows()
    return {
        f"features.{i}.{key}": tensor.detach()
        for i, row in enumerate(rows)
        for key, tensor in row.state_dict().items()
    }


def plain(case: Case, method: Method, pictures: np.ndarray) -> Steps:
    """The plain loop."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().to(DEVICE) / 255
    return Plain(method, images, case.resolved.training.batch_size).train


def ours(case: Case, method: Method, pictures: np.ndarray, precision: Any) -> Steps:
    """The trainer, fed by the store that `fit` feeds it by."""
    resolved = case.resolved
    store = PictureStore(ImageSource.of(pictures), resolved.view, device=DEVICE)
    store.fill()

    def train(steps: int) -> None:
        training = Training(
            steps=steps, batch_size=resolved.training.batch_size, precision=precision
        )
        Trainer(training, device=DEVICE).fit(method, store)

    return train


def _in_float32(penalty: Callable[[Pass, Tensor], Tensor]) -> Callable[[Pass, Tensor], Tensor]:
    """The same penalty with its critic outside of autocast."""

    def outside(p: Pass, epsilon: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, enabled=False):
            return penalty(Pass(*(tensor.float() for tensor in p)), epsilon)

    return outside


def limits(repeat: int = 5) -> dict[str, dict[str, float]]:
    """GFLOP/s of a matrix product and of a convolution, the best of some, by precision."""
    sides, images, channels, side = 2048, 32, 32, 64
    found: dict[str, dict[str, float]] = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.rand(sides, sides, device=DEVICE, dtype=dtype)
        x = torch.rand(images, channels, side, side, device=DEVICE, dtype=dtype)
        x = x.to(memory_format=torch.channels_last)
        kernel = torch.rand(channels, channels, 3, 3, device=DEVICE, dtype=dtype)
        work: dict[str, tuple[Callable[[], object], float]] = {
            "matrix product, 2048 x 2048": (partial(torch.matmul, a, a), 2 * sides**3),
            "3 x 3 convolution of 32 channels, 64 px, batch 32": (
                partial(F.conv2d, x, kernel, padding=1),
                2 * images * side**2 * channels**2 * 9,
            ),
        }
        found[name] = {
            words: flop / min(_timed(run) for _ in range(repeat)) / 1e9
            for words, (run, flop) in work.items()
        }
    return found


def flop_of_a_step(case: Case) -> float:
    """What one step of all updates of a case calls for."""
    resolved = case.resolved
    view, batch_size = resolved.view, resolved.training.batch_size
    images = torch.rand(batch_size, view.channels, *view.sides, device=DEVICE)
    loop = Plain(network(case), images, batch_size)
    counter = _Counter()  # type: ignore[no-untyped-call]
    with counter:
        loop.train(1)
    return counter.flop


class _Counter(TorchDispatchMode):
    """Adds up what torch says that its operators take; its own counter fails on two derivatives."""

    flop = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.flop += formula(*arguments, **(keywords or {}), out_val=result)
        return result


def variants(case: Case) -> dict[str, Steps]:
    """Everything that takes turns in one case, the plain loop first where there is one."""
    random = np.random.default_rng(0)
    view = case.resolved.view
    pictures = random.integers(0, 256, (PICTURES, *view.canvas, view.channels), dtype=np.uint8)
    made: dict[str, Steps] = {}
    if not view.tile and not case.alone:
        made[PLAIN] = plain(case, network(case), pictures)
    if not case.alone:
        made["trainer, float32"] = ours(case, network(case), pictures, "float32")
    if has_bf16(DEVICE) and case.method == "cbigan" and not case.alone:
        method: Any = network(case)
        method.gradient_penalty = _in_float32(method.gradient_penalty)
        name = "trainer, bf16, penalty's critic in float32"
        made[name] = ours(case, method, pictures, "bf16")
    resolved = "bf16" if has_bf16(DEVICE) else "float32"
    made[f"trainer, auto (= {resolved})"] = ours(case, network(case), pictures, "auto")
    return made


PLAIN = "plain loop, float32, NCHW"


def measure(case: Case, rounds: int, reached: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Alternating rounds of all variants, after one step each to warm up; `reached`: `limits`.

    What the trainer does once a run, such as the statistics of features, is in each of its rounds.
    """
    made = variants(case)
    for train in made.values():
        train(1)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, train in made.items():
            seconds[name].append(_timed(partial(train, case.steps)))
    batch_size = case.resolved.training.batch_size
    images = batch_size * case.steps * _updates(case)
    gflop = flop_of_a_step(case) / 1e9
    found = []
    for name, taken in seconds.items():
        step = Spread.of(taken).median / case.steps
        product = next(iter(reached["bf16" if "bf16" in name else "float32"].values()))
        found.append(
            Row(
                case=case.name,
                batch_size=batch_size,
                variant=name,
                images_per_second=Spread.of([images / s for s in taken]),
                seconds_per_step=step,
                ratio=Spread.of([p / s for p, s in zip(seconds[PLAIN], taken, strict=True)])
                if PLAIN in seconds
                else None,
                gflop_per_step=gflop,
                gflop_per_second=gflop / step,
                share=gflop / step / product,
            )
        )
    return found


def _updates(case: Case) -> int:
    stages = network(case).stages()
    return sum(update.repeat for stage in stages for update in stage.updates)


def _timed(work: Callable[[], object]) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all cases and variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each variant")
    parser.add_argument("--batches", action="store_true", help="batch sizes of the small presets")
    parser.add_argument("--only", help="cases whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    named = BATCHES if options.batches else CASES
    cases, rounds = (QUICK, 1) if options.quick else (named, options.rounds)
    cases = tuple(case for case in cases if (options.only or "") in case.name)
    facts = machine()
    print(in_words(facts))
    print(f"{rounds} alternating rounds; median (min–max); VGG-19 with random weights\n")
    reached = limits()
    for precision, work in reached.items():
        for words, gflop in work.items():
            print(f"{words}, {precision}: {gflop:.0f} GFLOP/s")
    print()
    rows = [row for case in cases for row in measure(case, rounds, reached)]
    print(
        table(
            (
                *("case", "batch", "variant", "images/s", "s/step", "ratio to the plain loop"),
                *("GFLOP/step", "GFLOP/s", "of a matrix product's"),
            ),
            [
                (
                    row.case,
                    str(row.batch_size),
                    row.variant,
                    f"{row.images_per_second:.1f}",
                    f"{row.seconds_per_step:.3f}",
                    "–" if row.ratio is None else f"{row.ratio:.2f}",
                    f"{row.gflop_per_step:.3g}",
                    f"{row.gflop_per_second:.0f}",
                    f"{row.share:.0%}",
                )
                for row in rows
            ],
        )
    )
    if options.json:
        settings = {
            case.name: {"preset": case.preset, "steps of a round": case.steps, **case.settings}
            for case in cases
        }
        write_json(
            options.json,
            {
                "machine": facts,
                "rounds": rounds,
                "limits in GFLOP/s": reached,
                "settings": settings,
                "rows": [asdict(row) for row in rows],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
