"""What a caller may catch. Every message says what is wrong, what was given and what to do."""

import difflib
from collections.abc import Iterable


class OnlygoodError(Exception):
    """Base of every error that onlygood raises on purpose."""


class ConfigError(OnlygoodError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class OtherBudget(ConfigError):
    """A run cannot go on with another budget, as its weights depend on the one it began with."""


class ShapeError(OnlygoodError, ValueError):
    """A tensor or picture has a shape that the receiver cannot take."""


class DataError(OnlygoodError, ValueError):
    """Pictures are missing, unreadable or not what they claim to be."""


class CalibrationError(OnlygoodError, ValueError):
    """The calibration pictures cannot support the promise that was asked for."""


class ModelFileError(OnlygoodError, ValueError):
    """A model file is foreign, damaged, of another version, or cannot be written."""


class TrainingDiverged(OnlygoodError, RuntimeError):
    """A loss became NaN or ran away; the message names the last good checkpoint."""


class ScoringInterrupted(OnlygoodError, RuntimeError):
    """Scoring was stopped by a signal; the message names the file of what was scored until then."""


class TrainingInterrupted(OnlygoodError, RuntimeError):
    """The run was stopped by a signal after a checkpoint was written; `--resume` goes on."""


def alternatives(name: str, known: Iterable[str], listing: str | None = None) -> str:
    """The end of a message about an unknown name: `; did you mean "pca"? known: cbigan, pca`."""
    names = list(known)
    return f";{suggestion(name, names)} known: {listing or ', '.join(names)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The closest of the known names, ` did you mean "pca"?`; empty where none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f' did you mean "{close[0]}"?' if close else ""


def in_a_line(error: Exception, limit: int = 200) -> str:
    """What another library says of an error, in one line and at most `limit` characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:limit]
