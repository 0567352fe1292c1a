"""Formats that store pixels as they are: BMP, the portable anymaps, uncompressed TIFF.

Sources: the BITMAPINFOHEADER documentation, netpbm's format pages, TIFF 6.0.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MOST_PIXELS = 1 << 28


def sized(height: int, width: int) -> None:
    """ValueError for a size that no image has."""
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"{height} × {width} pixels")


# -- BMP -------------------------------------------------------------------------------------------


def read_bmp(data: bytes) -> Image | None:
    """24 and 32 bits, and palettes of 8; not the compressed kinds."""
    (start,) = struct.unpack_from("<I", data, 10)
    size, width, height, _, bits, packing = struct.unpack_from("<IiiHHI", data, 14)
    flipped, height = height > 0, abs(height)
    sized(height, width)
    if packing != 0 or bits not in (8, 24, 32):
        return None
    stride = -(-width * bits // 32) * 4
    raw = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    rows = raw[:, : width * bits // 8].reshape(height, width, bits // 8)
    rows = rows[::-1] if flipped else rows
    if bits == 8:
        (colours,) = struct.unpack_from("<I", data, 46)
        palette = np.frombuffer(data, np.uint8, 4 * (colours or 256), 14 + size).reshape(-1, 4)
        rows = palette[rows[..., 0]]
    return np.ascontiguousarray(rows[..., 2::-1])


# -- portable anymaps ------------------------------------------------------------------------------


def read_pnm(data: bytes) -> Image | None:
    """P1 to P6: bits, greys and colours, as text or as bytes."""
    kind = data[1] - ord("0")
    numbers, at = _header(data, 2 if kind in (1, 4) else 3)
    width, height = numbers[:2]
    most = numbers[2] if len(numbers) > 2 else 1
    sized(height, width)
    if not 0 < most < 256:
        return None
    channels = 3 if kind in (3, 6) else 1
    count = height * width * channels
    if kind == 4:
        stride = -(-width // 8)
        raw = np.frombuffer(data, np.uint8, stride * height, at).reshape(height, stride)
        values = np.unpackbits(raw, axis=1)[:, :width].reshape(-1)
    elif kind > 4:
        values = np.frombuffer(data, np.uint8, count, at)
    elif kind == 1:
        values = np.array([byte - 48 for byte in data[at:] if byte in b"01"][:count], np.uint8)
    else:
        values = np.array([int(word) for word in data[at:].split()[:count]]).astype(np.uint8)
    image = values.reshape(height, width, channels)
    if kind in (1, 4):
        return np.asarray((1 - image) * 255, np.uint8)  # 1 is black
    return image if most == 255 else np.asarray(image.astype(np.uint16) * 255 // most, np.uint8)


def _header(data: bytes, count: int) -> tuple[list[int], int]:
    """So many numbers behind the first two bytes, and where the one blank behind them ends."""
    numbers: list[int] = []
    at = 2
    while len(numbers) < count:
        while data[at : at + 1].isspace() or data[at : at + 1] == b"#":
            at = data.index(b"\n", at) + 1 if data[at : at + 1] == b"#" else at + 1
        end = at
        while data[end : end + 1].isdigit():
            end += 1
        numbers.append(int(data[at:end]))
        at = end
    return numbers, at + 1


# -- TIFF ------------------------------------------------------------------------------------------

_SIZES = {1: 1, 3: 2, 4: 4}
_FORMATS = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _PACKING, _MEANING = 256, 257, 258, 259, 262
_STRIPS, _CHANNELS, _STRIP_BYTES, _PLANAR = 273, 277, 279, 284


def read_tiff(data: bytes) -> Image | None:
    """Uncompressed strips of 8 bits a channel, channels side by side."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(count):
        place = at + 2 + 12 * number
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, place)
        if kind not in _SIZES or values > len(data):
            continue
        place += 8
        if values * _SIZES[kind] > 4:
            (place,) = struct.unpack_from(f"{order}I", data, place)
        tags[tag] = struct.unpack_from(f"{order}{values}{_FORMATS[kind]}", data, place)
    height, width = tags[_HEIGHT][0], tags[_WIDTH][0]
    channels = tags.get(_CHANNELS, (1,))[0]
    sized(height, width)
    plain = tags.get(_PACKING, (1,))[0] == 1 and set(tags.get(_BITS, (1,))) == {8}
    if not plain or tags.get(_PLANAR, (1,))[0] != 1 or channels not in (1, 3, 4):
        return None
    strips = zip(tags[_STRIPS], tags[_STRIP_BYTES], strict=True)
    joined = b"".join(data[first : first + size] for first, size in strips)
    image = np.frombuffer(joined, np.uint8, height * width * channels)
    image = image.reshape(height, width, channels)
    inverted = channels == 1 and tags[_MEANING][0] == 0
    return np.asarray(255 - image, np.uint8) if inverted else image
