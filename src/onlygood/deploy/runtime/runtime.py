"""An exported detector that was loaded, and what it says of pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from onlygood.core.errors import ConfigError, ModelFileError, OnlygoodError, in_a_line
from onlygood.core.files import as_path
from onlygood.core.resolving import view_from_json
from onlygood.core.settings import View
from onlygood.data.align import check_alignment, reference_of
from onlygood.data.loading import Loaded, iterate, threads
from onlygood.data.resize import counting
from onlygood.data.source import Picture, pictures_of
from onlygood.decision.calibration import Calibration
from onlygood.deploy.runtime import file
from onlygood.result import Result, judged

BATCH = 32
"""Pictures that are scored at a time."""
MOST_TERMS = 100
"""Parts of a score."""


class Raw(NamedTuple):
    """What the network says of a batch."""

    scores: NDArray[np.float64]
    parts: NDArray[np.float32]
    """`(B, terms)`."""
    maps: NDArray[np.float32] | None
    """`(B, *View.shape)`: 0 = median of normal pixels, 1 = pixel threshold."""


@final
class Runtime:
    """An exported detector. Gives the decisions that the detector gives."""

    def __init__(
        self,
        session: Any,
        facts: dict[str, Any],
        sha256: str,
        path: Path,
        threads: int,
        spin: bool,
    ) -> None:
        calibration = facts["calibration"]
        arrays = {name: np.asarray(values) for name, values in calibration["arrays"].items()}
        self._session = session
        self.method: str = str(facts["method"])
        self.view: View = view_from_json(facts["view"])
        self.given: View = file.given(self.view)
        """How pictures are brought to the network."""
        self.terms: list[str] = [str(name) for name in facts["terms"]]
        """Names of the parts of the score."""
        self.calibration: Calibration = Calibration.from_parts(calibration["settings"], arrays)
        self.provenance: dict[str, Any] = dict(facts["provenance"])
        self.precision: str = str(facts["precision"])
        """`float32` or `int8`."""
        self.facts: dict[str, Any] = facts
        """All that the file says of itself."""
        self.sha256: str = sha256
        """Of the file, without the entry that states it."""
        outputs = [output.name for output in session.get_outputs()]
        self.localizes: bool = "map" in outputs
        self._path, self._threads, self._spin = path.absolute(), threads, spin
        _check_sizes(self.view, len(self.terms))

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes, and copies, read the file again; only if it is the same still."""
        return _loaded, (self._path, self._threads, self._spin, self.sha256)

    @classmethod
    def load(
        cls, path: str | Path, *, threads: int = 0, sha256: str = "", spin: bool = False
    ) -> "Runtime":
        """Read a file that `onlygood export` has written.

        Args:
            path: The file.
            threads: Of a single picture or batch; 0: all cores.
            sha256: What the digest must be, or begin with; any other file is refused.
            spin: Whether threads wait for the next picture with all their power: single pictures
                are done in two thirds of the time, for five times the work of the processor.

        Raises:
            ConfigError: `path` is no path, or the extra `runtime`, or `align` for a model that
                aligns, is not installed.
            ModelFileError: the file is missing, foreign, damaged, changed, of another version, or
                not the one that was asked for.
        """
        path = as_path("path", path)
        content = file.read(path)
        if not content.sha256.startswith(sha256.lower()):
            raise ModelFileError(
                f"{path} is not the model that was asked for: its digest is {content.sha256}, not "
                f"{sha256}"
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                "ONNX files need ONNX Runtime; run `pip install 'onlygood[runtime]'`"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        try:
            session = onnxruntime.InferenceSession(
                content.model, options, providers=["CPUExecutionProvider"]
            )
            facts = file.facts_of(path, session.get_modelmeta().custom_metadata_map)
            runtime = cls(session, facts, content.sha256, path, threads, spin)
        except ModelFileError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(
                f"{path} is whole, but not what this onlygood writes ({error}); export it anew"
            ) from error
        except Exception as error:  # what ONNX Runtime raises shares no base
            words = f"{path} cannot be run by this ONNX Runtime ({in_a_line(error)})"
            raise ModelFileError(words) from error
        check_alignment(runtime.view)  # Not above: the file is sound where OpenCV is missing.
        return runtime

    def score(self, pictures: Any, *, maps: bool = True) -> list[Result]:
        """Score pictures: a folder, or whatever `ImageSource.of` takes.

        Pictures that cannot be read become results with `decision="error"`; nothing is raised for
        them.

        Raises:
            DataError: there are no pictures at all.
        """
        return list(self.stream(pictures, maps=maps))

    def stream(
        self, pictures: Any, *, maps: bool = True, keep: bool = False, batch_size: int = BATCH
    ) -> Iterator[Result]:
        """The same, one result at a time and in order, in memory that does not grow.

        A generator of frames or another stream is gone through as results are asked for, 64 +
        `batch_size` pictures ahead at most, so it need not end, and results come so much later.
        With `batch_size=1` nothing is read ahead: each result comes before the next picture is
        asked for, as a camera's must.
        With `keep` results have the decoded picture, too.

        Raises:
            DataError: there are no pictures at all; or a stream fails, after what it gave before.
        """
        yield from self.each(pictures_of(pictures), maps=maps, keep=keep, batch_size=batch_size)

    def each(
        self,
        pictures: Iterable[Picture],
        *,
        maps: bool = True,
        keep: bool = False,
        batch_size: int = BATCH,
        decoders: int = 0,
    ) -> Iterator[Result]:
        """The same of pictures that need not all be there yet.

        Args:
            pictures: Gone through once, `READ_AHEAD` + `batch_size` pictures ahead at most; an
                iterator with `batch_size=1` not ahead at all.
            maps: Whether heat maps are wanted.
            keep: Whether results have the decoded picture, too.
            batch_size: Pictures that are scored at a time.
            decoders: Threads that decode; 0: as many as there are cores.
        """
        for batch in iterate(pictures, self.given, batch_size, decoders or threads(), keep=keep):
            yield from self._results(batch, maps)

    def _results(self, batch: list[Loaded], maps: bool) -> Iterator[Result]:
        readable = [(item.name, item.pixels) for item in batch if item.pixels is not None]
        if not readable:
            yield from judged(batch, self.view, self.calibration, np.zeros(0), {}, None)
            return
        names, pixels = zip(*readable, strict=True)
        raw = self.run(np.stack(pixels))
        if not np.isfinite(raw.scores).all():
            raise OnlygoodError(
                f"{names[int(np.argmin(np.isfinite(raw.scores)))]}: the score is not finite; the "
                "model is damaged, export it anew"
            )
        parts = dict(zip(self.terms, raw.parts.T, strict=True))
        heat = raw.maps if maps else None
        yield from judged(batch, self.view, self.calibration, raw.scores, parts, heat)

    def run(self, pictures: UInt8[np.ndarray, "B H W C"]) -> Raw:
        """Give pictures of one size, grey (C = 1) or RGB (C = 3), to the network.

        What ONNX Runtime raises when it fails, out of memory for instance, shares no base.
        """
        rgb = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
        wanted = ["score", "parts", *(["map"] if self.localizes else [])]
        score, parts, *heat = self._session.run(wanted, {"pictures": np.ascontiguousarray(rgb)})
        return Raw(score.astype(np.float64), parts, heat[0] if heat else None)


def _loaded(path: Path, threads: int, spin: bool, sha256: str) -> Runtime:
    return Runtime.load(path, threads=threads, spin=spin, sha256=sha256)


def _check_sizes(view: View, terms: int) -> None:
    if view.size not in file.SIDES:
        raise ValueError(
            f"size is {view.size}, and may be {file.SIDES.start} to {file.SIDES.stop - 1}"
        )
    if view.crop and view.crop < file.SIDES.start:
        raise ValueError(f"crop is {view.crop}, and may be 0, or {file.SIDES.start} or more")
    counting(view)  # Refuses a mask that is none.
    if view.align:
        reference_of(view.align)  # Refuses a reference that is none.
    if view.channels not in (1, 3):
        raise ValueError(f"channels is {view.channels}, and may be 1 or 3")
    if not 1 <= terms <= MOST_TERMS:
        raise ValueError(f"there are {terms} terms, and may be 1 to {MOST_TERMS}")
