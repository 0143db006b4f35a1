"""From whatever a picture is given as to its one decoded form.

The decoded form is `Pixels`: 8 bit, `(H, W, 1)` grey or `(H, W, 3)` RGB. A picture that is stored
without loss is equal in this form however it is given:

- 16 bits become 8 by dropping the low byte, which is what Pillow does with 16 bit colour files.
  A camera's 12 bit values in 16 bits must be shifted up (`<< 4`) first, else they are near black;
  those of a TIFF that says that it has 12 bits are.
- Floating point values in [0, 1] are taken as fractions of 65535 and go the same way; half
  precision, which cannot hold 16 bits, as fractions of 255. False and True are 0 and 255.
- Transparent pictures are laid on black, so that hidden colours have no influence.
- CMYK, palettes and other colour spaces become RGB as Pillow does it, without colour profiles.
- The EXIF orientation is applied. Of several frames or pages the first one counts.

What a file says of its own soundness is believed: every chunk of a PNG has its checksum, and a JPEG
that its decoder warns of is refused, because what is missing in it would be grey. Formats without
checksums cannot tell bytes that were overwritten (docs/bad-inputs.md).

Whatever a decoder raises becomes a `DataError`; Pillow's warnings about odd but readable files are
left to the warning filters of the program, which a library must not change.

Memory is proportional to the picture; time is not, for whoever makes a file to that end. So files
from elsewhere are decoded through `onlygood.data.apart`.

Needs no torch: where pictures are scored without it, nobody has tensors.
"""

import base64
import binascii
import io
import re
import stat
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, final

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    TiffImageFile,
)

from onlygood.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = UInt8[np.ndarray, "H W C"]
"""A decoded picture: grey (C = 1) or RGB (C = 3)."""

