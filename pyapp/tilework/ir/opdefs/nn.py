"""Matrix products, softmax and normalisation.

matmul (a, b): NumPy's matmul      gemm (a, b [, c]): alpha, beta, transpose_a, transpose_b
softmax(axis)  log_softmax(axis)
layer_normalization(axis, epsilon) (x, scale [, bias]) -> y [, mean, inverse deviation]
dropout(seed) (x, ratio, training) -> y [, mask]; without a seed other elements at every run
Resolved: axis counts from the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, DType, from_numpy
from tilework.core.shapes import broadcast_two
from tilework.ir.graph import Node
from tilework.ir.narrow import narrow, rounded, widen
from tilework.ir.opdefs.elementwise import (
    FLOATS,
    NUMBERS,
    check_kind,
    infer_unary,
    one,
    quiet,
    same_dtype,
)
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of NumPy's matmul, or None when the operands do not fit."""
    if not a or not b:
        return None
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    batch = broadcast_two(left[:-2], right[:-2])
    if batch is None or left[-1] != right[-2]:
        return None
    rows = () if len(a) == 1 else (left[-2],)
    columns = () if len(b) == 1 else (right[-1],)
    return (*batch, *rows, *columns)


def _infer_matmul(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    shape = matmul_shape(infos[0].shape, infos[1].shape)
    if shape is None:
        raise fail(
            node, infos, "the last extent of a must be b's last but one, the others broadcast"
        )
    return [Info(same_dtype(node, infos), shape)]


define("matmul", 2, _infer_matmul, quiet(lambda attrs, a, b: one(np.matmul(a, b))))


def _turned(attrs: Attrs, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if attrs.get(name, 0) else shape


def _infer_gemm(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    a, b = infos[0].shape, infos[1].shape
    if len(a) != 2 or len(b) != 2:
        raise fail(node, infos, "a and b must be matrices")
    (rows, inner), (other, columns) = (
        _turned(node.attrs, "transpose_a", a),
        _turned(node.attrs, "transpose_b", b),
    )
    if inner != other:
        raise fail(node, infos, f"inner extents differ, {inner} and {other}")
    if len(infos) > 2 and infos[2] is not None:
        if broadcast_two((rows, columns), infos[2].shape) != (rows, columns):
            raise fail(node, infos, f"c does not broadcast to {[rows, columns]}")
    return [Info(same_dtype(node, infos), (rows, columns))]


def _gemm(attrs: Attrs, a: Array, b: Array, c: Array | None = None) -> tuple[Array, ...]:
    a = a.T if attrs.get("transpose_a", 0) else a
    b = b.T if attrs.get("transpose_b", 0) else b
    result: Any = np.matmul(a, b)
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    if alpha != 1:
        result = result * result.dtype.type(alpha)
    if c is not None and beta != 0:
        result = result + (c if beta == 1 else c * c.dtype.type(beta))
    return one(result, a.dtype)


define("gemm", (2, 3), _infer_gemm, quiet(_gemm))


def _softmax(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    if x.size == 0:
        return (x,)
    dtype = from_numpy(x.dtype)
    result = softmax_of(widen(x), axis, dtype)
    return (narrow(result, dtype, saturate=False) if dtype.wide else result,)


def softmax_of(x: Array, axis: int, dtype: DType) -> Array:
    """Softmax in `dtype` of numbers that it holds, narrow ones widened.

    A narrow dtype is rounded where ONNX's function body rounds: after each operation, the additions
    of the sum too. Where all are -inf the result is NaN.
    """
    most = np.max(x, axis=axis, keepdims=True, initial=-np.inf)  # there may be nothing
    power = rounded(np.exp(rounded(x - most, dtype)), dtype)
    if dtype.wide and power.size:
        total = np.zeros_like(power.take([0], axis))
        for i in range(power.shape[axis]):
            total = rounded(total + power.take([i], axis), dtype)
    else:
        total = np.sum(power, axis=axis, keepdims=True)
    return rounded(power / total, dtype)


def _log_softmax(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    if x.size == 0:
        return (x,)
    away = x - np.max(x, axis=axis, keepdims=True)
    return one(away - np.log(np.sum(np.exp(away), axis=axis, keepdims=True)), x.dtype)


define("softmax", 1, infer_unary(FLOATS), quiet(_softmax), normalise=normalise_axis, raw=True)
define("log_softmax", 1, infer_unary(FLOATS), quiet(_log_softmax), normalise=normalise_axis)


def _infer_layer_norm(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    axis: Any = node.attrs["axis"]
    shape = infos[0].shape
    for info in infos[1:]:
        if info is not None and broadcast_two(shape[axis:], info.shape) != shape[axis:]:
            raise fail(node, infos, f"scale and bias must broadcast to {list(shape[axis:])}")
    dtype = same_dtype(node, infos)
    statistic = Info(dtype, (*shape[:axis], *(1,) * (len(shape) - axis)))
    return [Info(dtype, shape), statistic, statistic][: len(node.outputs)]


def _layer_norm(
    attrs: Attrs, x: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    axes = tuple(range(attrs["axis"], x.ndim))
    # Narrower floats are widened: ONNX's stash_type 1 computes the statistics in float32.
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    mean = np.mean(wide, axis=axes, keepdims=True)
    away = wide - mean
    variance = np.mean(away * away, axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + wide.dtype.type(attrs.get("epsilon", 1e-5)))
    result = (away * inverse).astype(x.dtype) * scale
    if bias is not None:
        result = result + bias
    return np.asarray(result, x.dtype), np.asarray(mean, x.dtype), np.asarray(inverse, x.dtype)


define(
    "layer_normalization",
    (2, 3),
    _infer_layer_norm,
    quiet(_layer_norm),
    outputs=3,
    normalise=normalise_axis,
)


def _infer_dropout(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, ratio, training = infos
    if x.dtype.kind != "f" or ratio.dtype.kind != "f" or training.dtype is not BOOL:
        raise fail(node, infos, "x and ratio must be floats, training a boolean")
    return [Info(x.dtype, x.shape), Info(BOOL, x.shape)][: len(node.outputs)]


def _dropout(attrs: Attrs, x: Array, ratio: Array, training: Array) -> tuple[Array, ...]:
    """NumPy's generator MT19937, seeded as the standard's reference does it."""
    share = float(ratio.reshape(-1)[0])
    if share == 0 or not bool(training.reshape(-1)[0]):
        return x, np.ones(x.shape, bool)
    kept = np.random.RandomState(attrs.get("seed")).uniform(0, 1, x.shape) >= share
    return np.asarray(kept * x * x.dtype.type(1 / (1 - share)), x.dtype), kept


define("dropout", 3, _infer_dropout, quiet(_dropout), outputs=2, random=True)
