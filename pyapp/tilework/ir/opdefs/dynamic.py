"""Operations whose sizes hang on data: the host runs them and a plan is cut behind.

nonzero (x) -> int64 (rank, n)      compress(axis) (x, condition)      unique(axis, sorted) (x) ->
values, first places, inverse, counts      non_max_suppression(center) (boxes, scores, most a class,
iou threshold, score threshold) -> int64 (n, 3)
"""

from __future__ import annotations

from typing import Any

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


def _corners(boxes: Array, center: bool) -> tuple[Array, Array]:
    """Lower and upper corners, (..., 2) each; a box's corners may be given in any order."""
    if center:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return middle - half, middle + half
    return np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])


def _overlap(low: Array, high: Array, areas: Array, pick: int, others: Array) -> Array:
    """Intersection over union of a box with others."""
    inner = np.minimum(high[pick], high[others]) - np.maximum(low[pick], low[others])
    shared = np.prod(np.maximum(inner, 0), axis=-1)
    union = areas[pick] + areas[others] - shared
    ratio: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def _non_max_suppression(
    attrs: Attrs,
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    iou: Array | None = None,
    least: Array | None = None,
) -> tuple[Array, ...]:
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4:
        raise InvalidArgument("boxes must be (batch, n, 4) and scores (batch, classes, n)")
    if (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2]):
        raise InvalidArgument("boxes and scores differ in batch or number of boxes")
    limit = 0 if most is None else int(most.reshape(-1)[0])
    threshold = 0.0 if iou is None else float(iou.reshape(-1)[0])
    low, high = _corners(boxes, bool(attrs.get("center", 0)))
    areas = np.prod(high - low, axis=-1)
    found: list[tuple[int, int, int]] = []
    for batch, row in enumerate(scores):
        for number, given in enumerate(row):
            order: Any = np.argsort(-given, kind="stable")
            if least is not None:
                order = order[given[order] > least.reshape(-1)[0]]
            for _ in range(max(limit, 0)):
                if not order.size:
                    break
                pick = order[0]
                found.append((batch, number, int(pick)))
                order = order[1:]
                if areas[batch, pick] > 0:  # what is empty covers nothing
                    taken = _overlap(low[batch], high[batch], areas[batch], pick, order)
                    order = order[taken <= threshold]
    return (np.array(found, dtype=np.int64).reshape(-1, 3),)


define_dynamic("non_max_suppression", (2, 5), _non_max_suppression)
