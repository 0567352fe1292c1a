"""Elementwise operations: broadcasting through strides, results in place where that is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64
from tilework.hal.kernels import elementwise as kernels
from tilework.hal.kernels.elementwise import (
    Binary,
    BinaryParams,
    CompareParams,
    Comparison,
    Integer,
    IntegerParams,
    Logical,
    LogicalParams,
    NotParams,
    Rare,
    RareParams,
    Unary,
    UnaryParams,
    WhereParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant, six
from tilework.plan.lowering import Lowered, Lowering, Operands, step
from tilework.plan.lowerings.convert import convert
from tilework.plan.tensor import Tensor
from tilework.plan.walk import dense_run, operands, pair, shaped

CHEAP = 16384  # elements a tile, by elementwise.wit
DEAR = 4096
BYTES = 65536

RARE_ELEMENTS = 1024

RARE: dict[str, Rare] = {
    "tan": Rare.TAN,
    "asin": Rare.ASIN,
    "acos": Rare.ACOS,
    "atan": Rare.ATAN,
    "sinh": Rare.SINH,
    "cosh": Rare.COSH,
    "asinh": Rare.ASINH,
    "acosh": Rare.ACOSH,
    "atanh": Rare.ATANH,
}
UNARY: dict[str, tuple[Unary, int]] = {
    "neg": (Unary.NEG, CHEAP),
    "abs": (Unary.ABS, CHEAP),
    "sign": (Unary.SIGN, CHEAP),
    "sqrt": (Unary.SQRT, CHEAP),
    "reciprocal": (Unary.RECIPROCAL, CHEAP),
    "floor": (Unary.FLOOR, CHEAP),
    "ceil": (Unary.CEIL, CHEAP),
    "round": (Unary.ROUND, CHEAP),
    "relu": (Unary.RELU, CHEAP),
    "leaky_relu": (Unary.LEAKY_RELU, CHEAP),
    "exp": (Unary.EXP, DEAR),
    "log": (Unary.LOG, DEAR),
    "sin": (Unary.SIN, DEAR),
    "cos": (Unary.COS, DEAR),
    "erf": (Unary.ERF, DEAR),
    "tanh": (Unary.TANH, DEAR),
    "sigmoid": (Unary.SIGMOID, DEAR),
    "softplus": (Unary.SOFTPLUS, DEAR),
    "softsign": (Unary.SOFTSIGN, DEAR),
    "elu": (Unary.ELU, DEAR),
    "selu": (Unary.SELU, DEAR),
    "silu": (Unary.SILU, DEAR),
    "hard_sigmoid": (Unary.HARD_SIGMOID, CHEAP),
    "hard_swish": (Unary.HARD_SWISH, CHEAP),
    "clip": (Unary.CLIP, CHEAP),
    "gelu": (Unary.GELU, DEAR),
}
BINARY: dict[str, tuple[Binary, int]] = {
    "add": (Binary.ADD, CHEAP),
    "sub": (Binary.SUB, CHEAP),
    "mul": (Binary.MUL, CHEAP),
    "div": (Binary.DIV, CHEAP),
    "min": (Binary.MIN, CHEAP),
    "max": (Binary.MAX, CHEAP),
    "pow": (Binary.POW, 2048),
    "prelu": (Binary.PRELU, CHEAP),
}
INTEGER: dict[str, tuple[Integer, int]] = {
    "add": (Integer.ADD, CHEAP),
    "sub": (Integer.SUB, CHEAP),
    "mul": (Integer.MUL, CHEAP),
    "div": (Integer.DIV, DEAR),
    "min": (Integer.MIN, CHEAP),
    "max": (Integer.MAX, CHEAP),
    "mod": (Integer.MOD, DEAR),
}
COMPARISON: dict[str, Comparison] = {
    "equal": Comparison.EQUAL,
    "less": Comparison.LESS,
    "less_or_equal": Comparison.LESS_EQUAL,
    "greater": Comparison.GREATER,
    "greater_or_equal": Comparison.GREATER_EQUAL,
}
LOGICAL: dict[str, Logical] = {
    "and": Logical.AND,
    "or": Logical.OR,
    "xor": Logical.XOR,
    "equal": Logical.EQUAL,
}
def _numbers(node: Node) -> tuple[Unary, float, float]:
    """The kernel's op, alpha and beta."""
    attrs: Any = node.attrs
    op, _ = UNARY[node.op]
    if node.op == "gelu":
        return Unary.GELU_TANH if attrs.get("approximate", "none") == "tanh" else op, 0.0, 0.0
    if node.op == "clip":
        low, high = attrs.get("min"), attrs.get("max")
        return op, -math.inf if low is None else low, math.inf if high is None else high
    if node.op == "selu":
        return op, float(attrs["alpha"]), float(attrs["gamma"])
    if node.op == "hard_swish":
        return op, 1 / 6, 0.5
    if node.op == "silu":
        return op, float(attrs.get("alpha", 1.0)), 0.0
    return op, float(attrs.get("alpha", 0.0)), float(attrs.get("beta", 0.0))


