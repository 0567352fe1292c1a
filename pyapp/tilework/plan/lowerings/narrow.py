"""Casts from and to dtypes of a byte and less, which NumPy lacks.

A float of 8 bits and less is one of 256 numbers: its float32 is looked up. An integer of a few bits
lies in a byte of its own, so that it is one of 8 bits already. Rounding to a small float is a
function of so many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, INT8, INT32, INT64, UINT8, DType
from tilework.hal.kernels.convert import F32_STEPS, StepsParams
from tilework.ir.graph import Node
from tilework.ir.narrow import bits_of, narrow, of_bits, widen
from tilework.ir.opdefs.registry import Array, Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Operands, step
from tilework.plan.lowerings.convert import convert
from tilework.plan.lowerings.move import gathered
from tilework.plan.lowerings.numbers import binary
from tilework.plan.tensor import Tensor
from tilework.plan.walk import dense_run, shaped

STEPS = 2048  # elements a tile, by convert.wit


def cast(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = x in another type, where x or y is narrow."""
    x = inputs[0]
    assert x is not None
    target = results[0].dtype
    if is_constant(x):  # what is computed once does not see a table, which is the plan's
        return "computed once"
    if x.dtype.wide and x.dtype.size == 1:
        wide = _looked_up(b, x) if x.dtype.kind == "f" else _byte(x)
        return [wide] if target is wide.dtype else convert(b, node, (wide,), results)
    if target.kind == "f" and x.dtype is FLOAT32:
        return [_rounded(b, node, x, target)]
    if target.kind not in "iu" or not target.bits:
        return f"no kernel to cast {x.dtype} to {target}"
    whole = convert(b, node, (x,), [Info(INT64, x.shape)])
    if isinstance(whole, str):
        return whole
    return [_low_bits(b, whole[0], results[0])]


def _byte(x: Tensor) -> Tensor:
    return replace(x, dtype=INT8 if x.dtype.kind == "i" else UINT8)


def _looked_up(b: Builder, x: Tensor) -> Tensor:
    codes: Array = np.arange(256, dtype=np.uint8)
    if x.dtype.bits:
        codes &= (1 << x.dtype.bits) - 1
    table = b.local(widen(of_bits(codes, x.dtype)), FLOAT32)
    places = step(b, convert, "cast", Info(INT32, x.shape), replace(x, dtype=UINT8))
    return gathered(b, table, 0, places)


def _keys(values: Array) -> Array:
    """int32 in the order of float32, -0 before 0."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)


def _numbers(keys: Array) -> Array:
    bits = np.where(keys < 0, keys ^ 0x7FFFFFFF, keys).astype(np.int32)
    return bits.view(np.float32)


def steps(dtype: DType, saturate: bool, rounding: str) -> tuple[Array, Array]:
    """(steps, codes) of rounding to `dtype`, by what `ir.narrow` says: between two numbers that
    the dtype has, or one and infinity, the code changes once, at a place found by halving."""

    def coded(keys: Array) -> Array:
        return bits_of(narrow(_numbers(keys), dtype, saturate, rounding)).astype(np.int64)

    all_codes: Array = np.arange(1 << (dtype.bits or 8), dtype=np.uint8)
    known = widen(of_bits(all_codes, dtype)).astype(np.float32)
    known = known[~np.isnan(known)]
    ends: Array = np.array([-np.inf, -0.0, 0.0, np.inf], np.float32)
    keys = np.unique(np.concatenate([_keys(known), _keys(-known), _keys(ends)]))
    low, high = keys[:-1].copy(), keys[1:].copy()
    first, last = coded(low), coded(high)
    while (high - low > 1).any():
        middle = (low + high) // 2
        same = coded(middle) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    changed = first != last
    return high[changed].astype(np.int32), np.append(first[:1], last[changed]).astype(np.uint8)


def _rounded(b: Builder, node: Node, x: Tensor, target: DType) -> Tensor:
    attrs: Any = node.attrs
    saturate, rounding = bool(attrs.get("saturate", 1)), str(attrs.get("rounding", "up"))
    places, codes = steps(target, saturate, rounding)
    nans: Array = np.copysign(np.array([np.nan] * 2, np.float32), np.array([1, -1], np.float32))
    nan, minus = bits_of(narrow(nans, target, saturate, rounding)).tolist()
    run, like = dense_run(b, x)
    y = b.new(target, run.shape)
    tile, tiles = b.tiles(run.size, STEPS)
    params = StepsParams(run.size, len(places), tile, nan, minus)
    operands = (run, b.local(places, INT32), b.local(codes, UINT8), y)
    b.emit(F32_STEPS, (tiles, 1, 1), params, operands)
    return shaped(y, like)


def _low_bits(b: Builder, whole: Tensor, result: Info) -> Tensor:
    """As NumPy wraps integers, in fewer bits."""
    bits, shape = result.dtype.bits, Info(INT64, whole.shape)
    mask = b.local(np.array([(1 << bits) - 1], np.int64), INT64)
    made = step(b, binary, "bitwise_and", shape, whole, mask)
    own = UINT8
    if result.dtype.kind == "i":
        sign = b.local(np.array([1 << (bits - 1)], np.int64), INT64)
        made = step(b, binary, "bitwise_xor", shape, made, sign)
        made = step(b, binary, "sub", shape, made, sign)
        own = INT8
    made = step(b, convert, "cast", Info(own, whole.shape), made)
    return replace(made, dtype=result.dtype)
