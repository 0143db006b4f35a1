"""The façade: a method, how pictures reach it, when it calls one anomalous, where it came from."""

import html
import operator
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, final

import numpy as np
import torch
from numpy.typing import NDArray

from onlygood import registry
from onlygood.core.digest import short_digest
from onlygood.core.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    ModelFileError,
    OnlygoodError,
)
from onlygood.core.files import as_path
from onlygood.core.method import Method
from onlygood.core.resolving import from_json, to_json, view_from_json
from onlygood.core.settings import HIGHEST_SEED, Training, View
from onlygood.core.text import left_out, many
from onlygood.data.align import AUTO, reference_text
from onlygood.data.decode import Pixels
from onlygood.data.layout import Layout, is_csv, known_anomalous, layout, unseen
from onlygood.data.leave_out import remaining
from onlygood.data.loading import Loaded
from onlygood.data.mask import mask_text
from onlygood.data.resize import content, counting, restored
from onlygood.data.source import ImageSource, pictures_of
from onlygood.decision.calibration import Calibration
from onlygood.decision.thresholds import images_needed
from onlygood.detector import model_file
from onlygood.detector.calibrating import calibration_of, doubts, parted, seen
from onlygood.detector.learning import (
    learn,
    new_network,
    remarks,
    require_float32,
    settings_of,
    settled,
    surveyed,
)
from onlygood.detector.raw_scores import BATCH, CalibratedOn, RawScorer, Unusual
from onlygood.report.plots import training_curves
from onlygood.result import Result, Results, judged
from onlygood.training import health
from onlygood.training.distributed import device_named
from onlygood.training.reporting import Reporter, Silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNFIT = (
    *(AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError),
    *(MemoryError, OnlygoodError),
)
"""What is raised where a whole file says what no detector says."""


MAX_RECORDS = 250
"""Lines of each kind of the training log that a model file keeps."""


