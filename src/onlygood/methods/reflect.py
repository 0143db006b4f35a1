"""Reflect: what a short code cannot give back of frozen features, whitened where it lies.

A method of ours. From the papers of this package come the encoder E and the generator G between
what is seen and a code, here between the features f of an image and the code, and their
consistency: of all linear pairs the one that gives f back best, E = V and G = V^T with orthonormal
rows in V, has E(G(z)) = z for every code z, and G(E(f)) = f for all f that G can make. Of how a
part lies, and that is what differs most between pictures of one, V need not learn: where it moves a
little, f changes along tangents that follow from the mean of f alone, and these are rows of V from
the start. What is left of f is compared as PIAD does, standardised, but with the correlations
between channels taken into account: Mahalanobis' distance at each position. Where parts are not
aligned, positions are of kinds of ground instead, and the nearest kind counts.

Sources: Baldi and Hornik 1989, Neural Networks and Principal Component Analysis, Neural Networks
2(1) (V is the optimum of linear autoencoders); Simard et al. 1993, Efficient Pattern Recognition
Using a New Transformation Distance, NIPS 5 (tangents); Defard et al. 2021, arXiv:2011.08785 (a
Gaussian of frozen features for each position); Friedman 1989, Regularized Discriminant Analysis,
JASA 84(405) (covariances that lean on a pooled one).

Departures from the paper: networks beyond the linear pair, a mirrored critic, a penalty on
inconsistent codes, weights by the sizes of gradients, relative distances and distances of the code
are left out, as none of them made it better on all data; docs/frozen.md says by how much.
Departures from the authors' code: there is none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import NOT_NEGATIVE, ONE_OR_MORE, Preset, Range, Settings, number
from onlygood.core.shapes import Batches, Images, PerImage
from onlygood.core.stage import Shared, Stage
from onlygood.core.terms import Scores
from onlygood.networks.backbones import backbone
from onlygood.networks.grids import Distances, Grid, aligned
from onlygood.networks.memory import Sample
from onlygood.networks.patches import Patches, Positions, averages, enlarged

NUMBERS = 2**27
"""Features of training pictures that are held, at most: 256 MiB in 16 bits."""
TINY = 64
"""Pixels of the longer side up to which pictures are drawings of one thing on an empty ground."""
CONTRAST = 0.15
"""Standard deviation of the pixels of every picture that the network sees, about 0.5."""
FAINT = 1 / 255
"""One grey level: contrast of no more is not blown up, and no less counts as unusual light."""
DOUBT = 2.0
"""Over n, added to the regularisation of n pictures: of few, small variances are chance."""
LEAST = 1e-5
"""Of the regularisation: covariances are summed in float32, whose rounding must not exceed it."""


@dataclass(frozen=True, kw_only=True)
class ReflectConfig(Settings):
    """Settings of Reflect."""

    backbone: str = "efficientnet-lite0"
    """Frozen network; see `onlygood.networks.backbones` for others."""
    layers: tuple[str, ...] = ("stride8", "stride16a")
    """Where its features are taken; those of one stride are taken together, as one grid."""
    detail: str = "stride4"
    """A finer layer that sharpens the map; empty: none."""
    averaged: bool = True
    """Replace features by their mean over 3 x 3 positions (at edges, over those that are there)."""
    positions: Literal["auto", "each", "all"] = "auto"
    """Statistics of each position, or one for all; auto: of each where parts are aligned."""
    latent: int = number(16, NOT_NEGATIVE)
    """Entries k of the code beside six of how a part lies, fewer of few pictures; 0: no code."""
    light: Literal["auto", "evened", "kept"] = "auto"
    """Evened: all pictures are equally bright and rich in contrast; auto: those over 64 px."""
    block: int = number(2, ONE_OR_MORE)
    """Side of the squares of positions that share a covariance."""
    prior: float = number(0.4, NOT_NEGATIVE)
    """Pictures, for each channel, that the mean covariance of all positions counts for at each."""
    regularisation: float = number(0.01, Range("1e-5 or more", lambda v: v >= LEAST))
    """Added to the variances of standardised features (epsilon)."""
    kinds: int = number(8, ONE_OR_MORE)
    """Kinds of ground, each with its mean and covariance, where one statistic is for all."""
    worst: int = number(24, ONE_OR_MORE)
    """Positions, the most unusual ones, whose mean is the score."""


@final
class Reflect(Method):
    """A linear encoder and generator of frozen features; what they leave is whitened."""

    config_class = ReflectConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(
            summary="`tiny` for pictures up to 64 px, else `object`", view={"size": 0}
        ),
        "object": Preset(summary="parts and textures, grey or colour", view={"size": 224}),
        "tiny": Preset(summary="pictures of about 28 px", view={"size": 48}),
        "texture": Preset(
            summary="textures, and parts that lie anyhow: one statistic for all positions",
            config={"positions": "all"},
            view={"size": 448},
        ),
    }

    def __init__(self, config: ReflectConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.shape = shape
        self.backbone = backbone(c.backbone, (c.detail, *c.layers) if c.detail else c.layers)
        self.evened = c.light == "evened" or (
            c.light == "auto" and max(shape.height, shape.width) > TINY
        )
        """Whether the network sees all pictures equally bright and rich in contrast."""
        strides = dict(zip(self.backbone.layers, self.backbone.strides, strict=True))
        channels = dict(zip(self.backbone.layers, self.backbone.channels, strict=True))
        layers = [name for name in self.backbone.layers if name in c.layers]
        finest = self.stride = strides[layers[0]]
        if c.detail and strides[c.detail] >= finest:
            raise ConfigError(
                f'detail must be finer than layers, got "{c.detail}" beside "{layers[0]}"; name '
                "another layer, or none: detail="
            )
        grids = [
            Grid(sum(channels[name] for name in group), step=stride // finest)
            for stride, group in groupby(layers, strides.__getitem__)
        ]
        # One for each stride, finest first, and one for light.
        if self.evened:
            grids.append(Grid(2, finest=FAINT))
        self.distances = Distances(
            grids,
            latent=c.latent,
            block=c.block,
            kinds=c.kinds,
            prior=c.prior,
            regularisation=c.regularisation,
            doubt=DOUBT,
            before=self.backbone.pads_before,
        )
        """What the score is made of."""
        self.detail: Distances | None = None
        """What sharpens the map: a code would be of the whole picture, so it has none."""
        if c.detail:
            # Squares of the same size on the picture.
            block = c.block * finest // strides[c.detail]
            self.detail = Distances(
                [Grid(channels[c.detail])],
                latent=0,
                block=block,
                kinds=c.kinds,
                prior=c.prior,
                regularisation=c.regularisation,
            )
        numbers = sum(
            math.ceil(shape.height / stride) * math.ceil(shape.width / stride) * channels[name]
            for name, stride in strides.items()
        )
        self.room = max(2, NUMBERS // numbers)
        """Training pictures whose features are held, at most."""

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="statistics", before=Shared(self.measure, self.learn))]

    def features(self, x: Images) -> tuple[list[Patches], list[Patches]]:
        """Features f of images: a grid for each stride, finest first, and those of `detail`.

        Where light is evened, what it was is the last grid, of one position: mean and standard
        deviation of all pixels.
        """
        light: list[Patches] = []
        if self.evened:
            mean = whole_mean(x)
            std = whole_mean((x - mean).square()).sqrt()
            light = [torch.cat([mean, std], 3)]
            x = 0.5 + CONTRAST * (x - mean) / (std + FAINT)
        found = self.backbone(x)
        if self.config.averaged:
            found = tuple(map(averages, found))
        maps = zip(self.backbone.strides, found, strict=True)
        grids = [
            torch.cat([features for _, features in group], 1).permute(0, 2, 3, 1)
            for _, group in groupby(maps, key=lambda layer: layer[0])
        ]
        first = 1 if self.detail else 0
        # As those that are learnt from are held: where all is alike, their difference is all.
        grids, light = ([grid.half().float() for grid in part] for part in (grids, light))
        return grids[first:] + light, grids[:first]

    def measure(self, images: Batches, first: int) -> Sample:
        """Features of some training images, of which `first` came before these.

        Memory does not grow: of more images than there is room for a random sample counts.
        """
        drawn = Sample(self.room, first)
        for x in images:
            parts = self.features(x)
            flat = torch.cat([grid.flatten(1) for part in parts for grid in part], 1)
            drawn.add(flat.half())
        return drawn

    def learn(self, drawn: Sample) -> None:
        """Learn what the features of normal images are like; fills the buffers.

        Raises:
            DataError: they are of fewer than two images.
        """
        kept = drawn.taken()
        if len(kept) < 2:
            raise DataError(
                f"covariances need at least 2 training pictures, got {len(kept)}; give more"
            )
        # All that follows happens in place: no second array is as large.
        flat = kept.float()
        del kept
        nothing = flat.new_zeros(1, *self.shape)
        forms = [[grid.shape[1:] for grid in part] for part in self.features(nothing)]
        coarse, fine = flat.split([sum(form.numel() for form in part) for part in forms], 1)
        finest = coarse[:, : forms[0][0].numel()].unflatten(1, forms[0][0])
        c = self.config
        each = c.positions == "each" or (c.positions == "auto" and aligned(finest))
        self.distances.learn(coarse, forms[0], each)
        if self.detail:
            self.detail.learn(fine, forms[1], each)

    def score(self, x: Images) -> Scores:
        """Mean over the worst positions p of `||W_p (f - G(E(f)))_p|| / u_p`; f is standardised.

        The map is of both grids, the geometric mean: what one of them finds usual is faint. Where
        ground is of kinds the score is of that, too: there the finer grid knows small defects.
        """
        coarse, fine = self.features(x)
        distances = self.distances(coarse)
        size, before, finest = x.shape[2:], self.backbone.pads_before, self.backbone.strides[0]
        found = enlarged(distances, *size, stride=self.stride, before=before)
        if self.detail:
            detail = self.detail(fine)
            found = (found * enlarged(detail, *size, stride=finest, before=before)).sqrt()
            if self.distances.of_kinds:
                step = self.stride // finest
                on_fine = enlarged(distances, *detail.shape[1:], stride=step, before=before)
                distances = (on_fine * detail).sqrt()
        return Scores.weighted(map=found, distance=(1.0, self.pooled(distances)))

    def pooled(self, distances: Positions) -> PerImage:
        """Mean over the worst positions."""
        flat = distances.flatten(1)
        return flat.topk(min(self.config.worst, flat.shape[1])).values.mean(1)


def whole_mean(x: Images) -> Float[Tensor, "B 1 1 1"]:
    """The mean of each whole image, `(B, 1, 1, 1)`.

    One axis at a time: ONNX Runtime adds up numbers one after the other, and of all of a large
    picture the last digits of such a sum are lost, by which every feature would be moved.
    """
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)
