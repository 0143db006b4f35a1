"""Shapes and ranges of the tensors that cross a border of the package.

B images, C channels, H rows, W columns, Z latent size. Checked at run time in tests only
(`pytest --jaxtyping-packages=onlygood,beartype.beartype`).
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "B C H W"]
"""Pixel values in [0, 1]."""

Batches = Iterable[Float[Tensor, "_ C H W"]]
"""A pass over images: batches that need not be of one size (the last one seldom is)."""

PerImage = Float[Tensor, " B"]
"""One number for each image of the batch."""

Maps = Float[Tensor, "B H W"]
"""One number for each pixel; larger = more anomalous, raw, in the units of its method."""

Latents = Float[Tensor, "B Z"]
"""Codes: draws of the prior, or what an encoder made of images."""

Scalar = Float[Tensor, ""]