@final
class Detector:
    """Finds anomalous pictures, and the places in them.

    Made by `fit` or `load`, then unchanging: `calibrate` gives a new one.
    """

    def __init__(
        self,
        name: str,
        scorer: RawScorer,
        config: Any,
        training: Training,
        calibration: Calibration,
        *,
        calibrated_on: CalibratedOn,
        learnt_from: NDArray[np.int64],
        group_by: str | None,
        provenance: dict[str, Any],
        history: list[health.Record],
    ) -> None:
        self.method = name
        self.config: Any = config
        self.view: View = scorer.view
        self.training: Training = training
        self.calibration: Calibration = calibration
        self.calibrated_on: CalibratedOn = calibrated_on
        self.learnt_from: NDArray[np.int64] = learnt_from
        self.group_by = group_by
        self.provenance = provenance
        self.history = history
        self.scorer = scorer

    # Making ----------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        method: str,
        pictures: Any,
        *,
        preset: str = "default",
        seed: SupportsIndex = 0,
        settings: Mapping[str, object] | None = None,
        anomalous: Any = None,
        ignore: Any = None,
        align: Any = None,
        target_fpr: SupportsFloat = 0.05,
        confidence: SupportsFloat = 0.9,
        group_by: str | None = None,
        leave_out: Iterable[str | os.PathLike[str]] = (),
        run_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        reporter: Reporter | None = None,
        device: str | None = None,
    ) -> "Detector":
        """Learn from normal pictures, and calibrate on some that were kept aside.

        Args:
            method: Name of a method: of `onlygood.METHODS`, of an installed package
                (`onlygood methods`), or of a file, `path/to/mine.py:Mine`.
            pictures: A folder (see `onlygood.data.layout` for what is recognised), or whatever
                `ImageSource.of` takes.
            preset: Named settings of the method.
            seed: Fixes the split, the weights drawn at first, and all of training.
            settings: Values for fields of the method's config, `View` or `Training`, by name.
            anomalous: Known anomalous pictures, as a folder at any depth or what `ImageSource.of`
                takes, for methods that learn from them (`onlygood methods`). They are no part of
                the calibration. Of a folder with a subfolder `good`, `ok` or `normal` the others
                are taken.
            ignore: One picture, a mask of the size of all pictures: what is not black in it never
                counts, in training and in scoring.
            align: One picture, or "auto" for the most usual of `pictures`: all are turned (by up to
                45 degrees) and shifted until they lie as it does, in training and in scoring. Needs
                the extra `align`.
            target_fpr: Share of normal pictures that may be called anomalous, in (0, 1).
            confidence: Probability that the threshold keeps this promise, in [0.5, 1).
            group_by: Pattern in a picture's name that tells the part it shows; pictures of one
                part are never on both sides of the split, and the promise is about parts.
            leave_out: Names or paths of pictures to learn nothing from, as a report has them:
                such as turned out not to be normal. Good pictures that are merely unusual belong
                in; without them the promise would be about other pictures than will come.
            run_dir: Folder for checkpoints and the log of the run.
            resume: Go on from the checkpoint in `run_dir`.
            reporter: Hears of the progress.
            device: Where to compute; by default the first GPU, else the processor.

        With too few pictures for the promise the best possible one is made, and said so in
        `calibration.note`. Pictures that cannot be read are left out and listed in `provenance`.

        Raises:
            ConfigError: an unknown method, preset or setting, a value out of its range, a run_dir
                or reporter that is none, a device that is not here, or a default of torch that is
                not float32.
            CalibrationError: a rate or the confidence is no number, or out of its range.
            DataError: no or too few pictures, none that can be read, or none of a name in
                `leave_out`.
            ModelFileError: the checkpoint to go on from is missing or damaged, or nothing can be
                written to `run_dir`.
            TrainingDiverged: a loss became NaN or ran away.
            TrainingInterrupted: a signal stopped the run after a checkpoint was written.
        """
        run_dir = None if run_dir is None else as_path("run_dir", run_dir)
        reporter = Silent() if reporter is None else reporter
        if not isinstance(reporter, Reporter):
            raise ConfigError(
                "reporter must have the methods of onlygood.training.reporting.Reporter, or be "
                f"None, got {reporter!r}"
            )
        # Files hold plain numbers, and numpy's are given as well.
        seed = _seed(seed)
        target_fpr = _number("target_fpr", target_fpr)
        confidence = _number("confidence", confidence)
        if not isinstance(method, str):
            raise ConfigError(
                f"method is told by its name, or path/to/mine.py:Mine, got {method!r}; names are "
                "those of onlygood.METHODS"
            )
        method = registry.introduce(method)
        where = device_named(device)
        if ignore is not None:
            text = mask_text(_one_picture("ignore", ignore, marks=True))
            settings = {**(settings or {}), "ignore": text}
        if align is not None:
            usual = isinstance(align, str) and align == AUTO
            text = AUTO if usual else reference_text(_one_picture("align", align))
            settings = {**(settings or {}), "align": text}
        resolved = settings_of(method, preset, settings)
        images_needed(target_fpr, confidence)  # Refuses values out of range before any work.
        source, words = _normal_pictures(pictures, layout)
        reporter.note(words)
        kept = remaining(source, leave_out)
        used, n_left_out = source.subset(kept), len(source) - len(kept)
        if n_left_out:
            reporter.note(f"left out, as was asked for: {n_left_out} of them")
        # By all pictures: which ones are kept aside must not decide how they are seen.
        view = settled(resolved.view, used, registry.method_named(method))
        resolved = resolved._replace(view=view)
        told = remarks(view, used)
        for remark in told:
            reporter.note(remark)
        parts = parted(source.names, kept, target_fpr, confidence, seed, group_by)
        known = None
        if anomalous is not None:
            known, said = _anomalous_pictures(anomalous)
            reporter.note(said)
        aside = len(parts.calibration)
        reporter.note(f"{aside} of them {'is' if aside == 1 else 'are'} kept aside to calibrate")
        learned = learn(
            method,
            resolved,
            source.subset(parts.train),
            seed=seed,
            validation=source.subset(parts.validation),
            anomalous=known,
            device=where,
            run_dir=run_dir,
            resume=resume,
            reporter=reporter,
        )
        scorer, history = learned.scorer, learned.history
        survey = surveyed(scorer, source.subset(parts.calibration))
        unreadable = [*learned.unreadable, *survey.unreadable]
        if unreadable:
            # They may cost the promise that was asked for, see the note of the calibration.
            reporter.note(left_out([one.reason for one in unreadable]))
        learnt_from = np.sort(np.array(learned.digests, np.int64))
        doubted = doubts(survey, learnt_from, learned.sketches, learned.pieces, group_by)
        for doubt in doubted:
            reporter.note(doubt)
        calibration = calibration_of(
            survey,
            scorer,
            group_by,
            target_fpr=target_fpr,
            confidence=confidence,
            infeasible="best",
        )
        provenance = {
            **_circumstances(where),
            "threads": torch.get_num_threads(),
            "precision": learned.precision,
            "preset": preset,
            "seed": seed,
            "pictures": words,
            **({"seen": "; ".join(told)} if told else {}),
            **({"calibration_pictures": "; ".join(doubted)} if doubted else {}),
            "n_left_out": n_left_out,
            "n_train": learned.n_train,
            "n_validation": learned.n_validation,
            "n_anomalous": learned.n_anomalous,
            "n_calibration": len(survey.pictures),
            "training_pictures_sha256": learned.digest,
            "unreadable": [p._asdict() for p in unreadable],
            "steps": history.steps,
            "images": history.images,
            "training_seconds": round(history.seconds, 3),
            "healthy": history.verdict.healthy,
            "verdict": history.verdict.words,
        }
        return cls(
            method,
            scorer,
            resolved.config,
            resolved.training,
            calibration,
            calibrated_on=CalibratedOn.of(survey),
            learnt_from=learnt_from,
            group_by=group_by,
            provenance=provenance,
            history=history.records,
        )

    def calibrate(
        self,
        pictures: Any = None,
        *,
        target_fpr: SupportsFloat,
        confidence: SupportsFloat = 0.9,
        strict_fpr: SupportsFloat | None = None,
    ) -> "Detector":
        """Set the thresholds anew; nothing is trained.

        Args:
            pictures: Normal pictures that took no part in training, as in `fit`, but where a
                folder or CSV file has others to train on; None: the scores that the detector was
                calibrated with before.
            target_fpr: Share of normal pictures that may be above the threshold.
            confidence: Probability that this promise holds.
            strict_fpr: A smaller share for a second threshold; between the two is `unsure`.

        Raises:
            CalibrationError: a rate or the confidence is no number, or out of its range; there are
                too few pictures for the promise, says how many it needs; or a third of them or more
                were learnt from. Fewer are told in `provenance`; a model
                file of before has no record of what it was learnt from.
            DataError: none of the pictures can be read, or a folder's are those to train on.
        """
        # As in `fit`: files hold plain numbers.
        target_fpr = _number("target_fpr", target_fpr)
        confidence = _number("confidence", confidence)
        strict_fpr = None if strict_fpr is None else _number("strict_fpr", strict_fpr)
        provenance, calibrated_on = dict(self.provenance), self.calibrated_on
        if pictures is None:
            calibration = self.calibration.with_target(target_fpr, confidence, strict_fpr)
        else:
            source, words = _normal_pictures(pictures, unseen)
            survey = self.scorer.survey(source)
            calibration = calibration_of(
                survey,
                self.scorer,
                self.group_by,
                target_fpr=target_fpr,
                confidence=confidence,
                strict_fpr=strict_fpr,
            )
            calibrated_on = CalibratedOn.of(survey)
            unread = left_out([one.reason for one in survey.unreadable])
            told = (words, seen(survey.pictures, survey.digests, self.learnt_from), unread)
            provenance["calibration_pictures"] = "; ".join(filter(None, told))
            provenance["n_calibration"] = len(survey.pictures)
            provenance["unreadable"] = [
                *provenance["unreadable"],
                *(p._asdict() for p in survey.unreadable),
            ]
        return Detector(
            self.method,
            self.scorer,
            self.config,
            self.training,
            calibration,
            calibrated_on=calibrated_on,
            learnt_from=self.learnt_from,
            group_by=self.group_by,
            provenance=provenance,
            history=self.history,
        )

    # Using -----------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.scorer.device

    @property
    def localizes(self) -> bool:
        """Whether it tells where a picture is anomalous."""
        return self.scorer.network.localizes

    @property
    def verdict(self) -> str:
        """Whether training went well, in words."""
        return str(self.provenance["verdict"])

    def score(self, pictures: Any, *, maps: bool = True, keep: bool = False) -> Results:
        """Score pictures: a folder, or whatever `ImageSource.of` takes.

        Maps are left out with `maps=False`, and where the method does not localise. With `keep`
        results have the decoded picture, too, to be looked at with its map.

        Pictures that cannot be read become results with `decision="error"`; nothing is raised for
        them.

        Raises:
            DataError: there are no pictures at all.
        """
        return Results(self.stream(pictures, maps=maps, keep=keep))

    def stream(
        self, pictures: Any, *, maps: bool = True, keep: bool = False, batch_size: int = BATCH
    ) -> Iterator[Result]:
        """The same, one result at a time and in order, in memory that does not grow.

        A generator, a DataLoader or another stream is gone through as results are asked for, 64 +
        `batch_size` pictures ahead at most, so it need not end, and results come so much later.
        With `batch_size=1` nothing is read ahead: each result comes before the next picture is
        asked for, as a camera's must.
        Maps are left out with `maps=False`, and where the method does not localise. With `keep`
        results have the decoded picture, too.

        Raises:
            DataError: there are no pictures at all; or a stream fails, after what it gave before.
        """
        source = pictures_of(pictures)
        for batch in self.scorer.load(source, batch_size, keep=keep):
            yield from self._judged(batch, maps)

    def recognised(
        self, pictures: Any, *, maps: bool = True
    ) -> Iterator[tuple[Result, int | None]]:
        """The same, each with the short digest of its picture where that was learnt from, too.

        None where it was not, where the picture cannot be read, and of a model file of before,
        which has no record of what it was learnt from.

        Raises:
            DataError: as `stream`.
        """
        for batch in self.scorer.load(pictures_of(pictures)):
            for item, result in zip(batch, self._judged(batch, maps), strict=True):
                yield result, self._learnt(item)

    def _judged(self, batch: list[Loaded], maps: bool) -> Iterator[Result]:
        raw = self.scorer.score(batch, maps=maps)
        heat = None if raw.maps is None else self._scaled(raw.maps)
        return judged(batch, self.view, self.calibration, raw.totals, raw.parts, heat)

    def _learnt(self, item: Loaded) -> int | None:
        if item.pixels is None:
            return None
        digest = short_digest(item.pixels)
        place = np.searchsorted(self.learnt_from, digest)  # They are sorted.
        return digest if digest in self.learnt_from[place : place + 1] else None

    def _scaled(self, maps: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Raw maps on the calibration's scale, usual where pixels do not count."""
        heat = self.calibration.normalise_maps(maps)
        counts = counting(self.view)
        return heat if counts is None else np.where(counts[content(self.view).slices], heat, 0)

    def reconstruct(self, pictures: Any) -> Iterator[NDArray[np.uint8] | None]:
        """Pictures as the method gives them back, `(H, W, C)` in their own size, in order.

        Put together from tiles where it sees tiles, black where nothing is looked at.
        None for all where the method gives no pictures back, and for those that cannot be read.
        """
        for batch in self.scorer.load(pictures_of(pictures)):
            x_hat = self.scorer.reconstruct(batch)
            rows = iter(() if x_hat is None else x_hat)
            for item in batch:
                if x_hat is None or item.size is None:
                    yield None
                else:
                    yield restored(next(rows), item.size, self.view, pose=item.pose)

    # Looking ---------------------------------------------------------------------------------

    def report(self, path: str | Path) -> None:
        """Write the page that `onlygood fit` writes, atomically: promise, training, provenance.

        Raises:
            ConfigError: `path` is no path.
            OSError: the file cannot be written; nothing is left behind.
        """
        from onlygood.report.filling import fit_report
        from onlygood.report.page import write_report

        write_report(fit_report(self), as_path("path", path))

    def plot(self) -> "Figure":
        """The curves of the training as a figure of matplotlib.

        Raises:
            DataError: there are none, as the method takes no steps.
        """
        curves = health.curves(self.history)
        if not curves:
            raise DataError(f'there are no curves: method "{self.method}" takes no steps')
        return training_curves(curves)

    def __repr__(self) -> str:
        return f"<Detector {'; '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        """What it is, in words."""
        view = self.view
        height, width = view.canvas
        aligned = ", aligned" if view.align else ""
        tiles = f" in tiles of {view.tile}" if view.tile else ""
        colour = "grey" if view.channels == 1 else "RGB"
        facts = {
            "method": self.method,
            "pictures": f"learnt from {many(self.provenance['n_train'], 'picture')}",
            "sees": f"{width} x {height} px{tiles}, {colour}{aligned}",
            "promise": self.calibration.guarantee,
            "note": self.calibration.note,
            "training": self.verdict,
        }
        return {name: value for name, value in facts.items() if value}

    # Keeping ---------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Callable[..., "Detector"], tuple[bytes, str]]:
        """For copies and pickles: what `save` writes, and where it computes.

        Not what it is made of: torch pickles no network whose weights are normalised, and a
        stream that was fitted lies in a temporary file.
        """
        with TemporaryDirectory(prefix="onlygood-") as folder:
            path = Path(folder, "model.safetensors")
            self.save(path)
            return _copied, (path.read_bytes(), str(self.device))

    def save(self, path: str | Path) -> None:
        """Write everything to one file, atomically.

        Raises:
            ConfigError: `path` is no path.
            ModelFileError: it cannot be written; nothing is left half written.
        """
        path = as_path("path", path)
        arrays = self.calibration.arrays()
        needs = registry.needs(self.method)
        model_file.write(
            path,
            {f"method.{name}": tensor for name, tensor in self.scorer.network.state_dict().items()}
            | {f"calibration.{name}": torch.from_numpy(a.copy()) for name, a in arrays.items()}
            | {f"parts.{n}": torch.from_numpy(a) for n, a in self.calibrated_on.parts.items()}
            | {"learnt_from": torch.from_numpy(self.learnt_from)},
            {
                "method": self.method,
                "config": to_json(self.config),
                "view": to_json(self.view),
                "training": to_json(self.training),
                "calibration": self.calibration.settings(),
                "group_by": self.group_by,
                "provenance": self.provenance,
                "history": _thinned(self.history),
                "unusual": [picture._asdict() for picture in self.calibrated_on.unusual],
                **({"needs": needs} if needs else {}),
            },
        )

    @classmethod
    @torch.inference_mode(False)  # What is made in it could not be searched with outside.
    def load(cls, path: str | Path, *, device: str | None = None) -> "Detector":
        """Read a detector that `save` has written.

        Raises:
            ModelFileError: the file is missing, foreign, damaged, changed, or of another version.
            ConfigError: `path` is no path, the device is not here, or torch's default is not
                float32.
        """
        require_float32()
        path = as_path("path", path)
        file = model_file.read(path)
        where = device_named(device)
        try:
            facts = file.facts
            method = _method_of(facts)
            config = from_json(method.config_class, facts["config"])
            view = view_from_json(facts["view"])
            network = new_network(method, config, view, seed=0)
            network.load_state_dict(_part(file.tensors, "method."))
            arrays = {n: t.numpy() for n, t in _part(file.tensors, "calibration.").items()}
            parts = {n: t.numpy() for n, t in _part(file.tensors, "parts.").items()}
            # Older files have none.
            learnt_from = file.tensors.get("learnt_from", torch.zeros(0, dtype=torch.int64))
            return cls(
                facts["method"],
                RawScorer(network, view, where),
                config,
                from_json(Training, facts["training"]),
                Calibration.from_parts(facts["calibration"], arrays),
                calibrated_on=CalibratedOn(
                    parts, unusual=tuple(Unusual(**it) for it in facts.get("unusual", ()))
                ),
                learnt_from=learnt_from.numpy(),
                group_by=facts["group_by"],
                provenance=facts["provenance"],
                history=facts["history"],
            )
        except ModelFileError as error:  # a method or a frozen backbone is not here
            raise ModelFileError(f"{path} cannot be used here: {error}") from error
        except _UNFIT as error:
            # Of weights that do not fit torch says more than a line.
            what = " ".join(f"{type(error).__name__}: {error}".split())
            provenance = file.facts.get("provenance")
            writer = provenance.get("onlygood", "?") if isinstance(provenance, dict) else "?"
            raise ModelFileError(
                f"{path} is whole, but not what this onlygood writes ({what}); load it with "
                f"onlygood {writer} or fit anew"
            ) from error


def _copied(content: bytes, device: str) -> Detector:
    with TemporaryDirectory(prefix="onlygood-") as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(content)
        return Detector.load(path, device=device)


def _method_of(facts: Mapping[str, Any]) -> type[Method]:
    """The class of the method that a file names.

    Raises:
        ModelFileError: it is of another package or of a file, which is not here.
        ConfigError: onlygood has none of this name.
    """
    try:
        return registry.method_named(facts["method"])
    except ConfigError as error:
        needed = facts.get("needs")
        if not isinstance(needed, dict) or not needed.keys() & {"package", "file", "module"}:
            raise
        broken = "cannot be imported" in str(error)
        raise ModelFileError(
            str(error) if broken else registry.missing(facts["method"], needed)
        ) from error


def _seed(given: SupportsIndex) -> int:
    try:
        seed = operator.index(given)
    except TypeError:
        seed = -1
    if not 0 <= seed <= HIGHEST_SEED:
        raise ConfigError(f"seed must be a whole number in 0..{HIGHEST_SEED}, got {given!r}")
    return seed


def _number(name: str, given: SupportsFloat) -> float:
    try:
        return float(given)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{name} must be a number, such as 0.05, got {given!r}") from error


def _circumstances(device: torch.device) -> dict[str, Any]:
    """When, with what and on what."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "onlygood": version("onlygood"),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
    }


