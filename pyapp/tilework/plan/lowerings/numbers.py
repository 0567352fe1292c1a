"""Arithmetic on the dtypes that networks seldom compute with: all integers, their bits, float64."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from tilework.core.dtypes import (
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from tilework.hal.kernels.numbers import NUMBER_PAIR, Number, Operation, PairParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.walk import pair

CHEAP, DEAR = 16384, 4096  # elements a tile, by numbers.wit
NUMBERS: dict[DType, Number] = {
    INT8: Number.INT8,
    UINT8: Number.UINT8,
    INT16: Number.INT16,
    UINT16: Number.UINT16,
    INT32: Number.INT32,
    UINT32: Number.UINT32,
    INT64: Number.INT64,
    UINT64: Number.UINT64,
    FLOAT64: Number.FLOAT64,
}
OPERATIONS: dict[str, Operation] = {
    "add": Operation.ADD,
    "sub": Operation.SUB,
    "mul": Operation.MUL,
    "div": Operation.DIV,
    "min": Operation.LEAST,
    "max": Operation.LARGEST,
    "mod": Operation.MOD,
    "bitwise_and": Operation.BITS_AND,
    "bitwise_or": Operation.BITS_OR,
    "bitwise_xor": Operation.BITS_XOR,
    "shift": Operation.SHIFT_RIGHT,
    "equal": Operation.EQUAL,
    "less": Operation.LESS,
    "less_or_equal": Operation.LESS_EQUAL,
    "greater": Operation.GREATER,
    "greater_or_equal": Operation.GREATER_EQUAL,
}
SLOW = (Operation.DIV, Operation.MOD, Operation.FMOD)


def binary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = a op b, both of one dtype."""
    a, other = inputs[0], inputs[1]
    assert a is not None and other is not None
    kind, op = NUMBERS.get(a.dtype), OPERATIONS.get(node.op)
    if op is Operation.MOD and node.attrs.get("fmod", 0):
        op = Operation.FMOD
    if op is Operation.SHIFT_RIGHT and node.attrs["left"]:
        op = Operation.SHIFT_LEFT
    bits = op is not None and Operation.MOD <= op < Operation.EQUAL
    if kind is None or op is None or a.dtype is not other.dtype or (bits and a.dtype is FLOAT64):
        return f"no kernel for {node.op} of {a.dtype} and {other.dtype}"
    record = partial(PairParams, kind=kind)
    return pair(b, inputs, results[0], NUMBER_PAIR, record, op, DEAR if op in SLOW else CHEAP)


def unary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """neg and abs, by what they are in pairs."""
    x = inputs[0]
    assert x is not None
    if node.op not in ("neg", "abs") or x.dtype not in NUMBERS:
        return f"no kernel for {node.op} of {x.dtype}"
    if is_constant(x):  # what is computed once does not see the number, which is the plan's
        return "computed once"
    minus = b.local(np.array([-1]).astype(x.dtype.numpy), x.dtype)  # 0 - 0.0 were not -0.0
    b.live[x.storage] = b.live.get(x.storage, 0) + (node.op == "abs")  # which reads it again
    negative = binary(b, Node("mul", (), ()), (x, minus), results)
    b.live[x.storage] -= node.op == "abs"
    if node.op == "neg" or isinstance(negative, str):
        return negative
    b.live.setdefault(negative[0].storage, 0)
    return binary(b, Node("max", (), ()), (x, negative[0]), results)


def bitwise_not(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """x xor all bits."""
    x = inputs[0]
    assert x is not None
    if is_constant(x):  # what is computed once does not see the bits, which are the plan's
        return "computed once"
    ones = b.local(np.invert(np.zeros(1, x.dtype.numpy)), x.dtype)
    return binary(b, Node("bitwise_xor", (), ()), (x, ones), results)


PLAIN: dict[str, Lowering] = {
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "shift"), binary),
    "bitwise_not": bitwise_not,
}
