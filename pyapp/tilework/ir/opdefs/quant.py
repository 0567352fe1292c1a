"""Quantised operations: numbers as small integers (or narrow floats) with a scale and a zero.

Scales and zeros are scalars, vectors along `axis`, or blocked: one for each `block_size` elements
along it. Integer sums are exact modulo 2^32.

quantize_linear (x, scale [, zero]): axis, block_size, saturate, to; saturate(round(x / scale) +
    zero), halves to even, floats without rounding to integers.
dequantize_linear (x, scale [, zero]): axis, block_size, to; (x - zero) scale.
dynamic_quantize_linear (x) -> y uint8, scale, zero; over the range of x and 0.
matmul_integer (a, b [, a_zero [, b_zero]]): to "int32"; matmul of (a - a_zero) and (b - b_zero).
    A zero is one number, a's are (rows) or broadcast to a, b's (columns) or broadcast to b.
quantized_matmul (a, b, a_scale, b_scale [, a_zero [, b_zero [, bias [, residual]]]]): activation,
    to "float32"; activation(a_scale b_scale matmul_integer + bias) + residual. a_scale and a_zero
    are single numbers, b's may be (columns), bias is (columns), residual of the result's shape.
qlinear_matmul (a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero [, bias]): quantize_linear
    of the product of what is dequantised, from the exact integer sums; to: y_zero's dtype; bias is
    int32 (columns) in units of a_scale b_scale; least, most: the result is cut off there.
conv_integer (x, w [, x_zero [, w_zero]]): conv's attributes, to "int32".
quantized_conv (x, w, x_scale, w_scale [, x_zero [, w_zero [, bias [, residual]]]]): conv's
    attributes, activation, to "float32"; as quantized_matmul. w's scale and zero may be (o).
qlinear_conv (x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero [, bias]): conv's attributes,
    to, least, most; bias is int32 in units of x_scale w_scale. w's scale and zero may be (o).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME, FLOAT32, INT8, INT32, UINT8, DType
from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.narrow import convert, widen
from tilework.ir.opdefs.elementwise import quiet
from tilework.ir.opdefs.fused import ACTIVATIONS
from tilework.ir.opdefs.nn import matmul_shape
from tilework.ir.opdefs.registry import OPS, Array, Attrs, Info, define, fail

BYTES = (UINT8, INT8)
RANGES = {
    name: (-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "i" else (0, (1 << bits) - 1)
    for bits in (2, 4, 8, 16)
    for name in (f"int{bits}", f"uint{bits}")
}


def _to(node: Node, infos: Sequence[Info | None]) -> DType:
    found = BY_NAME.get(str(node.attrs.get("to")))
    if found is None:
        raise fail(node, infos, f"'to' must name a dtype, it is {node.attrs.get('to')!r}")
    return found


# -- one tensor -----------------------------------------------------------------------------------


def _spread(attrs: Attrs, number: Array, shape: tuple[int, ...]) -> Array:
    """A scale or zero so that it broadcasts over `shape`."""
    if number.size == 1 and number.ndim <= 1:
        return number.reshape(())
    axis = attrs.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    if number.ndim == 1 and not attrs.get("block_size", 0):
        if not 0 <= axis < len(shape) or number.shape[0] != shape[axis]:
            raise InvalidArgument(f"{number.shape[0]} scales or zeros along axis {axis}")
        return number.reshape(-1, *(1,) * (len(shape) - axis - 1))
    block = attrs.get("block_size", 0)
    if not block or number.ndim != len(shape):
        raise InvalidArgument(f"scale or zero {list(number.shape)} for {list(shape)}")
    wide = np.repeat(number, block, axis=axis)
    wide = wide[(slice(None),) * axis + (slice(shape[axis]),)]
    if wide.shape != shape:
        raise InvalidArgument(f"blocks {list(number.shape)} of {block} do not cover {list(shape)}")
    return np.asarray(wide)


def _infer_linear(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, scale = infos[:2]
    assert x is not None and scale is not None
    if scale.dtype.kind != "f" or (node.op == "quantize_linear" and x.dtype.kind not in "fi"):
        raise fail(node, infos, "the scale must be floating-point")
    probe: Any = np.zeros(scale.shape, np.bool_)
    try:
        _spread(node.attrs, probe, x.shape)
    except InvalidArgument as error:
        raise fail(node, infos, str(error)) from None
    return [Info(_to(node, infos), x.shape)]


def _quantize(
    attrs: Attrs, x: Array, scale: Array, zero: Array | None = None
) -> tuple[Array, ...]:
    to = BY_NAME[attrs["to"]]
    wide = widen(x) / _spread(attrs, widen(scale), x.shape).astype(widen(x).dtype)
    zeros = None if zero is None else _spread(attrs, widen(zero), x.shape)
    if to.name not in RANGES:
        if zeros is not None:
            wide = wide + zeros
        return (convert(np.asarray(wide), to, bool(attrs.get("saturate", 1))),)
    low, high = RANGES[to.name]
    # Clipped as floats: what lies far outside has no integer. NaN becomes the lowest byte.
    offset = np.zeros((), np.int64) if zeros is None else zeros.astype(np.int64)
    whole = np.nan_to_num(np.rint(wide.astype(np.float64)), nan=-np.inf)
    whole = np.clip(whole, low - offset, high - offset).astype(np.int64) + offset
    return (convert(np.asarray(whole), to),)


def _dequantize(
    attrs: Attrs, x: Array, scale: Array, zero: Array | None = None
) -> tuple[Array, ...]:
    wide = widen(x)
    if wide.dtype.kind in "iu":
        wide = wide.astype(np.int64)
    if zero is not None:
        zeros = _spread(attrs, widen(zero), x.shape)
        wide = wide - (zeros.astype(np.int64) if wide.dtype.kind == "i" else zeros)
    factor = _spread(attrs, widen(scale), x.shape)
    precise = np.float32 if factor.dtype.itemsize < 4 else factor.dtype
    result = wide.astype(precise) * factor.astype(precise)
    return (convert(np.asarray(result), BY_NAME[attrs["to"]]),)


define("quantize_linear", (2, 3), _infer_linear, quiet(_quantize), raw=True)
define("dequantize_linear", (2, 3), _infer_linear, quiet(_dequantize), raw=True)


def _infer_dynamic(node: Node, infos: Sequence[Info]) -> list[Info]:
    if infos[0].dtype is not FLOAT32:
        raise fail(node, infos, "x must be float32")
    found = [Info(UINT8, infos[0].shape), Info(FLOAT32, ()), Info(UINT8, ())]
    return found[: len(node.outputs)]


def _dynamic(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    least, most = (np.float32(f(x, initial=0)) for f in (np.min, np.max))
    scale = np.float32((most - least) / np.float32(255)) if most != least else np.float32(1)
    zero = np.rint(np.clip(-least / scale, 0, 255)).astype(np.uint8)
    (y,) = _quantize({"to": "uint8"}, x, np.asarray(scale), np.asarray(zero))
    return y, np.asarray(scale), np.asarray(zero)


define("dynamic_quantize_linear", 1, _infer_dynamic, quiet(_dynamic), outputs=3)


# -- products -------------------------------------------------------------------------------------


def _check_bytes(node: Node, infos: Sequence[Info | None], *operands: Info | None) -> None:
    for info in operands:
        if info is not None and info.dtype not in BYTES:
            raise fail(node, infos, f"'{node.op}' takes int8 and uint8")


def row_zero(zero: Array, rank: int) -> Array:
    """a's zero (or scale) so that it broadcasts over a: a vector has one number for each row."""
    return zero.reshape(-1, 1) if zero.ndim == 1 and zero.size > 1 and rank > 1 else zero


