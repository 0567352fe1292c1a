"""Attention and its kin of the default domain: RotaryEmbedding, LinearAttention, SwiGLU, ..."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("Attention", (3, 7))
def attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    precision = node.attrs.get("softmax_precision")
    outputs = max(i + 1 for i in range(4) if i == 0 or node.wants(i))
    return ctx.emit_many(
        "scaled_attention",
        node.inputs,
        outputs,
        {
            "q_heads": node.attrs.get("q_num_heads"),
            "kv_heads": node.attrs.get("kv_num_heads"),
            "scale": node.attrs.get("scale"),
            "causal": node.attrs.get("is_causal", 0),
            "softcap": node.attrs.get("softcap", 0.0),
            "precision": from_onnx(precision, node.origin).name if precision else None,
            "scores": node.attrs.get("qk_matmul_output_mode", 0),
            "left": node.attrs.get("left_window_size", -1),
            "right": node.attrs.get("right_window_size", -1),
        },
    )


@operator("RotaryEmbedding", (3, 4))
def rotary_embedding(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "rotary_embedding",
        *node.inputs,
        heads=node.attrs.get("num_heads", 0),
        interleaved=node.attrs.get("interleaved", 0),
        features=node.attrs.get("rotary_embedding_dim", 0),
    )


@operator("LinearAttention", (3, 6))
def linear_attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return ctx.emit_many(
        "linear_attention",
        node.inputs,
        2,
        {
            "q_heads": node.attrs["q_num_heads"],
            "kv_heads": node.attrs["kv_num_heads"],
            "scale": node.attrs.get("scale", 0.0),
            "rule": node.attrs.get("update_rule", "gated_delta"),
        },
    )


@operator("CausalConvWithState", (2, 4))
def causal_conv(ctx: Context, node: OnnxNode) -> Sequence[str]:
    activation = node.attrs.get("activation", "none")
    return ctx.emit_many("causal_conv", node.inputs, 2, {"activation": activation})


@operator("SwiGLU", 2)
def swiglu(ctx: Context, node: OnnxNode) -> str:
    gate, value = node.inputs
    alpha = node.attrs.get("alpha", 1.0)
    inner = gate if alpha == 1 else ctx.emit("mul", gate, ctx.scalar(alpha, gate))
    swish = ctx.emit("mul", gate, ctx.emit("sigmoid", inner))
    return ctx.emit("mul", swish, value)
