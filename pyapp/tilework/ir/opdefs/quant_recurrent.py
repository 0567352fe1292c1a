"""Recurrent layers whose weights are bytes.

quantized_recurrent (x, w, r, b, lens, h, c, p, w_scale, w_zero, r_scale, r_zero) -> y, last h, c
    attrs as of recurrent, an LSTM's. w is (directions, features, gates × hidden), r (directions,
    hidden, gates × hidden), both int8 or uint8, with scales and zeros for each direction or each of
    its columns. What they multiply is made bytes by its range: x as a whole, h at every step.
    Source: com.microsoft.DynamicQuantizeLSTM, and onnxruntime's CPU provider for the ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import quiet
from tilework.ir.opdefs.quant import BYTES
from tilework.ir.opdefs.recurrent import Product, infer_recurrent, run_directions
from tilework.ir.opdefs.registry import OPS, Array, Attrs, Info, define, fail


def _infer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, w, r = infos[:3]
    assert x is not None and w is not None and r is not None
    if x.dtype is not FLOAT32 or w.dtype not in BYTES or r.dtype not in BYTES:
        raise fail(node, infos, "x must be float32, w and r int8 or uint8")
    if len(w.shape) != 3 or len(r.shape) != 3:
        raise fail(node, infos, "w and r must have three axes each")
    wide = [Info(x.dtype, (one.shape[0], one.shape[2], one.shape[1])) for one in (w, r)]
    found = infer_recurrent(node, [x, *wide, *[*infos, *[None] * 5][3:8]])
    w_scale, w_zero, r_scale, r_zero = [*infos[8:], *[None] * 4][:4]
    for weights, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero)):
        allowed = (weights.shape[:1], (weights.shape[0], weights.shape[2]))
        if scale is None or zero is None or not {scale.shape, zero.shape} <= set(allowed):
            raise fail(node, infos, f"scales and zeros must be one of {[*map(list, allowed)]}")
        if scale.dtype is not FLOAT32 or zero.dtype is not weights.dtype:
            raise fail(node, infos, "scales must be float32, zeros of their weights' dtype")
    return found


def _reference(attrs: Attrs, x: Array, w: Array, r: Array, *rest: Array | None) -> Any:
    w_scale, w_zero, r_scale, r_zero = rest[5:9]
    assert w_scale is not None and w_zero is not None  # infer has asked for them
    assert r_scale is not None and r_zero is not None
    fed = [_product(*one)(x) for one in zip(w, w_scale, w_zero, strict=True)]
    products = [_product(*one) for one in zip(r, r_scale, r_zero, strict=True)]
    return run_directions(attrs, x.dtype, fed, products, list(r), rest[:5])


def _product(weights: Array, scale: Array, zero: Array) -> Product:
    """What is made bytes by its range, times weights that are bytes; sums are exact."""
    centred = weights.astype(np.float64) - zero

    def product(x: Array) -> Array:
        values, step, middle = OPS["dynamic_quantize_linear"].reference({}, x)
        sums = (values.astype(np.float64) - middle) @ centred
        return np.asarray(sums.astype(np.float32) * (step * scale))

    return product


define("quantized_recurrent", (3, 12), _infer, quiet(_reference), outputs=3)
