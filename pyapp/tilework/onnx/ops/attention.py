"""Attention and its kin of the default domain: RotaryEmbedding, LinearAttention, SwiGLU, ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilework.core.dtypes import FLOAT32, FLOAT64, from_onnx
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


@operator("FlexAttention", 3, "ai.onnx.preview")
def flex_attention(ctx: Context, node: OnnxNode) -> str:
    """Attention with graphs of the model's own between its steps; they become part of the graph."""
    q, k, v = node.inputs
    dtype = ctx.dtype(q)
    asked = node.attrs.get("softmax_precision")
    own = FLOAT64 if dtype is FLOAT64 else FLOAT32
    within = from_onnx(asked, node.origin) if asked else own
    if node.attrs.get("scale") is None:
        features = ctx.emit("cast", ctx.emit("shape", q, start=3, end=4), to=own.name)
        scale = ctx.emit("reciprocal", ctx.emit("sqrt", features))
    else:
        scale = ctx.constant(np.array(node.attrs["scale"], own.numpy))
    root = ctx.emit("cast", ctx.emit("sqrt", scale), to=dtype.name)
    k, v = (ctx.emit("share_heads", x, q) for x in (k, v))
    turned = ctx.emit("transpose", ctx.emit("mul", k, root), perm=(0, 1, 3, 2))
    scores = ctx.emit("matmul", ctx.emit("mul", q, root), turned)
    scores = _modified(ctx, node, "score_mod", ctx.emit("cast", scores, to=within.name))
    chances = _modified(ctx, node, "prob_mod", ctx.emit("softmax", scores, axis=-1))
    y = ctx.emit("matmul", chances, ctx.emit("cast", v, to=within.name))
    return ctx.emit("cast", y, to=dtype.name)


def _modified(ctx: Context, node: OnnxNode, attribute: str, x: str) -> str:
    """What the graph in the attribute makes of `x`; `x` itself where there is none."""
    proto = node.attrs.get(attribute)
    if proto is None:
        return x
    inner = ctx.inner(proto, (x,))
    graph = inner.graph
    if len(graph.inputs) != 1 + len(inner.captured) or len(graph.outputs) != 1:
        raise ctx.invalid(f"{attribute} must take one tensor and give one")
    names = {"": "", **inner.captured}
    names[next(value.name for value in graph.inputs if value.name not in names)] = x
    for name, constant in graph.constants.items():
        if constant.array is None:
            raise ctx.unsupported(f"external data in {attribute}")
        names[name] = ctx.constant(constant.array)
    for one in graph.nodes:
        made = ctx.emit_many(one.op, [names[n] for n in one.inputs], len(one.outputs), one.attrs)
        names.update(zip(one.outputs, made, strict=True))
    return names[graph.outputs[0].name]
