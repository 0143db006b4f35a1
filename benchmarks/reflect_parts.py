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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from measure import machine, over_seeds, table, write_json
from onlygood.core.method import InputShape
from onlygood.data.loading import iterate, threads
from onlygood.data.preprocess import to_bytes, to_images
from onlygood.data.source import ImageSource
from onlygood.data.split import split
from onlygood.evaluation.protocols import solar_cells
from onlygood.learning import settings_of
from onlygood.losses.adversarial import GAMES
from onlygood.methods.reflect import PER_AXIS, Reflect, Rows

BATCH = 32
WIDTH = 64
LR = 5e-4
GAME = GAMES["hinge"]
Code = Tensor


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
    latent: int = 16
    prior: float | None = None
    """None: as reflect has it."""
    order: Literal["code, whiten", "code", "whiten, code"] = "code, whiten"
    """What is done to the features, and in which order."""
    two_sided: bool = False
    """How far the score is from that of training pictures, both ways, as AMA's A-score."""
    code: float = 0.0
    """Weight of Mahalanobis' distance of the code, with both parts divided by their training
    means."""


VARIANTS: Mapping[str, Variant] = {
    "reflect: linear pair": Variant(),
    "no code": Variant(latent=0),
    "no code, no prior: a Gaussian at each position": Variant(latent=0, prior=0.0),
    "PCA of the whole map, 100 axes": Variant(latent=100, order="code"),
    "whitened, then PCA of the whole map, 100 axes": Variant(latent=100, order="whiten, code"),
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
        return g.flatten(1) @ self.axes.T + self.encoder(g)

    def generate(self, z: Code) -> Tensor:
        """G."""
        return (z @ self.made).view(-1, *self.shape) + self.generator(z)


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
        return critic(torch.cat([x, y], 1))

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
                sizes = [
                    torch.cat(
                        [
                            d.flatten()
                            for d in torch.autograd.grad(
                                part, list(pair.parameters()), retain_graph=True, allow_unused=True
                            )
                            if d is not None
                        ]
                    ).std()
                    for part in (loss, adversarial)
                ]
                weight = float(sizes[0] / sizes[1])
            loss = loss + weight * adversarial
        step(optimizers[0], loss)
    return pair.eval()


def joined(rows: Sequence[Rows], sides: Sequence[int]) -> Tensor:
    """All grids as one, on the coarsest: `(n, c, side, side)`."""
    maps = [r.mT.unflatten(2, (s, s)) for r, s in zip(rows, sides, strict=True)]
    return torch.cat(
        [F.pixel_unshuffle(m, s // sides[-1]) for m, s in zip(maps, sides, strict=True)], 1
    )


def parted(g: Tensor, like: Sequence[Rows], sides: Sequence[int]) -> list[Rows]:
    """The opposite of `joined`."""
    factors = [s // sides[-1] for s in sides]
    counts = [r.shape[2] * f**2 for r, f in zip(like, factors, strict=True)]
    maps = g.split(counts, 1)
    return [F.pixel_shuffle(m, f).flatten(2).mT for m, f in zip(maps, factors, strict=True)]


def auroc(
    method: Reflect,
    variant: Variant,
    data: Mapping[str, list[Rows]],
    sides: Sequence[int],
    labels: np.ndarray,
    steps: int,
    seed: int,
) -> tuple[float, float]:
    """Of one run, and the seconds that it trained for."""
    start = time.perf_counter()
    c = method.config
    prior = c.prior if variant.prior is None else variant.prior

    def whiten(rows: Sequence[Rows]) -> None:
        for grid, own in zip(method.grids, rows, strict=True):
            grid.whiten(own, True, prior, c.regularisation)

    if variant.order == "whiten, code":
        whiten(data["train"])
        data = {
            part: [
                (grid.whitening.rows @ own.permute(1, 2, 0)).permute(2, 0, 1)
                for grid, own in zip(method.grids, rows, strict=True)
            ]
            for part, rows in data.items()
        }
    train = data["train"]
    k = min(variant.latent, len(train[0]) // PER_AXIS)
    whole = torch.cat([own.flatten(1) for own in train], 1)
    method.encode(whole, [own[0].numel() for own in train], k)
    axes = torch.cat(
        [
            grid.axes.rows.view(k, *r.shape[1:]).flatten(1)
            for grid, r in zip(method.grids, train, strict=True)
        ],
        1,
    )
    rest: dict[str, list[Rows]] = {}
    codes = {
        part: torch.cat([r.flatten(1) for r in rows], 1) @ axes.T for part, rows in data.items()
    }
    if variant.networks:
        # The axes, in the order in which the joined grid has its entries.
        shaped = joined(
            [
                a.view(k, *r.shape[1:])
                for a, r in zip(axes.split([r[0].numel() for r in train], 1), train, strict=True)
            ],
            sides,
        ).flatten(1)
        pair = trained(joined(train, sides), shaped, variant, steps, seed)
        with torch.no_grad():
            for part, rows in data.items():
                g = joined(rows, sides)
                left = torch.cat([x - pair.generate(pair.encode(x)) for x in g.split(64)])
                rest[part] = parted(left, rows, sides)
    else:
        for part, rows in data.items():
            rest[part] = [
                r - grid.generated(codes[part], r)
                for grid, r in zip(method.grids, rows, strict=True)
            ]
    seconds = time.perf_counter() - start
    if variant.order == "code, whiten":
        whiten(rest["train"])
    else:  # in units of what is usually left at each position
        for grid, own in zip(method.grids, rest["train"], strict=True):
            usual = own.square().mean((0, 2)).sqrt()
            grid.whitening.store(torch.eye(own.shape[2]) / usual[:, None, None])
    sizes = [(side, side) for side in sides]
    score = {part: method.pooled(method.distances(r, sizes)) for part, r in rest.items()}
    found = score["test"]
    if variant.two_sided:
        found = (found - score["train"].mean()).abs() / score["train"].std()
    if variant.code:
        far = {part: (z / codes["train"].std(0)).norm(dim=1) for part, z in codes.items()}
        found = found / score["train"].mean() + variant.code * far["test"] / far["train"].mean()
    return float(roc_auc_score(labels, found.numpy())), seconds


@torch.no_grad()
def features(method: Reflect, source: ImageSource, size: int) -> list[Tensor]:
    batches = []
    for batch in iterate(source, size, 1, BATCH, threads()):
        pictures = [to_bytes(item.pixels) for item in batch if item.pixels is not None]
        maps = method.features(to_images(torch.stack(pictures)))
        batches.append([grid.flatten(1, 2) for grid in maps])
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
    rows: list[Row] = []
    for name in options.data:
        config = settings_of("reflect", "object", None).config
        method = Reflect(config, InputShape(1, size, size)).eval()
        task = solar_cells(name)
        train_on = task.train.subset(range(len(task.train))[:pictures])
        # From both ends: normal pictures come first.
        ends = np.arange(len(task.test.labels))
        ends = ends if pictures is None else np.concatenate([ends[:20], ends[-20:]])
        labels = task.test.labels[ends]
        sides = [round(size / s) for s in dict.fromkeys(method.backbone.strides)]
        known = features(method, train_on, size)
        new = features(method, task.test.source.subset(ends), size)
        n = len(train_on)
        for variant, what in VARIANTS.items():
            if options.only not in variant:
                continue
            runs = []
            for seed in seeds:
                part = split(train_on.names, calibration=n // 5, validation=0, seed=seed).train
                train = [f[torch.from_numpy(part)] for f in known]
                for grid, own in zip(method.grids, train, strict=True):
                    grid.standardise(own, True)
                test = [grid.standardised(own) for grid, own in zip(method.grids, new, strict=True)]
                data = {"train": train, "test": test}
                runs.append(auroc(method, what, data, sides, labels, steps, seed))
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
                    over_seeds(r.aurocs),
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
                "machine": machine(),
                "steps": steps,
                "seeds": seeds,
                "rows": [asdict(r) for r in rows],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
