"""Recurrent layers that see bytes.

quantized_recurrent (x, w, r, b, lens, h, c, p) -> y, last h, c
    attrs and inputs as of recurrent, an LSTM's. What w and r multiply is made bytes by its range
    and numbers again: x as a whole, h at every step.
    Source: com.microsoft.DynamicQuantizeLSTM, and onnxruntime's CPU provider for the ranges.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilework.ir.opdefs.elementwise import quiet
from tilework.ir.opdefs.recurrent import Product, infer_recurrent, run_directions
from tilework.ir.opdefs.registry import OPS, Array, Attrs, define


def _reference(attrs: Attrs, x: Array, w: Array, r: Array, *rest: Array | None) -> Any:
    fed = [_product(one)(x) for one in w]
    return run_directions(
        attrs, x.dtype, fed, [_product(one) for one in r], [one.T for one in r], rest
    )


def _product(matrix: Array) -> Product:
    """What has become bytes by its range, times the matrix' rows."""
    wide = matrix.T.astype(np.float64)

    def product(x: Array) -> Array:
        values, step, middle = OPS["dynamic_quantize_linear"].reference({}, x)
        return np.asarray(((values.astype(np.float64) - middle) * step) @ wide, np.float32)

    return product


define("quantized_recurrent", (3, 8), infer_recurrent, quiet(_reference), outputs=3)
