"""Linear quantisation between floats and narrow or integer dtypes.

quantize_linear (x, scale [, zero]) -> to: saturate(x / scale rounded to even + zero); attrs axis,
    block (0: one scale a tensor or along the axis), to, saturate, precision (a DType's name: of the
    division).
dequantize_linear (x, scale [, zero]) -> to: (x - zero) scale; attrs axis, block, to.
A scale is one number, one along `axis`, or x's shape with ceil(extent / block) along `axis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME
from tilework.core.shapes import normalize_axis
from tilework.ir.graph import Node
from tilework.ir.narrow import convert, rounded, widen
from tilework.ir.opdefs.elementwise import quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

FLOATS8 = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")
SMALL_FLOATS = (*FLOATS8, "float4e2m1", "float6e2m3", "float6e3m2")
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2")


def _normalise(node: Node, infos: Sequence[Info]) -> Mapping[str, Any] | None:
    axis: Any = node.attrs.get("axis", 1)
    rank = len(infos[0].shape)
    scale = infos[1].shape
    # Of one number the axis does not matter, and its default may lie outside.
    single = not scale or (scale == (1,) and not -rank <= axis < rank)
    return {"axis": 0 if single else normalize_axis(axis, rank)}


def _infer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, scale, zero = [*infos, None][:3]
    assert x is not None and scale is not None
    attrs: Any = node.attrs
    to = BY_NAME[attrs["to"]]
    quantised = to if node.op == "quantize_linear" else x.dtype
    wide = x.dtype if node.op == "quantize_linear" else to
    known = (*INTEGERS, *SMALL_FLOATS, *(("int32",) if node.op == "dequantize_linear" else ()))
    if quantised.name not in known:
        raise fail(node, infos, f"{quantised} is no quantised dtype; those are {', '.join(known)}")
    if wide.kind not in "fi" or (wide.kind == "i" and wide.name != "int32"):
        raise fail(node, infos, f"{wide} cannot be quantised")
    single = scale.shape in ((), (1,))
    if zero is not None and (
        zero.dtype is not quantised
        or (zero.shape not in ((), (1,)) if single else zero.shape != scale.shape)
    ):
        raise fail(node, infos, f"the zero point must be {quantised}{list(scale.shape)}")
    axis, block = attrs["axis"], attrs.get("block", 0)
    extent = x.shape[axis] if x.shape else 1
    if block:
        fits = scale.shape == (*x.shape[:axis], -(-extent // block), *x.shape[axis + 1 :])
    else:
        fits = scale.shape in ((), (1,), (extent,))
    if not fits:
        raise fail(node, infos, f"the scale fits neither a tensor, nor axis {axis}, nor blocks")
    return [Info(to, x.shape)]


def spread(scale: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """A scale or zero point in a shape that broadcasts to `shape`."""
    if block:
        window = tuple(slice(0, extent) for extent in shape)
        return np.asarray(np.repeat(scale, block, axis=axis)[window])
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape(tuple(-1 if i == axis else 1 for i in range(len(shape))))


def _quantize(attrs: Attrs, x: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
    to, axis, block = BY_NAME[attrs["to"]], attrs["axis"], attrs.get("block", 0)
    within = BY_NAME[attrs["precision"]]
    divisor = rounded(widen(spread(scale, x.shape, axis, block)), within)
    ratio = rounded(rounded(widen(x), within) / divisor, within)
    offset = None if zero is None else widen(spread(zero, x.shape, axis, block))
    if to.name in SMALL_FLOATS:
        total = ratio if offset is None else ratio + offset
        return (convert(total, to, bool(attrs.get("saturate", 1))),)
    total = np.rint(ratio.astype(np.float64))
    if offset is not None:
        total = total + offset
    low, high = limits(to.name)
    return (convert(np.nan_to_num(np.clip(total, low, high), nan=low), to),)


def limits(name: str) -> tuple[int, int]:
    """The smallest and the largest number of an integer dtype."""
    dtype = BY_NAME[name]
    bits = dtype.bits or 8 * dtype.size
    if dtype.kind == "i":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _dequantize(
    attrs: Attrs, x: Array, scale: Array, zero: Array | None = None
) -> tuple[Array, ...]:
    to, axis, block = BY_NAME[attrs["to"]], attrs["axis"], attrs.get("block", 0)
    number = widen(x).astype(np.float64)  # exact for all of them
    if zero is not None:
        number = number - widen(spread(zero, x.shape, axis, block))
    factor = widen(spread(scale, x.shape, axis, block))
    within = np.float64 if factor.dtype.itemsize == 8 else np.float32
    return (convert(number.astype(within) * factor.astype(within), to),)


define("quantize_linear", (2, 3), _infer, quiet(_quantize), normalise=_normalise, raw=True)
define("dequantize_linear", (2, 3), _infer, quiet(_dequantize), normalise=_normalise, raw=True)
