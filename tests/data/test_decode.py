import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from onlygood.core.errors import DataError
from onlygood.data.decode import MAX_SCANS, decode
from onlygood.data.source import ImageSource
from tests.data.pictures import GREY, RGB, encoded

DEEP = np.random.RandomState(1).randint(0, 65536, (9, 7), dtype=np.uint16)
LARGE = np.random.RandomState(3).randint(0, 256, (180, 140, 3), dtype=np.uint8)
DEEP_RGB = np.random.RandomState(2).randint(0, 65536, (9, 7, 3), dtype=np.uint16)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file as the specification writes it, for kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(
    size: tuple[int, int], bits: list[int], strip: bytes, *, black: int = 1, planes: int = 1
) -> bytes:
    """A TIFF file of one strip without compression, likewise; `black` is its photometric."""
    height, width = size
    begin = 8 + 2 + 12 * 10 + 4
    tags = {256: width, 257: height, 259: 1, 262: black, 273: begin + 2 * len(bits)}
    tags |= {277: len(bits), 278: height, 279: len(strip), 284: planes}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    depths = struct.pack(f"<{len(bits)}H", *bits)
    place = depths.ljust(4, b"\0") if len(bits) == 1 else struct.pack("<I", begin)
    entries[258] = struct.pack("<HHI", 258, 3, len(bits)) + place
    directory = b"".join(entry for _, entry in sorted(entries.items()))
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return header + directory + bytes(4) + depths + strip


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_every_form_of_a_picture_is_equal(pixels: np.ndarray, tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(pixels))
    channels_first = torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)
    forms = [
        path,
        path.read_bytes(),
        encoded(pixels, "BMP"),
        encoded(pixels, "TIFF"),
        encoded(pixels, "WEBP", lossless=True),
        Image.fromarray(pixels),
        pixels,
        np.atleast_3d(pixels),
        pixels.astype(np.uint16) * 257,
        pixels.astype(">u2") * 257,
        pixels / 255,
        (pixels / 255).astype(np.float32),
        (pixels / 255).astype(np.float16),
        channels_first,
        channels_first / 255,
        channels_first.double() / 255,
        (channels_first / 255).half(),
    ]
    expected = np.atleast_3d(pixels)
    for form in forms:
        found = decode(form)
        # WebP has no grey.
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
        assert found.dtype == np.uint8


def test_sixteen_bits_are_equal_in_every_form_and_drop_the_low_byte():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP_RGB)
    for form in (png(7, 9, 16, 2, rows), DEEP_RGB, DEEP_RGB / 65535):
        np.testing.assert_array_equal(decode(form), DEEP_RGB >> 8)
    pgm = b"P5 7 9 65535\n" + DEEP.astype(">u2").tobytes()
    forms = (encoded(DEEP), encoded(DEEP, "TIFF"), pgm, Image.fromarray(DEEP), DEEP, DEEP / 65535)
    for form in (*forms, torch.from_numpy(DEEP), (DEEP / 65535).astype(np.float32)):
        np.testing.assert_array_equal(decode(form)[..., 0], DEEP >> 8)


def test_a_tiff_of_9_to_16_bits_is_read_as_it_says():
    high = DEEP[:, :6] >> 8
    twelve = (DEEP[:, :6] >> 4).ravel()
    pairs = zip(twelve[::2].tolist(), twelve[1::2].tolist(), strict=True)
    packed = b"".join((one << 12 | two).to_bytes(3, "big") for one, two in pairs)
    assert np.array_equal(decode(tiff((9, 6), [12], packed))[:, :, 0], high)
    from_white = (65535 - DEEP[:, :6]).astype("<u2").tobytes()
    assert np.array_equal(decode(tiff((9, 6), [16], from_white, black=0))[:, :, 0], high)
    together = tiff((9, 7), [16] * 3, DEEP_RGB.astype("<u2").tobytes(), black=2)
    assert np.array_equal(decode(together), DEEP_RGB >> 8)


def test_bfloat16_is_within_its_precision():
    found = decode(torch.from_numpy(GREY / 255).to(torch.bfloat16))
    assert np.abs(found[..., 0].astype(int) - GREY).max() <= 1


def test_one_bit_pictures_and_bools_are_black_and_white():
    mask = GREY > 127
    for form in (mask, torch.from_numpy(mask), encoded(Image.fromarray(mask))):
        np.testing.assert_array_equal(decode(form)[..., 0], mask * 255)


def test_transparent_pictures_lie_on_black():
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], np.uint8)
    on_black = [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]]
    for form in (rgba, encoded(rgba), Image.fromarray(rgba), rgba / 255):
        np.testing.assert_array_equal(decode(form), on_black)
    grey = np.array([[[200, 255], [200, 0], [200, 51]]], np.uint8)
    for form in (grey, encoded(grey), Image.fromarray(grey)):
        np.testing.assert_array_equal(decode(form), [[[200], [0], [40]]])


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"], ids=["index", "bytes"])
def test_palettes_become_colours(transparency: int | bytes):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode(encoded(image)), [[[10, 20, 30], [40, 50, 60]]])
    seen = decode(encoded(image, transparency=transparency))
    np.testing.assert_array_equal(seen, [[[10, 20, 30], [0, 0, 0]]])


