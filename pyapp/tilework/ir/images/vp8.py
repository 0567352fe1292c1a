"""A key frame of VP8: its headers, its macroblocks, as planes of brightness and two colours.

Source: RFC 6386. Figures are in vp8_tables.py, predictions and the edges' filter in vp8_predict.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tilework.ir.images.bitmap import sized
from tilework.ir.images.vp8_predict import (
    DC,
    HD,
    HORIZONTAL,
    HU,
    LD,
    RD,
    TM,
    VERTICAL,
    VL,
    VR,
    Plane,
    filter_block,
    predicted,
    predicted_small,
)
from tilework.ir.images.vp8_tables import AC_STEPS, COEFFICIENTS, DC_STEPS, MODES, UPDATES

_ZIGZAG = (0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15)
_BANDS = (0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7)
_LONG = (
    (173, 148, 140),
    (176, 155, 140, 135),
    (180, 157, 141, 134, 130),
    (254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129),
)
_EVEN = 128
_AFTER_SECOND, _SECOND, _COLOUR, _WHOLE = range(4)  # kinds of blocks, by their first coefficient


class Bits:
    """The boolean decoder; behind its data it reads zeros, but not for ever."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self._at = 2
        self._range = 255
        self._count = 0

    def bit(self, chance: int) -> int:
        """1 with a probability of 1 - chance / 256."""
        split = 1 + ((self._range - 1) * chance >> 8)
        found = int(self._value >= split << 8)
        if found:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._count += 1
            if self._count == 8:
                self._count = 0
                if self._at < len(self._data):
                    self._value |= self._data[self._at]
                elif self._at > len(self._data) + 64:
                    raise ValueError("the data ends early")
                self._at += 1
        return found

    def number(self, size: int) -> int:
        value = 0
        for _ in range(size):
            value = value << 1 | self.bit(_EVEN)
        return value

    def signed(self, size: int) -> int:
        value = self.number(size)
        return -value if self.bit(_EVEN) else value

    def maybe(self, read: Callable[[int], int], size: int, default: int = 0) -> int:
        """A number behind a bit that says that there is one."""
        return read(size) if self.bit(_EVEN) else default


@dataclass(slots=True)
class _Header:
    """What the frame says before its macroblocks."""

    segments: bool = False
    mapped: bool = False
    absolute: bool = False
    quantisers: list[int] = field(default_factory=lambda: [0] * 4)
    levels: list[int] = field(default_factory=lambda: [0] * 4)
    tree: list[int] = field(default_factory=lambda: [255] * 3)
    simple: bool = False
    level: int = 0
    sharpness: int = 0
    deltas: tuple[int, int] = (0, 0)  # of the level, for key frames and for 4 × 4 modes
    steps: list[int] = field(default_factory=list)  # the quantiser's index and five differences
    chances: bytearray = field(default_factory=lambda: bytearray(COEFFICIENTS))
    skip: int | None = None


def _read_header(bits: Bits) -> tuple[_Header, int]:
    """(the header, the logarithm of the number of partitions)."""
    h = _Header()
    bits.number(2)  # colour space, clamping
    h.segments = bool(bits.number(1))
    if h.segments:
        h.mapped = bool(bits.number(1))
        if bits.number(1):
            h.absolute = bool(bits.number(1))
            h.quantisers = [bits.maybe(bits.signed, 7) for _ in range(4)]
            h.levels = [bits.maybe(bits.signed, 6) for _ in range(4)]
        if h.mapped:
            h.tree = [bits.maybe(bits.number, 8, 255) for _ in range(3)]
    h.simple, h.level, h.sharpness = bool(bits.number(1)), bits.number(6), bits.number(3)
    if bits.number(1) and bits.number(1):
        told = [bits.maybe(bits.signed, 6) for _ in range(8)]
        h.deltas = (told[0], told[4])
    partitions = bits.number(2)
    h.steps = [bits.number(7), *(bits.maybe(bits.signed, 4) for _ in range(5))]
    bits.number(1)
    for place, chance in enumerate(UPDATES):
        if bits.bit(chance):
            h.chances[place] = bits.number(8)
    h.skip = bits.number(8) if bits.number(1) else None
    return h, partitions


