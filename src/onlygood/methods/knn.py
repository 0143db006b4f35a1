"""Nearest neighbours on pixels: the distance of a picture from the most similar normal ones.

Ramaswamy, Rastogi, Shim: Efficient Algorithms for Mining Outliers from Large Data Sets. SIGMOD
2000 (distance to the k-th neighbour). Angiulli, Pizzuti: Fast Outlier Detection in High
Dimensional Spaces. PKDD 2002 (sum over k neighbours).

Departures from the paper:
- Both find outliers among the pictures they are given; here the neighbours of a new picture are
  looked for among normal ones.
- The mean of k distances instead of their sum.

Departures from the authors' code: there is none; all distances are computed, without an index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from onlygood.core.method import InputShape, Method
from onlygood.core.settings import ONE_OR_MORE, Preset, Settings, number
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.networks.memory import Memory, sample
from onlygood.networks.pixels import pixels


@dataclass(frozen=True, kw_only=True)
class KNNConfig(Settings):
    """Settings of nearest neighbours."""

    k: int = number(5, ONE_OR_MORE)
    """Neighbours that count; fewer where fewer pictures are kept."""
    of: Literal["mean", "kth"] = "mean"
    """Which distance is the score: the mean of all k, or that of the k-th alone."""
    limit: int = number(10_000, ONE_OR_MORE)
    """Training pictures that are kept, at most; of more, a random sample."""


@final
class KNN(Method):
    """Keeps the training pictures; what resembles none of them is anomalous."""

    config_class = KNNConfig
    localizes = False
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="whole pictures, grey or colour", view={"size": 64}),
    }

    def __init__(self, config: KNNConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        self.memory = Memory(shape.channels * shape.height * shape.width)

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="keeping", before=self.keep)]

    def keep(self, images: Batches) -> None:
        """Keep the pixels of the training images; fills the memory."""
        self.memory.store(sample(map(pixels, images), self.config.limit))

    def score(self, x: Images) -> Scores:
        """Euclidean distance from the nearest training images, over all pixels in [0, 1]."""
        distances = self.memory.nearest(pixels(x), self.config.k)
        chosen = distances.mean(1) if self.config.of == "mean" else distances[:, -1]
        return Scores.weighted(distance=(1.0, chosen))
