"""Losses of classification.

negative_log_likelihood (x, labels [, weight]): attrs reduction ("none" | "sum" | "mean"),
    ignored (a label, or absent). x is (batch, classes, ...), labels (batch, ...), weight (classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

REDUCTIONS = ("none", "sum", "mean")


def _infer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, labels, weight = [*infos, None][:3]
    assert x is not None and labels is not None
    check_kind(node, [x, weight], FLOATS)
    reduction = node.attrs.get("reduction", "mean")
    if reduction not in REDUCTIONS:
        raise fail(node, infos, f"reduction '{reduction}' is not one of {', '.join(REDUCTIONS)}")
    if labels.dtype.kind != "i" or len(x.shape) < 2:
        raise fail(node, infos, "x must be (batch, classes, ...) and labels integers")
    if labels.shape != (x.shape[0], *x.shape[2:]):
        raise fail(node, infos, f"labels must be {[x.shape[0], *x.shape[2:]]}")
    if weight is not None and weight.shape != x.shape[1:2]:
        raise fail(node, infos, f"weight must be {list(x.shape[1:2])}")
    return [Info(x.dtype, labels.shape if reduction == "none" else ())]


def _loss(attrs: Attrs, x: Array, labels: Array, weight: Array | None = None) -> tuple[Array, ...]:
    reduction, ignored = attrs.get("reduction", "mean"), attrs.get("ignored")
    kept = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    chosen = np.where(kept, labels, 0)
    classes = x.shape[1]
    if chosen.size and (int(chosen.min()) < 0 or int(chosen.max()) >= classes):
        raise InvalidArgument(f"a label is outside [0, {classes}) and is not the one ignored")
    picked = np.take_along_axis(x, np.expand_dims(chosen, 1), axis=1)[:, 0]
    each = np.ones(labels.shape, x.dtype) if weight is None else weight[chosen]
    each = np.where(kept, each, x.dtype.type(0))
    loss = -picked * each
    if reduction == "none":
        return one(loss, x.dtype)
    total = np.sum(loss, dtype=x.dtype)
    return one(total if reduction == "sum" else total / np.sum(each, dtype=x.dtype), x.dtype)


define("negative_log_likelihood", (2, 3), _infer, quiet(_loss))
