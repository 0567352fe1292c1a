"""Quantised operators: of the standard, and those that onnxruntime's tools write into models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_ONNX, FLOAT16, FLOAT32, UINT8
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.nn import softmax
from tilework.onnx.ops.table import MICROSOFT, Build, operator

_CONV = ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "group")


def _linear_attributes(node: OnnxNode) -> dict[str, Any]:
    names = ("axis", "block_size", "saturate")
    return {name: node.attrs[name] for name in names if name in node.attrs}


def _quantize(ctx: Context, node: OnnxNode) -> str:
    zero = node.input(2)
    asked = node.attrs.get("output_dtype", 0)
    to = ctx.dtype(zero) if zero else BY_ONNX[asked] if asked else UINT8
    return ctx.emit("quantize_linear", *node.inputs, to=to.name, **_linear_attributes(node))


def _dequantize(ctx: Context, node: OnnxNode) -> str:
    asked = node.attrs.get("output_dtype", 0)
    to = BY_ONNX[asked] if asked else ctx.dtype(node.inputs[1])
    return ctx.emit("dequantize_linear", *node.inputs, to=to.name, **_linear_attributes(node))


for _domain in ("", MICROSOFT):
    operator("QuantizeLinear", (2, 3), _domain)(_quantize)
    operator("DequantizeLinear", (2, 3), _domain)(_dequantize)


def dynamic(ctx: Context, x: str) -> tuple[str, ...]:
    """The bytes of x, their scale and their zero."""
    results = ctx.emit_many("dynamic_quantize_linear", (x,), 3, {})
    for name, dtype in zip(results, (UINT8, FLOAT32, UINT8), strict=True):
        ctx.set_dtype(name, dtype)
    return results


@operator("DynamicQuantizeLinear", 1)
def dynamic_quantize_linear(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return dynamic(ctx, node.inputs[0])


@operator("MatMulInteger", (2, 4))
def matmul_integer(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("matmul_integer", *node.inputs, to="int32")


@operator("ConvInteger", (2, 4))
def conv_integer(ctx: Context, node: OnnxNode) -> str:
    attrs = {name: node.attrs[name] for name in _CONV if name in node.attrs}
    return ctx.emit("conv_integer", *node.inputs, to="int32", **attrs)


def _qlinear_matmul(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("qlinear_matmul", *node.inputs, to=ctx.dtype(node.inputs[7]).name)


operator("QLinearMatMul", 8)(_qlinear_matmul)


def _qlinear_conv(ctx: Context, node: OnnxNode) -> str:
    if node.attrs.get("channels_last", 0):
        raise ctx.unsupported("channels_last")
    attrs = {name: node.attrs[name] for name in _CONV if name in node.attrs}
    return ctx.emit("qlinear_conv", *node.inputs, to=ctx.dtype(node.inputs[7]).name, **attrs)


operator("QLinearConv", (8, 9))(_qlinear_conv)
operator("QLinearConv", (8, 9), MICROSOFT)(_qlinear_conv)


@operator("QGemm", (6, 9), MICROSOFT)
def q_gemm(ctx: Context, node: OnnxNode) -> str:
    """alpha a b + c of bytes, c in int32; bytes again where y's scale is there."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = [*node.inputs, *[""] * 3][:9]
    if node.attrs.get("transA", 0):
        a = ctx.emit("transpose", a, perm=(1, 0))
    if node.attrs.get("transB", 0):
        b = ctx.emit("transpose", b, perm=(1, 0))
    factor = node.attrs.get("alpha", 1.0)
    if factor != 1.0:
        a_scale = ctx.emit("mul", a_scale, ctx.constant(np.array(factor, np.float32)))
    if y_scale:
        zero = y_zero or ctx.constant(np.array(0, np.uint8))
        flat = ctx.constant(np.array([-1], np.int64))
        c = ctx.emit("reshape", c, flat) if c else c
        operands = (a, a_scale, a_zero, b, b_scale, b_zero, y_scale, zero, c)
        return ctx.emit("qlinear_matmul", *operands, to=ctx.dtype(zero).name)
    product = ctx.emit(
        "quantized_matmul", a, b, a_scale, b_scale, a_zero, b_zero, to="float32"
    )
    if not c:
        return product
    units = ctx.emit("mul", a_scale, b_scale)
    return ctx.emit("add", product, ctx.emit("mul", ctx.emit("cast", c, to="float32"), units))


