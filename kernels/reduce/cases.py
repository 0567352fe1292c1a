"""Cases of f32_reduce: every operation along contiguous and strided axes, accuracy, empty axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels.reduce import F32_REDUCE, Op, ReduceParams

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def log_sum_exp(x: Array) -> Array:
    if not x.shape[1]:
        return np.full((x.shape[0], x.shape[2]), -np.inf)
    highest = x.max(1, keepdims=True)
    shift = np.where(np.isinf(highest), 0, highest)
    return np.asarray(np.log(np.exp(x - shift).sum(1)) + shift[:, 0])


FORMULAS: dict[Op, Callable[[Array], Array]] = {
    Op.SUM: lambda x: x.sum(1),
    Op.MEAN: lambda x: x.sum(1) / x.shape[1],
    Op.MAX: lambda x: x.max(1, initial=-np.inf),
    Op.MIN: lambda x: x.min(1, initial=np.inf),
    Op.PROD: lambda x: x.prod(1),
    Op.SUM_SQUARE: lambda x: (x * x).sum(1),
    Op.L1: lambda x: np.abs(x).sum(1),
    Op.L2: lambda x: np.sqrt((x * x).sum(1)),
    Op.LOG_SUM: lambda x: np.log(x.sum(1)),
    Op.LOG_SUM_EXP: log_sum_exp,
}


def reduction(
    op: Op, x: Array, tile: int, note: str, ulp: float = 8, absolute: float | None = None
) -> Case:
    """x is (outer, axis, inner). Sums may cancel: `absolute` is relative to their terms."""
    outer, axis, inner = x.shape
    with np.errstate(all="ignore"):
        expected = np.asarray(FORMULAS[op](x.astype(np.float64))).astype(np.float64).ravel()
    exact = op in (Op.MAX, Op.MIN)
    if absolute is None:
        terms = np.abs(np.where(np.isfinite(x), x, 0))
        absolute = 4 * 2.0**-24 * float(np.max(terms.sum(1), initial=1))
    return Case(
        F32_REDUCE,
        (up(outer * inner, tile), 1, 1),
        ReduceParams(outer, axis, inner, tile, op),
        [x.ravel(), np.full(outer * inner, 5, np.float32)],
        {1: expected},
        Tolerance(0) if exact else Tolerance(ulp, absolute),
        note=f"{op.name.lower()} {x.shape} {note}",
    )


def values(op: Op, *shape: int) -> Array:
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    if op is Op.LOG_SUM:
        x = np.abs(x)
    if op is Op.PROD:
        x = 1 + x * 0.1
    return x.astype(np.float32)


def with_special(special: list[float], axis: int, inner: int) -> Array:
    """Columns of ones with one special value each, and one of nothing but it."""
    x = np.ones((2 * len(special), axis, inner), np.float32)
    for i, value in enumerate(special):
        x[2 * i, axis // 2, inner // 2] = value
        x[2 * i + 1] = value
    return x


LONG = np.random.default_rng(1).random((1, 1 << 20, 1)).astype(np.float32)
TALL = np.random.default_rng(1).random((1, 1 << 16, 5)).astype(np.float32)
CASES: list[Case] = [
    *(reduction(op, values(op, 3, n, 1), 2, "lines") for op in Op
      for n in (0, 1, 2, 3, 4, 5, 15, 16, 17, 35, 130)),
    *(reduction(op, values(op, 2, 5, n), 7, "columns") for op in Op
      for n in (2, 3, 4, 5, 16, 17, 21, 38)),
    *(reduction(op, values(op, 2, n, 6), 100, "columns") for op in Op for n in (0, 1, 130, 300)),
    *(reduction(op, with_special([np.nan, np.inf, -np.inf, 0.0, -1.0], axis, inner), 3, "special")
      for op in Op for axis, inner in ((21, 1), (3, 1), (5, 3), (3, 17))),
    reduction(Op.SUM, LONG, 1, "a million terms", ulp=1, absolute=0),
    reduction(Op.MEAN, LONG + 1000, 1, "a million terms", ulp=1, absolute=0),
    reduction(Op.SUM_SQUARE, LONG, 1, "a million terms", ulp=2, absolute=0),
    reduction(Op.SUM, TALL, 16, "tall columns", ulp=64, absolute=0),
    reduction(Op.LOG_SUM_EXP, values(Op.SUM, 2, 40, 1) * 100, 1, "far apart"),
    reduction(Op.LOG_SUM_EXP, values(Op.SUM, 2, 40, 3) + 500, 9, "would overflow"),
    reduction(Op.SUM, values(Op.SUM, 0, 4, 5), 4, "no lines"),
    Case(F32_REDUCE, (1, 1, 1), ReduceParams(2, 2, 1, 0, Op.SUM),
         [values(Op.SUM, 4), values(Op.SUM, 2)], status=INVALID_PARAMS, note="tile of 0"),
    Case(F32_REDUCE, (1, 1, 1), ReduceParams(2, 2, 1, 9, Op.SUM),
         [values(Op.SUM, 3), values(Op.SUM, 2)], status=TOO_SHORT, note="x too short"),
    Case(F32_REDUCE, (1, 1, 1), ReduceParams(2, 2, 1, 9, Op.SUM),
         [values(Op.SUM, 4), values(Op.SUM, 1)], status=TOO_SHORT, note="y too short"),
    Case(F32_REDUCE, (1, 1, 1), ReduceParams(1 << 16, 1 << 16, 1 << 15, 9, Op.SUM),
         [values(Op.SUM, 4), values(Op.SUM, 1)], status=TOO_SHORT, note="sizes that wrap around"),
]  # fmt: skip


@st.composite
def _reductions(draw: Draw) -> Case:
    op = draw(st.sampled_from(list(Op)))
    outer, axis = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    inner = draw(st.sampled_from([1, 1, 2, 3, 5, 8, 19, 33]))
    return reduction(op, values(op, outer, axis, inner), draw(st.integers(1, 50)), "drawn")


DRAWN: dict[str, st.SearchStrategy[Case]] = {"reductions": _reductions()}
