"""Cases of f32_softmax: lines and columns, tails, extreme and special values, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels.softmax import F32_SOFTMAX, Op, SoftmaxParams

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def softmax(op: Op, x: Array, tile: int, note: str, in_place: bool = False) -> Case:
    """x is (outer, axis, inner)."""
    outer, axis, inner = x.shape
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        shifted = wide - wide.max(1, keepdims=True, initial=-np.inf)
        total = np.exp(shifted).sum(1, keepdims=True)
        expected = np.exp(shifted) / total if op is Op.SOFTMAX else shifted - np.log(total)
    # rounding of the sum grows with the square root of its terms, at most one piece of them;
    # exponentials below e^-87 count as 0; rounding x - max costs half its ulp, in the exponential
    # an error relative to the result; log-softmax rounds to the larger of x - max and the logarithm
    finite = wide[np.isfinite(wide)]
    size = float(np.max(np.abs(finite), initial=0))
    spread = min(float(np.ptp(finite)) if finite.size else 0.0, 104.0)
    absolute = 1.7e-38 if op is Op.SOFTMAX else 2e-7 + 1.2e-7 * size
    return Case(
        F32_SOFTMAX,
        (up(outer * inner, tile), 1, 1),
        SoftmaxParams(outer, axis, inner, tile, op),
        [x.ravel(), np.zeros(x.size, np.float32)],
        {1: expected.ravel()},
        Tolerance(5 + spread + min(axis, 256) ** 0.5 / 2, absolute),
        same={1: 0} if in_place else {},
        note=f"{op.name.lower()} {x.shape} {note}",
    )


def values(*shape: int, scale: float = 3.0) -> Array:
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    return np.asarray(x * scale).astype(np.float32)


def special(inner: int) -> Array:
    x = values(6, 9, inner)
    x[1, 4], x[2, 4], x[3, 4], x[4] = np.nan, np.inf, -np.inf, -np.inf
    x[5, :4] = -1e4
    return x


CASES: list[Case] = [
    *(softmax(op, values(5, n, 1), 2, "lines") for op in Op
      for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 64, 100, 1000)),
    *(softmax(op, values(2, 9, n), 5, "columns") for op in Op
      for n in (2, 3, 4, 5, 16, 17, 23, 39)),
    *(softmax(op, values(3, n, inner, scale=30), 99, "far apart")
      for op in Op for n, inner in ((40, 1), (40, 6))),
    *(softmax(op, special(inner), 4, "special values") for op in Op for inner in (1, 3, 18)),
    *(softmax(op, values(4, 50, inner), 3, "in place", True) for op in Op for inner in (1, 5)),
    *(softmax(op, values(1, 20000, inner), 9, "a long axis") for op in Op for inner in (1, 3)),
    *(softmax(op, values(*shape), 9, "nothing") for op in Op
      for shape in ((0, 3, 1), (3, 0, 1), (3, 2, 0))),
    softmax(Op.SOFTMAX, values(3, 20, 1) - 1e30, 1, "equal after rounding"),
    Case(F32_SOFTMAX, (1, 1, 1), SoftmaxParams(2, 2, 1, 0, Op.SOFTMAX), [values(4), values(4)],
         status=INVALID_PARAMS, note="tile of 0"),
    Case(F32_SOFTMAX, (1, 1, 1), SoftmaxParams(2, 2, 1, 1, Op.SOFTMAX), [values(3), values(4)],
         status=TOO_SHORT, note="x too short"),
    Case(F32_SOFTMAX, (1, 1, 1), SoftmaxParams(2, 2, 1, 1, Op.SOFTMAX), [values(4), values(3)],
         status=TOO_SHORT, note="y too short"),
]  # fmt: skip


@st.composite
def _lines(draw: Draw) -> Case:
    outer, axis = draw(st.integers(1, 4)), draw(st.integers(1, 60))
    inner = draw(st.sampled_from([1, 1, 2, 5, 19]))
    op = draw(st.sampled_from(list(Op)))
    scale = draw(st.sampled_from([0.1, 3.0, 40.0]))
    x = values(outer, axis, inner, scale=scale)
    return softmax(op, x, draw(st.integers(1, 40)), "drawn", draw(st.booleans()))


DRAWN: dict[str, st.SearchStrategy[Case]] = {"lines": _lines()}
