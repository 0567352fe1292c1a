"""Boxes that detectors find.

suppress(most, center) (boxes, scores [, iou [, least]]) [4 holds most]: boxes is (batch, n, 4), two
    corners in any order or, with center, middle and size; scores (batch, classes, n)
    -> int32 (batch, classes, min(most, n)): the chosen boxes' numbers, best first, then -1
Source: greedy non-maximum suppression, as ONNX's NonMaxSuppression states it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _normalise(node: Node, infos: Sequence[Info | None]) -> Mapping[str, Any]:
    most: Any = node.attrs.get("most", 0)
    return {"most": int(most[0] if isinstance(most, tuple) else most)}


def _infer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    present = [info for info in infos[:4] if info is not None]
    check_kind(node, present, FLOATS)
    boxes, scores = present[0].shape, present[1].shape
    if len(boxes) != 3 or len(scores) != 3 or boxes[2] != 4:
        raise fail(node, infos, "boxes must be (batch, n, 4) and scores (batch, classes, n)")
    if (boxes[0], boxes[1]) != (scores[0], scores[2]):
        raise fail(node, infos, "boxes and scores differ in batch or number of boxes")
    if any(info.shape not in ((), (1,)) for info in present[2:]):
        raise fail(node, infos, "thresholds must be one number each")
    attrs: Any = node.attrs
    return [Info(INT32, (*scores[:2], min(max(attrs["most"], 0), boxes[1])))]


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


def _suppress(
    attrs: Attrs, boxes: Array, scores: Array, iou: Array | None = None, least: Array | None = None
) -> tuple[Array, ...]:
    threshold = 0.0 if iou is None else float(iou.reshape(-1)[0])
    low, high = _corners(boxes, bool(attrs.get("center", 0)))
    areas = np.prod(high - low, axis=-1)
    kept = min(max(attrs["most"], 0), boxes.shape[1])
    chosen: Array = np.full((*scores.shape[:2], kept), -1, np.int32)
    for batch, row in enumerate(scores):
        for number, given in enumerate(row):
            order: Any = np.argsort(-given, kind="stable")
            if least is not None:
                order = order[given[order] > least.reshape(-1)[0]]
            for place in range(kept):
                if not order.size:
                    break
                pick = order[0]
                chosen[batch, number, place] = pick
                order = order[1:]
                if areas[batch, pick] > 0:  # what is empty covers nothing
                    taken = _overlap(low[batch], high[batch], areas[batch], pick, order)
                    order = order[taken <= threshold]
    return (chosen,)


define(
    "suppress",
    (2, 5),
    _infer,
    quiet(_suppress),
    values={"most": 4},
    normalise=_normalise,
)
