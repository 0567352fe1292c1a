"""com.microsoft operators that onnxruntime's optimiser and optimum write into BERT-like models."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import MICROSOFT, operator


@operator("Gelu", 1, MICROSOFT)
def gelu(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gelu", *node.inputs, approximate="none")


@operator("QuickGelu", 1, MICROSOFT)
def quick_gelu(ctx: Context, node: OnnxNode) -> str:
    (x,) = node.inputs
    scaled = ctx.emit("mul", x, ctx.scalar(node.attrs.get("alpha", 1.702), x))
    return ctx.emit("mul", x, ctx.emit("sigmoid", scaled))


@operator("FastGelu", (1, 2), MICROSOFT)
def fast_gelu(ctx: Context, node: OnnxNode) -> str:
    x = node.inputs[0]
    if node.input(1):
        x = ctx.emit("add", x, node.input(1))
    return ctx.emit("gelu", x, approximate="tanh")


@operator("BiasGelu", 2, MICROSOFT)
def bias_gelu(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gelu", ctx.emit("add", *node.inputs), approximate="none")


@operator("SkipLayerNormalization", (3, 5), MICROSOFT)
def skip_layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Outputs: normalised, mean, inverse deviation, the sum before normalisation."""
    x, skip, gamma = node.inputs[:3]
    total = ctx.emit("add", x, skip)
    if node.input(4):
        total = ctx.emit("add", total, node.input(4))
    outputs = 3 if node.wants(2) else 2 if node.wants(1) else 1
    results = ctx.emit_many(
        "layer_normalization",
        (total, gamma, node.input(3)),
        outputs,
        {"axis": -1, "epsilon": node.attrs.get("epsilon", 1e-12)},
    )
    return (*results, *("",) * (3 - outputs), total)


@operator("FusedMatMul", 2, MICROSOFT)
def fused_matmul(ctx: Context, node: OnnxNode) -> str:
    if node.attrs.get("transBatchA", 0) or node.attrs.get("transBatchB", 0):
        raise ctx.unsupported("transBatchA or transBatchB")
    sides = [
        _turned(ctx, name, bool(node.attrs.get(flag, 0)))
        for name, flag in zip(node.inputs, ("transA", "transB"), strict=True)
    ]
    product = ctx.emit("matmul", *sides)
    alpha = node.attrs.get("alpha", 1.0)
    if alpha == 1:
        return product
    return ctx.emit("mul", product, ctx.scalar(alpha, node.inputs[0]))


def _turned(ctx: Context, name: str, turn: bool) -> str:
    """The last two axes exchanged."""
    if not turn:
        return name
    rank = ctx.rank(name)
    if rank is None:
        raise ctx.unsupported(f"transposing '{name}', whose rank is not declared,")
    perm = list(range(rank))
    if rank > 1:
        perm[-1], perm[-2] = perm[-2], perm[-1]
    return ctx.emit("transpose", name, perm=tuple(perm))
