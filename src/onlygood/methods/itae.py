"""ITAE: restores colour and orientation, which were erased; it has learnt that for normal pictures.

Huang, Ye, Cao, Li, Zhang, Lu: Inverse-Transform AutoEncoder for Anomaly Detection. 2019,
arXiv:1911.10676; later Attribute Restoration Framework for Anomaly Detection (ARNet), IEEE
Transactions on Multimedia 2020. The network is a U-Net, Ronneberger et al. 2015, arXiv:1505.04597.

Departures from the paper:
- Each picture of a batch is turned by an angle drawn at random.
- Images of any square side that four halvings divide.

Departures from the authors' code (they published none that we know; those of a port):
- The weights are those of the end of training; the port keeps those of the best AUROC on the test.
- The last activation is a tanh, as in the port; its author notes that the figure shows none.
- Pictures are turned as they are; the port turns normalised ones as bytes, which wrap around.

CBiGAN's authors could not reproduce its figures, and leave them out of what they discuss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import SGD, Schedule
from onlygood.core.settings import (
    BELOW_ONE,
    ONE_OR_MORE,
    POSITIVE,
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l1_map, l1_mean, l2_mean, relative_spread
from onlygood.networks.convolutional import bounded

HALVINGS = 4
TURNS = 4
"""By 0, 90, 180 and 270 degrees."""


@dataclass(frozen=True, kw_only=True)
class ITAEConfig(Settings):
    """Settings of ITAE; the defaults are the paper's."""

    width: int = number(64, ONE_OR_MORE)
    """Channels at full size; twice as many after each of three halvings."""
    graying: bool = True
    """Whether colour is erased, too; grey pictures have none."""
    lr: float = number(0.1, POSITIVE)
    """Learning rate of gradient descent, halved at each tenth of the budget."""
    momentum: float = number(0.0, BELOW_ONE)
    """Share of the last step in the next one."""


class UNet(nn.Module):
    """Image to image, `(B, inputs, H, W)` to `(B, outputs, H, W)` in [-1, 1].

    Two convolutions of 3x3 at each size; the side is halved by maxima, and doubled bilinearly.
    """

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        channels = [width * min(2**i, 8) for i in range(HALVINGS + 1)]
        self.down = nn.ModuleList(_double(a, b) for a, b in pairwise([inputs, *channels]))
        # The last halving widens nothing: what comes back is as wide as what it is stacked on.
        self.up = nn.ModuleList(_double(2 * a, b) for a, b in pairwise([*channels[-2::-1], width]))
        self.image = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, x: Images) -> Float[Tensor, "B _ H W"]:
        """Make images of images."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        x = skips.pop()
        for block in self.up:
            larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([skips.pop(), larger], 1))
        return bounded(self.image(x), "tanh")


def _double(inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in ((inputs, outputs), (outputs, outputs)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers)


# An eighth of the width, with steps that add up; rates fall before much is learnt otherwise.
_OURS = {"width": 8, "momentum": 0.9}


@final
class ITAE(Method):
    """A U-Net that restores pictures of which colour and orientation were erased."""

    config_class = ITAEConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=2000),
        "mnist": Preset(
            summary="as in its paper on MNIST and Fashion-MNIST, said the port",
            view={"size": 32},
            training={"epochs": 500, "batch_size": 32},
        ),
        "cifar10": Preset(
            summary="as in its paper on CIFAR-10, said the port",
            view={"size": 32, "flip": True},
            training={"epochs": 125, "batch_size": 32},
        ),
        "mvtec": Preset(
            summary="MVTec AD; the paper's settings are unknown, these are ours",
            view={"size": 256},
            training={"epochs": 300, "batch_size": 16},
        ),
    }
    usual: Tensor

    def __init__(self, config: ITAEConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        if shape.height != shape.width or shape.height % 2**HALVINGS:
            raise ShapeError(
                f"itae needs square images with a side that is a multiple of {2**HALVINGS}, got "
                f"{shape.height} x {shape.width}; set size=32 or size=64"
            )
        self.network = UNet(1 if c.graying else shape.channels, shape.channels, c.width)
        self.register_buffer("usual", torch.ones(TURNS))

    def erased(self, x: Images) -> Float[Tensor, "T B c H W"]:
        """Without colour, turned by each angle; pixels in [-1, 1]."""
        x = x.mean(1, keepdim=True) if self.config.graying else x
        return torch.stack([torch.rot90(symmetric(x), turn, (2, 3)) for turn in range(TURNS)])

    def loss(self, batch: Batch) -> Loss:
        """Squared error of what is restored from one of the turned images."""
        x = symmetric(batch.normal)
        which = (batch.uniforms() * TURNS).long()
        x_hat = self.network(self.erased(batch.normal)[which, torch.arange(len(x))])
        return Loss.weighted(reconstruction=(1.0, l2_mean(x, x_hat))).watching(
            reconstruction_spread=relative_spread(x_hat, x)
        )

    def stages(self) -> Sequence[Stage]:
        """One update, then a look at how well training images are restored from each angle."""
        c = self.config
        halved = Schedule(shares=tuple(tenth / 10 for tenth in range(1, 10)), factor=0.5)
        return [
            Stage(
                name="restoration",
                updates=[
                    Update(
                        name="network",
                        trains=(self.network,),
                        loss=self.loss,
                        optimizer=SGD(lr=c.lr, momentum=c.momentum, schedule=halved),
                    )
                ],
                after=self.measure,
            )
        ]

    def measure(self, images: Batches) -> None:
        """The mean error of training images, for each angle."""
        errors = [
            torch.stack([l1_mean(symmetric(x), x_hat) for x_hat in self.restored(x)], 1)
            for x in images
        ]
        self.usual.copy_(torch.cat(errors).mean(0))

    def restored(self, x: Images) -> list[Images]:
        """What is made of each image turned by each angle; pixels in [-1, 1]."""
        return [self.network(turned) for turned in self.erased(x)]

    def reconstruct(self, x: Images) -> Images:
        """The mean of what is restored from all angles."""
        return unit(torch.stack(self.restored(x)).mean(0))

    def score(self, x: Images) -> Scores:
        """Absolute errors in units of what is usual at each angle, mean over angles."""
        target = symmetric(x)
        maps = [
            l1_map(target, x_hat) / (usual * TURNS * x.shape[1])
            for x_hat, usual in zip(self.restored(x), self.usual, strict=True)
        ]
        total = torch.stack(maps).sum(0)
        return Scores.weighted(map=total, restoration=(1.0, total.flatten(1).mean(1)))
