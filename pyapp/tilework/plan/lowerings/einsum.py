"""einsum of two operands: axes brought together by views, one product of matrices."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.shapes import count
from tilework.ir.graph import Node
from tilework.ir.opdefs.linear import parse_einsum
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.matmul import matmul
from tilework.plan.tensor import Tensor


def einsum(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Axes of both operands and the result are a batch, those of both alone are summed over."""
    operands = [x for x in inputs if x is not None]
    equation = str(node.attrs["equation"])
    terms, result = parse_einsum(equation, [len(x.shape) for x in operands])
    if len(operands) != 2 or any(len(set(term)) != len(term) for term in terms):
        return "no kernel for einsum of other than two operands, or with an axis twice in one"
    left, right = terms
    extents = {
        axis: extent
        for term, x in zip(terms, operands, strict=True)
        for axis, extent in zip(term, x.shape, strict=True)
    }
    if any(
        extents[axis] != extent
        for term, x in zip(terms, operands, strict=True)
        for axis, extent in zip(term, x.shape, strict=True)
    ):
        return "no kernel for einsum that broadcasts"
    batch = [axis for axis in result if axis in left and axis in right]
    rows = [axis for axis in result if axis in left and axis not in right]
    columns = [axis for axis in result if axis in right and axis not in left]
    inner = [axis for axis in left if axis in right and axis not in result]
    if len(batch) + len(rows) + len(inner) != len(left) or len(right) != sum(
        map(len, (batch, columns, inner))
    ):
        return "no kernel for einsum that sums over an axis of one operand"
    n, m, k, p = (count(extents[a] for a in axes) for axes in (batch, rows, inner, columns))
    sides = [
        _brought(b, x, [term.index(axis) for axis in order], shape)
        for x, term, order, shape in (
            (operands[0], left, [*batch, *rows, *inner], (n, m, k)),
            (operands[1], right, [*batch, *inner, *columns], (n, k, p)),
        )
    ]
    made = matmul(b, Node("matmul", (), ()), sides, [Info(results[0].dtype, (n, m, p))])
    if isinstance(made, str):
        return made
    order = [*batch, *rows, *columns]
    whole = b.shaped(made[0], tuple(extents[axis] for axis in order))
    return [whole.transposed(tuple(order.index(axis) for axis in result))]


def _brought(b: Builder, x: Tensor, perm: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    return b.shaped(x.transposed(tuple(perm)), shape)


FLOATS: dict[str, Lowering] = {"einsum": einsum}
