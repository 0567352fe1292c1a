"""Convolutions.

conv (x, w [, bias]): strides, dilations, pads, auto_pad, group. x is (n, c, ...), w (o, c / group,
    ...kernel), bias (o).
fused_conv (x, w [, bias [, residual [, scale]]]): conv's attributes, activation ("none" | "relu" |
    "leaky_relu" | "clip" | "sigmoid" | "silu" | "hard_swish" | "hard_sigmoid" | "tanh" |
    "gelu" | "gelu_tanh" | "quick_gelu"), alpha, beta; activation(scale conv(x, w) + bias +
    residual). scale is (o), residual of the result's shape. Passes make it.
conv_transpose (x, w [, bias]): also output_padding, output_shape. w is (c, o / group, ...kernel).
deform_conv (x, w, offset [, bias [, mask]]): offset_group; two spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import (
    FLOATS,
    check_kind,
    gelu,
    one,
    quiet,
    same_dtype,
    sigmoid,
)
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail
from tilework.ir.opdefs.window import Window, padded, spread, window


def conv_window(attrs: Attrs, x: tuple[int, ...], w: tuple[int, ...]) -> Window:
    """The windows of a convolution of these shapes; InvalidArgument where they do not fit."""
    given = attrs.get("kernel_shape")
    if given and tuple(given) != w[2:]:
        raise InvalidArgument(f"kernel_shape {list(given)} is not that of w, {list(w[2:])}")
    return window(attrs, x, w[2:])


def _infer_conv(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    x, w, bias = [*infos, None][:3]
    assert x is not None and w is not None
    group: Any = node.attrs.get("group", 1)
    if len(x.shape) < 3 or len(w.shape) != len(x.shape):
        raise fail(node, infos, "x must be (n, c, ...) and w (o, c / group, ...)")
    if group < 1 or x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise fail(node, infos, f"channels and group {group} do not fit w")
    if bias is not None and bias.shape != w.shape[:1]:
        raise fail(node, infos, f"bias must be ({w.shape[0]},)")
    try:
        made = conv_window(node.attrs, x.shape, w.shape)
    except InvalidArgument as error:
        raise fail(node, infos, str(error)) from None
    return [Info(same_dtype(node, infos), (x.shape[0], w.shape[0], *made.outputs))]


def _wide(x: Array) -> Array:
    """Narrow floats are summed in float32."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def _convolve(attrs: Attrs, x: Array, w: Array) -> Array:
    """Sums over taps of products of matrices, one for each group."""
    made = conv_window(attrs, x.shape, w.shape)
    group = attrs.get("group", 1)
    n, outputs = x.shape[0], count(made.outputs)
    rank = len(made.kernel)
    view = made.view(_wide(x), 0)
    weights = _wide(w).reshape(group, w.shape[0] // group, *w.shape[1:])
    total = np.zeros((n, group, w.shape[0] // group, outputs), view.dtype)
    for tap in product(*map(range, made.kernel)):
        part = view[(slice(None),) * (2 + rank) + tap].reshape(n, group, w.shape[1], outputs)
        total += np.matmul(weights[(slice(None),) * 3 + tap], part)
    return total.reshape(n, w.shape[0], *made.outputs)


def _shifted(total: Array, bias: Array | None) -> Array:
    if bias is None:
        return total
    return np.asarray(total + bias.reshape(-1, *(1,) * (total.ndim - 2)))


def _conv(attrs: Attrs, x: Array, w: Array, bias: Array | None = None) -> tuple[Array, ...]:
    return one(_shifted(_convolve(attrs, x, w), bias), x.dtype)


define("conv", (2, 3), _infer_conv, quiet(_conv))

# activation -> function of x, alpha, beta
ACTIVATIONS: dict[str, Callable[[Array, float, float], object]] = {
    "none": lambda x, a, b: x,
    "relu": lambda x, a, b: np.maximum(x, 0),
    "leaky_relu": lambda x, a, b: np.where(x < 0, x * x.dtype.type(a), x),
    "clip": lambda x, a, b: np.minimum(np.maximum(x, x.dtype.type(a)), x.dtype.type(b)),
    "sigmoid": lambda x, a, b: sigmoid(x),
    "silu": lambda x, a, b: x * sigmoid(x),
    "hard_swish": lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid": lambda x, a, b: np.clip(x * x.dtype.type(a) + x.dtype.type(b), 0, 1),
    "tanh": lambda x, a, b: np.tanh(x),
    "gelu": lambda x, a, b: gelu(x, "none"),
    "gelu_tanh": lambda x, a, b: gelu(x, "tanh"),
    "quick_gelu": lambda x, a, b: x * sigmoid(x * x.dtype.type(1.702)),
}


def check_activation(node: Node, infos: Sequence[Info | None]) -> None:
    """InvalidArgument where `activation` is none that the kernels have."""
    if node.attrs.get("activation", "none") not in ACTIVATIONS:
        raise fail(node, infos, f"activation {node.attrs['activation']!r} is not one of the kernel")


def activate(attrs: Attrs, x: Array) -> Array:
    """The node's activation of x."""
    function = ACTIVATIONS[attrs.get("activation", "none")]
    return np.asarray(function(x, attrs.get("alpha", 0.0), attrs.get("beta", 0.0)), x.dtype)


def _infer_fused(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_activation(node, infos)
    (result,) = _infer_conv(node, infos[:3])
    residual, scale = [*infos, None, None, None][3:5]
    if residual is not None and residual.shape != result.shape:
        raise fail(node, infos, f"residual must be {list(result.shape)}")
    if scale is not None and scale.shape != result.shape[1:2]:
        raise fail(node, infos, f"scale must be ({result.shape[1]},)")
    return [result]


def _fused(
    attrs: Attrs,
    x: Array,
    w: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    scale: Array | None = None,
) -> tuple[Array, ...]:
    total = _convolve(attrs, x, w)
    if scale is not None:
        total = total * scale.reshape(-1, *(1,) * (total.ndim - 2))
    total = _shifted(total, bias)
    if residual is not None:
        total = total + residual
    return one(activate(attrs, total), x.dtype)


define("fused_conv", (2, 5), _infer_fused, quiet(_fused))


# -- transposed -----------------------------------------------------------------------------------


def transposed_window(
    attrs: Attrs, x: tuple[int, ...], w: tuple[int, ...]
) -> tuple[Window, tuple[int, ...]]:
    """(windows of the convolution that this one is the transpose of, the result's extents).

    Its `inputs` are the result with the padding that is cut off again, its `outputs` are x's.
    """
    kernel = w[2:]
    rank = len(kernel)
    given = attrs.get("kernel_shape")
    if given and tuple(given) != kernel:
        raise InvalidArgument(f"kernel_shape {list(given)} is not that of w, {list(kernel)}")
    strides = spread(attrs, "strides", rank, 1)
    dilations = spread(attrs, "dilations", rank, 1)
    pads = spread(attrs, "pads", rank, 0)
    more = spread(attrs, "output_padding", rank, 0)
    asked: Any = attrs.get("output_shape")
    if asked is not None:
        asked = tuple(asked)[-rank:]
        if len(asked) != rank:
            raise InvalidArgument(f"output_shape {list(asked)} must have {rank} extents")
    auto = attrs.get("auto_pad") or "NOTSET"
    begin, end, results = [], [], []
    for axis in range(rank):
        stride = strides[axis]
        full = stride * (x[2 + axis] - 1) + (kernel[axis] - 1) * dilations[axis] + 1 + more[axis]
        if asked is None and not auto.startswith("SAME"):
            first, last = (0, 0) if auto == "VALID" else (pads[axis], pads[rank + axis])
            result = full - first - last
        else:
            result = x[2 + axis] * stride if asked is None else asked[axis]
            total = max(full - result, 0)
            half = total // 2
            first, last = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        if result < 0:
            raise InvalidArgument(f"pads leave nothing of {full} elements along axis {axis}")
        begin.append(first)
        end.append(last)
        results.append(result)
    inside = Window(tuple(results), kernel, strides, dilations, tuple(begin), tuple(end), x[2:])
    return inside, tuple(results)


def _infer_transposed(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    x, w, bias = [*infos, None][:3]
    assert x is not None and w is not None
    group: Any = node.attrs.get("group", 1)
    if len(x.shape) < 3 or len(w.shape) != len(x.shape):
        raise fail(node, infos, "x must be (n, c, ...) and w (c, o / group, ...)")
    if group < 1 or x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise fail(node, infos, f"channels and group {group} do not fit w")
    channels = w.shape[1] * group
    if bias is not None and bias.shape != (channels,):
        raise fail(node, infos, f"bias must be ({channels},)")
    try:
        _, results = transposed_window(node.attrs, x.shape, w.shape)
    except InvalidArgument as error:
        raise fail(node, infos, str(error)) from None
    return [Info(same_dtype(node, infos), (x.shape[0], channels, *results))]


def _transposed(attrs: Attrs, x: Array, w: Array, bias: Array | None = None) -> tuple[Array, ...]:
    made, results = transposed_window(attrs, x.shape, w.shape)
    group = attrs.get("group", 1)
    n, channels = x.shape[0], w.shape[1] * group
    parts = _wide(x).reshape(n, group, x.shape[1] // group, count(x.shape[2:]))
    weights = _wide(w).reshape(group, w.shape[0] // group, *w.shape[1:])
    # The whole of it, before what the padding takes away.
    whole = tuple(
        max((i - 1) * s + (k - 1) * d + 1, b + r)
        for i, s, k, d, b, r in zip(
            x.shape[2:], made.strides, made.kernel, made.dilations, made.begin, results,
            strict=True,
        )
    )  # fmt: skip
    total = np.zeros((n, channels, *whole), parts.dtype)
    for tap in product(*map(range, made.kernel)):
        weight = weights[(slice(None),) * 3 + tap].swapaxes(-1, -2)
        part = np.matmul(weight, parts).reshape(n, channels, *x.shape[2:])
        where = tuple(
            slice(t * d, t * d + (i - 1) * s + 1, s)
            for t, d, i, s in zip(tap, made.dilations, x.shape[2:], made.strides, strict=True)
        )
        total[(slice(None), slice(None), *where)] += part
    cut = tuple(slice(b, b + r) for b, r in zip(made.begin, results, strict=True))
    return one(_shifted(total[(slice(None), slice(None), *cut)], bias), x.dtype)


define("conv_transpose", (2, 3), _infer_transposed, quiet(_transposed))


# -- deformable -----------------------------------------------------------------------------------


def _infer_deform(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, w, offset, bias, mask = [*infos, None, None][:5]
    assert x is not None and w is not None and offset is not None
    if len(x.shape) != 4:
        raise fail(node, infos, "x must be (n, c, height, width)")
    (result,) = _infer_conv(node, [x, w, bias])
    groups: Any = node.attrs.get("offset_group", 1)
    taps = groups * count(w.shape[2:])
    where = (x.shape[0], 2 * taps, *result.shape[2:])
    if groups < 1 or x.shape[1] % groups or offset.shape != where:
        raise fail(node, infos, f"offset must be {list(where)}, offset_group divide the channels")
    if mask is not None and mask.shape != (where[0], taps, *where[2:]):
        raise fail(node, infos, f"mask must be {[where[0], taps, *where[2:]]}")
    same_dtype(node, infos)
    return [result]


def _sampled(x: Array, y: Array, z: Array) -> Array:
    """x (n, g, c, h, w) between its points, at rows y and columns z (n, g, oh, ow); 0 outside."""
    wide = padded(x.reshape(-1, 1, *x.shape[3:]), (1, 1), (1, 1), 0).reshape(
        *x.shape[:3], x.shape[3] + 2, x.shape[4] + 2
    )
    batch, group = np.ogrid[: x.shape[0], : x.shape[1]]
    batch, group = batch[..., None, None], group[..., None, None]
    top, left = np.floor(y), np.floor(z)
    total: Any = 0
    for down, right in product((0, 1), (0, 1)):
        row = np.clip(top + down + 1, 0, wide.shape[3] - 1).astype(np.intp)
        column = np.clip(left + right + 1, 0, wide.shape[4] - 1).astype(np.intp)
        near = (1 - np.abs(y - top - down)) * (1 - np.abs(z - left - right))
        total = total + np.moveaxis(wide[batch, group, :, row, column], -1, 2) * near[:, :, None]
    return np.asarray(total)


def _deform(
    attrs: Attrs,
    x: Array,
    w: Array,
    offset: Array,
    bias: Array | None = None,
    mask: Array | None = None,
) -> tuple[Array, ...]:
    made = conv_window(attrs, x.shape, w.shape)
    group, groups = attrs.get("group", 1), attrs.get("offset_group", 1)
    n, (rows, columns), (kh, kw) = x.shape[0], made.outputs, made.kernel
    parts = _wide(x).reshape(n, groups, -1, *x.shape[2:])
    moved = _wide(offset).reshape(n, groups, kh, kw, 2, rows, columns)
    weights = _wide(w).reshape(group, w.shape[0] // group, *w.shape[1:])
    total = np.zeros((n, group, w.shape[0] // group, rows * columns), parts.dtype)
    for i, j in product(range(kh), range(kw)):
        y = np.arange(rows)[:, None] * made.strides[0] - made.begin[0] + i * made.dilations[0]
        z = np.arange(columns) * made.strides[1] - made.begin[1] + j * made.dilations[1]
        found = _sampled(parts, y + moved[:, :, i, j, 0], z + moved[:, :, i, j, 1])
        if mask is not None:
            found = found * mask.reshape(n, groups, 1, kh, kw, rows, columns)[:, :, :, i, j]
        found = found.astype(parts.dtype).reshape(n, group, -1, rows * columns)
        total += np.matmul(weights[..., i, j], found)
    return one(_shifted(total.reshape(n, w.shape[0], rows, columns), bias), x.dtype)


define("deform_conv", (3, 5), _infer_deform, quiet(_deform))