def _small_mode(bits: Bits, above: int, left: int) -> int:
    chances = MODES[90 * above + 9 * left : 90 * above + 9 * left + 9]

    def bit(number: int) -> int:
        return bits.bit(chances[number])

    for number, mode in enumerate((DC, TM, VERTICAL)):
        if not bit(number):
            return mode
    if not bit(3):
        return HORIZONTAL if not bit(4) else VR if bit(5) else RD
    for number, mode in ((6, LD), (7, VL), (8, HD)):
        if not bit(number):
            return mode
    return HU


@dataclass(slots=True)
class _Block:
    """A macroblock: how it is predicted, and what is added."""

    segment: int
    skipped: bool
    small: list[int] | None  # the modes of its 4 × 4 blocks
    mode: int
    colour: int


class Frame:
    """Decodes a whole frame; `planes` then has brightness and two colours, of whole macroblocks."""

    def __init__(self, data: bytes) -> None:
        tag = int.from_bytes(data[:3], "little")
        if tag & 1 or data[3:6] != b"\x9d\x01\x2a":
            raise ValueError("no key frame")
        self.width = int.from_bytes(data[6:8], "little") & 0x3FFF
        self.height = int.from_bytes(data[8:10], "little") & 0x3FFF
        sized(self.height, self.width)
        first = 10 + (tag >> 5)
        self._bits = Bits(data[10:first])
        self._header, count = _read_header(self._bits)
        self._columns, self._rows = -(-self.width // 16), -(-self.height // 16)
        parts = 1 << count
        at = first + 3 * (parts - 1)
        self._parts = []
        for number in range(parts):
            place = first + 3 * number
            size = int.from_bytes(data[place : place + 3], "little")
            end = at + size if number < parts - 1 else len(data)
            self._parts.append(Bits(data[at:end]))
            at = end
        if self._columns * self._rows > 64 * len(data):
            raise ValueError("more macroblocks than bits")
        # A border above and at the left, and four pixels at the right of the row above.
        self._bordered = []
        for size in (16, 8, 8):
            plane = np.full((self._rows * size + 1, self._columns * size + 5), 127, np.int64)
            plane[1:, 0] = 129
            self._bordered.append(plane)
        self._modes_above = [DC] * (4 * self._columns)
        self._some_above = [[0] * 9 for _ in range(self._columns)]
        self._strengths: list[tuple[int, int, bool]] = []
        for y in range(self._rows):
            self._row(y)
        self.planes = [plane[1:, 1:-4] for plane in self._bordered]
        self._filter()

    def _row(self, y: int) -> None:
        modes_left, some_left = [DC] * 4, [0] * 9
        part = self._parts[y % len(self._parts)]
        for x in range(self._columns):
            block = self._read_modes(x, modes_left)
            above = self._some_above[x]
            if block.skipped:
                kept = (above[8], some_left[8]) if block.small is not None else (0, 0)
                above[:], some_left[:] = [0] * 9, [0] * 9
                above[8], some_left[8] = kept
                added, some = np.zeros((24, 16), np.int64), False
            else:
                added, some = self._read_coefficients(part, block, above, some_left)
            self._draw(x, y, block, added)
            self._strengths.append(
                (block.segment, int(block.small is not None), some or block.small is not None)
            )

    def _read_modes(self, x: int, left: list[int]) -> _Block:
        bits, h = self._bits, self._header
        segment = 0
        if h.mapped:
            segment = 2 + bits.bit(h.tree[2]) if bits.bit(h.tree[0]) else bits.bit(h.tree[1])
        skipped = h.skip is not None and bool(bits.bit(h.skip))
        above = self._modes_above
        small: list[int] | None = None
        mode = DC
        if bits.bit(145):
            if bits.bit(156):
                mode = TM if bits.bit(128) else HORIZONTAL
            else:
                mode = VERTICAL if bits.bit(163) else DC
            above[4 * x : 4 * x + 4] = left[:] = [mode] * 4
        else:
            small = []
            for v in range(4):
                for u in range(4):
                    above[4 * x + u] = left[v] = _small_mode(bits, above[4 * x + u], left[v])
                    small.append(left[v])
        colour = DC
        if bits.bit(142):
            colour = VERTICAL if not bits.bit(114) else TM if bits.bit(183) else HORIZONTAL
        return _Block(segment, skipped, small, mode, colour)

    # -- coefficients ------------------------------------------------------------------------------

    def _steps(self, segment: int) -> tuple[tuple[int, int], ...]:
        """(first coefficient's, others') for brightness, its second order, colours."""
        h = self._header
        base, *d = h.steps
        if h.segments:
            base = h.quantisers[segment] + (0 if h.absolute else base)

        def at(more: int, most: int = 127) -> int:
            return min(max(base + more, 0), most)

        second = max(AC_STEPS[at(d[2])] * 155 // 100, 8)
        return (
            (DC_STEPS[at(d[0])], AC_STEPS[at(0)]),
            (2 * DC_STEPS[at(d[1])], second),
            (DC_STEPS[at(d[3], 117)], AC_STEPS[at(d[4])]),
        )

    def _read_coefficients(
        self, part: Bits, block: _Block, above: list[int], left: list[int]
    ) -> tuple[Plane, bool]:
        """(24 blocks, whether any coefficient is not 0); places 8 of `above` and `left` are the
        second order's, 0 to 3 brightness', 4 to 7 the colours'."""
        steps = self._steps(block.segment)
        added = np.zeros((24, 16), np.int64)
        kind, some = _WHOLE, False
        if block.small is None:
            kind = _AFTER_SECOND
            order = np.zeros(16, np.int64)
            count = self._tokens(part, _SECOND, above[8] + left[8], 0, steps[1], order)
            above[8] = left[8] = int(count > 0)
            some = count > 0
            added[:16, 0] = _second_order(order)
        first = int(kind == _AFTER_SECOND)
        for number in range(16):
            v, u = divmod(number, 4)
            count = self._tokens(part, kind, above[u] + left[v], first, steps[0], added[number])
            above[u] = left[v] = int(count > first)
            some |= count > first
        for number in range(8):
            colour, place = divmod(number, 4)
            v, u = 4 + 2 * colour + place // 2, 4 + 2 * colour + place % 2
            count = self._tokens(part, _COLOUR, above[u] + left[v], 0, steps[2], added[16 + number])
            above[u] = left[v] = int(count > 0)
            some |= count > 0
        return added, some

    def _tokens(
        self, bits: Bits, kind: int, context: int, first: int, steps: tuple[int, int], to: Plane
    ) -> int:
        """Reads a block's coefficients; the place behind the last."""
        chances, place = self._header.chances, first

        def at(place: int, context: int) -> int:
            return ((kind * 8 + _BANDS[place]) * 3 + context) * 11

        p = at(place, context)
        while place < 16:
            if not bits.bit(chances[p]):
                return place
            while not bits.bit(chances[p + 1]):
                place += 1
                if place == 16:
                    return 16
                p = at(place, 0)
            if not bits.bit(chances[p + 2]):
                value, context = 1, 1
            else:
                value, context = _large(bits, chances[p : p + 11]), 2
            value = -value if bits.bit(_EVEN) else value
            to[_ZIGZAG[place]] = value * steps[place > 0]
            place += 1
            p = at(place, context)
        return 16

    # -- pixels ------------------------------------------------------------------------------------

    def _draw(self, x: int, y: int, block: _Block, added: Plane) -> None:
        rest = _inverse(added)
        brightness = self._bordered[0]
        top, side = 16 * y, 16 * x
        if block.small is None:
            edge = brightness[top : top + 17, side : side + 17]
            whole = rest[:16].reshape(4, 4, 4, 4).transpose(0, 2, 1, 3).reshape(16, 16)
            edge[1:, 1:] = np.clip(predicted(edge, block.mode, y > 0, x > 0) + whole, 0, 255)
        else:
            right = brightness[top, side + 17 : side + 21].copy()
            if y > 0 and x == self._columns - 1:
                right[:] = brightness[top, side + 16]
            for number, mode in enumerate(block.small):
                v, u = divmod(number, 4)
                at, across = top + 4 * v, side + 4 * u
                edge = np.zeros((5, 9), np.int64)
                edge[:, :5] = brightness[at : at + 5, across : across + 5]
                edge[0, 5:] = right if u == 3 else brightness[at, across + 5 : across + 9]
                made = np.clip(predicted_small(edge, mode) + rest[number], 0, 255)
                brightness[at + 1 : at + 5, across + 1 : across + 5] = made
        for number, plane in enumerate(self._bordered[1:]):
            edge = plane[8 * y : 8 * y + 9, 8 * x : 8 * x + 9]
            own = rest[16 + 4 * number : 20 + 4 * number]
            whole = own.reshape(2, 2, 4, 4).transpose(0, 2, 1, 3).reshape(8, 8)
            edge[1:, 1:] = np.clip(predicted(edge, block.colour, y > 0, x > 0) + whole, 0, 255)

    def _filter(self) -> None:
        h = self._header
        if not h.level:
            return
        for number, (segment, small, inside) in enumerate(self._strengths):
            level = h.level
            if h.segments:
                level = h.levels[segment] + (0 if h.absolute else level)
            level = min(max(level + h.deltas[0] + small * h.deltas[1], 0), 63)
            if not level:
                continue
            inner = level
            if h.sharpness:
                inner = min(inner >> (2 if h.sharpness > 4 else 1), 9 - h.sharpness)
            inner = max(inner, 1)
            high = 2 if level >= 40 else 1 if level >= 15 else 0
            y, x = divmod(number, self._columns)
            filter_block(self.planes, x, y, (2 * level + inner, inner, high), inside, h.simple)


def _large(bits: Bits, p: bytearray) -> int:
    """A coefficient of 2 or more."""
    if not bits.bit(p[3]):
        return 3 + bits.bit(p[5]) if bits.bit(p[4]) else 2
    if not bits.bit(p[6]):
        if not bits.bit(p[7]):
            return 5 + bits.bit(159)
        return 7 + 2 * bits.bit(165) + bits.bit(145)
    high = bits.bit(p[8])
    kind = 2 * high + bits.bit(p[9 + high])
    value = 0
    for chance in _LONG[kind]:
        value = 2 * value + bits.bit(chance)
    return value + 3 + (8 << kind)


def _second_order(x: Plane) -> Plane:
    """The first coefficients of the 16 blocks of brightness, from those of the second order."""

    def turn(a: Plane, b: Plane, c: Plane, d: Plane) -> Plane:
        return np.stack([a + d + b + c, a - d + b - c, a + d - b - c, a - d - b + c])

    down = turn(*x.reshape(4, 4))
    down[:, 0] += 3
    return (turn(*down.T) >> 3).T.reshape(16)


def _inverse(x: Plane) -> Plane:
    """(blocks, 16) coefficients to (blocks, 4, 4) differences of pixels."""

    def turn(x: Plane, axis: int) -> Plane:
        a, b, c, d = np.moveaxis(x, axis, 0)
        even, odd = a + c, a - c
        near = (b * 35468 >> 16) - (d + (d * 20091 >> 16))
        far = b + (b * 20091 >> 16) + (d * 35468 >> 16)
        return np.stack([even + far, odd + near, odd - near, even - far], axis=axis)

    down = turn(x.reshape(-1, 4, 4), 1)
    down[..., 0] += 4
    return turn(down, 2) >> 3
