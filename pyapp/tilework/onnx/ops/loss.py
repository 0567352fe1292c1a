"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


def _likelihood(ctx: Context, node: OnnxNode, chances: str) -> str:
    return ctx.emit(
        "negative_log_likelihood",
        chances,
        *node.inputs[1:],
        reduction=node.attrs.get("reduction", "mean"),
        ignored=node.attrs.get("ignore_index"),
    )


@operator("NegativeLogLikelihoodLoss", (2, 3))
def negative_log_likelihood(ctx: Context, node: OnnxNode) -> str:
    return _likelihood(ctx, node, node.inputs[0])


@operator("SoftmaxCrossEntropyLoss", (2, 3))
def softmax_cross_entropy(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """The loss, and the logarithms of the probabilities."""
    chances = ctx.emit("log_softmax", node.inputs[0], axis=1)
    return _likelihood(ctx, node, chances), chances