# -- com.microsoft: products ----------------------------------------------------------------------


@operator("MatMulIntegerToFloat", (4, 7), MICROSOFT)
def matmul_integer_to_float(ctx: Context, node: OnnxNode) -> str:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = [*node.inputs, "", "", ""][:7]
    operands = (a, b, a_scale, b_scale, a_zero, b_zero, bias)
    return ctx.emit("quantized_matmul", *operands, to="float32")


@operator("DynamicQuantizeMatMul", (3, 5), MICROSOFT)
def dynamic_quantize_matmul(ctx: Context, node: OnnxNode) -> str:
    x, b, b_scale, b_zero, bias = [*node.inputs, "", ""][:5]
    a, a_scale, a_zero = dynamic(ctx, x)
    operands = (a, b, a_scale, b_scale, a_zero, b_zero, bias)
    return ctx.emit("quantized_matmul", *operands, to="float32")


@operator("MatMulNBits", (3, 6), MICROSOFT)
def matmul_n_bits(ctx: Context, node: OnnxNode) -> str:
    """x @ bᵀ (+ bias), b of few bits in blocks of k."""
    x, b, scales, zeros, order, bias = [*node.inputs, "", "", ""][:6]
    if order:
        raise ctx.unsupported("g_idx")
    attrs = {
        "n": node.attrs["N"],
        "k": node.attrs["K"],
        "bits": node.attrs.get("bits", 4),
        "block_size": node.attrs["block_size"],
    }
    # From 2 on a model may be computed with A in two bytes; one that is has no more anyway.
    rounds = node.attrs.get("accuracy_level", 0) >= 2 or ctx.dtype(x) is FLOAT16
    packed_zeros = not zeros or ctx.dtype(zeros) is UINT8
    if attrs["bits"] in (4, 8) and attrs["block_size"] <= 512 and packed_zeros:
        return ctx.emit("matmul_blocks", x, b, scales, zeros, bias, **attrs, rounds=int(rounds))
    weights = ctx.emit("dequantize_blocks", b, scales, zeros, **attrs)
    ctx.set_dtype(weights, ctx.dtype(scales))
    product = ctx.emit("matmul", x, ctx.emit("transpose", weights, perm=(1, 0)))
    return ctx.emit("add", product, bias) if bias else product


# -- com.microsoft: what is computed on the numbers that the bytes stand for ----------------------


def _opened(ctx: Context, x: str, scale: str, zero: str, axis: int = 1) -> str:
    return ctx.emit("dequantize_linear", x, scale, zero, to="float32", axis=axis)


def _closed(ctx: Context, y: str, scale: str, zero: str, like: str) -> str:
    to = ctx.dtype(zero) if zero else ctx.dtype(like)
    return ctx.emit("quantize_linear", y, scale, zero, to=to.name)


