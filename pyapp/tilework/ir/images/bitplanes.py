"""A code-block of JPEG 2000: bits of an arithmetic coder to coefficients, plane by plane.

Source: ITU-T T.800, annexes C (the coder, its 47 states) and D (passes and contexts).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# (chance of the less probable symbol, next state after the more probable, after the less, switch)
_STATES = (
    (0x5601, 1, 1, 1), (0x3401, 2, 6, 0), (0x1801, 3, 9, 0), (0x0AC1, 4, 12, 0),
    (0x0521, 5, 29, 0), (0x0221, 38, 33, 0), (0x5601, 7, 6, 1), (0x5401, 8, 14, 0),
    (0x4801, 9, 14, 0), (0x3801, 10, 14, 0), (0x3001, 11, 17, 0), (0x2401, 12, 18, 0),
    (0x1C01, 13, 20, 0), (0x1601, 29, 21, 0), (0x5601, 15, 14, 1), (0x5401, 16, 14, 0),
    (0x5101, 17, 15, 0), (0x4801, 18, 16, 0), (0x3801, 19, 17, 0), (0x3401, 20, 18, 0),
    (0x3001, 21, 19, 0), (0x2801, 22, 19, 0), (0x2401, 23, 20, 0), (0x2201, 24, 21, 0),
    (0x1C01, 25, 22, 0), (0x1801, 26, 23, 0), (0x1601, 27, 24, 0), (0x1401, 28, 25, 0),
    (0x1201, 29, 26, 0), (0x1101, 30, 27, 0), (0x0AC1, 31, 28, 0), (0x09C1, 32, 29, 0),
    (0x08A1, 33, 30, 0), (0x0521, 34, 31, 0), (0x0441, 35, 32, 0), (0x02A1, 36, 33, 0),
    (0x0221, 37, 34, 0), (0x0141, 38, 35, 0), (0x0111, 39, 36, 0), (0x0085, 40, 37, 0),
    (0x0049, 41, 38, 0), (0x0025, 42, 39, 0), (0x0015, 43, 40, 0), (0x0009, 44, 41, 0),
    (0x0005, 45, 42, 0), (0x0001, 45, 43, 0), (0x5601, 46, 46, 0),
)  # fmt: skip
_SIGNS, _REFINE, _RUN, _UNIFORM, _CONTEXTS = 9, 14, 17, 18, 19
_FIRST = {0: 4, _RUN: 3, _UNIFORM: 46}
# (horizontal, vertical) signs of the neighbours -> context above _SIGNS, whether the sign is turned
_SIGN_OF = {
    (1, 1): (4, 0), (1, 0): (3, 0), (1, -1): (2, 0), (0, 1): (1, 0), (0, 0): (0, 0),
    (0, -1): (1, 1), (-1, 1): (2, 1), (-1, 0): (3, 1), (-1, -1): (4, 1),
}  # fmt: skip
_STRIPE = 4  # rows that a pass goes down before it goes on to the right


class _Coder:
    """The arithmetic decoder; behind its data it reads ones."""

    def __init__(self, data: bytes) -> None:
        self._data = data + b"\xff\xff"
        self._at = 0
        self._c = self._data[0] << 16
        self._ct = 0
        self._states = [_FIRST.get(context, 0) for context in range(_CONTEXTS)]
        self._likely = [0] * _CONTEXTS
        self._byte()
        self._c <<= 7
        self._ct -= 7
        self._a = 0x8000

    def _byte(self) -> None:
        data, at = self._data, self._at
        if data[at] == 0xFF:
            if data[at + 1] > 0x8F:
                self._c += 0xFF00
                self._ct = 8
                return
            self._c += data[at + 1] << 9
            self._ct = 7
        else:
            self._c += data[at + 1] << 8
            self._ct = 8
        self._at = at + 1

    def bit(self, context: int) -> int:
        """The next decision in this context."""
        chance, more, less, switch = _STATES[self._states[context]]
        likely = self._likely[context]
        self._a -= chance
        if self._c >> 16 < chance:
            rare = self._a >= chance
            self._a = chance
        else:
            self._c -= chance << 16
            if self._a & 0x8000:
                return likely
            rare = self._a < chance
        self._states[context] = less if rare else more
        if rare and switch:
            self._likely[context] = 1 - likely
        while True:
            if self._ct == 0:
                self._byte()
            self._a <<= 1
            self._c = self._c << 1 & 0xFFFFFFFF
            self._ct -= 1
            if self._a & 0x8000:
                return 1 - likely if rare else likely


def _zero_context(orientation: str, h: int, v: int, d: int) -> int:
    """Of a coefficient that is 0 so far, by how many neighbours are not."""
    if orientation == "HH":
        near = min(h + v, 2)
        if d >= 3:
            return 8
        if d == 2:
            return 7 if near else 6
        return 3 * d + near
    if orientation == "HL":
        h, v = v, h
    if h == 2:
        return 8
    if h == 1:
        return 7 if v else 6 if d else 5
    return v + 2 if v else min(d, 2)


@dataclass(slots=True)
class Block:
    """One code-block's coefficients, with a border of zeros; `data` is that of all its layers."""

    width: int
    height: int
    orientation: str
    data: bytearray = field(default_factory=bytearray)
    passes: int = 0
    planes: int = 0  # of bits, without those that are 0 in all coefficients

    def coefficients(self) -> Ints:
        """(height, width), signed."""
        if not self.passes:
            return np.zeros((self.height, self.width), np.int64)
        return _Decoding(self).run()


