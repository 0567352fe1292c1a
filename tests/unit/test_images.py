"""Image files to arrays: what is written here by hand comes back; damaged files are no images."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

from tilework.ir.images import decode, in_format

pytestmark = pytest.mark.unit

DRAW = np.random.default_rng(3)
COLOURS = DRAW.integers(0, 256, (5, 7, 3), np.uint8)
GREYS = COLOURS[..., :1]


def png(pixels: Any, colour: int, depth: int = 8, filters: Any = 0, palette: bytes = b"") -> bytes:
    """`pixels` are lines of bytes as PNG packs them, unfiltered; `filters`: each line's."""
    lines = np.asarray(pixels, np.uint8).reshape(len(pixels), -1)
    width = {2: lines.shape[1] // 3, 6: lines.shape[1] // 4, 4: lines.shape[1] // 2}.get(
        colour, lines.shape[1] * 8 // depth
    )
    step = max(1, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth // 8)
    packed = b""
    for number, line in enumerate(lines.astype(int)):
        kind = filters if isinstance(filters, int) else filters[number % len(filters)]
        above = lines[number - 1].astype(int) if number else np.zeros_like(line)
        left = np.concatenate([np.zeros(step, int), line[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        away = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        nearest = np.choose(away.argmin(0), [left, above, corner])
        told = [np.zeros_like(line), left, above, (left + above) // 2, nearest][kind]
        packed += bytes([kind]) + ((line - told) % 256).astype(np.uint8).tobytes()
    head = struct.pack(">IIBBBBB", width, len(lines), depth, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    parts = [(b"IHDR", head), (b"PLTE", palette), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    for kind_name, part in parts:
        if part or kind_name == b"IEND":
            check = struct.pack(">I", zlib.crc32(kind_name + part))
            content += struct.pack(">I", len(part)) + kind_name + part + check
    return content


@pytest.mark.parametrize("filters", [0, 1, 2, 3, 4, (4, 1, 3, 2, 0)])
def test_png_of_every_filter(filters: Any) -> None:
    found = decode(png(COLOURS, 2, filters=filters))
    np.testing.assert_array_equal(found, COLOURS)


def test_png_of_every_colour_type() -> None:
    np.testing.assert_array_equal(decode(png(GREYS, 0)), GREYS)
    with_alpha = np.concatenate([COLOURS, GREYS], axis=2)
    np.testing.assert_array_equal(decode(png(with_alpha, 6, filters=4)), with_alpha)
    np.testing.assert_array_equal(decode(png(with_alpha[..., :2], 4)), GREYS)
    palette = DRAW.integers(0, 256, (256, 3), np.uint8)
    found = decode(png(GREYS, 3, palette=palette.tobytes()))
    np.testing.assert_array_equal(found, palette[GREYS[..., 0]])


@pytest.mark.parametrize("depth", [1, 2, 4, 16])
def test_png_of_every_depth(depth: int) -> None:
    if depth == 16:
        wide = np.stack([GREYS[..., 0], DRAW.integers(0, 256, (5, 7), np.uint8)], axis=2)
        np.testing.assert_array_equal(decode(png(wide, 0, 16)), GREYS)
        return
    levels = DRAW.integers(0, 1 << depth, (4, 8), np.uint8)
    bits = np.unpackbits(levels[..., None], axis=2)[..., 8 - depth :].reshape(4, -1)
    found = decode(png(np.packbits(bits, axis=1), 0, depth))
    np.testing.assert_array_equal(found, (levels * (255 // ((1 << depth) - 1)))[..., None])


def test_anymaps() -> None:
    head = b"%d %d\n" % (COLOURS.shape[1], COLOURS.shape[0])
    text = " ".join(map(str, COLOURS.reshape(-1).tolist())).encode()
    rgb = b"P6 # a word\n" + head + b"255\n" + COLOURS.tobytes()
    np.testing.assert_array_equal(decode(rgb), COLOURS)
    np.testing.assert_array_equal(decode(b"P3\n" + head + b"255\n" + text), COLOURS)
    np.testing.assert_array_equal(decode(b"P5\n" + head + b"255\n" + GREYS.tobytes()), GREYS)
    bits = GREYS[..., 0] > 127
    black = np.where(bits, 0, 255)[..., None]
    packed = np.packbits(bits, axis=1).tobytes()
    np.testing.assert_array_equal(decode(b"P4\n" + head + packed), black)
    words = b" ".join(b"1" if bit else b"0" for bit in bits.reshape(-1))
    np.testing.assert_array_equal(decode(b"P1\n" + head + words), black)


def test_bitmaps() -> None:
    height, width = COLOURS.shape[:2]
    rows = [line[:, ::-1].tobytes().ljust(-(-width * 3 // 4) * 4, b"\0") for line in COLOURS]
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    start = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54)
    np.testing.assert_array_equal(decode(start + head + b"".join(rows[::-1])), COLOURS)
    top_down = head[:8] + struct.pack("<i", -height) + head[12:]
    np.testing.assert_array_equal(decode(start + top_down + b"".join(rows)), COLOURS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff(order: str) -> None:
    height, width = COLOURS.shape[:2]
    strips = [COLOURS[:3].tobytes(), COLOURS[3:].tobytes()]
    tags = [(256, width), (257, height), (259, 1), (262, 2), (277, 3)]
    count = len(tags) + 3
    behind = 8 + 2 + 12 * count
    first = behind + 6 + 8 + 8
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    for tag, number in tags:
        content += struct.pack(f"{order}HHII", tag, 4, 1, number)
    for tag, kind, many, place in ((258, 3, 3, behind), (273, 4, 2, behind + 6),
                                   (279, 4, 2, behind + 14)):  # fmt: skip
        content += struct.pack(f"{order}HHII", tag, kind, many, place)
    sizes = [len(strip) for strip in strips]
    content += struct.pack(f"{order}HHHIIII", 8, 8, 8, first, first + sizes[0], *sizes)
    np.testing.assert_array_equal(decode(content + b"".join(strips)), COLOURS)


def test_formats() -> None:
    np.testing.assert_array_equal(in_format(COLOURS, "BGR"), COLOURS[..., ::-1])
    np.testing.assert_array_equal(in_format(GREYS, "RGB"), np.repeat(GREYS, 3, axis=2))
    white = np.full((1, 1, 3), 255, np.uint8)
    assert in_format(white, "Grayscale").tolist() == [[[255]]]
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert in_format(red, "Grayscale").tolist() == [[[76]]]


def test_what_is_damaged_is_no_image() -> None:
    whole = png(COLOURS, 2, filters=4)
    for end in range(0, len(whole) - 60, 7):
        assert decode(whole[:end]) is None
    for other in (b"", b"BM", b"P6\n9 9\n255\n", b"\xff\xd8\xff\xe0", b"II*\0", b"{}"):
        assert decode(other) is None
    huge = b"P5\n1000000 1000000\n255\n"
    assert decode(huge) is None


def test_flipped_bits_of_a_file_make_an_image_or_none() -> None:
    """The files of the suite's ImageDecoder cases, JPEG, JPEG 2000 and WebP among them."""
    from onnx import numpy_helper
    from onnx.backend.test.case.node import _image_decoder_data as files

    names = [name for name in dir(files) if name.startswith("image_decoder_decode")]
    assert len(names) == 9
    for name in names:
        given = getattr(files, name).data
        data = given if isinstance(given, np.ndarray) else numpy_helper.to_array(given)
        assert decode(data.tobytes()) is not None
        for number in range(40):
            draw = np.random.default_rng(number)
            mutated = data.copy()
            for place in draw.integers(0, len(data), 1 + number % 4):
                mutated[place] ^= 1 << draw.integers(0, 8)
            found = decode(mutated[: len(data) - int(draw.integers(0, 9))].tobytes())
            assert found is None or (found.dtype == np.uint8 and found.ndim == 3)
