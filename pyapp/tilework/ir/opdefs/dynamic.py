"""Operations whose sizes hang on data: the host runs them and a plan is cut behind.

nonzero (x) -> int64 (rank, n)      compress(axis) (x, condition)      unique(axis, sorted) (x) ->
values, first places, inverse, counts      listed_boxes (what suppress gives) -> int64 (n, 3), the
chosen ones' image, class and number
"""

from __future__ import annotations

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.narrow import widen
from tilework.ir.opdefs.registry import Array, Attrs, define_dynamic


def _nonzero(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    x = widen(x)
    places = np.array(np.nonzero(x.reshape(-1) if x.ndim == 0 else x), dtype=np.int64)
    return (places[: x.ndim],)  # a scalar's has no rows: ONNX differs from NumPy there


define_dynamic("nonzero", 1, _nonzero)


def checked_axis(axis: int, rank: int) -> int:
    """The axis counted from the front. InvalidArgument when there is none such."""
    if not -rank <= axis < rank:
        raise InvalidArgument(f"axis {axis} is outside [{-rank}, {rank})")
    return axis % rank


def _compress(attrs: Attrs, x: Array, condition: Array) -> tuple[Array, ...]:
    axis = attrs.get("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = checked_axis(axis, x.ndim)
    picked = np.flatnonzero(condition)
    if condition.ndim != 1 or (picked.size and picked[-1] >= x.shape[axis]):
        raise InvalidArgument(
            f"the condition must be a vector no longer than axis {axis}, {x.shape[axis]}"
        )
    return (np.take(x, picked, axis=axis),)


define_dynamic("compress", 2, _compress)


def _unique(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    axis = attrs.get("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = checked_axis(axis, x.ndim)
    _, first, inverse, counts = np.unique(
        widen(x), return_index=True, return_inverse=True, return_counts=True,
        axis=axis if x.ndim > 1 else None,
    )  # fmt: skip
    inverse = inverse.reshape(-1)
    if not attrs.get("sorted", 1):
        order = np.argsort(first)
        first, counts = first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return (
        np.take(x, first, axis=axis),
        first.astype(np.int64),
        inverse.astype(np.int64),
        counts.astype(np.int64),
    )


define_dynamic("unique", 1, _unique, outputs=4)


def _listed(attrs: Attrs, chosen: Array) -> tuple[Array, ...]:
    there = chosen >= 0
    image, number, _ = np.nonzero(there)
    return (np.stack([image, number, chosen[there]], axis=1).astype(np.int64),)


define_dynamic("listed_boxes", 1, _listed)
