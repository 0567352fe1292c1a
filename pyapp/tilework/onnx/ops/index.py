"""Picking by index tensors: Gather, GatherElements, GatherND."""

from __future__ import annotations

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("Gather", 2)
def gather(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gather", *node.inputs, axis=node.attrs.get("axis", 0))


@operator("GatherElements", 2)
def gather_elements(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gather_elements", *node.inputs, axis=node.attrs.get("axis", 0))


@operator("GatherND", 2)
def gather_nd(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gather_nd", *node.inputs, batch_dims=node.attrs.get("batch_dims", 0))
