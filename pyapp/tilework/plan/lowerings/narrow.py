"""Casts from dtypes of a byte and less, which NumPy lacks, and to integers of a few bits.

A float of 8 bits and less is one of 256 numbers: its float32 is looked up. An integer of a few bits
lies in a byte of its own, so that it is one of 8 bits already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tilework.core.dtypes import FLOAT32, INT8, INT32, INT64, UINT8
from tilework.ir.graph import Node
from tilework.ir.narrow import of_bits, widen
from tilework.ir.opdefs.registry import Array, Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Operands
from tilework.plan.lowerings.composed import step
from tilework.plan.lowerings.elementwise import cast as plain
from tilework.plan.lowerings.move import gathered
from tilework.plan.lowerings.numbers import binary
from tilework.plan.tensor import Tensor


def cast(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = x in another type, where x or y is narrow."""
    x = inputs[0]
    assert x is not None
    target = results[0].dtype
    if is_constant(x):  # what is computed once does not see a table, which is the plan's
        return "computed once"
    if x.dtype.wide and x.dtype.size == 1:
        wide = _looked_up(b, x) if x.dtype.kind == "f" else _byte(x)
        return [wide] if target is wide.dtype else plain(b, node, (wide,), results)
    if target.kind not in "iu" or not target.bits:
        return f"no kernel to cast {x.dtype} to {target}"
    whole = plain(b, node, (x,), [Info(INT64, x.shape)])
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
    places = step(b, plain, "cast", Info(INT32, x.shape), replace(x, dtype=UINT8))
    return gathered(b, table, 0, places)


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
    made = step(b, plain, "cast", Info(own, whole.shape), made)
    return replace(made, dtype=result.dtype)
