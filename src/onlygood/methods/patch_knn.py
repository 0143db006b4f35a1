"""Nearest neighbours of frozen features: how unlike all normal patches a patch is.

Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly
Detection (PatchCore). CVPR 2022, arXiv:2106.08265.

Departures from the paper:
- The backbone is EfficientNet-Lite0 and not a Wide ResNet-50-2: its weights come with a package,
  and it is meant for processors.
- Patches are kept at random; `keep=coreset` chooses them as the paper does, greedily, but from ten
  times as many that were drawn at random, without projecting them, and a number instead of a share.
- The score is the mean over the most unusual hundredth of positions, and the maximum is not
  weighed by how lonely its neighbour is; `top=0` gives the plain maximum.
- Features are averaged over 3 x 3 positions, at edges over those that are there.
- Distances are told in units of what is usual at their position: next to an edge the network sees
  its own padding, and all distances are larger.

Departures from the authors' code: it also averages over channels until 1024 are left; here there
are 152.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from onlygood.core.method import InputShape, Method
from onlygood.core.settings import ONE_OR_MORE, SHARE, Preset, Settings, number
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.networks.memory import Memory, coreset, sample
from onlygood.networks.patches import PatchFeatures, Usual, enlarged, top_mean

POOL = 10
"""Patches to choose a coreset from, for each that is kept."""
LOOKED_AT = 64
"""Training pictures that usual distances are taken from, at most."""


@dataclass(frozen=True, kw_only=True)
class PatchKNNConfig(Settings):
    """Settings of nearest neighbours on features."""

    backbone: str = "efficientnet-lite0"
    """Frozen network; see `onlygood.networks.backbones` for others."""
    layers: tuple[str, ...] = ("stride8", "stride16")
    """Where its features are taken; the finer one has the grid."""
    limit: int = number(10_000, ONE_OR_MORE)
    """Patches that are kept, at most."""
    keep: Literal["random", "coreset"] = "random"
    """Which patches: a random sample, or one that leaves none far away, which takes minutes."""
    top: float = number(0.01, SHARE)
    """Share of positions, the most unusual ones, whose mean is the score; 0: the maximum."""


@final
class PatchKNN(Method):
    """Keeps patches of the training pictures; those that resemble none of them are anomalous."""

    config_class = PatchKNNConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="parts and textures, grey or colour", view={"size": 224}),
        "coreset": Preset(
            summary="the same, with patches chosen as in the paper",
            config={"keep": "coreset"},
            view={"size": 224},
        ),
    }

    def __init__(self, config: PatchKNNConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.features = PatchFeatures(c.backbone, c.layers, averaged=True)
        self.memory = Memory(self.features.channels)
        self.usual = Usual()

    def stages(self) -> Sequence[Stage]:
        """Two stages without updates: each sees the training images once."""
        return [Stage(name="keeping", before=self.keep), Stage(name="usual", before=self.gauge)]

    def keep(self, images: Batches) -> None:
        """Keep patches of the training images; fills the memory."""
        c = self.config
        patches = (self.features(x).flatten(0, 2) for x in images)
        if c.keep == "random":
            self.memory.store(sample(patches, c.limit))
        else:
            self.memory.store(coreset(sample(patches, POOL * c.limit), c.limit))

    def gauge(self, images: Batches) -> None:
        """Take the distance that is usual at each position.

        Each half of some training images is compared with the other: within an image, patches
        overlap, so that distances would be too small.
        """
        some = [self.features(x) for x in sample(images, LOOKED_AT).split(1)]
        found = []
        for half in (0, 1):
            others = torch.cat(some[1 - half :: 2] or some)
            memory = Memory(self.features.channels)
            memory.store(sample([others.flatten(0, 2)], self.config.limit))
            for features in some[half::2]:
                nearest = memory.nearest(features.flatten(0, 2), 1)
                found.append(nearest.view(features.shape[1:3]))
        self.usual.store(torch.stack(found).sum(0), len(found))

    def score(self, x: Images) -> Scores:
        """Mean over the top positions of the distance from the nearest kept patch.

        Euclidean, and in units of what is usual at each position.
        """
        features = self.features(x)
        nearest = self.memory.nearest(features.flatten(0, 2), 1)
        distances = self.usual(nearest.view(features.shape[:3]))
        net, size = self.features.backbone, x.shape[2:]
        return Scores.weighted(
            map=enlarged(distances, *size, stride=net.strides[0], before=net.pads_before),
            distance=(1.0, top_mean(distances, self.config.top)),
        )
