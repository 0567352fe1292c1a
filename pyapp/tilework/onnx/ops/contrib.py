"""com.microsoft operators that onnxruntime's optimiser and optimum write into BERT-like models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tilework.core.dtypes import FLOAT32, INT32
from tilework.ir.graph import Value
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.nn import gemm
from tilework.onnx.ops.table import MICROSOFT, OPERATORS, operator


@operator("Gelu", 1, MICROSOFT)
def gelu(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("gelu", *node.inputs, approximate="none")


@operator("QuickGelu", 1, MICROSOFT)
def quick_gelu(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("silu", *node.inputs, alpha=node.attrs.get("alpha", 1.702))


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
    bias = node.input(4)
    if bias and ctx.made_by(skip) == "matmul":
        skip = ctx.emit("add", skip, bias)  # which the product takes in
    elif bias:
        x = ctx.emit("add", x, bias)
    total = ctx.emit("add", x, skip)
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
    """transBatch: the batch's axes before the matrix's become (rows, batch, columns) first."""
    sides = [
        _turned(
            ctx,
            name,
            bool(node.attrs.get(f"trans{side}", 0)),
            bool(node.attrs.get(f"transBatch{side}", 0)),
        )
        for name, side in zip(node.inputs, "AB", strict=True)
    ]
    product = ctx.emit("matmul", *sides)
    alpha = node.attrs.get("alpha", 1.0)
    return product if alpha == 1 else ctx.emit("mul", product, ctx.scalar(alpha, sides[0]))


def _turned(ctx: Context, name: str, turn: bool, batch: bool) -> str:
    """The first axis behind the other batches, and the last two axes exchanged."""
    if not (turn or batch):
        return name
    rank = ctx.rank(name)
    if rank is None:
        raise ctx.unsupported(f"transposing '{name}', whose rank is not declared,")
    perm = list(range(rank))
    if batch and rank > 2:
        perm = [*range(1, rank - 1), 0, rank - 1]
    if turn and rank > 1:
        perm[-1], perm[-2] = perm[-2], perm[-1]
    return ctx.emit("transpose", name, perm=tuple(perm))


@operator("SimplifiedLayerNormalization", 2)  # onnxruntime has put it in ONNX's own domain
def simplified_layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Outputs: normalised, inverse deviation."""
    return ctx.emit_many(
        "rms_normalization",
        node.inputs,
        2 if node.wants(1) else 1,
        {"axis": node.attrs.get("axis", -1), "epsilon": node.attrs.get("epsilon", 1e-5)},
    )


@operator("SkipSimplifiedLayerNormalization", (3, 4), MICROSOFT)
def skip_simplified_layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Outputs: normalised, mean (which there is none of), inverse deviation, the sum."""
    x, skip, gamma = node.inputs[:3]
    if node.input(3):
        x = ctx.emit("add", x, node.input(3))
    attrs = {"axis": -1, "epsilon": node.attrs.get("epsilon", 1e-12)}
    y, total = ctx.emit_many("residual_rms_normalization", (x, skip, gamma), 2, attrs)
    if not node.wants(2):
        return (y, "", "", total)
    _, inverse = ctx.emit_many("rms_normalization", (total, gamma), 2, attrs)
    return (y, "", inverse, total)


@operator("EmbedLayerNormalization", (1, 9), MICROSOFT)
def embed_layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Inputs: ids, segments, word, position and segment embeddings, gamma, beta, mask, positions.

    Outputs: normalised; how many of each sequence are unmasked, 0 without a mask; the sum.
    """
    return _embedded(ctx, node, node.input(8), lambda place, name: name)


@operator("QEmbedLayerNormalization", (13, 18), MICROSOFT, absent=(1, 4, 7, 10))
def q_embed_layer_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """EmbedLayerNormalization of tables in bytes; scales from input 8 on, zeros from 13 on."""

    def opened(place: int, name: str) -> str:
        scale, zero = node.input(place + 6), node.input(place + 11)
        return ctx.emit("dequantize_linear", name, scale, zero, to=FLOAT32.name)

    return _embedded(ctx, node, "", opened)[:2]


