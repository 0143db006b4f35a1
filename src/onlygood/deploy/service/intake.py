"""Pictures as they arrive: from a request to what a network takes."""

import base64
import hashlib
import re
import unicodedata
from collections.abc import AsyncGenerator
from typing import NamedTuple, final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from onlygood.core.errors import DataError
from onlygood.data.loading import Loaded
from onlygood.deploy.service.settings import ServiceSettings

LONGEST_NAME = 255
FIELDS = 8
"""Fields of a form beside its files; none of them is looked at."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Turn the direction of writing: with them a name shows another ending than it has."""


class Upload(NamedTuple):
    """A picture of a request."""

    name: str
    content: bytes


class Prepared(NamedTuple):
    """A picture that was decoded, or why it could not be."""

    loaded: Loaded
    sha256: str
    """Of the bytes as they came."""


async def uploads(request: Request, field: str, settings: ServiceSettings) -> list[Upload]:
    """The files of a multipart form, in memory.

    Raises:
        HTTPException: this is no such form, it has no files or too many, or a name is a trick.
    """
    kind = request.headers.get("content-type", "")
    name, options = parse_options_header(kind)
    if name != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(
            415,
            f'send pictures as multipart/form-data with a boundary, in the field "{field}"; got '
            f'"{kind[:100]}"',
        )
    # The parser would look for a codec of that name, and Python has some that raise what they like.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise HTTPException(415, "names in a form are UTF-8; send it without another charset")
    form = await _parsed(request, settings.max_files)
    try:
        found = form.getlist(field)
        pictures = [
            Upload(_checked(_plain(item.filename or f"picture {i + 1}")), await item.read())
            for i, item in enumerate(found)
            if isinstance(item, UploadFile)
        ]
    finally:
        await form.close()
    if not found:
        raise HTTPException(422, f'there is no field "{field}" with pictures in it')
    if len(pictures) < len(found):
        raise HTTPException(
            422,
            f'what is in the field "{field}" must be files, which say filename="NAME"; got text',
        )
    return pictures


def digest(upload: Upload) -> str:
    """SHA-256 of a picture's bytes."""
    return hashlib.sha256(upload.content).hexdigest()


async def _parsed(request: Request, max_files: int) -> FormData:
    """A multipart form.

    Raises:
        HTTPException: it is damaged or cut off, or has too many files.
    """
    parser = _InMemory(request.headers, request.stream(), max_files=max_files, max_fields=FIELDS)
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"this is no whole multipart form ({error.message})") from error


@final
class _InMemory(MultiPartParser):
    """Bytes of a request are limited already, and must not depend on the space on a disk."""

    spool_max_size = 2**62
    _ended = False

    def on_end(self) -> None:
        """Hear of the last boundary."""
        self._ended = True

    async def parse(self) -> FormData:
        """The form; what breaks off is none, where the library leaves out what was under way."""
        self.stream = self._to_its_end(self.stream)
        return await super().parse()

    async def _to_its_end(self, stream: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for part in stream:
            yield part
        if not self._ended:
            raise MultiPartException("It breaks off before its last boundary.")


def _plain(name: str) -> str:
    """A name as it was before .NET's HttpClient wrote it as an encoded word of mails.

    Its other form of the name, `filename*=`, is not read by the library.
    """
    word = re.fullmatch(r"=\?utf-8\?B\?([0-9A-Za-z+/]*={0,2})\?=", name, re.IGNORECASE)
    try:
        return name if word is None else base64.b64decode(word[1], validate=True).decode()
    except ValueError:
        return name


def _checked(name: str) -> str:
    """A name is shown and written, never opened; one that wants more is refused.

    Raises:
        DataError: it is too long, leads out of its folder, or is not what it looks like.
    """
    shown = ascii(name[:80])
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"the name {shown}... has {len(name)} characters, the limit is {LONGEST_NAME}"
        )
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNING for c in name):
        raise DataError(f"the name {shown} has characters that cannot be seen; rename the picture")
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:[/\\]", name):
        raise DataError(f"the name {shown} leads out of its folder; send the name alone")
    return name
