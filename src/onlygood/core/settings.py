"""Settings that belong to no method: how pictures reach it, and how long it trains.

Plain data without torch, so that the command line can read it fast.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, final

from onlygood.core.errors import ConfigError

HIGHEST_SEED = 2**63 - 1
"""What generators of torch take."""

LARGEST_SIZE = 2**14
"""Pixels a side; one RGB picture of it takes 3 GiB as network input."""

WIDEST = 64.0
"""By which the sides of what a view sees may differ."""

STEP = 8
"""Pixels by which the sides of what a view sees differ, or a multiple: the finest usual stride."""

NARROWEST = 16
"""Pixels of the shorter side below which an aspect is not kept: frozen networks need as many."""


@final
@dataclass(frozen=True)
class Range:
    """Which numbers a field takes."""

    words: str
    """What holds for them: `width must be {words}`."""
    holds: Callable[[float], bool]


ONE_OR_MORE = Range("1 or more", lambda v: v >= 1)
TWO_OR_MORE = Range("2 or more", lambda v: v >= 2)
NOT_NEGATIVE = Range("0 or more", lambda v: v >= 0)
POSITIVE = Range("more than 0", lambda v: v > 0)
SHARE = Range("in [0, 1]", lambda v: 0 <= v <= 1)
BELOW_ONE = Range("in [0, 1)", lambda v: 0 <= v < 1)
PART = Range("in (0, 1]", lambda v: 0 < v <= 1)
BETWEEN = Range("in (0, 1)", lambda v: 0 < v < 1)
ASPECT = Range(
    f"0 (as the pictures) or in [1/{WIDEST:g}, {WIDEST:g}]",
    lambda v: v == 0 or 1 / WIDEST <= v <= WIDEST,
)


def number(default: Any, within: Range) -> Any:
    """A field of numbers, or of tuples of them, that `Settings` keeps in a range."""
    return field(default=default, metadata={"within": within})


def range_of(f: Field[Any]) -> Range | None:
    """The range that `number` gave a field."""
    return f.metadata.get("within")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all dataclasses of settings are: frozen, and with numbers in their ranges."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range.

        Raises:
            ConfigError: a field is.
        """
        for f in fields(self):
            value, within = getattr(self, f.name), range_of(f)
            numbers = value if isinstance(value, tuple) else (value,)
            if within is not None and not all(map(within.holds, numbers)):
                raise ConfigError(f"{f.name} must be {within.words}, got {value}")


