"""Operations on bytes that stand for numbers: (byte - zero) scale, one scale and zero a tensor.

byte_map (x, table): table[x], the 256 entries of table in the order of x's bits; its dtype.
qlinear_add, qlinear_mul (a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero): to, least, most;
    quantize_linear of the sum (product) of what is dequantised, cut off at least and most; a and b
    are of one shape. Single precision in onnxruntime's order, by factors that are quotients of
    scales, so that where a half is near it is rounded as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME, INT8, UINT8
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import quiet
from tilework.ir.opdefs.quant import RANGES
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

BYTES = (UINT8, INT8)


def _infer_map(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, table = infos
    if x.dtype not in BYTES or table.dtype not in BYTES or table.shape != (256,):
        raise fail(node, infos, "byte_map takes bytes and a table of 256 bytes")
    return [Info(table.dtype, x.shape)]


def _map(attrs: Attrs, x: Array, table: Array) -> tuple[Array, ...]:
    return (np.asarray(table[x.view(np.uint8)]),)


define("byte_map", 2, _infer_map, _map)


def _infer_pair(node: Node, infos: Sequence[Info]) -> list[Info]:
    a, b = infos[0], infos[3]
    if any(infos[place].dtype not in BYTES for place in (0, 2, 3, 5, 7)) or a.shape != b.shape:
        raise fail(node, infos, f"'{node.op}' takes two tensors of bytes of one shape")
    return [Info(infos[7].dtype, a.shape)]


def _fused(a: Array, b: Any, c: Any) -> Array:
    """a b + c, rounded once."""
    wide = np.asarray(a, np.float64) * np.float64(b) + np.asarray(c, np.float64)
    return np.asarray(wide, np.float32)


def _sum(a: Array, b: Array, zeros: Any, scales: Any) -> Array:
    factors = scales[0] / scales[2], scales[1] / scales[2]
    fixed = zeros[2] - _fused(factors[0], zeros[0], factors[1] * zeros[1])
    return _fused(a, factors[0], _fused(b, factors[1], fixed))


def _product(a: Array, b: Array, zeros: Any, scales: Any) -> Array:
    factor = scales[0] * scales[1] / scales[2]
    return np.asarray((a - zeros[0]) * (b - zeros[1]) * factor + zeros[2])


def _pair(
    function: Callable[[Array, Array, Any, Any], Array],
    attrs: Attrs,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
) -> tuple[Array, ...]:
    zeros, scales = (
        [np.float32(one.reshape(-1)[0]) for one in three]
        for three in ((a_zero, b_zero, y_zero), (a_scale, b_scale, y_scale))
    )
    whole = np.rint(function(a.astype(np.float32), b.astype(np.float32), zeros, scales))
    low, high = RANGES[attrs["to"]]
    whole = np.clip(whole, attrs.get("least", low), attrs.get("most", high))
    return (np.asarray(whole.astype(BY_NAME[attrs["to"]].numpy)),)


define("qlinear_add", 8, _infer_pair, quiet(partial(_pair, _sum)))
define("qlinear_mul", 8, _infer_pair, quiet(partial(_pair, _product)))