def _paired(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = [*node.inputs, ""][:8]
        sides = (_opened(ctx, a, a_scale, a_zero), _opened(ctx, b, b_scale, b_zero))
        return _closed(ctx, ctx.emit(op, *sides), c_scale, c_zero, a)

    return build


operator("QLinearAdd", (7, 8), MICROSOFT)(_paired("add"))
operator("QLinearMul", (7, 8), MICROSOFT)(_paired("mul"))


def _single(op: str, **defaults: Any) -> Build:
    """One operand; `defaults` are the attributes that go along, with what they are when absent."""

    def build(ctx: Context, node: OnnxNode) -> str:
        x, x_scale, x_zero, y_scale, y_zero = [*node.inputs, ""][:5]
        attrs = {name: node.attrs.get(name, value) for name, value in defaults.items()}
        return _closed(
            ctx, ctx.emit(op, _opened(ctx, x, x_scale, x_zero), **attrs), y_scale, y_zero, x
        )

    return build


operator("QLinearSigmoid", (4, 5), MICROSOFT, absent=(2,))(_single("sigmoid"))
operator("QLinearLeakyRelu", (4, 5), MICROSOFT, absent=(2,))(_single("leaky_relu", alpha=0.01))


@operator("QLinearSoftmax", 5, MICROSOFT)
def qlinear_softmax(ctx: Context, node: OnnxNode) -> str:
    """The attribute says whose Softmax it was: before opset 13 all axes from `axis` on were one."""
    x, x_scale, x_zero, y_scale, y_zero = node.inputs
    numbers = _opened(ctx, x, x_scale, x_zero)
    axis, opset = node.attrs.get("axis", -1), node.attrs.get("opset", 13)
    y = softmax(ctx, "softmax", numbers, axis, opset)
    return _closed(ctx, y, y_scale, y_zero, x)


def _pooled(op: str, *names: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str | Sequence[str]:
        if node.attrs.get("channels_last", 0):
            raise ctx.unsupported("channels_last")
        attrs = {name: node.attrs[name] for name in names if name in node.attrs}
        return _single(op, **attrs)(ctx, node)

    return build


operator("QLinearGlobalAveragePool", (4, 5), MICROSOFT)(_pooled("global_average_pool"))
operator("QLinearAveragePool", (4, 5), MICROSOFT)(
    _pooled(
        "average_pool",
        *("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad"),
    )
)


@operator("QLinearConcat", (5, -1), MICROSOFT)
def qlinear_concat(ctx: Context, node: OnnxNode) -> str:
    y_scale, y_zero, *rest = node.inputs
    triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    parts = [_opened(ctx, *triple) for triple in triples]
    joined = ctx.emit("concat", *parts, axis=node.attrs["axis"])
    return _closed(ctx, joined, y_scale, y_zero, rest[0])


@operator("GatherBlockQuantized", (3, 4), MICROSOFT)
def gather_block_quantized(ctx: Context, node: OnnxNode) -> str:
    """Rows of a table of few bits; where a row is no run of bytes all is dequantised, once."""
    data, indices, scales, zeros = [*node.inputs, ""][:4]
    bits = node.attrs.get("bits", 4)
    packed = ctx.dtype(data) is UINT8
    axes = (node.attrs.get("gather_axis", 0), node.attrs.get("quantize_axis", 1))
    if packed and bits in (4, 8) and axes == (0, 1) and ctx.rank(data) in (2, None):
        attrs = {"bits": bits, "block_size": node.attrs.get("block_size", 128)}
        return ctx.emit("gather_blocks", data, indices, scales, zeros, **attrs)
    shape = ctx.constants[data].shape if data in ctx.constants else None
    axis, along = node.attrs.get("gather_axis", 0), node.attrs.get("quantize_axis", 1)
    if shape is None or (packed and bits != 8 and along not in (len(shape) - 1, -1)):
        raise ctx.unsupported("a table that is computed, or bytes quantised along another axis")
    block = node.attrs.get("block_size", 128)
    if packed and bits != 8:
        rows = int(np.prod(shape[:-1]))
        attrs = {"n": rows, "k": shape[-1] * 8 // bits, "bits": bits, "block_size": block}
        table = ctx.emit("dequantize_blocks", data, scales, zeros, **attrs)
        ctx.set_dtype(table, ctx.dtype(scales))
        whole = ctx.constant(np.array([*shape[:-1], shape[-1] * 8 // bits], np.int64))
        table = ctx.emit("reshape", table, whole)
    else:
        if packed and not zeros:
            zeros = ctx.constant(np.full(ctx.constants[scales].shape, 128, np.uint8))
        attrs = {"axis": along, "block_size": block, "to": ctx.dtype(scales).name}
        table = ctx.emit("dequantize_linear", data, scales, zeros, **attrs)
    return ctx.emit("gather", table, indices, axis=axis)
