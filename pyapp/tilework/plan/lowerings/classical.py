"""Classical models beside trees, by the kernels of their formulas' steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT64
from tilework.hal.kernels.distance import F32_DISTANCE, DistanceParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands, number, step
from tilework.plan.lowerings import elementwise, matmul, reduce
from tilework.plan.lowerings.convert import convert
from tilework.plan.tensor import Tensor

DISTANCE = 32768  # products a tile computes, by distance.wit
_MOST_FACTORS = 16  # of a power that the kernel multiplies out
_NORMS = {"MAX": "reduce_max", "L1": "reduce_l1", "L2": "reduce_l2"}


def _refused(node: Node, x: Tensor, floats: bool = True) -> str:
    if x.dtype is not FLOAT32 and (floats or x.dtype is not INT64):
        return f"no kernel for {node.op} of {x.dtype}"
    if 0 in x.shape:
        return "nothing to compute"
    # What is computed once does not see the numbers, which are the plan's.
    return "computed once" if is_constant(x) else ""


def row_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """x over the norm of its last axis, or over 1 where that is 0."""
    x = inputs[0]
    assert x is not None
    reason = _refused(node, x)
    if reason:
        return reason
    kept, axis = Info(FLOAT32, (*x.shape[:-1], 1)), {"axes": (len(x.shape) - 1,), "keepdims": 1}
    name = str(node.attrs["norm"])
    size = step(b, elementwise.unary, "abs", results[0], x) if name == "MAX" else x
    norm = step(b, reduce.reduction, _NORMS[name], kept, size, **axis)
    none = step(b, elementwise.compare, "equal", Info(BOOL, kept.shape), norm, number(b, 0))
    norm = step(b, elementwise.where, "where", kept, none, number(b, 1), norm)
    return [step(b, elementwise.binary, "div", results[0], x, norm)]


def impute(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A feature's own number where x is the one that is replaced."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    replaced, whole = attrs["replaced"], x.dtype is INT64
    reason = _refused(node, x, floats=False)
    if reason or (whole and not float(replaced).is_integer()):
        return reason or f"no integer is {replaced}"
    flags = Info(BOOL, x.shape)
    if replaced != replaced:
        missing = step(b, elementwise.is_special, "isnan", flags, x)
    else:
        own = b.local(np.asarray([replaced], x.dtype.numpy), x.dtype)
        missing = step(b, elementwise.compare, "equal", flags, x, own)
    imputed = b.local(np.asarray(attrs["imputed"], x.dtype.numpy), x.dtype)
    return [step(b, elementwise.where, "where", results[0], missing, imputed, x)]


def one_hot(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Comparisons with each class."""
    x = inputs[0]
    assert x is not None
    named: Any = node.attrs["classes"]
    reason = _refused(node, x, floats=False)
    if reason or isinstance(named[0], str):
        return reason or "classes are words"
    classes = b.local(np.asarray(named).astype(x.dtype.numpy), x.dtype)
    column = b.shaped(x, (*x.shape, 1))
    flags = Info(BOOL, results[0].shape)
    found = step(b, elementwise.compare, "equal", flags, column, classes)
    return [step(b, convert, "cast", results[0], found, to="float32")]


def _times(b: Builder, x: Tensor, matrix: Any) -> Tensor:
    """x (rows, n) times a matrix (n, m) of numbers."""
    right = b.local(np.ascontiguousarray(matrix, np.float32), FLOAT32)
    result = Info(FLOAT32, (x.shape[0], right.shape[1]))
    return step(b, matmul.matmul, "matmul", result, x, right)


def distances(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """By the kernel, where the power is a whole number; the second operand along its columns."""
    x, y = inputs[0], inputs[1]
    assert x is not None and y is not None
    power = float(str(node.attrs["power"]))
    if x.dtype is not FLOAT32 or not power.is_integer() or not 1 <= power <= _MOST_FACTORS:
        return f"no kernel for distances of {x.dtype}, power {power:g}"
    return [_apart(b, x, y.transposed((1, 0)), int(power))]


def _apart(b: Builder, x: Tensor, y: Tensor, power: int) -> Tensor:
    """x (rows, features), y (features, columns) -> (rows, columns)."""
    (rows, features), columns = x.shape, y.shape[1]
    x, y = b.dense(x), b.dense(y)
    z = b.new(FLOAT32, (rows, columns))
    across, wide = b.tiles(columns, max(DISTANCE // max(features, 1), 16), 16)
    down, high = b.lines(rows, across * max(features, 1), DISTANCE)
    params = DistanceParams(rows, columns, features, power, down, across)
    b.emit(F32_DISTANCE, (wide, high, 1), params, (x, y, z))
    return z


def support_vectors(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """The kernel function's value of each row with each vector."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    reason = _refused(node, x)
    if reason:
        return reason
    kind, vectors, whole = attrs["kind"], attrs["vectors"].astype(np.float32), results[0]
    if kind == "RBF":
        others = b.local(np.ascontiguousarray(vectors.T), FLOAT32)
        near = _apart(b, x, others, 2)
        near = step(b, elementwise.binary, "mul", whole, near, number(b, -attrs["gamma"]))
        return [step(b, elementwise.unary, "exp", whole, near)]
    product = _times(b, x, vectors.T)

    def binary(op: str, left: Tensor, right: Tensor | float) -> Tensor:
        other = right if isinstance(right, Tensor) else number(b, right)
        return step(b, elementwise.power if op == "pow" else elementwise.binary, op, whole, left,
                    other)  # fmt: skip

    if kind not in ("POLY", "SIGMOID"):
        return [product]
    moved = binary("add", binary("mul", product, attrs["gamma"]), attrs["coef0"])
    if kind == "POLY":
        return [binary("pow", moved, attrs["degree"])]
    return [step(b, elementwise.unary, "tanh", whole, moved)]


def pairwise(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Scores of the pairs as one product, the classes' votes as two more."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    if len(attrs["prob_a"]):
        return "probabilities are iterated"
    reason = _refused(node, x)
    counts: Sequence[int] = attrs["counts"]
    pairs = list(combinations(range(len(counts)), 2))
    if reason or not pairs:
        return reason or "there are no pairs"
    coefficients = np.asarray(attrs["coefficients"], np.float32).reshape(len(counts) - 1, -1)
    ends = np.cumsum(counts)
    weights = np.zeros((x.shape[1], len(pairs)), np.float32)
    first, second = np.zeros((2, len(pairs), len(counts)), np.float32)
    for at, (i, j) in enumerate(pairs):
        for own, row in ((i, j - 1), (j, i)):
            span = slice(int(ends[own] - counts[own]), int(ends[own]))
            weights[span, at] = coefficients[row, span]
        first[at, i] = second[at, j] = 1
    rho = b.local(np.asarray(attrs["rho"][: len(pairs)], np.float32), FLOAT32)
    scores = step(b, elementwise.binary, "add", results[1], _times(b, x, weights), rho)
    votes = []
    for op, table in (("greater", first), ("less_or_equal", second)):
        flags = Info(BOOL, results[1].shape)
        won = step(b, elementwise.compare, op, flags, scores, number(b, 0))
        won = step(b, convert, "cast", results[1], won, to="float32")
        votes.append(_times(b, won, table))
    return [step(b, elementwise.binary, "add", results[0], *votes), scores]


FLOATS: dict[str, Lowering] = {
    "row_norm": row_norm,
    "impute": impute,
    "class_one_hot": one_hot,
    "distances": distances,
    "support_vectors": support_vectors,
    "pairwise_classes": pairwise,
}