SUFFIXES = frozenset(
    ".bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
"""File name endings, in lower case, that a folder is searched for."""

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused before they are decoded."""

# What SUFFIXES stand for and nothing else: Pillow also knows formats that run other programs.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# A marker is a byte of ones and one that is neither 0 nor 255. The restarts within a scan are none.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_SCAN, _END_OF_PICTURE, _FIRST_WITH_LENGTH = 0xDA, 0xD9, 0xC0

_ALLOW_MORE = (
    "scale it down, or allow more: max_pixels of ImageSource.of, --max-megapixels of a service"
)

MAX_SCANS = 100
"""Scans of a JPEG, each of which goes over the whole picture. Encoders write about ten; libtiff
draws the line here, too."""

SCANS_OF_A_PASS = 10

# What libjpeg warns of although every pixel is there.
_HARMLESS = re.compile(
    "Invalid SOS parameters|unknown JFIF revision|Unknown Adobe color transform"
    "|extraneous bytes before marker 0x(c|d[bcdf]|e|fe)"
)

_BAND = 2**20
"""Pixels that are converted at a time: what a conversion needs besides its result."""

_ORIENTATION = 0x0112

_lock = threading.Lock()


def decode(
    content: "Path | bytes | Image.Image | NDArray[Any] | Tensor",
    max_pixels: int = MAX_PIXELS,
    *,
    marks: bool = False,
) -> Pixels:
    """Decode one picture: a file, its bytes, a PIL image, an array `(H, W[, C])`, a tensor.

    Tensors are `(C, H, W)` or `(H, W)`. One channel is grey, two are grey and alpha, three RGB,
    four RGB and alpha. With `marks` it is a mask, of which numbers deeper than 8 bits are told from
    0 alone: those that name a kind of defect are small.

    Raises:
        DataError: it cannot be read, is damaged, is too large, or has values out of range. The
            message does not name the picture; `Picture.load` does.
    """
    match content:
        case Path():
            return Encoded(read(content, max_pixels), max_pixels).decode(marks)
        case bytes():
            return Encoded(content, max_pixels).decode(marks)
        case Image.Image():
            with _lock:  # one that is opened but not loaded yet is read by its first user
                return _from_pil(content, max_pixels, marks)
        case np.ndarray():
            return _from_array(content, marks)
        case _:
            return _from_array(_channels_last(content), marks)


@final
class Encoded:
    """The bytes of a picture file, of which only the header has been read."""

    def __init__(self, data: bytes, max_pixels: int = MAX_PIXELS) -> None:
        """Read the header.

        Raises:
            DataError: it is no picture, is damaged, or is too large.
        """
        if not data:
            raise DataError("is empty (0 bytes); copy it again or remove it")
        try:
            self._image = _open(data)
        except Image.UnidentifiedImageError as error:
            if data[:4] in _TIFF:
                raise DataError(
                    "is a TIFF that is damaged, or of a kind that cannot be read (such as 64 bits, "
                    "or floating point in colour); save it in 8 or 16 bits, grey or RGB"
                ) from error
            raise DataError(
                f"is no picture, or too damaged to tell (begins with {data[:8]!r}); known: "
                f"{', '.join(_FORMATS)}"
            ) from error
        self._data, self._max_pixels = data, max_pixels
        _check_size(self._image, max_pixels)
        self.format: str = self._image.format or ""
        self.pixels: int = self._image.width * self._image.height
        scans = _scans(data) if self._jpeg else 0
        if scans > MAX_SCANS:
            raise DataError(
                f"is a JPEG of {scans} scans, over the limit of {MAX_SCANS}; save it anew, not "
                "progressive"
            )
        self.passes: int = 1 + scans // SCANS_OF_A_PASS
        """How often its decoder goes over all pixels, roughly."""

    @property
    def memory(self) -> int:
        """Bytes that decoding and squaring it take, at most, beside the file."""
        return self.pixels * (24 if self.format in ("JPEG2000", "WEBP") else 12)

    def decode(self, marks: bool = False) -> Pixels:
        """Decode it, as a mask where it `marks` something.

        Raises:
            DataError: it is damaged or cut off.
        """
        with self._image as image:
            if self.format == "PNG":
                _check_png(self._data)
            pixels = self._strictly(image) if self._jpeg else None
            if pixels is None:
                return _from_pil(image, self._max_pixels, marks)
            return _upright(pixels, image)

    @property
    def _jpeg(self) -> bool:
        return self.format in ("JPEG", "MPO")

    def _strictly(self, image: Image.Image) -> Pixels | None:
        """A JPEG, refused where libjpeg would fill up what is missing; None: Pillow may have it."""
        kind = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(image.mode)
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(self._data)
            if (width, height) != image.size:
                raise ValueError("its headers differ in size")
            pixels: Pixels = simplejpeg.decode_jpeg(self._data, kind, strict=True)
        except ValueError as error:
            if "nsufficient memory" in str(error):
                raise MemoryError(str(error)) from error
            if _HARMLESS.search(str(error)):
                return None
            raise _damaged(error) from error
        # Inks are for Pillow to mix.
        return None if kind == "CMYK" else pixels


def is_tensor(anything: object) -> "TypeGuard[Tensor]":
    """Whether it is a tensor of torch, which then has been imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(anything, torch.Tensor)


def file_size(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """Bytes of a file that may be a picture.

    Raises:
        DataError: it is missing, no file, or larger than a picture can be.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError("is not a file; give a picture file")
    check_bytes(status.st_size, max_pixels)
    return status.st_size


def check_bytes(size: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what is too large before it is read.

    Raises:
        DataError: `size` bytes are more than a picture can have.
    """
    # 8 bytes a pixel is the most a supported picture takes, so this one is none.
    if size > 8 * max_pixels + 2**20:
        raise DataError(
            f"has {size / 2**20:.0f} MiB, more than a picture of {max_pixels} "
            f"pixels can have; {_ALLOW_MORE}"
        )


def read(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a file that may be a picture.

    Raises:
        DataError: see `file_size`, or it cannot be read.
    """
    file_size(path, max_pixels)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError("does not exist; check the path")
    return DataError(
        f"cannot be read ({error.strerror or error}); check its permissions and its disk"
    )


def _open(data: bytes) -> Image.Image:
    """Read the header only, whatever the size it states: `max_pixels` is the limit, not Pillow's.

    Pillow's limit is a global, so it is lifted under a lock and set again at once.
    """
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except (Image.UnidentifiedImageError, MemoryError):
            raise
        except Exception as error:  # decoders raise all kinds, among them struct.error and KeyError
            raise _damaged(error) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"is {width} x {height} = {width * height / 1e6:.0f} million pixels, over the limit "
            f"of {max_pixels / 1e6:.0f} million; {_ALLOW_MORE}"
        )


def _scans(data: bytes) -> int:
    """Scans of a JPEG, as libjpeg comes upon them; what lies behind its end is none of it."""
    scans, place = 0, 2
    while marker := _MARKER.search(data, place):
        kind, place = marker[1][0], marker.end()
        if kind == _END_OF_PICTURE:
            break
        scans += kind == _SCAN
        # Those below stand alone, where they stand at all. The rest say how long they are.
        if kind >= _FIRST_WITH_LENGTH and len(data) >= place + 2:
            place += max(int.from_bytes(data[place : place + 2], "big"), 2)
    return scans


def _check_png(data: bytes) -> None:
    """Compare every chunk with its checksum; Pillow leaves black what damaged ones held."""
    view, place, kind = memoryview(data), 8, b""
    try:
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", data, place)
            end = place + 8 + length
            if struct.unpack_from(">I", data, end)[0] != zlib.crc32(view[place + 4 : end]):
                raise _damaged(ValueError(f"chunk {kind!r} does not match its checksum"))
            place = end + 4
    except struct.error as error:
        raise _damaged(ValueError("no end chunk")) from error


def _from_pil(image: Image.Image, max_pixels: int, marks: bool) -> Pixels:
    _check_size(image, max_pixels)
    try:
        bits, white_is_zero = _deep_tiff(image)
        image.load()
        deep = image.mode.startswith(("I", "F"))
        mode = image.mode if deep else _eight_bit_mode(image)
        if mode == image.mode and mode in ("L", "RGB"):
            return _upright(np.atleast_3d(np.array(image)), image)
        pixels = np.empty((image.height, image.width, 3 if mode.startswith("RGB") else 1), np.uint8)
        for rows in _bands(image.height, image.width):
            band = image.crop((0, rows.start, image.width, rows.stop))
            values = np.asarray(band if deep else band.convert(mode))
            if deep and isinstance(clear := image.info.get("transparency"), int):
                values = np.where(values == clear, 0, values).astype(values.dtype)
            if values.dtype == np.int32 and not marks:  # how Pillow holds some 16 bit files
                _require_range(values, 65535, "16 bit pictures must be in 0..65535")
                values = values.astype(np.uint16)
            if bits and values.dtype.itemsize == 2:
                values = ((2**bits - 1) - values if white_is_zero else values) << (16 - bits)
            pixels[rows] = _flat(values, marks)
    except (MemoryError, DataError):
        raise
    except Exception as error:  # see _open
        raise _damaged(error) from error
    return _upright(pixels, image)


def _deep_tiff(image: Image.Image) -> tuple[int, bool]:
    """Of a TIFF of 9 to 16 bits how many, and whether 0 is white, which Pillow leaves; else 0.

    Raises:
        DataError: it has several channels, each by itself, of which Pillow mixes up the bytes.
    """
    if not isinstance(image, TiffImageFile):
        return 0, False
    depths = image.tag_v2.get(BITSPERSAMPLE, (1,))
    if len(depths) > 1 and max(depths) > 8 and image.tag_v2.get(PLANAR_CONFIGURATION) == 2:
        raise DataError(
            f"is a TIFF of {max(depths)} bits with each channel by itself, which cannot be read; "
            "save it with the channels of each pixel together (planar configuration 1)"
        )
    deep = len(depths) == 1 and 8 < depths[0] <= 16
    return depths[0] if deep else 0, image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0


def _upright(pixels: NDArray[np.uint8], image: Image.Image) -> NDArray[np.uint8]:
    try:
        # After load: Pillow turns a TIFF while it loads, and its tag is gone then.
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata around whole pixels, which viewers ignore too
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _eight_bit_mode(image: Image.Image) -> str:
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return "LA" if grey else "RGBA"
    return "L" if grey else "RGB"


def _channels_last(tensor: "Tensor") -> NDArray[Any]:
    if str(tensor.dtype) == "torch.bfloat16":  # unknown to numpy
        tensor = tensor.half()
    try:
        array = tensor.detach().cpu().numpy()
    except TypeError as error:
        raise _wrong_dtype(tensor.dtype) from error
    return array if array.ndim == 2 else np.moveaxis(array, 0, -1)


def _from_array(array: NDArray[Any], marks: bool) -> Pixels:
    if 0 in array.shape:
        raise DataError(f"has no pixels (shape {array.shape}); remove it")
    height, width, *channels = array.shape
    colour = channels[0] > 2 if channels else False
    pixels = np.empty((height, width, 3 if colour else 1), np.uint8)
    for rows in _bands(height, width):
        pixels[rows] = _flat(array[rows], marks)
    return pixels


def _bands(height: int, width: int) -> Iterator[slice]:
    """Rows from top to bottom, about `_BAND` pixels at a time."""
    step = max(1, _BAND // max(1, width))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _flat(values: NDArray[Any], marks: bool) -> Pixels:
    """Rows of an array in 8 bits, laid on black; of a mask deeper ones are 0 or white."""
    pixels = _eight_bit(values != 0 if marks and values.dtype.itemsize > 1 else values)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    if pixels.shape[2] not in (2, 4):
        return pixels
    product = pixels[:, :, :-1] * pixels[:, :, -1:].astype(np.uint16) + np.uint16(128)
    return ((product + (product >> 8)) >> 8).astype(np.uint8)  # rounded division by 255, exact


def _eight_bit(array: NDArray[Any]) -> NDArray[np.uint8]:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "u" and size == 1:
        return array.astype(np.uint8)
    if kind == "u" and size == 2:
        return (array.astype(np.uint16) >> 8).astype(np.uint8)
    if kind == "f":
        _require_range(
            array,
            1,
            "floating point pictures must be finite and in [0, 1]; give 8 bit values as uint8, "
            "or rescale",
        )
        if size < 4:
            return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
        return (np.rint(array * 65535).astype(np.uint16) >> 8).astype(np.uint8)
    raise _wrong_dtype(array.dtype)


def _wrong_dtype(dtype: object) -> DataError:
    return DataError(
        f"has dtype {dtype}; convert it to uint8 (0..255), uint16 (0..65535), bool or floating "
        "point in [0, 1]"
    )


def _require_range(array: NDArray[Any], highest: int, rule: str) -> None:
    # Not `< 0`: comparisons with NaN are false.
    outside = ~((array >= 0) & (array <= highest))
    if outside.any():
        raise DataError(f"has the value {array[outside][0]}; {rule}")


def _damaged(error: Exception) -> DataError:
    return DataError(f"is damaged or cut off ({error}); copy it again or remove it")


def as_text(picture: Image.Image) -> str:
    """A picture as settings keep it: PNG, base64."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def of_text(text: str) -> Pixels:
    """Back from `as_text`.

    Raises:
        DataError: it is no such text.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(str(error)) from error
    return decode(content)
