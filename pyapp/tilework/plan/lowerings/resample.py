"""Axes that grow or shrink: resize, one axis after the other, and pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, INT32, INT64
from tilework.core.shapes import count, with_extent
from tilework.hal.kernels.resample import F32_RESAMPLE, ResampleParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.resize import taps
from tilework.plan.builder import Builder, is_constant
from tilework.plan.layout import inverse, is_channels_last, new_channels_last, order, part
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.move import gathered
from tilework.plan.tensor import Tensor

LINE_WORK = 16384  # multiply-adds of a tile


def resize(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """resize of float32, and to nearest elements of any dtype, in the layout that x has; indices
    and weights are the plan's constants."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    moved = x.dtype is not FLOAT32 and attrs["mode"] == "nearest" and x.dtype.size in (1, 2, 4, 8)
    if x.dtype is not FLOAT32 and not moved:
        return f"no kernel for {node.op} of {x.dtype}"
    if is_constant(x):
        return "computed once"  # where the plan's tables do not reach
    if attrs["transform"] == "tf_crop_and_resize":
        return "a crop may reach beyond x"
    perm = order(x) or tuple(range(len(x.shape)))
    y = b.dense(x.transposed(perm))
    for place, axis in enumerate(perm):
        extent, result = x.shape[axis], results[0].shape[axis]
        if (result == extent and attrs["scales"][axis] == 1) or 0 in results[0].shape:
            continue
        indices, weights = taps(attrs, axis, extent)
        if moved:
            y = gathered(b, y, place, b.local(indices[:, 0].astype(np.int64), INT64))
        else:
            y = _resampled(b, y, place, indices, weights)
    if 0 in results[0].shape:
        return [b.new(x.dtype, results[0].shape)]
    return [y.transposed(inverse(perm))]


def _resampled(b: Builder, x: Tensor, axis: int, indices: Any, weights: Any) -> Tensor:
    result, reach = indices.shape
    y = b.new(FLOAT32, with_extent(x.shape, axis, result))
    outer, inner = count(x.shape[:axis]), count(x.shape[axis + 1 :])
    lines = outer * result
    each = max(LINE_WORK // (inner * reach), 1)
    if y.size >= b.threads * 1024:
        each = min(each, -(-lines // b.threads))
    params = ResampleParams(
        outer=outer, axis=x.shape[axis], count=result, inner=inner, taps=reach, tile_lines=each
    )
    tables = (
        b.local(np.ascontiguousarray(indices, np.int32), INT32),
        b.local(np.ascontiguousarray(weights, np.float32), FLOAT32),
    )
    b.emit(F32_RESAMPLE, (-(-lines // each), 1, 1), params, (x, *tables, y))
    return y


def pad(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """pad of any dtype: what is inside is copied, what is around is one number or gathered."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    if is_constant(x) or x.dtype.size not in (1, 2, 4, 8):
        return "computed once" if is_constant(x) else f"no kernel for {node.op} of {x.dtype}"
    if attrs["value"] and not np.issubdtype(x.dtype.numpy, np.number):
        return f"no kernel for {node.op} of {x.dtype} with a value"
    pads, rank = attrs["pads"], len(x.shape)
    for axis in range(rank):  # negative pads crop
        before, after = max(-pads[axis], 0), max(-pads[rank + axis], 0)
        if before + after > x.shape[axis]:
            return "more is cut off than there is"
        x = part(x, axis, before, x.shape[axis] - before - after)
    widths = [(max(pads[axis], 0), max(pads[rank + axis], 0)) for axis in range(rank)]
    if not any(map(any, widths)):
        return [x]
    mode = attrs.get("mode", "constant")
    if mode == "constant":
        return [_surrounded(b, x, widths, attrs["value"], results[0])]
    if 0 in x.shape:
        return "nothing to repeat"
    for axis, width in enumerate(widths):
        if any(width):
            indices = np.pad(np.arange(x.shape[axis]), width, mode=mode)
            x = gathered(b, x, axis, b.local(indices.astype(np.int64), INT64))
    return [x]


def _surrounded(
    b: Builder, x: Tensor, widths: Sequence[tuple[int, int]], value: Any, result: Info
) -> Tensor:
    """Disjoint parts, so that their copies may run side by side: two slabs an axis, and x."""
    follows = is_channels_last(x)
    y = (new_channels_last if follows else Builder.new)(b, result.dtype, result.shape)
    one = b.local(np.full((1,) * len(x.shape), value, result.dtype.numpy), result.dtype)
    inside = y
    for axis, (before, after) in enumerate(widths):
        extent = x.shape[axis]
        for start, length in ((0, before), (before + extent, after)):
            slab = part(inside, axis, start, length)
            if slab.size:
                b.copy(one.broadcast_to(slab.shape), slab)
        inside = part(inside, axis, before, extent)
    if x.size:
        b.copy(x, inside)
    return y


PLAIN: dict[str, Lowering] = {
    "pad": pad,
}
FLOATS: dict[str, Lowering] = {
    "resize": resize,
}
