"""VP8's predictions and its filter across block edges. Source: RFC 6386, sections 12 and 15."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.int64]

DC, TM, VERTICAL, HORIZONTAL, RD, VR, LD, VL, HD, HU = range(10)


def predicted(edge: Plane, mode: int, above: bool, left: bool) -> Plane:
    """A square whose row above and column at the left, with the corner, are those of `edge`."""
    top, side, corner = edge[0, 1:], edge[1:, :1], edge[0, 0]
    size = len(side)
    top = top[:size]
    if mode == VERTICAL:
        return np.broadcast_to(top, (size, size))
    if mode == HORIZONTAL:
        return np.broadcast_to(side, (size, size))
    if mode == TM:
        return np.asarray(np.clip(side + top - corner, 0, 255))
    known = [part for part, there in ((top, above), (side, left)) if there]
    if not known:
        return np.full((size, size), 128)
    count = size * len(known)
    return np.full((size, size), (sum(int(part.sum()) for part in known) + count // 2) // count)


# A 4 × 4 block's pixels, row by row, by the place p of the edge around it that they are made of,
# from the lowest at the left (0) over the corner (4) to the rightmost above (12): p - 1, p and
# p + 1 weighted 1, 2, 1; 100 + p: the mean of p and p + 1; -1: place 0 itself.
_TWO = 100
_DIRECTED = {
    RD: [[4, 5, 6, 7], [3, 4, 5, 6], [2, 3, 4, 5], [1, 2, 3, 4]],
    LD: [[6, 7, 8, 9], [7, 8, 9, 10], [8, 9, 10, 11], [9, 10, 11, 12]],
    VR: [[104, 105, 106, 107], [4, 5, 6, 7], [3, 104, 105, 106], [2, 4, 5, 6]],
    VL: [[105, 106, 107, 108], [6, 7, 8, 9], [106, 107, 108, 10], [7, 8, 9, 11]],
    HD: [[103, 4, 5, 6], [102, 3, 103, 4], [101, 2, 102, 3], [100, 1, 101, 2]],
    HU: [[102, 2, 101, 1], [101, 1, 100, 0], [100, 0, -1, -1], [-1, -1, -1, -1]],
    VERTICAL: [[5, 6, 7, 8]] * 4,
    HORIZONTAL: [[3] * 4, [2] * 4, [1] * 4, [0] * 4],
}


def predicted_small(edge: Plane, mode: int) -> Plane:
    """A 4 × 4 block; `edge` has the row above, four more at its right, and the left column."""
    if mode == TM:
        return np.asarray(np.clip(edge[1:, :1] + edge[0, 1:5] - edge[0, 0], 0, 255))
    if mode == DC:
        return np.full((4, 4), (int(edge[0, 1:5].sum() + edge[1:, 0].sum()) + 4) >> 3)
    around: list[int] = [*edge[1:, 0][::-1].tolist(), *edge[0].tolist()]

    def pixel(place: int) -> int:
        if place < 0:
            return around[0]
        if place >= _TWO:
            return around[place - _TWO] + around[place - _TWO + 1] + 1 >> 1
        before = around[max(place - 1, 0)]
        behind = around[min(place + 1, len(around) - 1)]
        return before + 2 * around[place] + behind + 2 >> 2

    return np.array([[pixel(place) for place in row] for row in _DIRECTED[mode]])


# -- the filter across edges -----------------------------------------------------------------------


def _signed(x: Plane, low: int = -128, high: int = 127) -> Plane:
    return np.clip(x, low, high)


def filter_edge(lines: Plane, limit: int, inner: int, high: int, outer: bool, simple: bool) -> None:
    """Smooths lines of eight pixels across their middle, in place, where they differ little.

    `inner`, `high`: how much neighbours may differ, and when a line counts as rough. `outer`: an
    edge of a macroblock, which is smoothed more widely.
    """
    p3, p2, p1, p0, q0, q1, q2, q3 = (lines[:, n].copy() for n in range(8))
    near = 4 * np.abs(p0 - q0) + np.abs(p1 - q1) <= 2 * limit + 1
    if simple:
        rough = near
    else:
        for a, b in ((p3, p2), (p2, p1), (p1, p0), (q3, q2), (q2, q1), (q1, q0)):
            near &= np.abs(a - b) <= inner
        rough = (np.abs(p1 - p0) > high) | (np.abs(q1 - q0) > high)
    across = _signed(p1 - q1)

    def put(place: int, value: Plane, where: Plane) -> None:
        lines[:, place] = np.where(where, np.clip(value, 0, 255), lines[:, place])

    a = 3 * (q0 - p0) + across
    first, second = (_signed(a + n >> 3, -16, 15) for n in (4, 3))
    put(4, q0 - first, near & rough)
    put(3, p0 + second, near & rough)
    smooth = near & ~rough
    if outer:
        a = _signed(3 * (q0 - p0) + across)
        for weight, low, p, high_place, q in ((27, 3, p0, 4, q0), (18, 2, p1, 5, q1),
                                              (9, 1, p2, 6, q2)):  # fmt: skip
            change = weight * a + 63 >> 7
            put(low, p + change, smooth)
            put(high_place, q - change, smooth)
        return
    a = 3 * (q0 - p0)
    first, second = (_signed(a + n >> 3, -16, 15) for n in (4, 3))
    third = first + 1 >> 1
    for place, value in ((2, p1 + third), (3, p0 + second), (4, q0 - first), (5, q1 - third)):
        put(place, value, smooth)


def filter_block(
    planes: Sequence[Plane],
    x: int,
    y: int,
    strength: tuple[int, int, int],
    inside: bool,
    simple: bool,
) -> None:
    """All edges of the macroblock at (x, y): its left one, those inside, its upper one, those
    inside. `strength`: limit, inner limit, roughness."""
    limit, inner, high = strength
    for upright in (True, False):
        for number, plane in enumerate(planes[:1] if simple else planes):
            size = 16 if number == 0 else 8
            part = plane if upright else plane.T
            row, column = (y, x) if upright else (x, y)
            rows = slice(row * size, row * size + size)
            for edge in range(0, size, 4):
                at = column * size + edge
                if (edge == 0 and column == 0) or (edge and not inside):
                    continue
                more = limit if edge else limit + 4
                lines = part[rows, at - 4 : at + 4]
                filter_edge(lines, more, inner, high, edge == 0, simple)
