"""Reductions, softmax and normalisation: rows or lines of a dense tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import FLOAT32, INT32, INT64, DType
from tilework.core.shapes import count
from tilework.hal.kernel import Kernel
from tilework.hal.kernels import norm, reduce, scan, softmax
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor

REDUCE = 65536  # elements a tile reads, by the families' .wit files
SOFTMAX = 8192
NORM = 16384
SIDE = 16  # lines side by side in memory that are computed together

OPS: dict[str, reduce.Op] = {
    "reduce_sum": reduce.Op.SUM,
    "reduce_mean": reduce.Op.MEAN,
    "reduce_max": reduce.Op.MAX,
    "reduce_min": reduce.Op.MIN,
    "reduce_prod": reduce.Op.PROD,
    "reduce_sum_square": reduce.Op.SUM_SQUARE,
    "reduce_l1": reduce.Op.L1,
    "reduce_l2": reduce.Op.L2,
    "reduce_log_sum": reduce.Op.LOG_SUM,
    "reduce_log_sum_exp": reduce.Op.LOG_SUM_EXP,
}
TOTALS: dict[str, scan.Total] = {
    "reduce_sum": scan.Total.SUM,
    "reduce_prod": scan.Total.PRODUCT,
    "reduce_max": scan.Total.LARGEST,
    "reduce_min": scan.Total.SMALLEST,
}
TOTAL: dict[DType, Kernel] = {INT32: scan.I32_TOTAL, INT64: scan.I64_TOTAL}
# Over no axes these copy; the others still compute.
COPIES = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod")


def reduction(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = op of x along its axes; axes apart are brought together first."""
    x = inputs[0]
    assert x is not None
    axes: Any = node.attrs["axes"]
    if x.dtype is not FLOAT32 and (x.dtype not in TOTAL or node.op not in TOTALS):
        return f"no kernel for {node.op} of {x.dtype}"
    if not axes:
        return [x] if node.op in COPIES else "reduces no axis"
    # Repeated elements (stride 0) that stay are reduced once and repeated again after it.
    repeated = tuple(
        i for i, stride in enumerate(x.strides) if stride == 0 and i not in axes and x.shape[i] > 1
    )
    small = replace(
        x, shape=tuple(1 if i in repeated else extent for i, extent in enumerate(x.shape))
    )
    reduced = _reduced(b, small, axes, node.op)  # all axes kept, with extent 1
    wide = reduced.broadcast_to(
        tuple(1 if i in axes else extent for i, extent in enumerate(x.shape))
    )
    return [b.shaped(wide, results[0].shape)]


def _reduced(b: Builder, x: Tensor, axes: Sequence[int], op: str) -> Tensor:
    first, last = min(axes), max(axes)
    kept = tuple(1 if i in axes else extent for i, extent in enumerate(x.shape))
    between = [i for i in range(first, last + 1) if i not in axes and x.shape[i] != 1]
    if between:
        order = (*(i for i in range(len(x.shape)) if i not in axes), *axes)
        x = b.dense(x.transposed(order))
        outer, axis, inner = count(kept), count(x.shape) // max(count(kept), 1), 1
    else:
        x = b.dense(x)
        outer, axis = count(x.shape[:first]), count(x.shape[first : last + 1])
        inner = count(x.shape[last + 1 :])
    y = b.new(x.dtype, kept)
    lines = outer * inner
    each, tiles = b.lines(lines, axis, REDUCE, SIDE if inner > 1 else 1)
    if x.dtype is FLOAT32:
        params = reduce.ReduceParams(outer, axis, inner, tile_outputs=each, op=OPS[op])
        b.emit(reduce.F32_REDUCE, (tiles, 1, 1), params, (x, y))
    else:
        whole = scan.TotalParams(outer, axis, inner, each, TOTALS[op])
        b.emit(TOTAL[x.dtype], (tiles, 1, 1), whole, (x, y))
    return y


def soft(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """softmax and log_softmax."""
    x = inputs[0]
    assert x is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    axis: Any = node.attrs["axis"]
    x = b.dense(x)
    y = b.result(x.dtype, x.shape, x)
    outer, length = count(x.shape[:axis]), x.shape[axis]
    inner = count(x.shape[axis + 1 :])
    each, tiles = b.lines(outer * inner, length, SOFTMAX, SIDE if inner > 1 else 1)
    op = softmax.Op.SOFTMAX if node.op == "softmax" else softmax.Op.LOG_SOFTMAX
    params = softmax.SoftmaxParams(outer=outer, axis=length, inner=inner, tile_lines=each, op=op)
    b.emit(softmax.F32_SOFTMAX, (tiles if x.size else 0, 1, 1), params, (x, y))
    return [y]


def layer_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = (x - mean) / sqrt(variance + epsilon) scale + bias."""
    x, *vectors = [*inputs, None][:3]
    return _alone(b, node, norm.F32_LAYER_NORM, x, vectors)


def rms_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = x / sqrt(mean(x x) + epsilon) scale."""
    x, scale = inputs
    return _alone(b, node, norm.F32_RMS_NORM, x, [scale])


def residual_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """layer_norm of x + residual, which is written too when it is read."""
    x, residual, *vectors = [*inputs, None][:4]
    return _norm(b, node, norm.F32_LAYER_NORM, x, residual, vectors)


def residual_rms(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """rms_norm of x + residual, which is written too when it is read."""
    x, residual, scale = inputs
    return _norm(b, node, norm.F32_RMS_NORM, x, residual, [scale])


def _alone(b: Builder, node: Node, kernel: Kernel, x: Tensor | None, vectors: Operands) -> Lowered:
    if any(map(b.uses, node.outputs[1:])):
        return "mean and deviation are asked for"
    y = _norm(b, node, kernel, x, None, vectors)
    return y if isinstance(y, str) else [y[0]] * len(node.outputs)


def _norm(
    b: Builder,
    node: Node,
    kernel: Kernel,
    x: Tensor | None,
    residual: Tensor | None,
    vectors: Operands,
) -> Lowered:
    assert x is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    axis = attrs["axis"]
    shape = x.shape[axis:]
    rows, columns = count(x.shape[:axis]), count(shape)
    x = b.dense(x)
    summed = residual is not None and any(map(b.uses, node.outputs[1:]))
    residual = None if residual is None else b.dense(residual.broadcast_to(x.shape))
    vectors = [None if one is None else b.dense(one.broadcast_to(shape)) for one in vectors]
    total = b.new(x.dtype, x.shape) if summed else None
    y = b.result(x.dtype, x.shape, *(one for one in (x, residual) if one is not None))
    each, tiles = b.lines(rows, columns, NORM)
    params = norm.NormParams(
        rows=rows, columns=columns, tile_rows=each, epsilon=float(attrs.get("epsilon", 1e-5))
    )
    counts = (tiles if x.size else 0, 1, 1)
    b.emit(kernel, counts, params, (x, residual, *vectors, y, total))
    return [y] if total is None else [y, total]


FLOATS: dict[str, Lowering] = {
    **dict.fromkeys(OPS, reduction),
    "softmax": soft,
    "log_softmax": soft,
    "layer_normalization": layer_norm,
    "residual_layer_normalization": residual_norm,
    "rms_normalization": rms_norm,
    "residual_rms_normalization": residual_rms,
}
