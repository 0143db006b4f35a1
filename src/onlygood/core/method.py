"""The one abstract base of all methods."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from onlygood.core.settings import Preset
from onlygood.core.shapes import Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores


class InputShape(NamedTuple):
    """What a method's networks see: an image, or a tile of one."""

    channels: int
    height: int
    width: int


class Method(nn.Module, ABC):
    """A method of anomaly detection. Subclasses are final: no method inherits from a method.

    A subclass has `__init__(config, shape)`, which builds networks and nothing else.
    """

    config_class: ClassVar[type[Any]]
    """Frozen keyword-only dataclass; every field has a one-line docstring."""
    presets: ClassVar[Mapping[str, Preset]]
    """Named settings, `default` among them."""
    localizes: ClassVar[bool]
    """Whether `Scores.map` is there."""
    uses_anomalous: ClassVar[bool] = False
    """Whether losses use `Batch.anomalous` where there are known anomalous images."""
    searches: ClassVar[bool] = False
    """Whether `score` takes gradient steps for each image, see `onlygood.networks.search`: then
    training does not watch held-out pictures, and there is no file to export."""
    unexportable: ClassVar[str] = ""
    """What `score` does that no exported file can, such as "draws at random"; empty: nothing."""
    square: ClassVar[bool] = False
    """Whether its networks need square images; then others are padded."""

    @abstractmethod
    def __init__(self, config: Any, shape: InputShape) -> None:
        super().__init__()

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """How to train: stages in order.

        Asked for again as often as somebody wants to know, also before the networks are moved to
        their device; so nothing of it is kept, and tensors are made when a loss needs them.
        """

    @abstractmethod
    def score(self, x: Images) -> Scores:
        """Score each image, in eval mode: deterministic, and independent of the rest of the batch.

        Leaves parameters, buffers and the global random state as they are. Called under
        `torch.no_grad`, never under `torch.inference_mode`, where no method could search.
        """

    def reconstruct(self, x: Images) -> Images | None:
        """Images as the method gives them back, which `score` compares them with; in eval mode.

        Meant to be in [0, 1], but not cut off. None: it gives no images back.
        """
        return None

    def prepare(self, x: Images) -> Tensor | None:
        """What losses need of images that no training changes, `(B, ...)`, as `Batch.prepared`.

        For example the features of a frozen network. Deterministic and without gradients. The
        trainer asks once for all training pictures where these are not augmented and memory allows;
        elsewhere `Batch.prepared` is None, and a loss that needs it asks itself.
        """
        return None

    def frozen(self) -> Sequence[nn.Parameter]:
        """Parameters that no update trains, on purpose."""
        return ()
