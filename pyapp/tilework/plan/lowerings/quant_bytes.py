"""Bytes to bytes, one by one: tables, sums and products of two tensors, in any dense layout."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import FLOAT32, INT8
from tilework.hal.kernels.quant import I8_PAIR, U8_MAP, MapParams, Pairing, PairParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.layout import inverse, order
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.quant import limits
from tilework.plan.tensor import Tensor

MAP = 32768  # bytes of a tile, by quant.wit
PAIR = 16384


def mapped(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """byte_map: a table."""
    x, table = inputs
    assert x is not None and table is not None
    (x,), back = _alike(b, x)
    y = b.result(results[0].dtype, x.shape, x)
    each, made = b.tiles(max(x.size, 1), MAP)
    counts = (made if x.size else 0, 1, 1)
    b.emit(U8_MAP, counts, MapParams(x.size, each), (x, b.dense(table), y))
    return [y.transposed(back)]


def paired(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """qlinear_add and qlinear_mul."""
    a, a_scale, a_zero, other, b_scale, b_zero, y_scale, y_zero = inputs
    assert a is not None and other is not None
    for scale in (a_scale, b_scale, y_scale):
        if scale is None or scale.dtype is not FLOAT32 or scale.size != 1:
            return "scales that are not one number of float32 each"
    to = results[0].dtype
    least, most = limits(node.attrs, to)
    (a, other), back = _alike(b, a, other)
    y = b.new(to, a.shape)
    each, made = b.tiles(max(a.size, 1), PAIR)
    params = PairParams(
        count=a.size,
        tile=each,
        a_signed=int(a.dtype is INT8),
        b_signed=int(other.dtype is INT8),
        y_signed=int(to is INT8),
        pairing=Pairing.ADD if node.op == "qlinear_add" else Pairing.MUL,
        least=least,
        most=most,
    )
    operands = (a, a_scale, a_zero, other, b_scale, b_zero, y_scale, y_zero, y)
    b.emit(I8_PAIR, (made if a.size else 0, 1, 1), params, operands)
    return [y.transposed(back)]


def _alike(b: Builder, *tensors: Tensor) -> tuple[list[Tensor], tuple[int, ...]]:
    """The tensors dense, their axes in the first's order, and the permutation back."""
    perm = order(tensors[0]) or tuple(range(len(tensors[0].shape)))
    return [b.dense(tensor.transposed(perm)) for tensor in tensors], inverse(perm)


PLAIN: dict[str, Lowering] = {
    "byte_map": mapped,
    "qlinear_add": paired,
    "qlinear_mul": paired,
}
