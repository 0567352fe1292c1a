"""Operations that move elements: views where strides can say it, else one strided copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import INT32, INT64
from tilework.core.shapes import count, with_extent
from tilework.hal.kernels.move import GATHER, GatherParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.layout import slice_plan
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.layout import is_channels_last, new_channels_last, part, shuffled
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.half import lies_in
from tilework.plan.tensor import Tensor

GATHER_BYTES = 65536  # a tile, by move.wit
GATHER_ROWS = 1024


def identity(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """The same tensor under another name."""
    assert inputs[0] is not None
    return [inputs[0]]


def reshape(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """reshape, flatten, squeeze, unsqueeze: a view, or a copy when strides cannot express it."""
    x = inputs[0]
    assert x is not None
    shape = results[0].shape
    return [shuffled(b, x, shape) or b.shaped(x, shape)]


def transpose(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A view."""
    x = inputs[0]
    assert x is not None
    perm: Any = node.attrs["perm"]
    return [x.transposed(tuple(perm))]


def expand(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A view with strides of 0."""
    x = inputs[0]
    assert x is not None
    return [x.broadcast_to(results[0].shape)]


def slices(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A view; a copy when a step is negative."""
    x = inputs[0]
    assert x is not None
    firsts, steps, extents = slice_plan(node.attrs, x.shape)
    view = x.sliced(tuple(firsts), tuple(steps), tuple(extents))
    if view is not None:
        return [view]
    y = b.new(x.dtype, tuple(extents))
    if y.size:
        source = replace(
            x,
            shape=y.shape,
            strides=tuple(s * step for s, step in zip(x.strides, steps, strict=True)),
            offset=x.offset + sum(f * s for f, s in zip(firsts, x.strides, strict=True)),
        )
        b.copy(source, y, x)
    return [y]


def split(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Views side by side."""
    x = inputs[0]
    assert x is not None
    axis: Any = node.attrs["axis"]
    parts = []
    start = 0
    for result in results:
        offset = x.offset + start * x.strides[axis] if result.shape[axis] else x.offset
        parts.append(replace(x, shape=result.shape, offset=offset))
        start += result.shape[axis]
    return list(parts)


def concat(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Each operand is copied to its place; channels last where the widest operand is."""
    axis: Any = node.attrs["axis"]
    shape = results[0].shape
    if inputs[0] is not None and len(inputs) == 2:
        y = grown(b, node.outputs[0], inputs[0], inputs[1], axis)
        if y is not None:
            return [y]
    inputs = [lies_in(b, x, results[0].dtype) for x in inputs if x is not None]
    widest = max((x for x in inputs if x is not None), key=lambda x: x.size)
    follows = is_channels_last(widest)
    y = (new_channels_last if follows else Builder.new)(b, results[0].dtype, shape)
    start = 0
    for x in inputs:
        assert x is not None
        b.copy(x, part(y, axis, start, x.shape[axis]))
        start += x.shape[axis]
    return [y]


def grown(
    b: Builder, output: str, past: Tensor, new: Tensor | None, axis: int
) -> Tensor | None:
    """`new` behind `past` where an output that stays has rows to spare; None for others."""
    assert new is not None
    shape = with_extent(past.shape, axis, past.shape[axis] + new.shape[axis])
    found = b.grown(output, past, axis, shape)
    if found is None:
        return None
    y, in_place = found
    if not in_place:
        b.copy(lies_in(b, past, y.dtype), part(y, axis, 0, past.shape[axis]))
    b.copy(lies_in(b, new, y.dtype), part(y, axis, past.shape[axis], new.shape[axis]))
    return y


def tile(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Repeats: one copy from a view in which each axis is preceded by one of stride 0."""
    x = inputs[0]
    assert x is not None
    repeats: Any = node.attrs["repeats"]
    shape = tuple(n for pair in zip(repeats, x.shape, strict=True) for n in pair)
    strides = tuple(n for stride in x.strides for n in (0, stride))
    repeated = b.dense(replace(x, shape=shape, strides=strides))
    return [b.shaped(repeated, results[0].shape)]


def gather(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Rows of the data picked by index."""
    x, indices = inputs
    assert x is not None and indices is not None
    if indices.dtype not in (INT32, INT64):
        return f"indices are {indices.dtype}"
    axis: Any = node.attrs["axis"]
    return [gathered(b, x, axis, indices)]


def gathered(b: Builder, x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """What x has along an axis at the indices."""
    x, indices = b.dense(x), b.dense(indices)
    y = b.new(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    outer, inner = count(x.shape[:axis]), count(x.shape[axis + 1 :]) * x.dtype.size
    rows = outer * indices.size
    if y.size == 0:
        return y
    tile_rows = max(min(GATHER_BYTES // inner, GATHER_ROWS), 1)
    if rows * inner >= b.threads * 4096:
        tile_rows = min(tile_rows, -(-rows // b.threads))
    params = GatherParams(
        outer=outer,
        axis=x.shape[axis],
        count=indices.size,
        inner_bytes=inner,
        tile_rows=tile_rows,
        index_size=indices.dtype.size,
    )
    b.emit(GATHER, (-(-rows // tile_rows), 1, 1), params, (x, indices, y))
    return y


PLAIN: dict[str, Lowering] = {
    "identity": identity,
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze"), reshape),
    "transpose": transpose,
    "expand": expand,
    "slice": slices,
    "split": split,
    "concat": concat,
    "tile": tile,
    "gather": gather,
}
