"""Conversions between the dtypes that NumPy has, by the kernels of convert."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import BOOL, FLOAT32, FLOAT64, INT8, INT32, INT64, UINT8, DType
from tilework.hal.kernels.convert import CAST, CastParams, ElementType
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Operands
from tilework.plan.walk import dense_run, shaped

ELEMENTS = 16384  # a tile, by convert.wit
TYPES: dict[DType, ElementType] = {
    FLOAT32: ElementType.FLOAT32,
    FLOAT64: ElementType.FLOAT64,
    INT32: ElementType.INT32,
    INT64: ElementType.INT64,
    INT8: ElementType.INT8,
    UINT8: ElementType.UINT8,
    BOOL: ElementType.BOOLEAN,
}


def convert(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = x in another type; x itself when it has that type."""
    x = inputs[0]
    assert x is not None
    target = results[0].dtype
    if target is x.dtype:
        return [x]
    if x.dtype not in TYPES or target not in TYPES:
        return f"no kernel to cast {x.dtype} to {target}"
    run, like = dense_run(b, x)
    y = b.result(target, run.shape, run)
    tile, tiles = b.tiles(run.size, ELEMENTS)
    params = CastParams(run.size, tile, TYPES[x.dtype], TYPES[target])
    b.emit(CAST, (tiles, 1, 1), params, (run, y))
    return [shaped(y, like)]