@dataclass(frozen=True, kw_only=True)
class View(Settings):
    """How pictures reach a method, in training and in scoring alike."""

    size: int = number(128, Range(f"{LARGEST_SIZE} or less", lambda v: v <= LARGEST_SIZE))
    """Longer side in pixels of the resized picture (bilinear); 0: 48 for up to 64 px, else 224."""
    aspect: float = number(0.0, ASPECT)
    """Width by height of the resized picture; 0: as most pictures have; 1: squeezed to a square."""
    pad: Literal["auto", "square", "none"] = "auto"
    """What is not square is padded to a square (letterbox); auto: where networks need squares."""
    roi: tuple[float, float, float, float] = number((0.0, 0.0, 1.0, 1.0), SHARE)
    """Left, top, right, bottom of what is cut out of a picture first, as shares of its sides."""
    crop: int = 0
    """Side in pixels of the square that is cut out of the centre of that; 0: none is."""
    ignore: str = ""
    """Mask of pixels that never count, a PNG in base64; from `--ignore FILE` of `onlygood fit`."""
    align: str = ""
    """Picture all are laid like, PNG in base64 (`--align`); auto: the most usual; empty: none."""
    channels: int = 0
    """1: grey; 3: RGB (grey pictures are repeated); 0: grey if the pictures are, else RGB."""
    tile: int = 0
    """Side in pixels of the tiles a method sees; 0: the whole picture. Trains on random crops."""
    overlap: float = 0.0
    """Share of a tile's side that it shares with its neighbour when scoring, in [0, 0.9]."""
    pool: Literal["max", "mean"] = "max"
    """How the scores of tiles become the score of the picture."""
    rotate: tuple[float, float] = (0.0, 0.0)
    """Range in degrees, clockwise, of a random rotation in training; edges are repeated."""
    flip: bool = False
    """Random horizontal mirroring in training."""
    smooth: float = number(0.015, SHARE)
    """Standard deviation of the Gaussian that smooths heat maps, as a share of the side; 0: no."""

    def __post_init__(self) -> None:
        """Refuse what no machine could do.

        Raises:
            ConfigError: a field is beyond its limits.
        """
        super().__post_init__()
        left, top, right, bottom = self.roi
        if not (left < right and top < bottom):
            raise ConfigError(
                f"roi is left, top, right, bottom, from the upper left corner, got {self.roi}; for "
                "example roi=0,0.25,1,0.75"
            )
        if self.crop and self.aspect not in (0.0, 1.0):
            raise ConfigError(
                f"crop={self.crop} cuts out a square, whose aspect is 1, not {self.aspect:g}; "
                "leave aspect out, or cut out another form by roi"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the resized picture: the longer side is `size`.

        The shorter one is as near to `aspect` as steps of 8 pixels allow, and 16 at least.
        """
        ratio = self.aspect or 1.0
        longer = max(ratio, 1 / ratio)
        # In whole steps, so that the grids of frozen networks end where the picture does.
        shorter = self.size - STEP * math.ceil((self.size - self.size / longer) / STEP - 0.5)
        shorter = max(shorter, min(self.size, NARROWEST))
        return (shorter, self.size) if ratio > 1 else (self.size, shorter)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width with the padding, which is all around: what is kept, and tiled."""
        least = self.size if self.pad == "square" else self.tile
        return max(self.shape[0], least), max(self.shape[1], least)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels of what the networks see: a tile, or the whole picture."""
        return (self.tile, self.tile) if self.tile else self.canvas


@dataclass(frozen=True, kw_only=True)
class Budget(Settings):
    """How long to train: until the first of these is used up."""

    steps: int = number(0, NOT_NEGATIVE)
    """Budget in steps (one run of a stage's updates); 0: no such budget."""
    images: int = number(0, NOT_NEGATIVE)
    """Budget in images consumed by updates; 0: no such budget."""
    epochs: int = number(0, NOT_NEGATIVE)
    """Budget in passes over the training pictures; 0: no such budget."""
    minutes: float = number(0.0, NOT_NEGATIVE)
    """Budget in minutes of training time; 0: no such budget."""

    @property
    def ends(self) -> bool:
        """Whether there is any."""
        return bool(self.steps or self.images or self.epochs or self.minutes)


@dataclass(frozen=True, kw_only=True)
class Training(Budget):
    """How long and how to train. The first budget that is used up ends the run."""

    batch_size: int = number(32, ONE_OR_MORE)
    """Images of one update, summed over all processes."""
    decay_from: float = number(1.0, SHARE)
    """Share of each stage's budget from which all learning rates fall to 0 at its end; 1: none."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 if hardware has it, or float32. On a GPU small networks are faster in float32."""
    checkpoint_every: int = number(100, ONE_OR_MORE)
    """Steps between two checkpoints; written when there is a run folder, and when a stage ends."""
    log_every: int = number(20, ONE_OR_MORE)
    """Steps between two lines of the health log."""
    validate_every: int = number(200, ONE_OR_MORE)
    """Steps between two looks at the validation pictures (normal ones, never used to select)."""
    cache_gib: float = 1.0
    """Memory for decoded training pictures; larger data stream from disk."""

    @property
    def budget(self) -> Budget:
        """How long, without how."""
        return Budget(**{f.name: getattr(self, f.name) for f in fields(Budget)})


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Fields that most methods of networks have; one with another default names it anew."""

    width: int = number(64, ONE_OR_MORE)
    """Channels behind the first halving of the side."""
    latent: int = number(128, ONE_OR_MORE)
    """Size of the code z."""
    lr: float = number(2e-4, POSITIVE)
    """Learning rate of all networks."""
    betas: tuple[float, float] = number((0.5, 0.999), BELOW_ONE)
    """Adam's betas of all networks."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named bundle of settings, as published or as measured by us."""

    summary: str
    config: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def on_a_cpu(
    config: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
    *,
    steps: int = 0,
) -> dict[str, Preset]:
    """The presets of ours that every method of networks has: minutes on a processor.

    Args:
        config: Settings of the method that go with them.
        objects: Further ones, for objects alone.
        steps: Budget of `small`, which then ends after as many whatever else runs; 0: minutes.
    """
    training: dict[str, Any] = {"minutes": 10, "decay_from": 0.3}
    of_objects = {**(config or {}), **(objects or {})}
    return {
        "default": Preset(
            summary="objects on a CPU in minutes (ours)",
            config=of_objects,
            view={"size": 64},
            training=training,
        ),
        "small": Preset(
            summary="the same, coarser and faster (ours)",
            config=of_objects,
            view={"size": 32},
            training={"steps": steps, "decay_from": 0.3} if steps else training,
        ),
        "texture": Preset(
            summary="textures on a CPU in minutes (ours): 64 px tiles of 512 px",
            config=config or {},
            view={"size": 512, "tile": 64, "rotate": (0.0, 45.0)},
            training=training,
        ),
    }
