"""From whatever a picture is given as to its one decoded form.

The decoded form is `Pixels`: 8 bit, `(H, W, 1)` grey or `(H, W, 3)` RGB. A picture that is stored
without loss is equal in this form however it is given:

- 16 bits become 8 by dropping the low byte, which is what Pillow does with 16 bit colour files.
  A camera's 12 bit values in 16 bits must be shifted up (`<< 4`) first, else they are near black.
- Floating point values in [0, 1] are taken as fractions of 65535 and go the same way; half
  precision, which cannot hold 16 bits, as fractions of 255. False and True are 0 and 255.
- Transparent pictures are laid on black, so that hidden colours have no influence.
- CMYK, palettes and other colour spaces become RGB as Pillow does it, without colour profiles.
- The EXIF orientation is applied. Of several frames or pages the first one counts.

Whatever Pillow raises becomes a `DataError`; its warnings about odd but readable files are left
to the warning filters of the program, which a library must not change.

Needs no torch: where pictures are scored without it, nobody has tensors.
"""

import io
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

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

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_lock = threading.Lock()


def decode(
    content: "Path | bytes | Image.Image | NDArray[Any] | Tensor", max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Decode one picture: a file, its bytes, a PIL image, an array `(H, W[, C])`, a tensor.

    Tensors are `(C, H, W)` or `(H, W)`. One channel is grey, two are grey and alpha, three RGB,
    four RGB and alpha.

    Raises:
        DataError: it cannot be read, is damaged, is too large, or has values out of range. The
            message does not name the picture; `Picture.load` does.
    """
    match content:
        case Path():
            return _from_bytes(_read(content, max_pixels), max_pixels)
        case bytes():
            return _from_bytes(content, max_pixels)
        case Image.Image():
            with _lock:  # one that is opened but not loaded yet is read by its first user
                return _from_pil(content, max_pixels)
        case np.ndarray():
            return _from_array(content)
        case _:
            return _from_array(_channels_last(content))


def is_tensor(anything: object) -> "TypeGuard[Tensor]":
    """Whether it is a tensor of torch, which then has been imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(anything, torch.Tensor)


def _read(path: Path, max_pixels: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a file; give a picture file")
        # 8 bytes a pixel is the most a supported picture takes, so this one is none.
        if status.st_size > 8 * max_pixels + 2**20:
            raise DataError(
                f"has {status.st_size / 2**20:.0f} MiB, more than a picture of {max_pixels} "
                "pixels can have; scale it down or raise max_pixels"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("does not exist; check the path") from error
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error}); check its permissions and its disk"
        ) from error


def _from_bytes(data: bytes, max_pixels: int) -> Pixels:
    if not data:
        raise DataError("is empty (0 bytes); copy it again or remove it")
    try:
        with _open(data) as image:
            return _from_pil(image, max_pixels)
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"is no picture, or too damaged to tell (begins with {data[:8]!r}); known: "
            f"{', '.join(_FORMATS)}"
        ) from error


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


def _from_pil(image: Image.Image, max_pixels: int) -> Pixels:
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"is {width} x {height} = {width * height / 1e6:.0f} million pixels, over the limit "
            f"of {max_pixels / 1e6:.0f} million; scale it down or raise max_pixels"
        )
    try:
        image.load()
        turned = _upright(image)
        deep = turned.mode.startswith(("I", "F"))
        pixels = np.asarray(turned if deep else turned.convert(_eight_bit_mode(turned)))
    except MemoryError:
        raise
    except Exception as error:  # see _open
        raise _damaged(error) from error
    if pixels.dtype == np.int32:  # how Pillow holds some 16 bit files
        _require_range(pixels, 65535, "16 bit pictures must be in 0..65535")
        pixels = pixels.astype(np.uint16)
    return _from_array(pixels)


def _upright(image: Image.Image) -> Image.Image:
    try:
        # After load: TIFF is turned while it loads, and its tag is gone then.
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata around whole pixels, which viewers ignore too
        return image
    return image if turn is None else image.transpose(turn)


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


def _from_array(array: NDArray[Any]) -> Pixels:
    pixels = _eight_bit(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if 0 in pixels.shape:
        raise DataError(f"has no pixels (shape {array.shape}); remove it")
    if pixels.shape[2] in (2, 4):
        colour, alpha = pixels[:, :, :-1].astype(np.uint16), pixels[:, :, -1:]
        pixels = ((colour * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


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
