"""Pooling: one number for each window, channel by channel. x is (n, c, ...).

max_pool (x) -> y [, indices]: kernel_shape, strides, dilations, pads, auto_pad, ceil_mode,
    storage_order; indices (int64) are places in the whole of x.
average_pool: also count_include_pad      lp_pool: also p
global_average_pool, global_max_pool, global_lp_pool (p): the window is all of the spatial axes.
max_unpool (x, indices [, output_shape])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT64
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, NUMBERS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail
from tilework.ir.opdefs.window import Window, spread, window


def pool_window(attrs: Attrs, shape: tuple[int, ...]) -> Window:
    """The windows over an input of this shape; InvalidArgument where attributes do not fit."""
    kernel: Any = attrs["kernel_shape"]
    return window(attrs, shape, tuple(kernel))


def _infer(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS if node.op == "max_pool" else FLOATS)
    x = infos[0]
    try:
        made = pool_window(node.attrs, x.shape)
    except InvalidArgument as error:
        raise fail(node, infos, str(error)) from None
    shape = (*x.shape[:2], *made.outputs)
    return [Info(x.dtype, shape), Info(INT64, shape)][: len(node.outputs)]


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_pool(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    made = pool_window(attrs, x.shape)
    flat = made.view(x, _lowest(x.dtype)).reshape(*x.shape[:2], *made.outputs, -1)
    order = range(len(made.kernel))
    places: Array = np.arange(count(made.inputs), dtype=np.int64)
    if attrs.get("storage_order", 0):  # column-major
        places = places.reshape(made.inputs[::-1]).transpose(tuple(order)[::-1])
    here = made.view(places.reshape(1, 1, *made.inputs), -1).reshape(1, 1, *made.outputs, -1)
    # Padding is never the answer, not even among minus infinities.
    best = np.argmax(np.where(here >= 0, flat, _lowest(x.dtype)), axis=-1)[..., None]
    wide = np.broadcast_to(here, flat.shape)
    hidden = np.take_along_axis(wide, best, -1) < 0
    first = np.argmax(here >= 0, axis=-1)[..., None]
    best = np.where(hidden, first, best)
    y = np.take_along_axis(flat, best, -1)[..., 0]
    indices = np.take_along_axis(wide, best, -1)[..., 0]
    planes = np.arange(count(x.shape[:2]), dtype=np.int64) * count(made.inputs)
    return y, indices + planes.reshape(*x.shape[:2], *(1,) * len(made.kernel))


define("max_pool", 1, _infer, quiet(_max_pool), outputs=2)


def _taps(made: Window) -> tuple[int, ...]:
    return tuple(range(-len(made.kernel), 0))


def pool_counts(attrs: Attrs, made: Window) -> Array:
    """What each window's sum is divided by: its elements, with count_include_pad its padding's.

    What only ceil_mode lets a window cover, beyond the padding, never counts.
    """
    ones = np.ones((1, 1, *made.inputs), np.float64)
    if attrs.get("count_include_pad", 0):
        inside = [b + i + e for b, i, e in zip(made.begin, made.inputs, made.end, strict=True)]
        ones = np.ones((1, 1, *inside), np.float64)
        zero = (0,) * len(inside)
        made = Window(
            tuple(inside), made.kernel, made.strides, made.dilations, zero, zero, made.outputs
        )
    return np.asarray(made.view(ones, 0).sum(axis=_taps(made)))


def _average_pool(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    made = pool_window(attrs, x.shape)
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    total = made.view(x, 0, wide).sum(axis=_taps(made))
    return one(total / pool_counts(attrs, made).astype(total.dtype), x.dtype)


def _lp_pool(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    made = pool_window(attrs, x.shape)
    # Each element's power once, not once for each window that it is in.
    total = made.view(_powered(attrs, x), 0).sum(axis=_taps(made))
    return one(_root(attrs, np.asarray(total)), x.dtype)


def _powered(attrs: Attrs, x: Array) -> Array:
    p = attrs.get("p", 2)
    wide = np.abs(x.astype(np.float32) if x.dtype.itemsize < 4 else x)
    return np.asarray(wide if p == 1 else wide**p)


def _root(attrs: Attrs, total: Array) -> Array:
    p = attrs.get("p", 2)
    return total if p == 1 else np.asarray(total ** total.dtype.type(1 / p))


define("average_pool", 1, _infer, quiet(_average_pool))
define("lp_pool", 1, _infer, quiet(_lp_pool))


def _infer_global(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS if node.op == "global_max_pool" else FLOATS)
    x = infos[0]
    if len(x.shape) < 2:
        raise fail(node, infos, "x must be (n, c, ...)")
    return [Info(x.dtype, (*x.shape[:2], *(1,) * (len(x.shape) - 2)))]


def _space(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_average(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    return one(np.mean(x, axis=_space(x), keepdims=True, dtype=wide), x.dtype)


def _global_lp(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    return one(_root(attrs, _powered(attrs, x).sum(axis=_space(x), keepdims=True)), x.dtype)


define("global_average_pool", 1, _infer_global, quiet(_global_average))
define(
    "global_max_pool",
    1,
    _infer_global,
    quiet(lambda attrs, x: one(np.max(x, axis=_space(x), keepdims=True), x.dtype)),
)
define(
    "global_lp_pool",
    1,
    _infer_global,
    quiet(_global_lp),
)


# -- back again -----------------------------------------------------------------------------------


def unpooled(attrs: Attrs, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that pooling with these attributes made `shape` of."""
    kernel: Any = attrs["kernel_shape"]
    rank = len(shape) - 2
    if len(kernel) != rank:
        raise InvalidArgument(f"kernel_shape {list(kernel)} must have {rank} extents")
    strides, pads = spread(attrs, "strides", rank, 1), spread(attrs, "pads", rank, 0)
    return *shape[:2], *(
        (shape[2 + i] - 1) * strides[i] - pads[i] - pads[rank + i] + kernel[i]
        for i in range(rank)
    )


def _infer_unpool(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, indices = infos[:2]
    if x.shape != indices.shape or indices.dtype is not INT64:
        raise fail(node, infos, "indices must be int64 and of x's shape")
    try:
        natural = unpooled(node.attrs, x.shape)
    except InvalidArgument as error:
        raise fail(node, infos, str(error)) from None
    asked: Any = node.attrs.get("output_shape")
    shape = natural if asked is None else tuple(asked)
    if len(shape) != len(natural) or any(s < n for s, n in zip(shape, natural, strict=True)):
        raise fail(node, infos, f"output_shape {list(shape)} has no room for {list(natural)}")
    return [Info(x.dtype, shape)]


def _unpool(attrs: Attrs, x: Array, indices: Array) -> tuple[Array, ...]:
    natural = unpooled(attrs, x.shape)
    flat = np.zeros(count(natural), x.dtype)
    if indices.size and (indices.min() < 0 or indices.max() >= flat.size):
        raise InvalidArgument(f"an index lies outside the {flat.size} elements of the result")
    flat[indices.reshape(-1)] = x.reshape(-1)
    asked = attrs.get("output_shape")
    if asked is None:
        return (flat.reshape(natural),)
    result = np.zeros(tuple(asked), x.dtype)
    result[tuple(slice(0, extent) for extent in natural)] = flat.reshape(natural)
    return (result,)


define("max_unpool", (2, 3), _infer_unpool, _unpool, values={"output_shape": 2})
