"""A network that is never trained, as a giver of feature maps, and their standardisation."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onlygood.core.errors import ConfigError, DataError, ModelFileError, ShapeError, alternatives
from onlygood.core.shapes import Images
from onlygood.networks.sharing import SHARED

FeatureMaps = Float[Tensor, "B _ _ _"]
"""`(B, c, h, w)`; c, h and w differ from layer to layer."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue, in [0, 1], that torchvision trains with."""

SMALLEST_SHARE = 0.01
"""Of the mean standard deviation of all channels: no channel is divided by less."""


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


def picked(name: str, layers: Sequence[str], known: Mapping[str, Layer]) -> dict[str, Layer]:
    """The layers asked for, finest first."""
    for layer in layers:
        if layer not in known:
            raise ConfigError(f'{name} has no layer "{layer}"{alternatives(layer, known)}')
    return {key: layer for key, layer in known.items() if key in layers}


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