def test_a_transparent_grey_value_lies_on_black():
    found = decode(encoded(np.array([[7, 8]], np.uint8), transparency=8))
    np.testing.assert_array_equal(found, [[[7], [0]]])
    deep = encoded(np.array([[7 * 256, 8 * 256]], np.uint16), transparency=8 * 256)
    np.testing.assert_array_equal(decode(deep), [[[7], [0]]])


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode(encoded(ink, "TIFF"))[0, 0].tolist() == [255, 0, 0]
    assert np.abs(decode(encoded(ink, "JPEG")).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, RGB),
        (2, np.fliplr(RGB)),
        (3, np.rot90(RGB, 2)),
        (4, np.flipud(RGB)),
        (5, RGB.transpose(1, 0, 2)),
        (6, np.rot90(RGB)),
        (7, np.rot90(RGB, 2).transpose(1, 0, 2)),
        (8, np.rot90(RGB, -1)),
        (99, RGB),
    ],
)
def test_exif_orientation_is_applied_once(orientation: int, stored: np.ndarray, kind: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(np.ascontiguousarray(stored), kind, exif=exif, **options)
    np.testing.assert_array_equal(decode(data), RGB)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode(image), RGB)


def test_damaged_exif_does_not_spoil_whole_pixels():
    data = encoded(RGB, exif=b"Exif\0\0not a table at all")
    np.testing.assert_array_equal(decode(data), RGB)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (10, 200)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert decode(data).ravel().tolist() == [10] * (decode(data).size)


