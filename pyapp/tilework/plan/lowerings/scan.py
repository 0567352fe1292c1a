"""Running totals, extremes' places and the largest few along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, INT32, INT64, DType
from tilework.core.shapes import count
from tilework.hal.kernel import Kernel
from tilework.hal.kernels import scan
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor

LINES = 16384  # elements a tile reads, by scan.wit
TOP = 4096
CUMULATE: dict[DType, Kernel] = {
    FLOAT32: scan.F32_CUMULATE, INT32: scan.I32_CUMULATE, INT64: scan.I64_CUMULATE,
}  # fmt: skip
ARG: dict[DType, Kernel] = {
    FLOAT32: scan.F32_ARG, INT32: scan.I32_ARG, INT64: scan.I64_ARG,
}  # fmt: skip


def _parts(x: Tensor, axis: int) -> tuple[int, int, int]:
    """Extents before, of and behind the axis."""
    return count(x.shape[:axis]), x.shape[axis], count(x.shape[axis + 1 :])


def cumulate(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """cumsum and cumprod."""
    x = inputs[0]
    assert x is not None
    kernel = CUMULATE.get(x.dtype)
    if kernel is None:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    x = b.dense(x)
    outer, axis, inner = _parts(x, attrs["axis"])
    y = b.result(x.dtype, x.shape, x)
    each, tiles = b.lines(outer * inner, axis, LINES)
    op = scan.Cumulation.SUM if node.op == "cumsum" else scan.Cumulation.PRODUCT
    exclusive, reverse = (int(bool(attrs.get(name, 0))) for name in ("exclusive", "reverse"))
    params = scan.CumulateParams(outer, axis, inner, each, op, exclusive, reverse)
    b.emit(kernel, (tiles if x.size else 0, 1, 1), params, (x, y))
    return [y]


def arg(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """argmax and argmin."""
    x = inputs[0]
    assert x is not None
    kernel = ARG.get(x.dtype)
    if kernel is None:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    x = b.dense(x)
    outer, axis, inner = _parts(x, attrs["axis"])
    y = b.new(INT64, results[0].shape)
    each, tiles = b.lines(outer * inner, axis, LINES)
    op = scan.Extreme.LARGEST if node.op == "argmax" else scan.Extreme.SMALLEST
    last = int(bool(attrs.get("select_last_index", 0)))
    b.emit(kernel, (tiles, 1, 1), scan.ArgParams(outer, axis, inner, each, op, last), (x, y))
    return [y]


def top(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """top_k, always sorted."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    k = attrs["k"]
    if k == 1 == x.shape[attrs["axis"]]:  # of one length, by which PyTorch orders sequences
        return [x, b.local(np.zeros(results[1].shape, np.int64), INT64)]
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if 8 * k > SCRATCH:
        return f"{k} elements to keep in order are more than scratch holds"
    x = b.dense(x)
    outer, axis, inner = _parts(x, attrs["axis"])
    chosen, places = b.new(FLOAT32, results[0].shape), b.new(INT64, results[1].shape)
    each, tiles = b.lines(outer * inner, axis, TOP)
    op = scan.Extreme.LARGEST if attrs.get("largest", 1) else scan.Extreme.SMALLEST
    params = scan.TopParams(outer, axis, inner, k, each, op)
    counts = (tiles if chosen.size else 0, 1, 1)
    b.emit(scan.F32_TOP, counts, params, (x, chosen, places), 8 * k)
    return [chosen, places]


FLOATS: dict[str, Lowering] = {
    "cumsum": cumulate,
    "cumprod": cumulate,
    "argmax": arg,
    "argmin": arg,
    "top_k": top,
}
