"""The mean picture: the floor under all methods, as nothing is learnt but one picture.

Distance of an image, pixel by pixel, from the mean of the training images. It is the case without
components of the Q statistic: Jackson and Mudholkar, Control Procedures for Residuals Associated
With Principal Component Analysis, Technometrics 21(3), 1979.

Departures from the paper: no principal axes; absolute differences, as most of the methods beside it
take them, with squared ones as an option, and so the median of each pixel.
Departures from the authors' code: there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method
from onlygood.core.settings import Preset, Settings
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.losses.distances import l1_map, l1_sum, l2_map, l2_sum
from onlygood.networks.memory import sample
from onlygood.networks.pixels import pixels

DISTANCES = {"l1": (l1_sum, l1_map), "l2": (l2_sum, l2_map)}

MEDIAN_OF = 10_000
"""Images of which a median is taken, at most; of more, a random sample."""


@dataclass(frozen=True, kw_only=True)
class MeanPictureConfig(Settings):
    """Settings of the mean picture."""

    distance: Literal["l1", "l2"] = "l1"
    """Absolute or squared differences, summed over pixels."""
    centre: Literal["mean", "median"] = "mean"
    """What is taken over the training pictures at each pixel."""


@final
class MeanPicture(Method):
    """Keeps one picture; what is far from it is anomalous."""

    config_class = MeanPictureConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="whole pictures, grey or colour", view={"size": 64}),
        "small": Preset(summary="the same, coarser", view={"size": 32}),
        "texture": Preset(summary="tiles of textures", view={"size": 512, "tile": 32}),
    }
    picture: Tensor

    def __init__(self, config: MeanPictureConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        self.register_buffer("picture", torch.zeros(*shape))

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="averaging", before=self.average)]

    def average(self, images: Batches) -> None:
        """Mean or median of each pixel over the training images; fills the buffer."""
        if self.config.centre == "median":
            # Not torch's, which takes the lower one of two middle values.
            middle = np.median(sample(map(pixels, images), MEDIAN_OF).cpu().numpy(), 0)
            self.picture.copy_(torch.from_numpy(middle).view_as(self.picture))
            return
        count, total = 0, torch.zeros_like(self.picture, dtype=torch.float64)
        for batch in images:
            count += len(batch)
            total += batch.double().sum(0)
        self.picture.copy_(total / count)

    def score(self, x: Images) -> Scores:
        """Sum of differences from the kept picture; of each pixel as the map."""
        of_image, of_pixel = DISTANCES[self.config.distance]
        kept = self.picture.expand_as(x)
        return Scores.weighted(map=of_pixel(x, kept), pixels=(1.0, of_image(x, kept)))