BAD_BYTES = {
    "zero bytes": (b"", "is empty"),
    "text": (b"these are no pixels\n" * 20, "no picture, or too damaged"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
    "header of 400 megapixels": (png(20000, 20000, 8, 2, b""), "20000 x 20000 = 400 million"),
    "header of 100.01 megapixels": (png(10001, 10000, 8, 2, b""), "over the limit of 100 million"),
    "truncated png": (encoded(LARGE)[:-3000], "damaged or cut off"),
    "truncated jpeg": (encoded(LARGE, "JPEG")[:-3000], "damaged or cut off"),
    "truncated gif": (encoded(LARGE[:, :, 0], "GIF")[:-3000], "damaged or cut off"),
    "truncated bmp": (encoded(RGB, "BMP")[:-20], "damaged or cut off"),
    "truncated tiff": (encoded(LARGE, "TIFF")[:3000], "damaged"),
    "truncated webp": (encoded(LARGE, "WEBP")[:-900], "damaged or cut off"),
    "signature alone": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "png with a wrong checksum": (encoded(RGB).replace(b"IDAT", b"IDAU"), "damaged"),
    "tiff in planes": (tiff((2, 2), [16] * 3, bytes(24), black=2, planes=2), "channel by itself"),
    "tiff of 64 bits": (tiff((2, 2), [64], bytes(32)), "or of a kind that cannot be read"),
    "no rows": (png(8, 8, 8, 2, b""), "damaged or cut off"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bad_files_are_refused_by_name(case: str, tmp_path: Path):
    data, message = BAD_BYTES[case]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for source in (ImageSource.of(path), ImageSource.of([data], names=["bad.png"])):
        with pytest.raises(DataError, match=rf"bad\.png: .*({message})"):
            source[0].load()


@pytest.mark.parametrize("kept", range(1, 60, 4))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
def test_a_file_cut_anywhere_is_whole_or_refused(kind: str, kept: int):
    data = encoded(RGB, kind)
    with pytest.raises(DataError):
        decode(data[: len(data) * kept // 100])


JPEGS = {
    "grey": encoded(LARGE[:, :, 0], "JPEG"),
    "colour": encoded(LARGE, "JPEG", subsampling=2),
    "full colour": encoded(LARGE, "JPEG", subsampling=0, quality=95),
    "progressive": encoded(LARGE, "JPEG", progressive=True),
    "inks": encoded(Image.fromarray(LARGE).convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_is_what_pillow_makes_of_it(kind: str):
    with Image.open(io.BytesIO(JPEGS[kind])) as image:
        shown = image.convert("RGB") if image.mode == "CMYK" else image
        np.testing.assert_array_equal(decode(JPEGS[kind]), np.atleast_3d(np.asarray(shown)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_stands_as_its_exif_says(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(LARGE, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode(data), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("kept", range(30, 100, 10))
def test_a_jpeg_that_was_closed_early_is_refused(kind: str, kept: int):
    data = JPEGS[kind]
    begun = data[: len(data) * kept // 100]
    # What a camera's buffer, a resumed copy and a sparse file make of the rest.
    for rest in (b"\xff\xd9", bytes(len(data) - len(begun) - 2) + b"\xff\xd9"):
        with pytest.raises(DataError, match="is damaged or cut off"):
            decode(begun + rest)


def test_a_jpeg_that_is_only_odd_is_read():
    data = JPEGS["colour"]
    odd = data[:11] + b"\x03" + data[12:]  # a version of JFIF that libjpeg does not know
    np.testing.assert_array_equal(decode(odd), decode(data))


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    data = JPEGS["progressive"]
    last = data.rindex(b"\xff\xda")
    with pytest.raises(DataError, match=r"is a JPEG of 5\d+ scans, over the limit of 100"):
        decode(data[:-2] + 5 * MAX_SCANS * data[last:-2] + data[-2:])


@pytest.mark.parametrize("kind", sorted(JPEGS))
def test_what_lies_behind_a_jpeg_is_no_scan_of_it(kind: str):
    data = JPEGS[kind]
    tail = 2 * MAX_SCANS * b"\xff\xda\0\x08"
    np.testing.assert_array_equal(decode(data + tail), decode(data))
    # Nor what lies in a segment that is passed over.
    noted = data[:2] + b"\xff\xe5" + struct.pack(">H", 2 + len(tail)) + tail + data[2:]
    np.testing.assert_array_equal(decode(noted), decode(data))


@pytest.mark.parametrize("kept", range(5, 100, 5))
def test_a_png_whose_end_was_never_written_is_refused(kept: int):
    # Blocks of 64 KiB, as Pillow writes them.
    noise = np.random.RandomState(0).randint(0, 256, (300, 300, 3), dtype=np.uint8)
    data = encoded(noise)
    begun = data[: len(data) * kept // 100]
    for rest in (bytes(len(data) - len(begun)), bytes(len(data) - len(begun) - 12) + data[-12:]):
        with pytest.raises(DataError, match="is damaged"):
            decode(begun + rest)


def test_memory_is_in_proportion_to_the_picture():
    deep = np.zeros((3000, 3000, 4), np.uint16)
    tracemalloc.start()
    size = decode(deep).nbytes
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 3000 * 3000 * 3
    assert most < 2 * size


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB))
    decode(path, max_pixels=63)
    for form in (path, path.read_bytes(), Image.fromarray(RGB)):
        with pytest.raises(DataError, match="7 x 9 = 0 million pixels, over the limit"):
            decode(form, max_pixels=62)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_huge_file_is_not_read(tmp_path: Path):
    path = tmp_path / "a.png"
    with open(path, "wb") as file:
        file.truncate(2 * 2**30)
    with pytest.raises(DataError, match="has 2048 MiB, more than a picture"):
        decode(path)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_what_the_system_does_not_give_is_refused(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB))

    def refuse(_: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=rf"a\.png: cannot be read \({error.strerror}\)"):
        ImageSource.of(path)[0].load()


def test_a_broken_link_and_a_device_are_refused(tmp_path: Path):
    link = tmp_path / "a.png"
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="does not exist"):
        ImageSource.of(tmp_path)[0].load()
    with pytest.raises(DataError, match="is not a file"):
        decode(Path("/dev/null"))


FLOATS = "finite and in"
BAD_ARRAYS = {
    "nan": (np.full((8, 8), np.nan), f"has the value nan; .*{FLOATS}"),
    "infinite": (np.full((8, 8), np.inf, np.float32), f"has the value inf; .*{FLOATS}"),
    "above one": (GREY.astype(np.float32), f"{FLOATS}.*give 8 bit values as uint8"),
    "below zero": (np.full((8, 8), -0.5), r"has the value -0\.5"),
    "int64": (GREY.astype(np.int64), "has dtype int64; convert it to uint8"),
    "complex": (GREY.astype(complex), "has dtype complex128"),
    "strings": (np.full((8, 8), "a"), "has dtype <U1"),
    "objects": (np.full((8, 8), None), "has dtype object"),
    "no rows": (np.zeros((0, 8), np.uint8), "has no pixels"),
    "tensor int32": (torch.zeros(3, 8, 8, dtype=torch.int32), "has dtype int32"),
    "tensor float8": (torch.zeros(3, 8, 8).to(torch.float8_e4m3fn), r"dtype torch\.float8"),
    "tensor nan": (torch.full((3, 8, 8), torch.nan), "has the value nan"),
    "PIL float": (Image.new("F", (8, 8), 7.5), r"has the value 7\.5"),
    "PIL integer": (Image.new("I", (8, 8), 65536), "has the value 65536; 16 bit"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_values_that_are_no_pixels_are_refused(case: str):
    content, message = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=rf"\[0\]: .*{message}"):
        ImageSource.of([content])[0].load()
