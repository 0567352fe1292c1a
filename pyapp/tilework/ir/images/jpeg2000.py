"""JPEG 2000 without loss: one tile, the reversible wavelet, packets by layer or by resolution.

Packets tell which code-blocks have new bits (bitplanes.py decodes those), wavelets put the bands
together. What is lossy, tiled, or cut into precincts is None. Source: ITU-T T.800.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilework.ir.images.bitmap import sized
from tilework.ir.images.bitplanes import Block, Ints

Image = NDArray[np.uint8]

_REVERSIBLE = 1
_MOST_LEVELS = 32


class _Bits:
    """A packet's header: bits, of which one is left out behind each byte of ones."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at
        self._left = 0

    def bit(self) -> int:
        if self._left == 0:
            stuffed = self.at > 0 and self._data[self.at - 1] == 0xFF and self._begun
            self._left = 7 if stuffed else 8
            self._byte = self._data[self.at]
            self._begun = True
            self.at += 1
        self._left -= 1
        return self._byte >> self._left & 1

    _begun = False
    _byte = 0

    def number(self, size: int) -> int:
        value = 0
        for _ in range(size):
            value = value << 1 | self.bit()
        return value

    def end(self) -> int:
        """Where the header ends: a byte of ones is never its last."""
        return self.at + (1 if self._begun and self._byte == 0xFF else 0)


