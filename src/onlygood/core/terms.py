"""Named sums: what an update minimises (`Loss`) and what a method says of images (`Scores`)."""

from typing import NamedTuple

import torch
from torch import Tensor

from onlygood.core.errors import ConfigError
from onlygood.core.shapes import Maps, PerImage, Scalar


class Loss(NamedTuple):
    """What an update minimises: `total`, and its parts for the log.

    `terms` holds the detached batch mean of every part before its weight, by name.
    """

    total: Scalar
    terms: dict[str, Tensor]
    balanced: Scalar | None = None
    """A part that comes on top of `total`, with the weights that a `Balance` finds."""

    @property
    def whole(self) -> Scalar:
        """`total`, and with weight 1 the part that is apart from it."""
        return self.total if self.balanced is None else self.total + self.balanced

    @classmethod
    def weighted(cls, **terms: tuple[float, PerImage | Scalar]) -> "Loss":
        """`sum_k w_k mean_i t_k[i]` over terms given as `name=(weight, one number per image)`.

        A term that only the batch as a whole has, a quantile for example, is a single number, made
        of rows that `Batch.whole` gave.

        A term of weight 0 is logged but adds nothing to `total`, so its gradient is exactly none.
        """
        active = [weight * term.mean() for weight, term in terms.values() if weight != 0]
        if not active:
            raise ConfigError(
                f"all weights are 0, of {', '.join(terms)}: nothing is left to learn from; set "
                "one above 0"
            )
        total = torch.stack(active).sum()
        return cls(total, {name: term.detach().mean() for name, (_, term) in terms.items()})

    def balancing(self, **terms: tuple[float, PerImage]) -> "Loss":
        """The same loss with a part apart, whose weight the update's `Balance` sets."""
        part = Loss.weighted(**terms)
        return self._replace(terms={**self.terms, **part.terms}, balanced=part.total)

    def watching(self, **observations: PerImage | Scalar) -> "Loss":
        """The same loss with further numbers in the log, for example `real=` and `fake=`."""
        seen = {name: value.detach().mean() for name, value in observations.items()}
        return self._replace(terms={**self.terms, **seen})


class Scores(NamedTuple):
    """What a method says of a batch of images; larger = more anomalous, raw, unbounded.

    `terms` are the unweighted parts of `total`, by name. `map` localises, where the method can:
    one forward pass yields both.
    """

    total: PerImage
    terms: dict[str, PerImage]
    map: Maps | None = None

    @classmethod
    def weighted(cls, map: Maps | None = None, **terms: tuple[float, PerImage]) -> "Scores":
        """`total[i] = sum_k w_k t_k[i]` over terms given as `name=(weight, per image)`.

        A term of weight 0 is told but adds nothing, though it be infinite.
        """
        active = [weight * term for weight, term in terms.values() if weight != 0]
        total = torch.stack(active or [0 * term for _, term in terms.values()]).sum(0)
        return cls(total, {name: term for name, (_, term) in terms.items()}, map)
