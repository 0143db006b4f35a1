"""Feature maps that frozen backbones computed before, for all who ask again.

Several methods and seeds that are tried on the same pictures ask one backbone for the same features
again and again. Within `sharing` they are computed once.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import torch
from torch import Tensor

from onlygood.core.shapes import Images

ROOM = 2**30
"""Bytes that are kept, at most; the longest unused leave first."""


@final
class SharedFeatures:
    """Maps by weights, layer and image: an image may come back in another batch."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.kept: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()
        self.taken = 0
        """Bytes of all that is kept."""

    def maps(
        self,
        weights: str,
        layers: Sequence[str],
        x: Images,
        compute: Callable[[Images], Sequence[Tensor]],
    ) -> tuple[Tensor, ...]:
        """One map of each layer for a batch; `compute` sees the images that are new.

        Args:
            weights: checksum of the backbone's weights.
            layers: names of the layers, in the order that `compute` gives their maps.
            x: images `(B, C, H, W)`.
            compute: the backbone itself.
        """
        # Under autocast the same weights give other numbers.
        half = torch.is_autocast_enabled(x.device.type)
        images = [(weights, str(x.device), half, tuple(image.shape), _digest(image)) for image in x]
        new = [i for i, key in enumerate(images) if any((*key, n) not in self.kept for n in layers)]
        if new:
            for name, maps in zip(layers, compute(x[new]), strict=True):
                for i, one in zip(new, maps, strict=True):
                    self._keep((*images[i], name), one)
        batch = tuple(torch.stack([self._newest((*key, n)) for key in images]) for n in layers)
        # Not before: a batch that is larger than the room is answered, too.
        self._make_room()
        return batch

    def _keep(self, key: tuple[object, ...], maps: Tensor) -> None:
        if key not in self.kept:
            self.kept[key] = maps.clone()
            self.taken += maps.nbytes

    def _newest(self, key: tuple[object, ...]) -> Tensor:
        self.kept.move_to_end(key)
        return self.kept[key]

    def _make_room(self) -> None:
        while self.taken > self.room:
            _, oldest = self.kept.popitem(last=False)
            self.taken -= oldest.nbytes


SHARED: ContextVar[SharedFeatures | None] = ContextVar("shared features", default=None)
"""What backbones ask first; None: they always compute."""


@contextmanager
def sharing(features: SharedFeatures | None) -> Iterator[None]:
    """Within it, frozen backbones take what they computed before from `features`.

    Where gradients flow to the images, they compute as ever. A figure may differ in its last digit,
    as images come in other batches; the time that is saved belongs to nobody, so do not measure it.
    """
    token = SHARED.set(features)
    try:
        yield
    finally:
        SHARED.reset(token)


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.detach().cpu().contiguous().numpy().data, digest_size=16).digest()