def rare(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = f(x), of the functions that are computed one by one."""
    x = inputs[0]
    assert x is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    run, like = dense_run(b, x)
    y = b.result(run.dtype, run.shape, run)
    tile, tiles = b.tiles(run.size, RARE_ELEMENTS)
    b.emit(kernels.F32_RARE, (tiles, 1, 1), RareParams(run.size, tile, RARE[node.op]), (run, y))
    return [shaped(y, like)]


def unary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = f(x); a view's repeated elements are computed once."""
    x = inputs[0]
    assert x is not None
    if x.dtype is not FLOAT32:
        return _other(b, node, inputs, results)
    op, alpha, beta = _numbers(node)
    return [_unary(b, x, op, UNARY[node.op][1], alpha, beta)]


def _unary(
    b: Builder, x: Tensor, op: Unary, most: int, alpha: float = 0.0, beta: float = 0.0
) -> Tensor:
    run, like = dense_run(b, x)
    y = b.result(run.dtype, run.shape, run)
    tile, tiles = b.tiles(run.size, most)
    params = UnaryParams(count=run.size, tile_elements=tile, op=op, alpha=alpha, beta=beta)
    b.emit(kernels.F32_UNARY, (tiles, 1, 1), params, (run, y))
    return shaped(y, like)


def logical_not(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = not x."""
    x = inputs[0]
    assert x is not None
    run, like = dense_run(b, x)
    y = b.result(BOOL, run.shape, run)
    tile, tiles = b.tiles(run.size, BYTES)
    b.emit(kernels.BOOL_NOT, (tiles, 1, 1), NotParams(run.size, tile), (run, y))
    return [shaped(y, like)]


def binary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = a op b."""
    dtype = results[0].dtype
    a, other = inputs[0], inputs[1]
    assert a is not None and other is not None
    if dtype is FLOAT32 and other.dtype is FLOAT32:
        if node.op == "mod":
            rest = Binary.FMOD if node.attrs.get("fmod", 0) else Binary.MOD
            return pair(b, inputs, results[0], kernels.F32_BINARY, BinaryParams, rest, 2048)
        op, most = BINARY[node.op]
        return pair(b, inputs, results[0], kernels.F32_BINARY, BinaryParams, op, most)
    if dtype in (INT32, INT64) and other.dtype is dtype and node.op in INTEGER:
        whole, most = INTEGER[node.op]
        if node.op == "mod" and node.attrs.get("fmod", 0):
            whole = Integer.FMOD
        kernel = kernels.I32_BINARY if dtype is INT32 else kernels.I64_BINARY
        return pair(b, inputs, results[0], kernel, IntegerParams, whole, most)
    return _other(b, node, inputs, results)


def _other(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Of the dtypes that networks seldom compute with."""
    from tilework.plan.lowerings import numbers  # loaded where it is needed

    lower = numbers.unary if len(inputs) == 1 else numbers.binary
    return lower(b, node, inputs, results)


def power(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = a ** b; a constant exponent of 2, 3, 4 or 1/2 is a product or a root."""
    a, exponent = inputs[0], inputs[1]
    assert a is not None and exponent is not None
    number = b.scalar(exponent)
    if a.dtype is FLOAT32 and number in (2.0, 0.5) and results[0].shape == a.shape:
        return [_unary(b, a, Unary.SQUARE if number == 2.0 else Unary.SQRT, CHEAP)]
    if a.dtype is FLOAT32 and number in (3.0, 4.0) and results[0].shape == a.shape:
        # The general function takes sixteen times as long as two products, which may each round.
        squared = step(b, binary, "mul", results[0], a, a)
        return [step(b, binary, "mul", results[0], squared, a if number == 3.0 else squared)]
    if a.dtype is FLOAT32 and exponent.dtype.kind in "iu":
        made = convert(b, node, (exponent,), [Info(FLOAT32, exponent.shape)])
        if isinstance(made, str):
            return made
        exponent = made[0]
        b.live.setdefault(exponent.storage, 0)
        return binary(b, node, (a, exponent), results)
    return binary(b, node, inputs, results)


def compare(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = a op b, one byte an element."""
    a = inputs[0]
    assert a is not None
    if a.dtype is BOOL:
        return logical(b, node, inputs, results)
    table = {
        FLOAT32: kernels.F32_COMPARE, INT32: kernels.I32_COMPARE, INT64: kernels.I64_COMPARE,
    }  # fmt: skip
    kernel = table.get(a.dtype)
    if kernel is None:
        return _other(b, node, inputs, results)
    return pair(b, inputs, results[0], kernel, CompareParams, COMPARISON[node.op], CHEAP)


def logical(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = a op b of booleans."""
    if node.op not in LOGICAL:
        return f"no kernel for {node.op} of bool"
    return pair(
        b, inputs, results[0], kernels.BOOL_LOGICAL, LogicalParams, LOGICAL[node.op], BYTES
    )


def is_special(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """isnan: what is not itself; isinf: what is one of the infinities asked for."""
    x = inputs[0]
    assert x is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    b.live[x.storage] = b.live.get(x.storage, 0) + 1  # it is read twice
    others = [x]
    if node.op == "isinf" and is_constant(x):
        b.live[x.storage] -= 1
        return "computed once"  # where the plan's constants do not reach
    if node.op == "isinf":
        signs = [("detect_positive", math.inf), ("detect_negative", -math.inf)]
        asked = [number for name, number in signs if node.attrs.get(name, 1)]
        others = [b.local(np.array([number], np.float32), FLOAT32) for number in asked]
    found = [compare(b, Node("equal", (), ()), (x, one), results)[0] for one in others]
    b.live[x.storage] -= 1
    flags: Any = found
    if node.op == "isnan":
        return logical_not(b, node, flags, results)
    if len(found) == 2:
        return logical(b, Node("or", (), ()), flags, results)
    return flags if found else "no infinity is asked for"


def where(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = condition ? a : b."""
    condition, yes, no = inputs
    assert condition is not None and yes is not None and no is not None
    result = results[0]
    if result.dtype.size not in (1, 2, 4, 8):
        return f"no kernel for where of {result.dtype}"
    sizes, walks, wide = operands(b, result.shape, (condition, yes, no))
    y = b.result(result.dtype, result.shape, yes, no, condition)
    tile, tiles = b.tiles(y.size, CHEAP)
    params = WhereParams(
        sizes=six(sizes, 1),
        condition_strides=six(walks[0], 0),
        a_strides=six(walks[1], 0),
        b_strides=six(walks[2], 0),
        tile_elements=tile,
        element_size=result.dtype.size,
    )
    b.emit(kernels.WHERE, (tiles if y.size else 0, 1, 1), params, (*wide, y))
    return [y]


PLAIN: dict[str, Lowering] = {
    "and": logical,
    "or": logical,
    "xor": logical,
    "not": logical_not,
    "where": where,
}
FLOATS: dict[str, Lowering] = {
    **dict.fromkeys(RARE, rare),
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(COMPARISON, compare),
    "pow": power,
    "mod": binary,
    "isnan": is_special,
    "isinf": is_special,
}