class _Decoding:
    def __init__(self, block: Block) -> None:
        self._block = block
        self._coder = _Coder(bytes(block.data))
        rows, self._wide = block.height + 2, block.width + 2
        self._sign = [0] * (rows * self._wide)  # 0: not significant, else 1 or -1
        self._size = [0] * (rows * self._wide)
        self._refined = [False] * (rows * self._wide)
        self._seen = [False] * (rows * self._wide)  # in this plane

    def run(self) -> Ints:
        block = self._block
        plane = block.planes - 1
        kind = 2  # the first plane has a clean-up only
        for _ in range(block.passes):
            if plane < 0:
                raise ValueError("more passes than planes")
            (self._propagate, self._refine, self._clean)[kind](1 << plane)
            kind += 1
            if kind == 3:
                kind, plane = 0, plane - 1
                self._seen = [False] * len(self._seen)
        values: Ints = np.array(self._sign) * np.array(self._size)
        return values.reshape(block.height + 2, self._wide)[1:-1, 1:-1]

    def _columns(self) -> list[list[int]]:
        """The places of each stripe's columns, in the order of the passes."""
        block, found = self._block, []
        for top in range(0, block.height, _STRIPE):
            rows = range(top, min(top + _STRIPE, block.height))
            for x in range(block.width):
                found.append([(y + 1) * self._wide + x + 1 for y in rows])
        return found

    def _near(self, at: int) -> tuple[int, int, int]:
        s, w = self._sign, self._wide
        horizontal = (s[at - 1] != 0) + (s[at + 1] != 0)
        vertical = (s[at - w] != 0) + (s[at + w] != 0)
        diagonal = (s[at - w - 1] != 0) + (s[at - w + 1] != 0) + (s[at + w - 1] != 0)
        return horizontal, vertical, diagonal + (s[at + w + 1] != 0)

    def _appear(self, at: int, weight: int) -> None:
        """A coefficient becomes significant: its sign."""
        s, w = self._sign, self._wide
        horizontal = max(-1, min(1, s[at - 1] + s[at + 1]))
        vertical = max(-1, min(1, s[at - w] + s[at + w]))
        context, turned = _SIGN_OF[horizontal, vertical]
        s[at] = -1 if self._coder.bit(_SIGNS + context) ^ turned else 1
        self._size[at] = weight

    def _propagate(self, weight: int) -> None:
        for column in self._columns():
            for at in column:
                if self._sign[at]:
                    continue
                context = _zero_context(self._block.orientation, *self._near(at))
                if context:
                    self._seen[at] = True
                    if self._coder.bit(context):
                        self._appear(at, weight)

    def _refine(self, weight: int) -> None:
        for column in self._columns():
            for at in column:
                if not self._sign[at] or self._seen[at]:
                    continue
                first = _REFINE + (1 if any(self._near(at)) else 0)
                if self._coder.bit(_REFINE + 2 if self._refined[at] else first):
                    self._size[at] |= weight
                self._refined[at] = True

    def _clean(self, weight: int) -> None:
        coder = self._coder
        for column in self._columns():
            start, known = 0, False
            quiet = len(column) == _STRIPE and not any(
                self._sign[at] or self._seen[at] or any(self._near(at)) for at in column
            )
            if quiet:
                if not coder.bit(_RUN):
                    continue
                start, known = coder.bit(_UNIFORM) << 1 | coder.bit(_UNIFORM), True
            for at in column[start:]:
                if not known and (self._sign[at] or self._seen[at]):
                    continue
                context = _zero_context(self._block.orientation, *self._near(at))
                if known or coder.bit(context):
                    self._appear(at, weight)
                known = False
