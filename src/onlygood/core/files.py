"""Files that are either whole or not there, and files that are files."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block succeeds.

    On any failure the temporary file is removed and `path` is what it was before. Two writers
    of one path do not mix: the last to finish wins whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the full name plus a suffix: that can exceed the file system's limit on name length.
    temporary = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        # As any new file of this user; who writes it may know less of that.
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.unlink()
        yield temporary
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def require_file(path: Path) -> None:
    """Refuse a pipe or a device: whoever opens it may wait for ever.

    Raises:
        OSError: it is no file, or is missing.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        words = os.strerror(number) if stat.S_ISDIR(mode) else "it is no file but a pipe or device"
        raise OSError(number, words, str(path))
