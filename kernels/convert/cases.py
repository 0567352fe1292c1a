"""Cases of cast: every pair of types, the ends of their ranges, tails; all 65536 halves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, refused, short, up
from tilework.core.dtypes import BFLOAT16
from tilework.hal.kernels.convert import (
    CAST,
    F32_STEPS,
    NARROW_HALF,
    WIDEN_HALF,
    CastParams,
    ElementType,
    Half,
    HalfParams,
    StepsParams,
)
from tilework.ir.narrow import bits_of, narrow, of_bits, widen

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


def bits(x: Array, form: Half) -> Array:
    """float32 as halves, by NumPy and by `ir.narrow`."""
    with np.errstate(all="ignore"):
        if form is Half.FLOAT16:
            return x.astype(np.float16).view(np.uint16)
        return bits_of(narrow(x, BFLOAT16))


def widened(form: Half, codes: Array, note: str) -> Case:
    number = codes.view(np.float16).astype(np.float32)
    if form is Half.BFLOAT16:
        number = widen(of_bits(codes, BFLOAT16))
    n = codes.size
    return Case(
        WIDEN_HALF,
        (up(n, 4096), 1, 1),
        HalfParams(n, 4096, form),
        [codes, np.full(n, 9, np.float32)],
        {1: number},
        note=f"{form.name} {note}",
    )


def narrowed(form: Half, x: Array, note: str) -> Case:
    n = x.size
    return Case(
        NARROW_HALF,
        (up(n, 1000), 1, 1),
        HalfParams(n, 1000, form),
        [x, np.full(n, 9, np.uint16)],
        {1: bits(x, form)},
        note=f"{form.name} {note}",
    )


def between(form: Half) -> Array:
    """Numbers around every border between two halves: the ties, and what is next to them."""
    edges = np.arange(0x7C00 if form is Half.FLOAT16 else 0x7F80, dtype=np.uint16)
    if form is Half.FLOAT16:
        low = edges.view(np.float16).astype(np.float32)
        high = (edges + 1).astype(np.uint16).view(np.float16).astype(np.float32)
        high[-1] = 65536
    else:
        low, high = (widen(of_bits((edges + n).astype(np.uint16), BFLOAT16)) for n in (0, 1))
        high[-1] = np.inf
    middle = low + (high - low) / 2
    return np.concatenate([np.nextafter(middle, low), middle, np.nextafter(middle, high), -middle])


def stepped(count: int, steps: int, tile: int = 50) -> Case:
    """Random steps; numbers at them, next to them and without any order."""
    rng = np.random.default_rng(count + steps)
    at = np.unique(rng.standard_normal(4 * steps).astype(np.float32))[:steps]
    x = np.concatenate([[np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf], at, np.nextafter(at, -9),
                        rng.standard_normal(count)])[:count].astype(np.float32)  # fmt: skip
    x[1:2] = np.copysign(x[1:2], -1)
    bits = at.view(np.int32)
    keys = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int32)
    codes = rng.integers(0, 256, len(at) + 1).astype(np.uint8)
    y = codes[np.searchsorted(at, x, side="right")]
    y = np.where(np.isnan(x), np.where(np.signbit(x), 9, 7), y).astype(np.uint8)
    params = StepsParams(count, len(at), tile, 7, 9)
    bindings = [x, keys, codes, np.zeros(count, np.uint8)]
    return Case(F32_STEPS, (up(count, tile), 1, 1), params, bindings, {3: y},
                note=f"{count} {steps}")  # fmt: skip


STEPPED = stepped(200, 15)
ALL_CODES = np.arange(1 << 16, dtype=np.uint16)
HALVES: list[Case] = [
    *(widened(form, ALL_CODES, "all") for form in Half),
    *(widened(form, ALL_CODES[15000 : 15000 + n], f"{n}") for form in Half for n in (1, 3, 6)),
    *(narrowed(form, between(form), "ties") for form in Half),
    *(narrowed(form, samples(T.FLOAT32, n), f"{n}") for form in Half for n in (1, 7, 9, 300)),
    Case(WIDEN_HALF, (1, 1, 1), HalfParams(5, 8, Half.FLOAT16),
         [ALL_CODES[:4], np.zeros(5, np.float32)], status=TOO_SHORT, note="x too short"),
    Case(NARROW_HALF, (1, 1, 1), HalfParams(5, 0, Half.FLOAT16),
         [np.zeros(5, np.float32), ALL_CODES[:5]], status=INVALID_PARAMS, note="tile of 0"),
]  # fmt: skip
CASES: list[Case] = [
    *HALVES,
    STEPPED,
    *(stepped(count, steps) for count, steps in ((0, 3), (1, 0), (30, 1), (90, 2), (4000, 1024))),
    refused(STEPPED, tile_elements=0),
    refused(STEPPED, steps=1025),
    *short(STEPPED),
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