def _normal_pictures(pictures: Any, in_folder: Callable[[Path], Layout]) -> tuple[ImageSource, str]:
    """Normal pictures, and how that was understood, in words."""
    if isinstance(pictures, str | os.PathLike) and (os.path.isdir(pictures) or is_csv(pictures)):
        found = in_folder(Path(pictures))
        return found.normal, found.description
    source = ImageSource.of(pictures)
    return source, f"{many(len(source), 'picture')}, all taken as normal"


def _anomalous_pictures(pictures: Any) -> tuple[ImageSource, str]:
    """Known anomalous pictures, and how that was understood, in words."""
    if isinstance(pictures, str | os.PathLike) and os.path.isdir(pictures):
        return known_anomalous(Path(pictures))
    source = ImageSource.of(pictures)
    return source, f"{many(len(source), 'picture')}, all taken as anomalous"


def _one_picture(name: str, given: Any, *, marks: bool = False) -> Pixels:
    source = ImageSource.of(given)
    if len(source) != 1:
        raise DataError(f"{name} takes one picture, got {len(source)} pictures")
    return source[0].load(marks=marks)


def device_name(device: torch.device) -> str:
    """The GPU, or the processor with its vector units."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _thinned(records: list[health.Record]) -> list[health.Record]:
    """Evenly chosen records, at most `MAX_RECORDS` of training and as many of validation."""
    kept: list[int] = []
    for validation in (True, False):
        places = [
            i
            for i, record in enumerate(records)
            if validation == any(name.startswith("validation/") for name in record)
        ]
        # Counted from the end: the last one says how the run came out.
        kept += places[:: -max(1, -(-len(places) // MAX_RECORDS))]
    return [records[i] for i in sorted(kept)]


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
