"""Products, softmax, normalisation, dropout: MatMul, Gemm, Softmax, LayerNormalization, Dropout."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import BOOL
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import Build, direct, operator

direct({"MatMul": "matmul"}, 2)
direct({"Det": "det"}, 1)


@operator("Gemm", (2, 3))
def gemm(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "gemm",
        *node.inputs,
        alpha=node.attrs.get("alpha", 1.0),
        beta=node.attrs.get("beta", 1.0),
        transpose_a=node.attrs.get("transA", 0),
        transpose_b=node.attrs.get("transB", 0),
    )


def softmax(ctx: Context, op: str, x: str, axis: int, version: int) -> str:
    """`op` of x along the axis, as the opset `version` means it."""
    if version >= 13:
        return ctx.emit(op, x, axis=axis)
    rank = ctx.rank(x)
    if axis == -1 or (rank is not None and axis == rank - 1):
        return ctx.emit(op, x, axis=-1)
    # Before opset 13 all axes from `axis` on were one.
    rows = ctx.emit(op, ctx.emit("flatten", x, axis=axis), axis=-1)
    return ctx.emit("reshape", rows, ctx.emit("shape", x), allow_zero=1)


def _softmax(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        axis = node.attrs.get("axis", -1 if node.version >= 13 else 1)
        return softmax(ctx, op, node.inputs[0], axis, node.version)

    return build


operator("Softmax", 1)(_softmax("softmax"))
operator("Hardmax", 1)(_softmax("hardmax"))
operator("LogSoftmax", 1)(_softmax("log_softmax"))


@operator("LayerNormalization", (2, 3))
def layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    outputs = 3 if node.wants(2) else 2 if node.wants(1) else 1
    return ctx.emit_many(
        "layer_normalization",
        node.inputs,
        outputs,
        {"axis": node.attrs.get("axis", -1), "epsilon": node.attrs.get("epsilon", 1e-5)},
    )


@operator("Dropout", (1, 3))
def dropout(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Outside training the input as it is, and a mask."""
    training = node.input(2)
    value = ctx.value(training) if training else None
    if training and (value is None or bool(value)):
        ratio = node.input(1) or ctx.scalar(0.5, node.inputs[0])
        operands = (node.inputs[0], ratio, training)
        return ctx.emit_many(
            "dropout", operands, 2 if node.wants(1) else 1, {"seed": node.attrs.get("seed")}
        )
    (x,) = node.inputs[:1]
    if not node.wants(1):
        return (x,)
    # What the mask is outside training is only said since opset 12; before, onnxruntime gives 0,
    # until opset 9 in the dtype of x.
    kept = node.version >= 12
    dtype = BOOL if node.version >= 10 else ctx.dtype(x)
    mask = ctx.emit("constant_of_shape", ctx.emit("shape", x), value=kept, dtype=dtype.name)
    return (x, mask)


@operator("MeanVarianceNormalization", 1)
def mean_variance_normalization(ctx: Context, node: OnnxNode) -> str:
    axes = node.attrs.get("axes", (0, 2, 3))
    (x,) = node.inputs
    away = ctx.emit("sub", x, ctx.emit("reduce_mean", x, axes=axes, keepdims=1))
    square = ctx.emit("mul", away, away)
    variance = ctx.emit("reduce_mean", square, axes=axes, keepdims=1)
    deviation = ctx.emit("add", ctx.emit("sqrt", variance), ctx.scalar(1e-9, x))
    return ctx.emit("div", away, deviation)


@operator("RMSNormalization", 2)
def rms_normalization(ctx: Context, node: OnnxNode) -> str:
    axis, epsilon = node.attrs.get("axis", -1), node.attrs.get("epsilon", 1e-5)
    return ctx.emit("rms_normalization", *node.inputs, axis=axis, epsilon=epsilon)


@operator("Einsum", (1, -1))
def einsum(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("einsum", *node.inputs, equation=node.attrs["equation"])


@operator("LpNormalization", 1)
def lp_normalization(ctx: Context, node: OnnxNode) -> str:
    p, axis = node.attrs.get("p", 2), node.attrs.get("axis", -1)
    return ctx.emit("lp_normalization", *node.inputs, p=p, axis=axis)
