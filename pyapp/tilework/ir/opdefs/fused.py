"""Operations that passes make of several: each has a kernel, so that nothing runs in between.

fused_matmul (a, b [, bias [, residual]]): attrs alpha, activation ("none" | "relu" | "gelu" |
    "tanh" | "sigmoid" | "silu" | "quick_gelu" | "hard_swish" | "gelu_tanh"), transpose_b;
    activation(alpha a @ b + bias) + residual. b is (k, n), or (n, k) with transpose_b, or a stack
    of them; bias is (n), residual of the result's shape.
attention (q, k, v [, mask]): attrs scale, 0 for 1 / √features; softcap, 0 for none; nan_zero;
    softmax(softcap tanh(scale q @ kᵀ / softcap) + mask) @ v. q is (batch, heads, rows, features),
    k and v have the keys' count as rows, mask broadcasts to (batch, heads, rows, keys). k and v may
    have fewer heads, a divisor: neighbours of q share one. With nan_zero weights of NaN, as of a
    row that is hidden by -inf throughout, are 0.
residual_layer_normalization (x, residual, scale [, bias]) -> y [, sum]: attrs axis, epsilon;
    layer_normalization of sum = x + residual, two tensors of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilework.core.shapes import broadcast_two
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, gelu, one, quiet, same_dtype, sigmoid
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.nn import matmul_shape
from tilework.ir.opdefs.registry import OPS, Array, Attrs, Info, define, fail

ACTIVATIONS: dict[str, Callable[[Array], object]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "gelu": lambda x: gelu(x, "none"),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "quick_gelu": lambda x: x * sigmoid(x * x.dtype.type(1.702)),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "gelu_tanh": lambda x: gelu(x, "tanh"),
}


def _infer_matmul(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    if node.attrs.get("activation", "none") not in ACTIVATIONS:
        raise fail(node, infos, f"activation {node.attrs['activation']!r} is not one of the kernel")
    a, b, bias, residual = [*infos, None, None][:4]
    assert a is not None and b is not None
    inner = b.shape
    if node.attrs.get("transpose_b", 0):
        inner = (*inner[:-2], *inner[:-3:-1])
    shape = matmul_shape(a.shape, inner)
    if shape is None or len(inner) < 2:
        raise fail(node, infos, "the last extent of a must be b's last but one")
    if bias is not None and bias.shape != inner[-1:]:
        raise fail(node, infos, f"bias must be ({inner[-1]},)")
    if residual is not None and residual.shape != shape:
        raise fail(node, infos, f"residual must be {list(shape)}")
    return [Info(same_dtype(node, infos), shape)]


def _matmul(
    attrs: Attrs, a: Array, b: Array, bias: Array | None = None, residual: Array | None = None
) -> tuple[Array, ...]:
    product = np.matmul(a, np.swapaxes(b, -1, -2) if attrs.get("transpose_b", 0) else b)
    alpha = attrs.get("alpha", 1.0)
    if alpha != 1:
        product = product * product.dtype.type(alpha)
    if bias is not None:
        product = product + bias
    result = np.asarray(ACTIVATIONS[attrs.get("activation", "none")](product))
    return one(result if residual is None else result + residual, a.dtype)


define("fused_matmul", (2, 4), _infer_matmul, quiet(_matmul))


def _infer_attention(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    q, k, v, mask = [*infos, None][:4]
    assert q is not None and k is not None and v is not None
    if (
        not len(q.shape) == len(k.shape) == len(v.shape) == 4
        or q.shape[0] != k.shape[0]
        or q.shape[1] % max(k.shape[1], 1)
        or k.shape[:3] != v.shape[:3]
        or q.shape[3] != k.shape[3]
    ):
        raise fail(node, infos, "q, k and v must agree in batch, heads, features and keys")
    scores = (*q.shape[:3], k.shape[2])
    if mask is not None and broadcast_two(scores, mask.shape) != scores:
        raise fail(node, infos, f"mask does not broadcast to {list(scores)}")
    return [Info(same_dtype(node, infos), (*q.shape[:3], v.shape[3]))]


def _attention(
    attrs: Attrs, q: Array, k: Array, v: Array, mask: Array | None = None
) -> tuple[Array, ...]:
    group = q.shape[1] // max(k.shape[1], 1)
    if group != 1:
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * q.dtype.type(attrs.get("scale", 1.0))
    cap = q.dtype.type(attrs.get("softcap", 0.0))
    if cap:
        scores = np.tanh(scores / cap) * cap
    if mask is not None:
        scores = scores + mask
    power = np.exp(scores - np.max(scores, axis=-1, keepdims=True, initial=-np.inf))
    weights = power / np.sum(power, axis=-1, keepdims=True)
    if attrs.get("nan_zero", 0):
        weights = np.where(np.isnan(weights), q.dtype.type(0), weights)
    return one(np.matmul(weights, v), q.dtype)


def _normalise_attention(node: Node, infos: Sequence[Info]) -> dict[str, float] | None:
    """`scale` spelled out."""
    if node.attrs.get("scale", 1.0):
        return None
    return {"scale": 1.0 / math.sqrt(infos[0].shape[-1] or 1)}


define(
    "attention", (3, 4), _infer_attention, quiet(_attention), normalise=_normalise_attention
)


def _infer_residual_norm(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    shape = infos[0].shape
    axis: Any = node.attrs["axis"]
    if infos[1].shape != shape:
        raise fail(node, infos, f"residual must be {list(shape)}")
    for info in infos[2:]:
        if info is not None and broadcast_two(shape[axis:], info.shape) != shape[axis:]:
            raise fail(node, infos, f"scale and bias must broadcast to {list(shape[axis:])}")
    dtype = same_dtype(node, infos)
    return [Info(dtype, shape), Info(dtype, shape)][: len(node.outputs)]


def _residual_norm(
    attrs: Attrs, x: Array, residual: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    total = np.asarray(x + residual)
    (y, *_) = OPS["layer_normalization"].reference(attrs, total, scale, bias)
    return y, total


define(
    "residual_layer_normalization",
    (3, 4),
    _infer_residual_norm,
    quiet(_residual_norm),
    outputs=2,
    normalise=normalise_axis,
)
