"""PNG: all colour types and depths, not interlaced. Source: the PNG specification, 3rd edition."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from tilework.ir.images.bitmap import sized

Image = NDArray[np.uint8]

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_FIRST = 8  # byte behind the signature


def read_png(data: bytes) -> Image | None:
    """Greys have one channel, colours three, colours with alpha four; 16 bits lose the lower 8."""
    at, packed, palette = _FIRST, bytearray(), b""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, at + 8)
    sized(height, width)
    if interlaced or colour not in _CHANNELS:
        return None
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        if kind == b"PLTE":
            palette = content
        elif kind == b"IDAT":
            packed += content
        elif kind == b"IEND":
            break
        at += size + 12
    channels = _CHANNELS[colour]
    stride = -(-width * channels * depth // 8)
    raw = zlib.decompressobj().decompress(bytes(packed), height * (stride + 1))
    lines = np.frombuffer(raw, np.uint8, height * (stride + 1)).reshape(height, stride + 1)
    rows = _unfiltered(lines, max(1, channels * depth // 8))
    if depth < 8:
        bits = np.unpackbits(rows, axis=1).reshape(height, -1, depth)
        values = np.packbits(bits, axis=2, bitorder="big")[..., 0] >> (8 - depth)
        rows = values[:, : width * channels]
        if colour != _PALETTE:
            rows = rows * np.uint8(255 // ((1 << depth) - 1))
    elif depth == 16:
        rows = rows.reshape(height, -1, 2)[..., 0]
    image = rows.reshape(height, width, channels)
    if colour == _PALETTE:
        return np.frombuffer(palette, np.uint8).reshape(-1, 3)[image[..., 0]]
    return image[..., :1] if channels == 2 else image


def _unfiltered(lines: Image, step: int) -> Image:
    """Undoes each line's filter; `step` bytes lie between a byte and the one it was told by."""
    rows = np.zeros((len(lines) + 1, lines.shape[1] - 1), np.uint8)
    for number, line in enumerate(lines):
        row, above = line[1:], rows[number]
        kind = int(line[0])
        if kind == 0:
            rows[number + 1] = row
        elif kind == 1:
            padded = np.zeros(-(-len(row) // step) * step, np.uint8)
            padded[: len(row)] = row
            total = np.cumsum(padded.reshape(-1, step), axis=0, dtype=np.uint8)
            rows[number + 1] = total.reshape(-1)[: len(row)]
        elif kind == 2:
            rows[number + 1] = row + above
        elif kind in (3, 4):
            rows[number + 1] = _predicted(row.tolist(), above.tolist(), step, kind == 4)
        else:
            raise ValueError(f"filter {kind}")
    return rows[1:]


def _predicted(row: list[int], above: list[int], step: int, paeth: bool) -> list[int]:
    """Filters 3 and 4, which need each byte before the next."""
    done = [0] * step + row
    upper = [0] * step + above
    for i in range(step, len(done)):
        left, up, corner = done[i - step], upper[i], upper[i - step]
        if paeth:
            guess = left + up - corner
            away = abs(guess - left), abs(guess - up), abs(guess - corner)
            nearest = min(away)
            told = left if away[0] == nearest else up if away[1] == nearest else corner
        else:
            told = (left + up) // 2
        done[i] = done[i] + told & 255
    return done[step:]
