"""Scores to what ai.onnx.ml's classifiers give: labels, and scores after the post transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilework.core.dtypes import INT64
from tilework.onnx.context import Array, Context, OnnxNode

# post_transform -> the operation that it is, where it is one
_ELEMENTWISE = {"LOGISTIC": "sigmoid", "PROBIT": "probit"}


def post_transform(ctx: Context, scores: str, name: str) -> str:
    """(rows, classes) after the transform."""
    if name == "NONE":
        return scores
    if name == "SOFTMAX":
        return ctx.emit("softmax", scores, axis=-1)
    if name == "SOFTMAX_ZERO":
        return ctx.emit("softmax_zero", scores)
    if name not in _ELEMENTWISE:
        raise ctx.invalid(f"post_transform '{name}'")
    return ctx.emit(_ELEMENTWISE[name], scores)


@dataclass(frozen=True, slots=True)
class OneColumn:
    """How one score decides between two classes: the second wins above `bound`; the first one's
    score is 1 less the second's, or its negative. Of the post transforms only LOGISTIC counts, and
    goes over score and negative: so onnxruntime does, and what is trained for it expects."""

    bound: float
    complement: bool


def classified(
    ctx: Context,
    node: OnnxNode,
    scores: str,
    labels: Sequence[Any],
    one_column: OneColumn | None = None,
) -> Sequence[str]:
    """(label of each row, scores), from scores of (rows, classes), or of one column."""
    transform = node.attrs.get("post_transform", "NONE")
    if one_column is None:
        found = ctx.emit("argmax", scores, axis=1, keepdims=0)
        return _labels(ctx, found, labels), post_transform(ctx, scores, transform)
    wins = ctx.emit("greater", scores, ctx.scalar(one_column.bound, scores))
    found = ctx.emit("cast", ctx.emit("squeeze", wins, axes=(1,)), to=INT64.name)
    if transform == "LOGISTIC" or not one_column.complement:
        other = ctx.emit("neg", scores)
    else:
        other = ctx.emit("sub", ctx.scalar(1.0, scores), scores)
    both = ctx.emit("concat", other, scores, axis=1)
    if transform == "LOGISTIC":
        both = post_transform(ctx, both, transform)
    return _labels(ctx, found, labels), both


def _labels(ctx: Context, found: str, labels: Sequence[Any]) -> str:
    if not labels:
        return found
    strings = isinstance(labels[0], str)
    table: Array = np.array(labels, dtype=object if strings else np.int64)
    return ctx.emit("gather", ctx.constant(table), found, axis=0)
