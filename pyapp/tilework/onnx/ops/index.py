"""Picking and putting by index tensors: Gather, ScatterND, OneHot, TopK, ..."""

from __future__ import annotations

from collections.abc import Sequence

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


@operator("ScatterElements", 3)
def scatter_elements(ctx: Context, node: OnnxNode) -> str:
    reduction = node.attrs.get("reduction", "none")
    axis = node.attrs.get("axis", 0)
    return ctx.emit("scatter_elements", *node.inputs, axis=axis, reduction=reduction)


operator("Scatter", 3)(scatter_elements)  # its name until opset 10


@operator("ScatterND", 3)
def scatter_nd(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("scatter_nd", *node.inputs, reduction=node.attrs.get("reduction", "none"))


@operator("TensorScatter", (2, 3))
def tensor_scatter(ctx: Context, node: OnnxNode) -> str:
    mode = node.attrs.get("mode", "linear")
    if mode not in ("linear", "circular"):
        raise ctx.invalid(f"mode '{mode}' is neither linear nor circular")
    axis = node.attrs.get("axis", -2)
    return ctx.emit("tensor_scatter", *node.inputs, axis=axis, circular=int(mode == "circular"))


@operator("OneHot", 3)
def one_hot(ctx: Context, node: OnnxNode) -> str:
    indices, depth, values = node.inputs
    places, axis = {"depth": depth}, node.attrs.get("axis", -1)
    return ctx.emit_with("one_hot", indices, values, values=places, axis=axis)[0]


@operator("ReverseSequence", 2)
def reverse_sequence(ctx: Context, node: OnnxNode) -> str:
    time, batch = node.attrs.get("time_axis", 0), node.attrs.get("batch_axis", 1)
    return ctx.emit("reverse_sequence", *node.inputs, time=time, batch=batch)


@operator("TopK", (1, 2))
def top_k(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """k is an attribute before opset 10, an input since."""
    return ctx.emit_with(
        "top_k",
        node.inputs[0],
        values={"k": node.input(1)},
        outputs=2,
        k=node.attrs.get("k"),
        axis=node.attrs.get("axis", -1),
        largest=node.attrs.get("largest", 1),
    )
