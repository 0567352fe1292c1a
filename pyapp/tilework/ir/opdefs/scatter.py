"""Operations that write at places given by index tensors, and those that make such places.

scatter_elements(axis, reduction) (x, indices, updates)    reduction: none add mul max min
scatter_nd(reduction) (x, indices, updates)
tensor_scatter(axis, circular) (cache, update [, starts])  starts: one for each of the batch
one_hot(depth, axis) (indices, values) [depth is input 1 in a graph]
reverse_sequence(time, batch) (x, lengths)
top_k(k, axis, largest) (x) [input 1 holds k] -> values, int64 positions; ties: lower index first
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT64
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import normalize_axis, with_extent
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import one, quiet, same_dtype
from tilework.ir.opdefs.index import wrapped
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

# `at` of these ufuncs applies every update where several have one place.
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _check(node: Node, infos: Sequence[Info]) -> None:
    if infos[1].dtype.name not in ("int32", "int64"):
        raise fail(node, infos, "indices must be int32 or int64")
    same_dtype(node, [infos[0], infos[2]])
    reduction = node.attrs.get("reduction", "none")
    if reduction != "none" and reduction not in REDUCTIONS:
        raise fail(node, infos, f"reduction '{reduction}' is not none, add, mul, max or min")


def _put(attrs: Attrs, x: Array, places: tuple[Array, ...], updates: Array) -> tuple[Array, ...]:
    result = x.copy()
    reduction = attrs.get("reduction", "none")
    if reduction == "none":
        result[places] = updates
    else:
        REDUCTIONS[reduction](result, places, updates)
    return (result,)


def _infer_elements(node: Node, infos: Sequence[Info]) -> list[Info]:
    _check(node, infos)
    axis: Any = node.attrs["axis"]
    data, indices = infos[0].shape, infos[1].shape
    if indices != infos[2].shape or len(data) != len(indices):
        raise fail(node, infos, "indices and updates must be of one shape, of data's rank")
    if any(indices[i] > extent for i, extent in enumerate(data) if i != axis):
        raise fail(node, infos, f"indices must fit data except on axis {axis}")
    return [Info(infos[0].dtype, data)]


def _elements(attrs: Attrs, x: Array, indices: Array, updates: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = wrapped(indices, x.shape[axis], axis)
    return _put(attrs, x, tuple(places), updates)


define("scatter_elements", 3, _infer_elements, quiet(_elements), normalise=normalise_axis)


def _infer_nd(node: Node, infos: Sequence[Info]) -> list[Info]:
    _check(node, infos)
    data, indices = infos[0].shape, infos[1].shape
    depth = indices[-1] if indices else 0
    if not indices or not 1 <= depth <= len(data):
        raise fail(node, infos, "the last axis of indices must be 1..rank of data")
    wanted = (*indices[:-1], *data[depth:])
    if infos[2].shape != wanted:
        raise fail(node, infos, f"updates must be {list(wanted)}")
    return [Info(infos[0].dtype, data)]


def _nd(attrs: Attrs, x: Array, indices: Array, updates: Array) -> tuple[Array, ...]:
    depth = indices.shape[-1]
    places = tuple(wrapped(indices[..., i], x.shape[i], i) for i in range(depth))
    return _put(attrs, x, places, updates)


define("scatter_nd", 3, _infer_nd, quiet(_nd))


# -- tensor_scatter --------------------------------------------------------------------------------


def _infer_tensor_scatter(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    cache, update, starts = [*infos, None][:3]
    assert cache is not None and update is not None
    axis: Any = node.attrs["axis"]
    same_dtype(node, [cache, update])
    rest = (*cache.shape[:axis], *cache.shape[axis + 1 :])
    if (
        axis == 0
        or len(update.shape) != len(cache.shape)
        or rest != (*update.shape[:axis], *update.shape[axis + 1 :])
        or update.shape[axis] > cache.shape[axis]
    ):
        raise fail(node, infos, f"the update must fit the cache along axis {axis}, which is not 0")
    if starts is not None and starts.shape != cache.shape[:1]:
        raise fail(node, infos, f"the write indices must be {list(cache.shape[:1])}")
    return [Info(cache.dtype, cache.shape)]


def _tensor_scatter(
    attrs: Attrs, cache: Array, update: Array, starts: Array | None = None
) -> tuple[Array, ...]:
    axis = attrs["axis"]
    room, count = cache.shape[axis], update.shape[axis]
    result = np.moveaxis(cache.copy(), axis, 1)
    given = np.moveaxis(update, axis, 1)
    for batch in range(cache.shape[0]):
        first = 0 if starts is None else int(starts[batch])
        if not attrs.get("circular", 0) and not 0 <= first <= room - count:
            raise InvalidArgument(f"{count} entries from {first} on leave the cache of {room}")
        result[batch, (first + np.arange(count)) % room] = given[batch]
    return (np.moveaxis(result, 1, axis),)


define(
    "tensor_scatter",
    (2, 3),
    _infer_tensor_scatter,
    _tensor_scatter,
    normalise=normalise_axis,
    raw=True,
)


# -- one_hot ---------------------------------------------------------------------------------------


def _normalise_one_hot(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    depth = attrs["depth"]
    axis = normalize_axis(attrs.get("axis", -1), len(infos[0].shape) + 1)
    return {"depth": int(depth[0] if isinstance(depth, tuple) else depth), "axis": axis}


def _infer_one_hot(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    axis, shape = attrs["axis"], infos[0].shape
    if infos[1].shape != (2,) or attrs["depth"] < 0:
        raise fail(node, infos, "values must be the two for off and on, and depth not negative")
    return [Info(infos[1].dtype, (*shape[:axis], attrs["depth"], *shape[axis:]))]


def _one_hot(attrs: Attrs, indices: Array, values: Array) -> tuple[Array, ...]:
    depth, axis = attrs["depth"], attrs["axis"]
    index = np.expand_dims(indices.astype(np.int64), axis)
    inside = (index >= -depth) & (index < depth)
    shape = [1] * index.ndim
    shape[axis] = depth
    on = inside & (np.where(index < 0, index + depth, index) == np.arange(depth).reshape(shape))
    return one(np.where(on, values[1], values[0]), values.dtype)


define(
    "one_hot",
    (2, 3),
    _infer_one_hot,
    _one_hot,
    values={"depth": 2},
    normalise=_normalise_one_hot,
    raw=True,
)


# -- reverse_sequence ------------------------------------------------------------------------------


def _infer_reverse(node: Node, infos: Sequence[Info]) -> list[Info]:
    time, batch = node.attrs["time"], node.attrs["batch"]
    if {time, batch} != {0, 1} or len(infos[0].shape) < 2:
        raise fail(node, infos, "time and batch axes must be 0 and 1, or 1 and 0")
    if infos[1].shape != (infos[0].shape[int(batch)],):
        raise fail(node, infos, "there must be a length for each of the batch")
    return [Info(infos[0].dtype, infos[0].shape)]


def _reverse(attrs: Attrs, x: Array, lengths: Array) -> tuple[Array, ...]:
    y = x if attrs["batch"] == 0 else np.swapaxes(x, 0, 1)
    rows = y.shape[1]
    if lengths.size and (int(lengths.min()) < 0 or int(lengths.max()) > rows):
        raise InvalidArgument(f"a length is outside [0, {rows}]")
    place: Array = np.arange(rows)
    count = lengths[:, None]
    source = np.where(place < count, count - 1 - place, place)
    y = y[np.arange(y.shape[0])[:, None], source]
    return (y if attrs["batch"] == 0 else np.swapaxes(y, 0, 1),)


define("reverse_sequence", 2, _infer_reverse, _reverse, raw=True)


# -- top_k -----------------------------------------------------------------------------------------


def _normalise_top_k(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    k = attrs["k"]
    axis = normalize_axis(attrs.get("axis", -1), len(infos[0].shape))
    return {"k": int(k[0] if isinstance(k, tuple) else k), "axis": axis}


def _infer_top_k(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    k, axis, shape = attrs["k"], attrs["axis"], infos[0].shape
    if not 0 <= k <= shape[axis]:
        raise fail(node, infos, f"k is {k}, axis {axis} has {shape[axis]} elements")
    kept = with_extent(shape, axis, k)
    return [Info(infos[0].dtype, kept), Info(INT64, kept)]


def _top_k(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    k, axis = attrs["k"], attrs["axis"]
    if attrs.get("largest", 1):
        # Backwards, so that the stable ascending order, read from its end, has ties in order. NaN
        # counts as the largest there and here.
        order = x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = np.flip(order, axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    picked = np.take(order, range(k), axis=axis)
    return np.take_along_axis(x, picked, axis=axis), picked.astype(np.int64)


define(
    "top_k",
    (2, 2),
    _infer_top_k,
    _top_k,
    outputs=2,
    values={"k": 1},
    normalise=_normalise_top_k,
)
