"""Non-maximum suppression: every class of every image by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, INT32
from tilework.hal.kernels.boxes import F32_SUPPRESS, SuppressParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands

BOXES = 8192  # a tile, by boxes.wit


def suppress(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """The boxes of each class that overlap no better one."""
    boxes, scores, iou, least = [*inputs, None, None][:4]
    assert boxes is not None and scores is not None
    present = [tensor for tensor in (boxes, scores, iou, least) if tensor is not None]
    for tensor in present:
        if tensor.dtype is not FLOAT32:
            return f"no kernel for {node.op} of {tensor.dtype}"
    batch, classes, kept = results[0].shape
    count = boxes.shape[1]
    scratch = 8 * count + 20 * (kept + 4)
    if scratch > SCRATCH:
        return f"{count} boxes are more than scratch holds"
    attrs: Any = node.attrs
    y = b.new(INT32, results[0].shape)
    lines = batch * classes
    each = max(min(BOXES // max(count, 1), -(-lines // b.threads)), 1)
    params = SuppressParams(batch, classes, count, kept, each, int(bool(attrs.get("center", 0))))
    given = (boxes, scores, iou, least)
    operands = [None if tensor is None else b.dense(tensor) for tensor in given]
    counts = (-(-lines // each) if y.size else 0, 1, 1)
    b.emit(F32_SUPPRESS, counts, params, (*operands, y), scratch)
    return [y]


FLOATS: dict[str, Lowering] = {
    "suppress": suppress,
}