def _product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """Exact sums as float64."""
    wide, other = a.astype(np.float64), b.astype(np.float64)
    if a_zero is not None:
        wide = wide - row_zero(a_zero, a.ndim)
    if b_zero is not None:
        other = other - b_zero
    return np.asarray(np.matmul(wide, other))


def _wrapped(sums: Array) -> Array:
    """float64 sums as int32, modulo 2^32 as hardware adds them."""
    return sums.astype(np.int64).astype(np.int32)


def _infer_matmul_integer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    a, b, a_zero, b_zero = [*infos, None, None][:4]
    assert a is not None and b is not None
    _check_bytes(node, infos, *infos)
    shape = matmul_shape(a.shape, b.shape)
    if shape is None:
        raise fail(node, infos, "the last extent of a must be b's last but one")
    for zero, operand, own in ((a_zero, a, -2), (b_zero, b, -1)):
        if zero is not None and len(zero.shape) == 1 and zero.shape[0] != 1:
            if len(operand.shape) < 2 or zero.shape[0] != operand.shape[own]:
                raise fail(node, infos, "a vector of zeros has one for each row of a, column of b")
    return [Info(INT32, shape)]


def _matmul_integer(
    attrs: Attrs, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> tuple[Array, ...]:
    return (_wrapped(_product(a, b, a_zero, b_zero)),)


define("matmul_integer", (2, 4), _infer_matmul_integer, _matmul_integer)


def _infer_quantized_matmul(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    a, b, a_scale, b_scale, a_zero, b_zero, bias, residual = [*infos, *[None] * 4][:8]
    assert a is not None and b is not None and a_scale is not None and b_scale is not None
    _check_bytes(node, infos, a, b, a_zero, b_zero)
    shape = matmul_shape(a.shape, b.shape)
    if shape is None or len(b.shape) < 2:
        raise fail(node, infos, "the last extent of a must be b's last but one")
    if node.attrs.get("activation", "none") not in ACTIVATIONS:
        raise fail(node, infos, f"activation {node.attrs['activation']!r} is not one of the kernel")
    checked = (a_scale, a_zero, b_scale, b_zero, bias, residual)
    _check_shapes(node, infos, b.shape[-1:], shape, checked)
    return [Info(FLOAT32, shape)]


def _check_shapes(
    node: Node,
    infos: Sequence[Info | None],
    each: tuple[int, ...],
    result: tuple[int, ...],
    checked: Sequence[Info | None],
) -> None:
    """InvalidArgument unless `checked`, a's scale and zero, b's, the bias and the residual, are of
    shapes that the kernel takes; `each` is one for each column or channel."""
    single = ((), (1,))
    of_weights = (*single, each)
    allowed = (single, single, of_weights, of_weights, (each,), (result,))
    for info, shapes in zip(checked, allowed, strict=True):
        if info is not None and info.shape not in shapes:
            raise fail(node, infos, f"{info} must be one of {[list(s) for s in shapes]}")


def _quantized_matmul(
    attrs: Attrs,
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero: Array | None = None,
    b_zero: Array | None = None,
    bias: Array | None = None,
    residual: Array | None = None,
) -> tuple[Array, ...]:
    (sums,) = _matmul_integer(attrs, a, b, a_zero, b_zero)
    result = sums.astype(np.float32) * (a_scale.reshape(-1)[0] * b_scale)
    if bias is not None:
        result = result + bias
    result = np.asarray(ACTIVATIONS[attrs.get("activation", "none")](result))
    return (np.asarray(result if residual is None else result + residual, np.float32),)


define("quantized_matmul", (4, 8), _infer_quantized_matmul, quiet(_quantized_matmul))


def _requantised(attrs: Attrs, sums: Array, factor: Array, zero: Array) -> Array:
    low, high = RANGES[attrs["to"]]
    low, high = max(low, attrs.get("least", low)), min(high, attrs.get("most", high))
    # In single precision, as onnxruntime does it, so that halves are halves for both.
    scaled = np.rint(sums.astype(np.float32) * factor.astype(np.float32)).astype(np.float64)
    return np.asarray(np.clip(scaled + zero, low, high).astype(BY_NAME[attrs["to"]].numpy))


def _infer_qlinear_matmul(node: Node, infos: Sequence[Info]) -> list[Info]:
    a, b, y_zero = infos[0], infos[3], infos[7]
    _check_bytes(node, infos, a, b, infos[2], infos[5], y_zero)
    shape = matmul_shape(a.shape, b.shape)
    if shape is None:
        raise fail(node, infos, "the last extent of a must be b's last but one")
    bias = infos[8] if len(infos) > 8 else None
    if bias is not None and (bias.dtype is not INT32 or bias.shape != b.shape[-1:]):
        raise fail(node, infos, "the bias is one int32 for each column of b")
    return [Info(y_zero.dtype, shape)]


def _qlinear_matmul(
    attrs: Attrs,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    rows = row_zero(widen(a_scale).astype(np.float32), a.ndim)
    factor = rows * widen(b_scale).astype(np.float32) / widen(y_scale).astype(np.float32)
    sums = _product(a, b, a_zero, b_zero)
    if bias is not None:
        sums = sums + bias
    return (_requantised(attrs, sums, factor, y_zero),)


define("qlinear_matmul", (8, 9), _infer_qlinear_matmul, quiet(_qlinear_matmul))


# -- convolutions ---------------------------------------------------------------------------------


def _conv_info(node: Node, infos: Sequence[Info | None], x: Info, w: Info) -> tuple[int, ...]:
    """The result's shape: float convolution's."""
    _check_bytes(node, infos, x, w)
    floats = [Info(FLOAT32, info.shape) for info in (x, w)]
    return OPS["conv"].infer(node, floats)[0].shape


def _convolved(
    attrs: Attrs, x: Array, w: Array, x_zero: Array | None, w_zero: Array | None
) -> Array:
    """Exact sums as float64."""
    wide, weights = x.astype(np.float64), w.astype(np.float64)
    if x_zero is not None:
        wide = wide - x_zero.reshape(())
    if w_zero is not None:
        weights = weights - w_zero.reshape(-1, *(1,) * (w.ndim - 1))
    (sums,) = OPS["conv"].reference(attrs, wide, weights)
    return np.asarray(sums)


def _infer_conv_integer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, w, x_zero, w_zero = [*infos, None, None][:4]
    assert x is not None and w is not None
    shape = _conv_info(node, infos, x, w)
    _check_shapes(node, infos, w.shape[:1], shape, (None, x_zero, None, w_zero, None, None))
    return [Info(INT32, shape)]


def _conv_integer(
    attrs: Attrs, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None
) -> tuple[Array, ...]:
    return (_wrapped(_convolved(attrs, x, w, x_zero, w_zero)),)


define("conv_integer", (2, 4), _infer_conv_integer, _conv_integer)


def _infer_quantized_conv(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, w, x_scale, w_scale, x_zero, w_zero, bias, residual = [*infos, *[None] * 4][:8]
    assert x is not None and w is not None and x_scale is not None and w_scale is not None
    shape = _conv_info(node, infos, x, w)
    if node.attrs.get("activation", "none") not in ACTIVATIONS:
        raise fail(node, infos, f"activation {node.attrs['activation']!r} is not one of the kernel")
    checked = (x_scale, x_zero, w_scale, w_zero, bias, residual)
    _check_shapes(node, infos, w.shape[:1], shape, checked)
    return [Info(FLOAT32, shape)]


def _quantized_conv(
    attrs: Attrs,
    x: Array,
    w: Array,
    x_scale: Array,
    w_scale: Array,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    bias: Array | None = None,
    residual: Array | None = None,
) -> tuple[Array, ...]:
    sums = _wrapped(_convolved(attrs, x, w, x_zero, w_zero))
    ones = (1,) * (x.ndim - 2)
    result = sums.astype(np.float32) * (x_scale.reshape(-1)[0] * w_scale).reshape(-1, *ones)
    if bias is not None:
        result = result + bias.reshape(-1, *ones)
    result = np.asarray(ACTIVATIONS[attrs.get("activation", "none")](result))
    return (np.asarray(result if residual is None else result + residual, np.float32),)


define("quantized_conv", (4, 8), _infer_quantized_conv, quiet(_quantized_conv))


def _infer_qlinear_conv(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = [*infos, None][:9]
    assert x is not None and w is not None and y_scale is not None and y_zero is not None
    shape = _conv_info(node, infos, x, w)
    _check_shapes(node, infos, w.shape[:1], shape, (x_scale, x_zero, w_scale, w_zero, bias, None))
    _check_shapes(node, infos, w.shape[:1], shape, (y_scale, y_zero, None, None, None, None))
    return [Info(y_zero.dtype, shape)]


def _qlinear_conv(
    attrs: Attrs,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    sums = _convolved(attrs, x, w, x_zero, w_zero)
    ones = (1,) * (x.ndim - 2)
    if bias is not None:
        sums = sums + bias.reshape(-1, *ones)
    factor = (x_scale * w_scale / y_scale).reshape(-1, *ones)
    return (_requantised(attrs, sums, factor, y_zero),)


define("qlinear_conv", (8, 9), _infer_qlinear_conv, quiet(_qlinear_conv))
