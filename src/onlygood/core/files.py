"""Files that are either whole or not there."""

import os
import secrets
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
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
