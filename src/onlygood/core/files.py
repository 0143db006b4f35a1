"""Files that are either whole or not there, and are what they are taken for."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from onlygood.core.errors import ConfigError


def as_path(name: str, given: object) -> Path:
    """What a caller gave as a path.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"{name} must be a path, as text or a Path, got {given!r}")
    return Path(given)


@contextmanager
def replacing(path: Path, *, lasting: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block succeeds.

    On any failure the temporary file is removed and `path` is what it was before. Two writers
    of one path do not mix: the last to finish wins whole. What is `lasting` is on the disk before
    it has its name, so that a power cut leaves the old file or the new one. Of a link the file that
    it leads to is replaced.

    Raises:
        OSError: it cannot be written, or there is a pipe or a device of this name.
    """
    path = replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the full name plus a suffix: that can exceed the file system's limit on name length.
    temporary = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        # As any new file of this user; who writes it may know less of that.
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.unlink()
        yield temporary
        if lasting:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replaceable(path: Path) -> Path:
    """The file that a new one shall replace: what a link leads to, if that is one.

    Raises:
        OSError: it is no file: a folder, or a pipe or device, such as /dev/null.
    """
    file = Path(os.path.realpath(path))
    if file.exists():
        require_file(file)
    return file


def remove_empty(folder: Path) -> None:
    """Remove a folder that has nothing in it; another process may use it, or have removed it."""
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file, which is made for that; tells whether it is ours, or another process has it.

    The system takes it back when this process dies. Where the file system knows of no locks, or
    the file cannot be made, it is everybody's.
    """
    if sys.platform == "win32":
        yield True
        return
    import fcntl

    with ExitStack() as stack:
        ours = True
        with suppress(OSError):
            file = stack.enter_context(path.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                ours = False
        yield ours


@contextmanager
def regular(path: Path, limit: int) -> Iterator[BinaryIO]:
    """A file to read: never a pipe that nobody writes, a device, or more than `limit` bytes.

    Raises:
        OSError: it is one of these, or cannot be opened; `strerror` says what is wrong.
    """

    # Windows has no such flag, and no such pipes.
    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=at_once) as file:
        status = os.fstat(file.fileno())
        _check(status.st_mode, path)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"has {status.st_size} bytes, the limit is {limit}")
        yield file


def read_regular(path: Path, limit: int) -> bytes:
    """All of such a file.

    Raises:
        OSError: see `regular`.
    """
    with regular(path, limit) as file:
        return file.read(limit)


def require_file(path: Path) -> None:
    """Refuse a pipe or a device: whoever opens it may wait for ever.

    Raises:
        OSError: it is no file, or is missing.
    """
    _check(path.stat().st_mode, path)


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no file but a pipe or device", str(path))
