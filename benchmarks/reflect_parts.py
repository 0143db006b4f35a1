"""What would the adversarial parts add to `reflect`? Solar cells, frozen features, three seeds.

Between standardised features and a code stand networks that begin as the linear pair of `reflect`
(their last layers begin at zero), and are trained by what a variant names. What they leave over is
whitened and scored as `reflect` does it. The test pictures choose nothing but this table.

    python benchmarks/reflect_parts.py --json reflect-parts.json
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from measure import in_words, machine, table, write_json
from onlygood.core.method import InputShape
from onlygood.core.settings import View
from onlygood.data.loading import iterate, threads
from onlygood.data.preprocess import to_bytes, to_images
from onlygood.data.source import ImageSource
from onlygood.data.split import split
from onlygood.detector.learning import settings_of
from onlygood.evaluation import tables
from onlygood.evaluation.protocols import solar_cells
from onlygood.losses.adversarial import GAMES
from onlygood.methods.reflect import Reflect
from onlygood.networks.grids import PER_AXIS, principal_axes
from onlygood.networks.memory import Memory
from onlygood.networks.patches import Patches as Grid
from onlygood.networks.patches import side_by_side

BATCH = 32
WIDTH = 64
LR = 5e-4
GAME = GAMES["hinge"]
PATCHES = 10_000
"""That patch_knn keeps by default."""
Code = Tensor
Data = dict[str, list[Grid]]
"""Of training and test pictures."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is learned beyond the linear pair, and how it is scored."""

    networks: bool = False
    relative: bool = True
    """PIAD's Eq. 4, or the plain L1."""
    consistency: float = 0.0
    """Weight of the relative L1 between z and E(G(z)), z normal with the spread of the codes."""
    critic: bool = False
    """Mirrored, as AMA's: pairs (g, g) against (g, G(E(g)))."""
    normalised: bool = False
    """The critic's weight from the sizes of gradients, as PIAD's; else 0.1."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of reflect, where they are others."""
    order: Literal["code, whiten", "code", "whiten, code", "neighbours"] = "code, whiten"
    """What is done to the features, and in which order; neighbours: patch_knn's distances."""
    usual: bool = True
    """In units of what is usual at a position."""
    two_sided: bool = False
    """How far the score is from that of training pictures, both ways, as AMA's A-score."""
    code: float = 0.0
    """Weight of Mahalanobis' distance of the code, with both parts divided by their training
    means."""


