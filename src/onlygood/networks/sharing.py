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
        found: dict[tuple[object, ...], Tensor] = {}
        if new:
            for name, maps in zip(layers, compute(x[new]), strict=True):
                for i, one in zip(new, maps, strict=True):
                    found[*images[i], name] = one.clone()
        for key in images:
            for name in layers:
                self._use((*key, name), found)
        batch = tuple(torch.stack([found[*key, name] for key in images]) for name in layers)
        self._make_room()
        return batch

    def _use(self, key: tuple[object, ...], found: dict[tuple[object, ...], Tensor]) -> None:
        """Bring what was kept to `found` or the other way round; it is the newest now."""
        if key in self.kept:
            self.kept.move_to_end(key)
            found[key] = self.kept[key]
        else:
            self.kept[key] = found[key]
            self.taken += found[key].nbytes

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
