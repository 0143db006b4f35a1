"""From pictures to a trained network behind its view: what fitting and benching have in common."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from onlygood.core import randomness
from onlygood.core.errors import ConfigError, DataError
from onlygood.core.machine import memory
from onlygood.core.method import InputShape, Method
from onlygood.core.resolving import Resolved, resolve
from onlygood.core.settings import WIDEST, Training, View
from onlygood.core.text import figure, many
from onlygood.data.align import AUTO, misalignment, most_usual
from onlygood.data.decode import Pixels
from onlygood.data.loading import threads
from onlygood.data.mask import mask_of
from onlygood.data.preprocess import check_augmentation, check_view
from onlygood.data.resize import Window, window
from onlygood.data.source import ImageSource, Picture
from onlygood.data.store import PictureStore, Unreadable
from onlygood.detector.raw_scores import BATCH, RawScorer, Survey
from onlygood.registry import listed, method_named, needs
from onlygood.training import History, Trainer, distributed
from onlygood.training.plan import part_of
from onlygood.training.precision import SAFE_ROWS, uses_bf16
from onlygood.training.reporting import Reporter, Silent

LOOK, SHAPES = 32, 9
"""Pictures that settle how all of them are seen; once one of them is in colour, so many do."""
TINY, TINY_SIZE, USUAL_SIZE = 64, 48, 224
"""Up to this side in pixels pictures are seen at the second one, else at the third: backbones were
trained at it, but on tiny pictures, enlarged, they see smooth blots (docs/methods/reflect.md)."""
LAID = 12
"""Pictures of which it is told how differently a thing lies in them."""
FEW, SHRUNK, DARK = 3, 2.0, 64
"""Pictures that tell how much smaller all are made, and how dark they are; from how many times
smaller on that is told, and below which of 256 shades."""
SEEN = 12
"""Pixels of the resized picture: what is less wide is found on smooth grounds alone
(docs/frozen.md)."""


class Learned(NamedTuple):
    """A trained network, and what it was made of."""

    scorer: RawScorer
    history: History
    digest: str
    """SHA-256 of the training pictures, as they were decoded."""
    digests: list[int]
    """The short one of each picture that something was learnt from, in no special order."""
    sketches: list[bytes]
    """Of the first training pictures, in order; see `onlygood.data.sequence`."""
    pieces: list[bytes]
    """Finer ones of fewer; see `onlygood.data.overlap`."""
    precision: str
    """Of training; without steps that of scores, float32."""
    n_train: int
    n_validation: int
    n_anomalous: int
    unreadable: list[Unreadable]


@torch.inference_mode(False)  # What is made in it could not be trained.
def learn(
    method: str,
    resolved: Resolved,
    train: ImageSource,
    *,
    seed: int,
    validation: ImageSource | None = None,
    anomalous: ImageSource | None = None,
    device: torch.device | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Learned:
    """Train a method; pictures that cannot be read are left out and listed.

    Args:
        method: Its name.
        resolved: Complete settings; what is left to the pictures is settled, see `settled`.
        train: Normal pictures to learn from.
        seed: Fixes the weights drawn at first, and all of training.
        validation: Normal pictures to watch training with; they select nothing. A method that
            takes no steps learns from them, too, and one may measure something of them.
        anomalous: Known anomalous pictures, for methods that learn from them.
        device: Where to compute; by default the first GPU, else the processor.
        run_dir: Folder for checkpoints and the log of the run.
        resume: Go on from the checkpoint in `run_dir`.
        reporter: Hears of the progress.

    Raises:
        ConfigError: the method cannot see pictures of this size, or learns from no anomalous ones.
        DataError: none of the training pictures can be read.
        TrainingDiverged: a loss became NaN or ran away.
        TrainingInterrupted: a signal stopped the run after a checkpoint was written.
    """
    reporter = reporter or Silent()
    where = device or distributed.default_device()
    config, training = resolved.config, resolved.training
    cls = method_named(method)
    view = settled(resolved.view, train, cls)
    check_view(view)
    check_augmentation(view)
    if anomalous is not None:
        require_uses_anomalous(method)
    network = new_network(cls, config, view, seed)
    stages = network.stages()
    if validation is not None and not any(stage.updates for stage in stages):
        train, validation = ImageSource([*train, *validation]), None

    def store(source: ImageSource | None) -> PictureStore | None:
        if source is None or not len(source):
            return None
        return PictureStore(
            source,
            view,
            device=where,
            cache_gib=training.cache_gib,
            threads=threads(),
            on_error="skip",
        )

    normal, watching, known = map(store, (train, validation, anomalous))
    if normal is None:
        raise DataError("there are no pictures to train on; give at least one normal picture")
    watched = f", {len(watching)} to watch training" if watching is not None else ""
    reporter.note(
        f"{many(len(normal), 'picture')} to learn from{watched}; "
        f"{_memory(normal, network, training)}"
    )
    _check_room(normal, view)
    reporter.start("reading pictures")
    filled = normal.fill(lambda n: reporter.advance(n / len(train), 0.0, {}))
    reporter.finish()
    unreadable = [p for s in (normal, watching, known) if s for p in s.fill().unreadable]
    measured = (watching,) if any(stage.visits == "held_out" for stage in stages) else ()
    facts = {
        "method": method,
        # As for a model file: other code may make other weights of the same settings.
        "code": {**needs(method), "onlygood": version("onlygood")},
        "config": asdict(config),
        "view": asdict(view),
        "seed": seed,
        "batch_size": training.batch_size,
        "precision": training.precision,
        "decay_from": training.decay_from,
        "pictures": [s.fill().digest if s else "" for s in (normal, known, *measured)],
    }
    bf16 = uses_bf16(training, where)
    if training.precision == "bf16" and not bf16:
        reporter.note(
            f"computed in float32, as second derivatives in bf16 are wrong on this processor with "
            f"fewer than {SAFE_ROWS} pictures of a batch in each process"
        )
    history = Trainer(
        training,
        seed=seed,
        device=where,
        run_dir=run_dir,
        reporter=reporter,
        fingerprint=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
    ).fit(network, normal, validation=watching, anomalous=known, resume=resume)
    return Learned(
        RawScorer(network, view, where),
        history,
        filled.digest,
        [one for s in (normal, *measured, known) if s for one in s.fill().digests],
        filled.sketches,
        filled.pieces,
        "bf16" if history.steps and bf16 else "float32",
        len(normal),
        len(watching or ()),
        len(known or ()),
        unreadable,
    )


def surveyed(scorer: RawScorer, source: ImageSource) -> Survey:
    """What calibration needs of pictures; of several processes each scores its part of them.

    Raises:
        DataError: none of them can be read.
    """
    part = part_of(-(-len(source) // BATCH), distributed.rank(), distributed.world())
    if part is None:
        return scorer.survey(source)
    # In whole batches, so that scores are those of one process.
    places = range(part.start * BATCH, min(part.stop * BATCH, len(source)))
    return distributed.merged(scorer.looked(source, places)).survey(source)


def settings_of(method: str, preset: str, overrides: Mapping[str, object] | None) -> Resolved:
    """Complete settings of a run, see `core.resolving.resolve`.

    Raises:
        ConfigError: an unknown method, preset or setting, or a value out of its range.
    """
    cls = method_named(method)
    return resolve(method, cls.config_class, cls.presets, preset=preset, overrides=overrides)


def text_of(method: str) -> dict[str, str]:
    """The hash of the text of a method's file, 12 digits, by the file's name; else nothing.

    Raises:
        ConfigError: there is no such method.
    """
    method_named(method)
    needed = needs(method)
    return {needed["file"].rpartition(":")[0]: needed["sha256"][:12]} if "file" in needed else {}


def package_of(method: str) -> dict[str, str]:
    """The version of the package that offers a method, by the package's name; else nothing.

    Raises:
        ConfigError: there is no such method.
    """
    method_named(method)
    needed = needs(method)
    return {needed["package"]: needed["version"]} if "package" in needed else {}


def require_uses_anomalous(name: str) -> None:
    """Refuse a method that cannot learn from known anomalous pictures.

    Raises:
        ConfigError: it learns from normal ones alone, or there is none of this name.
    """
    if not method_named(name).uses_anomalous:
        learners = ", ".join(
            one.name for one in listed() if one.method is not None and one.method.uses_anomalous
        )
        raise ConfigError(
            f'method "{name}" learns from normal pictures alone; leave the anomalous ones out, '
            f"or choose a method that uses them: {learners}"
        )


def require_float32() -> None:
    """Refuse a process whose new tensors are not of float32, as pictures and model files are.

    Raises:
        ConfigError: torch's default is another.
    """
    default = torch.get_default_dtype()
    if default != torch.float32:
        raise ConfigError(
            f"torch's default is {default} here, and onlygood computes in torch.float32; call "
            "torch.set_default_dtype(torch.float32) first"
        )


def new_network(cls: type[Method], config: Any, view: View, seed: int) -> Method:
    """A method with weights drawn from the seed; the global random state stays as it is.

    Raises:
        ConfigError: torch's default is not float32, or the method cannot be made of this.
    """
    require_float32()
    with randomness.STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return cls(config, InputShape(view.channels, *view.sides))


def takes_steps(method: str, resolved: Resolved) -> bool:
    """Whether a method with these settings trains in steps; one that does not heeds no budget.

    Raises:
        ConfigError: as `learn`.
    """
    cls = method_named(method)
    # Stages do not depend on pictures, only on networks that can be built.
    view = settled(replace(resolved.view, align=""), ImageSource([]), cls)
    return any(stage.updates for stage in new_network(cls, resolved.config, view, 0).stages())


def settled(view: View, source: ImageSource, cls: type[Method]) -> View:
    """Settle by the first readable pictures, and by the method, what is left to them.

    `channels=0`: grey when all of these are, else RGB. `aspect=0`: the median of what is cut out
    of them, so that in a mixture of upright and lying ones both become squares. `size=0`: what
    suits frozen features. `pad=auto`: for whole pictures of methods that need squares.
    `align=auto`: the most usual of them is the reference.
    """
    if view.pad == "auto":
        view = replace(view, pad="square" if cls.square and not view.tile else "none")
    if view.align == AUTO:
        usual = most_usual(_readable(list(source)[:LOOK]), view.ignore)
        view = replace(view, align=usual)
    if view.channels and view.size and view.aspect:
        return view
    channels, seen = 1, []
    for pixels in _readable(list(source)[:LOOK]):
        height, width, depth = pixels.shape
        channels = max(channels, depth)
        seen.append(window((height, width), view))
        if len(seen) >= SHAPES and max(channels, view.channels) > 1:
            break
    sides = [max(part.height, part.width) for part in seen]
    # Of logarithms: 1 : 2 and 2 : 1 are equally far from a square.
    ratios = [math.log(max(part.width, 1) / max(part.height, 1)) for part in seen]
    tiny = bool(sides) and median(sides) <= TINY
    return replace(
        view,
        channels=view.channels or (3 if channels > 1 else 1),
        size=view.size or (TINY_SIZE if tiny else USUAL_SIZE),
        aspect=view.aspect or min(max(math.exp(median(ratios or [0.0])), WIDEST**-1), WIDEST),
    )


def remarks(view: View, source: ImageSource) -> list[str]:
    """In words, what of pictures a settled view hides or may hide.

    How much of them its mask ignores, and of the first few readable ones that they are made
    `SHRUNK` times smaller or more, that they are nearly black, as 12 bits of a camera are in
    files of 16, and that a thing lies differently in each.
    """
    told = []
    if view.ignore:
        share = figure(100 * float(mask_of(view.ignore).mean()), 3, whole=100.0)
        told.append(f"the mask ignores {share} % of each picture")
    sides, brightest = [], 0
    for pixels in islice(_readable(source), FEW):
        sides.append(window(pixels.shape[:2], view))
        brightest = max(brightest, int(pixels.max()))
    if not sides:
        return told
    dark = (
        f"the first pictures are nearly black, with values up to {brightest} of 255; where a "
        "camera's 12 bits lie in files of 16, shift them up (value << 4), or most of them is lost"
    )
    found = [*told, _shrinking(view, sides), dark if brightest < DARK else "", _lying(view, source)]
    return list(filter(None, found))


def _shrinking(view: View, sides: Sequence[Window]) -> str:
    """How much smaller pictures are made and what that may hide; empty where that is little."""
    height = int(median(side.height for side in sides))
    width = int(median(side.width for side in sides))
    times = max(height, width) / view.size
    if times < SHRUNK:
        return ""
    seen_height, seen_width = view.shape
    return (
        f"pictures of {width:,} x {height:,} pixels are seen at {seen_width} x {seen_height}, "
        f"{times:.1f} times smaller: a defect less than some {SEEN * times:,.0f} pixels wide may "
        f"not be found; size={2 * view.size} sees twice as finely, and takes longer"
    )


def _lying(view: View, source: ImageSource) -> str:
    """How differently a thing lies that could be aligned; empty where that is little."""
    if view.align or view.tile:
        return ""
    lying = misalignment(islice(_readable(source), LAID), view.ignore)
    if lying is None:
        return ""
    angle, shift = lying
    return (
        f"the first pictures show one thing that lies differently in each: turned by {angle:.1f} "
        f"degrees and shifted by {100 * shift:.1f} % of the longer side (medians); align=auto lays "
        "all alike: it finds more, above all with few pictures, and takes longer"
    )


def _readable(pictures: Iterable[Picture]) -> Iterator[Pixels]:
    for picture in pictures:
        with suppress(DataError):
            yield picture.load()


def _check_room(store: PictureStore, view: View) -> None:
    """Refuse a size before pictures are read that one batch would not have room for.

    Raises:
        ConfigError: the machine has too little memory.
    """
    found = memory()
    # Scored in float32, and at least once more what a network makes of it.
    numbers = min(BATCH, len(store)) * view.channels * math.prod(view.canvas)
    needed = store.memory_bytes() + 2 * 4 * numbers
    if found is not None and needed > found[0]:
        raise ConfigError(
            f"pictures of size={view.size} need {needed / 2**30:.0f} GiB, this machine has "
            f"{found[0] / 2**30:.0f}; make size smaller"
        )


def _memory(store: PictureStore, network: Method, training: Training) -> str:
    weights = sum(p.numel() for p in network.parameters())
    # Weights, gradients and the two moments of Adam, in float32.
    mib = (store.memory_bytes() + 16 * weights) / 2**20
    kept = (
        "kept in memory"
        if store.cached
        else f"read from disk as needed, as they exceed cache_gib={training.cache_gib:g}"
    )
    trained = f" and networks of {weights:,} weights" if weights else ""
    return f"about {mib:,.0f} MiB for pictures ({kept}){trained}"
