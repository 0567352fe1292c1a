"""Operations that have no kernel of their own, by the kernels of their formulas' steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT64
from tilework.core.shapes import with_extent
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands, number, step
from tilework.plan.lowerings import elementwise, reduce, scan
from tilework.plan.lowerings.convert import convert
from tilework.plan.tensor import Tensor

Formula: TypeAlias = Callable[[Builder, Node, Tensor, Sequence[Info]], Lowered]


def _of_floats(formula: Formula, constants: bool = False) -> Lowering:
    """A formula of one float32 tensor as a lowering.

    What is computed once does not see a formula's numbers, which are the plan's: `constants` says
    that it has none.
    """

    def lowering(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        x = inputs[0]
        assert x is not None
        if x.dtype is not FLOAT32:
            return f"no kernel for {node.op} of {x.dtype}"
        if is_constant(x) and not constants:
            return "computed once"
        return formula(b, node, x, results)

    return lowering


def mish(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """x tanh(softplus(x))."""
    soft = step(b, elementwise.unary, "softplus", results[0], x)
    slope = step(b, elementwise.unary, "tanh", results[0], soft)
    return [step(b, elementwise.binary, "mul", results[0], x, slope)]


def celu(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """alpha elu(x / alpha)."""
    alpha: Any = node.attrs["alpha"]
    if not alpha:
        return "alpha is 0"
    part = step(b, elementwise.binary, "div", results[0], x, number(b, alpha))
    bent = step(b, elementwise.unary, "elu", results[0], part, alpha=1.0)
    return [step(b, elementwise.binary, "mul", results[0], bent, number(b, alpha))]


def thresholded(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """x where it is above alpha, else 0."""
    alpha: Any = node.attrs["alpha"]
    flags = Info(BOOL, x.shape)
    above = step(b, elementwise.compare, "greater", flags, x, number(b, alpha))
    return [step(b, elementwise.where, "where", results[0], above, x, number(b, 0))]


def shrink(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """x moved by bias towards 0 on both sides of [-lambd, lambd], where it is 0."""
    attrs: Any = node.attrs
    flags, bias = Info(BOOL, x.shape), number(b, attrs["bias"])
    y = number(b, 0)
    lambd: float = attrs["lambd"]
    for op, compared, edge in (("sub", "greater", lambd), ("add", "less", -lambd)):
        outside = step(b, elementwise.compare, compared, flags, x, number(b, edge))
        moved = step(b, elementwise.binary, op, results[0], x, bias)
        y = step(b, elementwise.where, "where", results[0], outside, moved, y)
    return [y]


def lp_normalization(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """x over its norm along the axis, 0 where that is 0."""
    attrs: Any = node.attrs
    axis, op = attrs["axis"], f"reduce_l{attrs.get('p', 2)}"
    shape = with_extent(x.shape, axis, 1)
    norm = step(b, reduce.reduction, op, Info(FLOAT32, shape), x, axes=(axis,), keepdims=1)
    ratio = step(b, elementwise.binary, "div", results[0], x, norm)
    zero = number(b, 0)
    none = step(b, elementwise.compare, "equal", Info(BOOL, shape), norm, zero)
    return [step(b, elementwise.where, "where", results[0], none, zero, ratio)]


def hardmax(b: Builder, node: Node, x: Tensor, results: Sequence[Info]) -> Lowered:
    """Whether a place is the first maximum's."""
    if not x.size:
        return "there is no maximum"
    axis: Any = node.attrs["axis"]
    extent = x.shape[axis]
    line = tuple(extent if i == axis else 1 for i in range(len(x.shape)))
    found = Info(INT64, with_extent(x.shape, axis, 1))
    first = step(b, scan.arg, "argmax", found, x, axis=axis, keepdims=1)
    places = b.local(np.arange(extent, dtype=np.int64).reshape(line), INT64)
    chosen = step(b, elementwise.compare, "equal", Info(BOOL, x.shape), first, places)
    return [step(b, convert, "cast", results[0], chosen, to="float32")]


FLOATS: dict[str, Lowering] = {
    "mish": _of_floats(mish, constants=True),
    "celu": _of_floats(celu),
    "thresholded_relu": _of_floats(thresholded),
    "shrink": _of_floats(shrink),
    "lp_normalization": _of_floats(lp_normalization),
    "hardmax": _of_floats(hardmax),
}