class _Tree:
    """A tag tree: numbers of a grid, told as far as is asked, each with what it shares above."""

    def __init__(self, width: int, height: int) -> None:
        self._widths = [width]
        sizes = [(width, height)]
        while sizes[-1] != (1, 1):
            width, height = -(-width // 2), -(-height // 2)
            sizes.append((width, height))
            self._widths.append(width)
        self._low = [[0] * (w * h) for w, h in sizes]
        self._known = [[False] * (w * h) for w, h in sizes]

    def below(self, bits: _Bits, x: int, y: int, bound: int) -> bool:
        """Whether the number at (x, y) is less than `bound`."""
        low = 0
        for level in reversed(range(len(self._widths))):
            place = (y >> level) * self._widths[level] + (x >> level)
            low = max(low, self._low[level][place])
            while low < bound and not self._known[level][place]:
                if bits.bit():
                    self._known[level][place] = True
                else:
                    low += 1
            self._low[level][place] = low
        return low < bound


@dataclass(slots=True)
class _Band:
    """One band of one resolution: its blocks, and what packets have told of them."""

    width: int
    height: int
    columns: int
    rows: int
    planes: int
    blocks: list[Block]
    included: _Tree | None
    empty: _Tree | None  # planes that are 0
    length_bits: list[int]

    def packet(self, bits: _Bits, layer: int) -> list[tuple[Block, int]]:
        """The blocks that get bytes in this packet, and how many."""
        found = []
        for number, block in enumerate(self.blocks):
            assert self.included is not None and self.empty is not None  # there are blocks
            y, x = divmod(number, self.columns)
            if block.passes:
                if not bits.bit():
                    continue
            elif not self.included.below(bits, x, y, layer + 1):
                continue
            else:
                empty = 0
                while not self.empty.below(bits, x, y, empty + 1):
                    empty += 1
                    if empty > self.planes:
                        raise ValueError("more empty planes than there are")
                block.planes = self.planes - empty
            passes = _passes(bits)
            while bits.bit():
                self.length_bits[number] += 1
            size = bits.number(self.length_bits[number] + passes.bit_length() - 1)
            block.passes += passes
            found.append((block, size))
        return found

    def image(self, side: tuple[int, int]) -> Ints:
        """The band's coefficients from its blocks, which are `side` (width, height) large."""
        whole = np.zeros((self.height, self.width), np.int64)
        for number, block in enumerate(self.blocks):
            y, x = divmod(number, self.columns)
            top, left = y * side[1], x * side[0]
            whole[top : top + block.height, left : left + block.width] = block.coefficients()
        return whole


def _passes(bits: _Bits) -> int:
    """The number of new passes, in its code of 1 to 16 bits."""
    if not bits.bit():
        return 1
    if not bits.bit():
        return 2
    more = bits.number(2)
    if more < 3:
        return 3 + more
    more = bits.number(5)
    return 6 + more if more < 31 else 37 + bits.number(7)


@dataclass(frozen=True, slots=True)
class _Coding:
    """What the main header says of all components."""

    by_resolution: bool
    layers: int
    mixed: bool  # three colours as one brightness and two differences
    levels: int
    side: tuple[int, int]
    guard: int
    exponents: bytes


def read_jpeg2000(data: bytes) -> Image | None:
    """(height, width, channels) of 8 bits; None for what the module does not know."""
    if data[:2] != b"\xff\x4f":
        data = _codestream(data)
    at, sizes, coding, quantised = 2, b"", b"", b""
    while data[at : at + 2] != b"\xff\x90":
        marker, size = struct.unpack_from(">HH", data, at)
        content = data[at + 4 : at + 2 + size]
        if marker == 0xFF51:
            sizes = content
        elif marker == 0xFF52:
            coding = content
        elif marker == 0xFF5C:
            quantised = content
        at += 2 + size
    right, bottom, left, top, wide, high, _, _, channels = struct.unpack_from(">8IH", sizes, 2)
    sized(bottom, right)
    plain = all(sizes[36 + 3 * c : 39 + 3 * c] == b"\x07\x01\x01" for c in range(channels))
    known = _coded(coding, quantised)
    if known is None or left or top or wide < right or high < bottom or not plain:
        return None
    if channels not in (1, 3, 4):
        return None
    (size,) = struct.unpack_from(">I", data, at + 6)
    body = data[at + 12 : at + size if size else len(data)]
    if body[:2] != b"\xff\x93":
        return None
    planes = _planes(known, body[2:], right, bottom, channels)
    if known.mixed:
        y, blue, red = planes[:3]
        green = y - (blue + red >> 2)
        planes[:3] = [red + green, green, blue + green]
    return np.asarray(np.clip(np.stack(planes, axis=2) + 128, 0, 255), np.uint8)


def _codestream(data: bytes) -> bytes:
    """The box of a JP2 file that holds the image."""
    at = 0
    while True:
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"jp2c":
            return data[at + 8 : at + size if size else len(data)]
        if size < 8:
            raise ValueError("a box without a size")
        at += size


def _coded(coding: bytes, quantised: bytes) -> _Coding | None:
    style, order, layers, mixed, levels, wide, high, flags, wavelet = struct.unpack_from(
        ">BBHBBBBBB", coding
    )
    if style or flags or order > 1 or wavelet != _REVERSIBLE or quantised[0] & 31:
        return None
    if levels > _MOST_LEVELS or wide > 8 or high > 8 or len(quantised) < 2 + 3 * levels:
        raise ValueError("a header that contradicts itself")
    side = 4 << wide, 4 << high
    return _Coding(
        order == 1, layers, bool(mixed), levels, side, quantised[0] >> 5, quantised[1:]
    )


def _planes(coding: _Coding, body: bytes, width: int, height: int, channels: int) -> list[Ints]:
    """Each component's image, before colours and level are undone."""
    made = [list(_bands(coding, width, height)) for _ in range(channels)]
    at = 0
    for layer, level in _order(coding):
        for bands in made:
            at = _packet(body, at, bands[level], layer)
    found = []
    for bands in made:
        image = bands[0][0].image(coding.side)
        for level in range(1, coding.levels + 1):
            image = _joined(image, *(band.image(coding.side) for band in bands[level]))
        found.append(image)
    return found


def _order(coding: _Coding) -> Iterator[tuple[int, int]]:
    levels, layers = range(coding.levels + 1), range(coding.layers)
    if coding.by_resolution:
        return ((layer, level) for level in levels for layer in layers)
    return ((layer, level) for layer in layers for level in levels)


def _bands(coding: _Coding, width: int, height: int) -> Iterator[list[_Band]]:
    """The bands of each resolution, the smallest first."""
    for level in range(coding.levels + 1):
        depth = coding.levels - level + (1 if level else 0)
        half = (1 << depth) >> 1
        found = []
        for number, name in enumerate(("HL", "LH", "HH") if level else ("LL",)):
            away = (half * (name[0] == "H"), half * (name[1] == "H"))
            w, h = ((n - a + (1 << depth) - 1) >> depth for n, a in zip((width, height), away,
                                                                        strict=True))  # fmt: skip
            place = 3 * (level - 1) + 1 + number if level else 0
            planes = coding.guard + (coding.exponents[place] >> 3) - 1
            found.append(_band(coding, name, max(w, 0), max(h, 0), planes))
        yield found


def _band(coding: _Coding, name: str, width: int, height: int, planes: int) -> _Band:
    wide, high = coding.side
    columns, rows = -(-width // wide), -(-height // high)
    blocks = [
        Block(min(wide, width - x * wide), min(high, height - y * high), name)
        for y in range(rows)
        for x in range(columns)
    ]
    included, empty = (_Tree(columns, rows) if blocks else None for _ in range(2))
    return _Band(
        width, height, columns, rows, planes, blocks, included, empty, [3] * len(blocks)
    )


def _packet(body: bytes, at: int, bands: list[_Band], layer: int) -> int:
    """Reads one packet; where the next begins."""
    bits = _Bits(body, at)
    found = []
    if bits.bit():
        for band in bands:
            found += band.packet(bits, layer)
    at = bits.end()
    for block, size in found:
        if at + size > len(body):
            raise ValueError("the data ends early")
        block.data += body[at : at + size]
        at += size
    return at


def _joined(low: Ints, hl: Ints, lh: Ints, hh: Ints) -> Ints:
    """One level of the reversible wavelet undone: along rows, then along columns."""
    upper, lower = _lifted(low, hl), _lifted(lh, hh)
    return _lifted(upper.T, lower.T).T


def _lifted(low: Ints, high: Ints) -> Ints:
    """Rows from their low halves (even places) and high ones."""
    rows, length = low.shape[0], low.shape[1] + high.shape[1]
    if high.shape[1] == 0:
        return low
    before = np.concatenate([high[:, :1], high], axis=1)[:, : low.shape[1]]
    behind = np.concatenate([high, high[:, -1:]], axis=1)[:, : low.shape[1]]
    even = low - (before + behind + 2 >> 2)
    later = np.concatenate([even[:, 1:], even[:, -1:]], axis=1)[:, : high.shape[1]]
    odd = high + (even[:, : high.shape[1]] + later >> 1)
    found = np.empty((rows, length), np.int64)
    found[:, 0::2], found[:, 1::2] = even, odd
    return found