def _embedded(
    ctx: Context, node: OnnxNode, positions: str, opened: Callable[[int, str], str]
) -> Sequence[str]:
    """`opened` has the numbers of what was taken from the node's input at a place."""
    ids, segments, words, places, kinds, gamma, beta = node.inputs[:7]
    total = opened(2, ctx.emit("gather", words, ids, axis=0))
    if positions:
        chosen = ctx.emit("gather", places, positions, axis=0)
    else:
        rows = ctx.emit("shape", ids, start=1, end=2)
        chosen = ctx.emit_with(
            "slice",
            places,
            values={
                "starts": ctx.constant(np.array([0], np.int64)),
                "ends": rows,
                "axes": ctx.constant(np.array([0], np.int64)),
            },
        )[0]
    total = ctx.emit("add", total, opened(3, chosen))
    if segments and kinds:
        chosen = ctx.emit("gather", kinds, segments, axis=0)
        total = ctx.emit("add", total, opened(4, chosen))
    attrs = {"axis": -1, "epsilon": node.attrs.get("epsilon", 1e-12)}
    operands = (total, opened(5, gamma), opened(6, beta))
    (y,) = ctx.emit_many("layer_normalization", operands, 1, attrs)
    count = ""
    if node.wants(1):
        mask = node.input(7)
        if mask:
            wide = ctx.emit("cast", mask, to=FLOAT32.name)  # whose sums have a kernel
            marked = ctx.emit("reduce_sum", wide, axes=(1,), keepdims=0)
            count = ctx.emit("cast", marked, to=INT32.name)
        else:
            batch = ctx.emit("shape", ids, start=0, end=1)
            count = ctx.emit("constant_of_shape", batch, value=0, dtype=INT32.name)
        # Attention asks for the rank of its mask.
        ctx.declare(Value(node.outputs[1], INT32, ("sequences",)))
    return (y, count, total)


_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    # The operation, and what its attributes are where the node says nothing.
    "Relu": ("relu", {}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "Softplus": ("softplus", {}),
    "Softsign": ("softsign", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Elu": ("elu", {"alpha": 1.0}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "Clip": ("clip", {"min": -3.4028234663852886e38, "max": 3.4028234663852886e38}),
}


def _activated(
    ctx: Context, made: str | Sequence[str], name: str, numbers: Sequence[float | None]
) -> str:
    """`name`, "" for none, of an operator's result; `numbers` are its attributes in order, None
    the default's."""
    x = made if isinstance(made, str) else made[0]
    if not name:
        return x
    if name not in _ACTIVATIONS:
        raise ctx.unsupported(f"the activation {name!r}")
    op, defaults = _ACTIVATIONS[name]
    attrs = dict(defaults)
    for key, number in zip(defaults, numbers, strict=False):
        if number is not None:
            attrs[key] = number
    return ctx.emit(op, x, **attrs)


@operator("FusedGemm", (2, 3), MICROSOFT)
def fused_gemm(ctx: Context, node: OnnxNode) -> str:
    numbers = [node.attrs.get(f"activation_{name}") for name in ("alpha", "beta")]
    return _activated(ctx, gemm(ctx, node), node.attrs.get("activation", ""), numbers)


@operator("FusedConv", (2, 4), MICROSOFT)
def fused_conv(ctx: Context, node: OnnxNode) -> str:
    """Activation of the convolution and, where there is one, the third addend."""
    made = OPERATORS["", "Conv"].build(ctx, replace(node, inputs=node.inputs[:3], domain=""))
    if node.input(3):
        made = ctx.emit("add", made if isinstance(made, str) else made[0], node.input(3))
    numbers = node.attrs.get("activation_params", ())
    return _activated(ctx, made, node.attrs.get("activation", ""), numbers)


@operator("CDist", 2, MICROSOFT)
def cdist(ctx: Context, node: OnnxNode) -> str:
    metric = node.attrs.get("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise ctx.invalid(f"metric '{metric}'; sqeuclidean and euclidean are known")
    apart = ctx.emit("distances", *node.inputs, power=2.0)
    return ctx.emit("sqrt", apart) if metric == "euclidean" else apart
