"""Cases of the rotary embedding: both kinds of pairs, strides, tails, in place, bad parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, refused, up
from tilework.hal.kernels.rotary import F32_ROTARY, RotaryParams

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def rotary(
    shape: tuple[int, int, int, int],
    pairs: int,
    interleaved: bool = False,
    tile: int = 3,
    rows_first: bool = False,
    one_angle: bool = False,
    in_place: bool = False,
    note: str = "",
) -> Case:
    """`shape` is (batch, heads, rows, features); `rows_first`: heads lie within a row in memory;
    `one_angle`: the batch shares its angles."""
    batch, heads, rows, features = shape
    rng = np.random.default_rng(sum(shape) + pairs)
    x = rng.standard_normal(shape).astype(np.float32)
    angle_shape = (1 if one_angle else batch, rows, pairs)
    cos, sin = (rng.uniform(-1, 1, angle_shape).astype(np.float32) for _ in range(2))
    wide, c, s = x.astype(np.float64), cos[:, None].astype(np.float64), sin[:, None]
    if interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    y = wide.copy()
    y[..., first] = wide[..., first] * c - wide[..., second] * s
    y[..., second] = wide[..., second] * c + wide[..., first] * s
    strides = (heads * rows * features, rows * features, features)
    if rows_first:
        strides = (heads * rows * features, features, heads * features)
        x, y = x.transpose(0, 2, 1, 3), y.transpose(0, 2, 1, 3)
    flat = np.ascontiguousarray(x).ravel()
    return Case(
        F32_ROTARY,
        (up(batch * heads * rows, tile), 1, 1),
        RotaryParams(
            batch, heads, rows, features, pairs, *strides, *strides,
            0 if one_angle else rows * pairs, pairs, int(interleaved), tile,
        ),
        [flat, cos.ravel(), sin.ravel(), np.zeros(flat.size, np.float32)],
        {3: np.ascontiguousarray(y).ravel()},
        Tolerance(2, 1e-6),
        same={3: 0} if in_place else {},
        note=note or f"{shape} {pairs} pairs{', interleaved' if interleaved else ''}",
    )  # fmt: skip


GOOD = rotary((1, 2, 3, 8), 4)
CASES = [
    *(rotary((2, 3, 5, 2 * pairs + more), pairs, interleaved)
      for interleaved in (False, True) for pairs in (0, 1, 3, 4, 5, 8, 32) for more in (0, 3)),
    *(rotary((2, 3, 4, 10), 4, interleaved, rows_first=first, one_angle=one, in_place=place,
             note=f"rows first {first}, one angle {one}, in place {place}, {interleaved}")
      for interleaved in (False, True) for first in (False, True) for one in (False, True)
      for place in (False, True)),
    rotary((1, 1, 1, 2), 1, note="one pair"),
    rotary((0, 2, 3, 8), 4, note="no batch"),
    rotary((2, 2, 0, 8), 4, note="no rows"),
    rotary((1, 4, 64, 64), 32, tile=256, note="a tile of all lines"),
    refused(GOOD, INVALID_PARAMS, "no lines a tile", tile_lines=0),
    refused(GOOD, INVALID_PARAMS, "more pairs than there are", pairs=5),
    refused(GOOD, INVALID_PARAMS, "lines past 32 bits", batch=1 << 20, heads=1 << 20),
    refused(GOOD, TOO_SHORT, "x too short", x_row=9),
    refused(GOOD, TOO_SHORT, "y too short", y_row=9),
    refused(GOOD, TOO_SHORT, "angles too short", angle_row=5),
    refused(GOOD, TOO_SHORT, "a stride past 32 bits", x_row=0xFFFFFFFF),
]  # fmt: skip


@st.composite
def drawn(draw: Draw) -> Case:
    batch, heads, rows = (draw(st.integers(1, 4)) for _ in range(3))
    features = draw(st.integers(1, 40))
    return rotary(
        (batch, heads, rows, features),
        draw(st.integers(0, features // 2)),
        draw(st.booleans()),
        draw(st.integers(1, 9)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
        "drawn",
    )


DRAWN: dict[str, st.SearchStrategy[Case]] = {"rotary": drawn()}
