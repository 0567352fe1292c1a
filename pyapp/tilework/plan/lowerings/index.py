"""Picking and putting by tensors of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64, DType
from tilework.core.shapes import count, with_extent
from tilework.hal.kernels import index as kernels
from tilework.hal.kernels.index import Combination, Number
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import AXES, Builder, is_constant, six
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.elementwise import compare, logical, where
from tilework.plan.tensor import Tensor

ELEMENTS = 16384  # a tile, by index.wit
BYTES = 131072
ROWS = 4096
OPERATIONS = {
    "none": Combination.REPLACE,
    "add": Combination.ADD,
    "mul": Combination.MULTIPLY,
    "max": Combination.LARGEST,
    "min": Combination.SMALLEST,
}
NUMBERS: dict[DType, Number] = {
    FLOAT32: Number.FLOAT32, INT32: Number.INT32, INT64: Number.INT64,
}  # fmt: skip


def _refused(node: Node, x: Tensor, indices: Tensor) -> str:
    if indices.dtype not in (INT32, INT64):
        return f"indices are {indices.dtype}"
    reduction = node.attrs.get("reduction", "none")
    if x.dtype.size > 8 or (reduction != "none" and x.dtype not in NUMBERS):
        return f"no kernel for {node.op} of {x.dtype}"
    return ""


def _each(b: Builder, rows: int, most: int) -> tuple[int, int]:
    """(rows a tile, tiles)."""
    each = max(min(most, -(-rows // b.threads) if rows >= 64 * b.threads else rows), 1)
    return each, -(-rows // each)


def _before(b: Builder, x: Tensor) -> Tensor:
    """What is put into: x itself where nobody else reads it, else a copy."""
    x = b.dense(x)
    y = b.result(x.dtype, x.shape, x)
    if y.storage is not x.storage:
        b.copy(x, y)
    return y


def pick_elements(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """gather_elements."""
    x, indices = inputs
    assert x is not None and indices is not None
    reason = _refused(node, x, indices)
    if reason:
        return reason
    axis: Any = node.attrs["axis"]
    shape = with_extent(indices.shape, axis, x.shape[axis])
    part = x.sliced((0,) * len(shape), (1,) * len(shape), shape)
    assert part is not None  # no step is negative
    x, indices = b.dense(part), b.dense(indices)
    y = b.new(x.dtype, indices.shape)
    outer, inner = count(shape[:axis]), count(shape[axis + 1 :])
    each, tiles = _each(b, outer * indices.shape[axis], ELEMENTS // max(inner, 1))
    params = kernels.ElementsParams(
        outer, shape[axis], indices.shape[axis], inner, each, x.dtype.size, indices.dtype.size
    )
    counts = (tiles if y.size else 0, 1, 1)
    b.emit(kernels.PICK_ELEMENTS, counts, params, (x, indices, y))
    return [y]


def put_elements(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """scatter_elements."""
    x, indices, updates = inputs
    assert x is not None and indices is not None and updates is not None
    reason = _refused(node, x, indices)
    attrs: Any = node.attrs
    axis = attrs["axis"]
    if indices.shape[:axis] != x.shape[:axis] or indices.shape[axis + 1 :] != x.shape[axis + 1 :]:
        reason = "the indices do not reach over all of the data"
    if reason:
        return reason
    indices, updates = b.dense(indices), b.dense(updates)
    y = _before(b, x)
    outer, inner = count(x.shape[:axis]), count(x.shape[axis + 1 :])
    each, tiles = _each(b, outer, ELEMENTS // max(indices.shape[axis] * inner, 1))
    params = kernels.PutElementsParams(
        outer,
        x.shape[axis],
        indices.shape[axis],
        inner,
        each,
        x.dtype.size,
        indices.dtype.size,
        OPERATIONS[attrs.get("reduction", "none")],
        NUMBERS.get(x.dtype, Number.RAW),
    )
    counts = (tiles if indices.size else 0, 1, 1)
    b.emit(kernels.PUT_ELEMENTS, counts, params, (indices, updates, y), behind=True)
    return [y]


def _rows(x: Tensor, indices: Tensor, batch: int, each: int, op: Combination) -> Any:
    depth = indices.shape[-1]
    return kernels.RowsParams(
        count(x.shape[:batch]),
        count(indices.shape[batch:-1]),
        depth,
        count(x.shape[batch + depth :]),
        six(x.shape[batch : batch + depth], 1),
        each,
        x.dtype.size,
        indices.dtype.size,
        op,
        NUMBERS.get(x.dtype, Number.RAW),
    )


def pick_rows(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """gather_nd."""
    x, indices = inputs
    assert x is not None and indices is not None
    reason = _refused(node, x, indices)
    if reason or indices.shape[-1] > AXES:
        return reason or f"indices of {indices.shape[-1]} axes"
    batch: Any = node.attrs.get("batch_dims", 0)
    x, indices = b.dense(x), b.dense(indices)
    y = b.new(x.dtype, results[0].shape)
    inner = count(x.shape[batch + indices.shape[-1] :])
    most = min(BYTES // max(inner * x.dtype.size, 1), ROWS)
    each, tiles = _each(b, count(indices.shape[:-1]), most)
    params = _rows(x, indices, batch, each, Combination.REPLACE)
    b.emit(kernels.PICK_ROWS, (tiles if y.size else 0, 1, 1), params, (x, indices, y))
    return [y]


def put_rows(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """scatter_nd; on one thread, for a place may be named twice, and then the last one counts."""
    x, indices, updates = inputs
    assert x is not None and indices is not None and updates is not None
    reason = _refused(node, x, indices)
    if reason or indices.shape[-1] > AXES:
        return reason or f"indices of {indices.shape[-1]} axes"
    op = OPERATIONS[str(node.attrs.get("reduction", "none"))]
    indices, updates = b.dense(indices), b.dense(updates)
    y = _before(b, x)
    params = _rows(x, indices, 0, max(count(indices.shape[:-1]), 1), op)
    counts = (1 if updates.size else 0, 1, 1)
    b.emit(kernels.PUT_ROWS, counts, params, (indices, updates, y), behind=True)
    return [y]


def one_hot(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Comparisons of the indices with the numbers of the new axis, also counted from its end."""
    indices, values = inputs
    assert indices is not None and values is not None
    if indices.dtype not in (INT32, INT64):
        return f"no kernel for {node.op} of {indices.dtype}"
    if is_constant(indices):
        return "computed once"  # where the plan's constants do not reach
    attrs: Any = node.attrs
    axis, depth = attrs["axis"], attrs["depth"]
    shape = results[0].shape
    spread = b.dense(indices).reshaped((*indices.shape[:axis], 1, *indices.shape[axis:]))
    assert spread is not None  # a dense tensor takes any shape
    line = tuple(depth if i == axis else 1 for i in range(len(shape)))
    flags = [Info(BOOL, shape)]
    numbers = np.arange(depth, dtype=indices.dtype.numpy).reshape(line)
    b.live[spread.storage] = b.live.get(spread.storage, 0) + 1  # it is read twice
    found = []
    for places in (numbers, numbers - np.asarray(depth, numbers.dtype)):
        made = compare(
            b, Node("equal", (), ()), (spread, b.local(places, indices.dtype)), flags
        )
        assert not isinstance(made, str)  # integers have kernels
        found.append(made[0])
    b.live[spread.storage] -= 1
    either = logical(b, Node("or", (), ()), found, flags)
    assert not isinstance(either, str)
    off, on = (values.sliced((i,), (1,), (1,)) for i in (0, 1))
    return where(b, Node("where", (), ()), (either[0], on, off), results)


PLAIN: dict[str, Lowering] = {
    "gather_elements": pick_elements,
    "gather_nd": pick_rows,
}
FLOATS: dict[str, Lowering] = {
    "scatter_elements": put_elements,
    "scatter_nd": put_rows,
    "one_hot": one_hot,
}