_GAUSSIAN = {"latent": 0, "prior": 0.0, "block": 1}
_WIDE = {"latent": 100}
VARIANTS: Mapping[str, Variant] = {
    "reflect: linear pair": Variant(),
    "a covariance at each position": Variant(config={"block": 1}),
    "no code": Variant(config={"latent": 0}),
    "distances as they are": Variant(usual=False),
    "light as it is": Variant(config={"light": "kept"}),
    "a Gaussian at each position": Variant(config=_GAUSSIAN, usual=False),
    "a Gaussian at each position, light as it is": Variant(
        config=_GAUSSIAN | {"light": "kept"}, usual=False
    ),
    "PCA of the whole map, 100 axes": Variant(config=_WIDE, order="code"),
    "PCA of the whole map, 100 axes, light as it is": Variant(
        config=_WIDE | {"light": "kept"}, order="code"
    ),
    "whitened at each position, then PCA, 100 axes": Variant(
        config=_WIDE | {"block": 1}, order="whiten, code"
    ),
    "10,000 patches": Variant(order="neighbours"),
    "10,000 patches, light as it is": Variant(config={"light": "kept"}, order="neighbours"),
    "two-sided score": Variant(two_sided=True),
    "distance of the code, 0.2": Variant(code=0.2),
    "networks, relative L1": Variant(networks=True),
    "networks, plain L1": Variant(networks=True, relative=False),
    "networks, consistency": Variant(networks=True, consistency=1.0),
    "networks, mirrored critic": Variant(networks=True, critic=True),
    "networks, mirrored critic, normalised weights": Variant(
        networks=True, critic=True, normalised=True
    ),
    "networks, consistency, critic, normalised": Variant(
        networks=True, consistency=1.0, critic=True, normalised=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant on one data set."""

    data: str
    variant: str
    aurocs: list[float]
    """Of each seed."""
    seconds: float
    """Of training, mean over seeds; without features."""


class Pair(nn.Module):
    """Encoder and generator: the linear pair plus networks that begin at zero."""

    def __init__(self, axes: Tensor, shape: torch.Size) -> None:
        super().__init__()
        k, (channels, side, _) = len(axes), shape
        small = WIDTH * (side // 2) ** 2
        self.shape = shape
        self.axes = nn.Parameter(axes.clone())
        self.made = nn.Parameter(axes.clone())
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, WIDTH, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten()),
            nn.Linear(small, k),
        )
        self.generator = nn.Sequential(
            *(
                nn.Linear(k, small),
                nn.LeakyReLU(0.2),
                nn.Unflatten(1, (WIDTH, side // 2, side // 2)),
            ),
            *(nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)),
            nn.Conv2d(WIDTH, channels, 1),
        )
        for last in (self.encoder[-1], self.generator[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def encode(self, g: Tensor) -> Code:
        """E."""
        z: Code = g.flatten(1) @ self.axes.T + self.encoder(g)
        return z

    def generate(self, z: Code) -> Tensor:
        """G."""
        g: Tensor = (z @ self.made).view(-1, *self.shape) + self.generator(z)
        return g


def critic_of(channels: int, side: int) -> nn.Sequential:
    final = -(-side // 4)
    return nn.Sequential(
        *(nn.Conv2d(2 * channels, WIDTH, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(WIDTH * final**2, 1), nn.Flatten(0)),
    )


def trained(g: Tensor, axes: Tensor, variant: Variant, steps: int, seed: int) -> Pair:
    """Networks between `g`, `(n, c, side, side)`, and codes."""
    torch.manual_seed(seed)
    pair, critic = Pair(axes, g.shape[1:]), critic_of(g.shape[1], g.shape[2])
    optimizers = [torch.optim.Adam(net.parameters(), LR, (0.5, 0.99)) for net in (pair, critic)]
    spread = (g.flatten(1) @ axes.T).std(0)
    weight = 0.1

    def judged(x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = critic(torch.cat([x, y], 1))
        return logits

    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for i in range(steps):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = LR * (1 - i / steps)
        x = g[torch.randint(len(g), (BATCH,))]
        x_hat = pair.generate(pair.encode(x))
        if variant.critic:
            step(optimizers[1], GAME.critic(judged(x, x), judged(x, x_hat.detach())).mean())
        error = (x - x_hat).abs().flatten(1).mean(1)
        if variant.relative:
            error = error / x.abs().flatten(1).mean(1)
        loss = error.mean()
        if variant.consistency:
            z = torch.randn(BATCH, len(axes)) * spread
            again = pair.encode(pair.generate(z))
            loss = loss + variant.consistency * (again - z).abs().mean() / z.abs().mean()
        if variant.critic:
            adversarial = GAME.generator(judged(x, x_hat)).mean()
            if variant.normalised and i % 10 == 0:
                sizes = [_gradients(part, pair).std() for part in (loss, adversarial)]
                weight = float(sizes[0] / sizes[1])
            loss = loss + weight * adversarial
        step(optimizers[0], loss)
    return pair.eval()


def _gradients(part: Tensor, network: nn.Module) -> Tensor:
    """All entries of all gradients that there are, one after another."""
    found: Sequence[Tensor | None] = torch.autograd.grad(
        part, list(network.parameters()), retain_graph=True, allow_unused=True
    )
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


def joined(grids: Sequence[Grid]) -> Tensor:
    """All grids as one, on the coarsest: `(n, c, side, side)`."""
    side = grids[-1].shape[1]
    return torch.cat(
        [F.pixel_unshuffle(grid.permute(0, 3, 1, 2), grid.shape[1] // side) for grid in grids], 1
    )


def parted(g: Tensor, like: Sequence[Grid]) -> list[Grid]:
    """The opposite of `joined`."""
    factors = [grid.shape[1] // g.shape[2] for grid in like]
    maps = g.split([grid.shape[3] * f**2 for grid, f in zip(like, factors, strict=True)], 1)
    return [F.pixel_shuffle(m, f).permute(0, 2, 3, 1) for m, f in zip(maps, factors, strict=True)]


def left_by_networks(
    data: Data, axes: Sequence[Tensor], variant: Variant, steps: int, seed: int
) -> Data:
    """What networks that begin as these axes do not give back; light is none of theirs."""
    grids = {part: [g for g in own if g.shape[1] > 1] for part, own in data.items()}
    light = {part: own[len(grids[part]) :] for part, own in data.items()}
    # The axes, in the order in which the joined grid has its entries.
    shaped = joined([a.view(-1, *g.shape[1:]) for a, g in zip(axes, grids["train"], strict=False)])
    pair = trained(joined(grids["train"]), shaped.flatten(1), variant, steps, seed)
    rest: Data = {}
    with torch.no_grad():
        for part, own in grids.items():
            whole = joined(own)
            left = [x - pair.generate(pair.encode(x)) for x in whole.split(64)]
            rest[part] = [*parted(torch.cat(left), own), *light[part]]
    return rest


def auroc(
    method: Reflect, variant: Variant, data: Data, labels: np.ndarray, steps: int, seed: int
) -> tuple[float, float]:
    """Of one run on standardised features, and the seconds that it learned for."""
    start = time.perf_counter()
    if variant.order == "neighbours":
        data = {part: [side_by_side(own)] for part, own in data.items()}
        patches = data["train"][0].flatten(0, 2)
        rows = patches[torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))]
        bank = Memory(rows.shape[1])
        bank.store(rows[:PATCHES])
        seconds = time.perf_counter() - start
        new = data["test"][0]
        nearest = torch.cat([bank.nearest(x.flatten(0, 2), 1)[:, 0] for x in new.split(16)])
        pooled = method.pooled(nearest.view(new.shape[:3]))
        return float(roc_auc_score(labels, pooled.numpy())), seconds
    if variant.order == "whiten, code":
        method.distances.whiten(data["train"])
        data = {part: [whitened(method, own)] for part, own in data.items()}
    train = data["train"]
    k = min(method.config.latent, len(train[0]) // PER_AXIS)
    sizes = [grid[0].numel() for grid in train]
    flat = torch.cat([grid.flatten(1) for grid in train], 1)
    axes = principal_axes(flat, k)
    codes = {part: torch.cat([g.flatten(1) for g in own], 1) @ axes.T for part, own in data.items()}
    rest: Data = {}
    if variant.networks:
        rest = left_by_networks(data, axes.split(sizes, 1), variant, steps, seed)
    else:
        for part, own in data.items():
            made = (codes[part] @ axes).split(sizes, 1)
            rest[part] = [g - m.view_as(g) for g, m in zip(own, made, strict=True)]
    seconds = time.perf_counter() - start
    score: dict[str, Tensor] = {}
    if variant.order == "code, whiten":
        method.distances.whiten(rest["train"])
        method.distances.gauge(rest["train"])
        for part, own in rest.items():
            found = method.distances.mahalanobis(own)
            found = method.distances.usual(found) if variant.usual else found
            score[part] = method.pooled(found)
    else:  # in units of what is usually left at each position
        lengths = {part: side_by_side(own).norm(dim=3) for part, own in rest.items()}
        usual = lengths["train"].square().mean(0).sqrt()
        score = {part: method.pooled(own / usual) for part, own in lengths.items()}
    found = score["test"]
    if variant.two_sided:
        found = (found - score["train"].mean()).abs() / score["train"].std()
    if variant.code:
        far = {part: (z / codes["train"].std(0)).norm(dim=1) for part, z in codes.items()}
        found = found / score["train"].mean() + variant.code * far["test"] / far["train"].mean()
    return float(roc_auc_score(labels, found.numpy())), seconds


def whitened(method: Reflect, grids: Sequence[Grid]) -> Grid:
    """On the finest grid, by the covariance of each position."""
    white = []
    for part in zip(*(grid.split(BATCH) for grid in grids), strict=True):
        whole = side_by_side(part)
        rows = whole.flatten(1, 2).transpose(0, 1) @ method.distances.whitening.rows.mT
        white.append(rows.transpose(0, 1).reshape(whole.shape))
    return torch.cat(white)


@torch.no_grad()
def features(method: Reflect, source: ImageSource, size: int) -> list[Grid]:
    batches = []
    for batch in iterate(source, View(size=size, channels=1), BATCH, threads()):
        pictures = [to_bytes(item.pixels) for item in batch if item.pixels is not None]
        batches.append(method.features(to_images(torch.stack(pictures)))[0])
    return [torch.cat(grid) for grid in zip(*batches, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", default=["mono", "poly"], choices=["mono", "poly"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--only", default="", help="variants whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    size, pictures = (64, 40) if options.quick else (224, None)
    seeds = options.seeds[:1] if options.quick else options.seeds
    steps = 2 if options.quick else options.steps
    facts = machine()
    print(in_words(facts), flush=True)
    rows: list[Row] = []
    for name in options.data:
        config = settings_of("reflect", "object", {"light": "evened"}).config
        task = solar_cells(name)
        train_on = task.train.subset(range(len(task.train))[:pictures])
        # From both ends: normal pictures come first.
        ends = np.arange(len(task.test.labels))
        ends = ends if pictures is None else np.concatenate([ends[:20], ends[-20:]])
        labels = task.test.labels[ends]
        test_on = task.test.source.subset(ends)
        seen: dict[str, tuple[list[Grid], list[Grid]]] = {}
        n = len(train_on)
        for variant, what in VARIANTS.items():
            if options.only not in variant:
                continue
            own = replace(config, detail="", **what.config)
            method = Reflect(own, InputShape(1, size, size)).eval()
            if own.light not in seen:
                seen[own.light] = (
                    features(method, train_on, size),
                    features(method, test_on, size),
                )
            known, new = seen[own.light]
            runs = []
            for seed in seeds:
                part = split(train_on.names, calibration=n // 5, validation=0, seed=seed).train
                train = [grid[torch.from_numpy(part)] for grid in known]
                for statistics, grid in zip(method.distances.grids, train, strict=True):
                    statistics.standardise(grid, True)
                test = [
                    statistics.standardised(grid)
                    for statistics, grid in zip(method.distances.grids, new, strict=True)
                ]
                runs.append(
                    auroc(method, what, {"train": train, "test": test}, labels, steps, seed)
                )
            aurocs = [round(a, 4) for a, _ in runs]
            rows.append(
                Row(
                    data=name,
                    variant=variant,
                    aurocs=aurocs,
                    seconds=round(float(np.mean([s for _, s in runs])), 1),
                )
            )
            print(json.dumps(asdict(rows[-1])), flush=True)
    print(
        table(
            ("data", "variant", "AUROC", "training, s"),
            [
                (
                    r.data,
                    r.variant,
                    tables.spread(r.aurocs),
                    f"{r.seconds:.0f}",
                )
                for r in rows
            ],
        )
    )
    if options.json:
        write_json(
            options.json,
            {
                "machine": facts,
                "steps": steps,
                "seeds": seeds,
                "rows": [asdict(r) for r in rows],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
