"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from tilework.core.dtypes import UINT8, from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("QuantizeLinear", (2, 3))
def quantize_linear(ctx: Context, node: OnnxNode) -> str:
    asked = node.attrs.get("output_dtype")
    if node.input(2):
        to = ctx.dtype(node.input(2))
    else:
        to = from_onnx(asked, node.origin) if asked else UINT8
    precision = node.attrs.get("precision")
    within = from_onnx(precision, node.origin) if precision else ctx.dtype(node.inputs[1])
    return ctx.emit(
        "quantize_linear",
        *node.inputs,
        axis=node.attrs.get("axis", 1),
        block=node.attrs.get("block_size") or None,
        to=to.name,
        saturate=None if node.attrs.get("saturate", 1) else 0,
        precision=within.name,
    )


@operator("DequantizeLinear", (2, 3))
def dequantize_linear(ctx: Context, node: OnnxNode) -> str:
    asked = node.attrs.get("output_dtype")
    to = from_onnx(asked, node.origin) if asked else ctx.dtype(node.inputs[1])
    return ctx.emit(
        "dequantize_linear",
        *node.inputs,
        axis=node.attrs.get("axis", 1),
        block=node.attrs.get("block_size") or None,
        to=to.name,
    )
