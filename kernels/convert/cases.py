"""Cases of cast: every pair of types, the ends of their ranges, tails."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels.convert import CAST, CastParams, ElementType

Array = NDArray[Any]
T = ElementType
TYPES: dict[ElementType, Any] = {
    T.FLOAT32: np.float32, T.FLOAT64: np.float64, T.INT32: np.int32, T.INT64: np.int64,
    T.INT8: np.int8, T.UINT8: np.uint8, T.BOOLEAN: np.uint8,
}  # fmt: skip
FLOATS = [
    0.0, -0.0, 0.5, -0.5, 0.9999, 1.0, -1.0, 2.5, -2.5, 127.0, 128.0, -128.0, -129.0, 255.0, 256.0,
    -255.0, 1000.7, -1e6, 16777217.0, 2147483520.0, 2147483648.0, -2147483648.0, -3e9, 9.2e18,
    9.3e18, -9.3e18, 1e30, np.inf, -np.inf, np.nan, 1e-45, 3e38,
]  # fmt: skip


def samples(source: ElementType, n: int) -> Array:
    """`n` elements, the remarkable ones first."""
    dtype = TYPES[source]
    rng = np.random.default_rng(n)
    if np.dtype(dtype).kind == "f":
        first = np.array(FLOATS).astype(dtype)
        rest = (rng.standard_normal(max(0, n - first.size)) * 1e4).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        low, high = (0, 1) if source is T.BOOLEAN else (limits.min, limits.max)
        small = [
            v for v in (0, 1, -1, 100, 255, 256, -256, 1 << 24, (1 << 24) + 1) if low <= v <= high
        ]
        first = np.array([low, high, *small], dtype)
        rest = rng.integers(low, high, max(0, n - first.size), dtype, endpoint=True)
    return np.concatenate([first, rest])[:n]


def to_integer(x: Array, dtype: Any) -> Array:
    """Truncation that saturates, NaN to 0; `dtype` is int32 or int64."""
    limits = np.iinfo(dtype)
    values = x.astype(np.float64)
    below, above = values <= float(limits.min), values >= float(limits.max)
    middle = np.where(below | above | np.isnan(values), 0, values).astype(dtype)
    return np.where(below, limits.min, np.where(above, limits.max, middle)).astype(dtype)


def converted(x: Array, source: ElementType, target: ElementType) -> Array:
    """What convert.wit says, by NumPy on values that NumPy defines."""
    dtype = TYPES[target]
    with np.errstate(all="ignore"):
        if target is T.BOOLEAN:
            return np.asarray(x != 0).astype(np.uint8)
        if source is T.BOOLEAN:
            return np.asarray(np.asarray(x != 0).astype(dtype))
        if x.dtype.kind != "f" or np.dtype(dtype).kind == "f":
            return x.astype(dtype)
        if np.dtype(dtype).itemsize == 1:
            return to_integer(x, np.int32).astype(dtype)
        return to_integer(x, dtype)


def cast(source: ElementType, target: ElementType, n: int, tile: int, note: str = "") -> Case:
    x = samples(source, n)
    same = x.itemsize == np.dtype(TYPES[target]).itemsize and note == "in place"
    return Case(
        CAST,
        (up(n, tile), 1, 1),
        CastParams(n, tile, source, target),
        [x, x.copy().view(TYPES[target]) if same else np.full(n, 9, TYPES[target])],
        {1: converted(x, source, target)},
        Tolerance(0),
        same={1: 0} if same else {},
        note=f"{source.name} {target.name} {n} {note}",
    )


CASES: list[Case] = [
    *(cast(s, t, 101, 32) for s in T for t in T),
    *(cast(s, t, n, 1 << 20) for n in (0, 1, 2, 3, 5, 15, 17)
      for s, t in ((T.FLOAT32, T.INT64), (T.BOOLEAN, T.FLOAT32), (T.INT64, T.INT32))),
    *(cast(s, t, 101, 32, "in place") for s, t in ((T.FLOAT32, T.INT32), (T.INT64, T.FLOAT64))),
    Case(CAST, (1, 1, 1), CastParams(4, 0, T.INT8, T.INT8), [samples(T.INT8, 4)] * 2,
         status=INVALID_PARAMS, note="tile of 0"),
    Case(CAST, (1, 1, 1), CastParams(5, 8, T.FLOAT32, T.INT8),
         [samples(T.FLOAT32, 4), samples(T.INT8, 5)], status=TOO_SHORT, note="x too short"),
    Case(CAST, (1, 1, 1), CastParams(5, 8, T.FLOAT32, T.INT64),
         [samples(T.FLOAT32, 5), samples(T.INT64, 4)], status=TOO_SHORT, note="y too short"),
]  # fmt: skip
