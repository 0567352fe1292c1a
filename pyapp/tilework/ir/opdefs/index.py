"""Operations that pick elements by index tensors (int32 or int64, negative counts from the end).

gather(axis) (data, indices)  gather_elements(axis)  gather_nd(batch_dims)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import one
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _check_indices(node: Node, infos: Sequence[Info]) -> None:
    if infos[1].dtype.name not in ("int32", "int64"):
        raise fail(node, infos, "indices must be int32 or int64")


def wrapped(indices: Array, extent: int, axis: int) -> Array:
    """Indices counted from the front; InvalidArgument when one is outside the axis."""
    if indices.size and (int(indices.min()) < -extent or int(indices.max()) >= extent):
        raise InvalidArgument(
            f"indices {int(indices.min())}..{int(indices.max())} leave axis {axis} of extent "
            f"{extent}; they must be in [{-extent}, {extent})"
        )
    return np.asarray(np.where(indices < 0, indices + extent, indices))


def _infer_gather(node: Node, infos: Sequence[Info]) -> list[Info]:
    _check_indices(node, infos)
    axis: Any = node.attrs["axis"]
    shape = infos[0].shape
    return [Info(infos[0].dtype, (*shape[:axis], *infos[1].shape, *shape[axis + 1 :]))]


def _gather(attrs: Attrs, x: Array, indices: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    return one(np.take(x, wrapped(indices, x.shape[axis], axis), axis=axis))


define("gather", 2, _infer_gather, _gather, normalise=normalise_axis, raw=True)


def _infer_gather_elements(node: Node, infos: Sequence[Info]) -> list[Info]:
    _check_indices(node, infos)
    axis: Any = node.attrs["axis"]
    data, indices = infos[0].shape, infos[1].shape
    if len(data) != len(indices) or any(
        indices[i] > extent for i, extent in enumerate(data) if i != axis
    ):
        raise fail(node, infos, f"indices must have data's rank and fit it except on axis {axis}")
    return [Info(infos[0].dtype, indices)]


def _gather_elements(attrs: Attrs, x: Array, indices: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    window = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape))
    fixed = wrapped(indices, x.shape[axis], axis).astype(np.int64)
    return one(np.take_along_axis(x[window], fixed, axis=axis))


define(
    "gather_elements",
    2,
    _infer_gather_elements,
    _gather_elements,
    normalise=normalise_axis,
    raw=True,
)


def _infer_gather_nd(node: Node, infos: Sequence[Info]) -> list[Info]:
    _check_indices(node, infos)
    batch: Any = node.attrs.get("batch_dims", 0)
    data, indices = infos[0].shape, infos[1].shape
    depth = indices[-1] if indices else 0
    if (
        not 0 <= batch < max(len(indices), 1)
        or data[:batch] != indices[:batch]
        or not indices
        or not 1 <= depth <= len(data) - batch
    ):
        raise fail(node, infos, f"the last axis of indices must be 1..rank (batch_dims {batch})")
    return [Info(infos[0].dtype, (*indices[:-1], *data[batch + depth :]))]


def _gather_nd(attrs: Attrs, x: Array, indices: Array) -> tuple[Array, ...]:
    batch = int(attrs.get("batch_dims", 0))
    depth = indices.shape[-1]
    columns = [wrapped(indices[..., i], x.shape[batch + i], batch + i) for i in range(depth)]
    lead = [
        np.arange(n).reshape((-1,) + (1,) * (indices.ndim - 2 - i))
        for i, n in enumerate(indices.shape[:batch])
    ]
    return one(x[tuple(lead + columns)])


define("gather_nd", 2, _infer_gather_nd, _gather_nd, raw=True)
