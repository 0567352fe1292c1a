"""Elements to places that data says: sequences turned around, maxima back where they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, INT64
from tilework.hal.kernels.index import PUT_ELEMENTS, Combination, Number, PutElementsParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.pool import unpooled
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands, step
from tilework.plan.lowerings.elementwise import binary, compare, where
from tilework.plan.lowerings.index import pick_rows
from tilework.plan.lowerings.resample import pad


def reverse(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """reverse_sequence: rows picked from where they come, which is computed from the lengths."""
    x, lengths = inputs
    assert x is not None and lengths is not None
    if lengths.dtype is not INT64 or x.dtype.size > 8:
        return f"no kernel for {node.op} of {x.dtype} and {lengths.dtype}"
    if is_constant(lengths) or is_constant(x):
        return "computed once"  # where the plan's constants do not reach
    if 0 in x.shape:
        return "nothing to turn"
    batch: Any = node.attrs["batch"]
    count_of, rows = x.shape[batch], x.shape[1 - batch]
    across = (count_of, 1) if batch == 0 else (1, count_of)
    along = (1, rows) if batch == 0 else (rows, 1)
    shape = (x.shape[0], x.shape[1])
    ends = b.shaped(lengths, across)
    place = b.local(np.arange(rows).reshape(along), INT64)
    minus = b.local(np.ones((1, 1)), INT64)
    last = step(b, binary, "sub", Info(INT64, across), ends, minus)
    turned = step(b, binary, "sub", Info(INT64, shape), last, place)
    inside = step(b, compare, "less", Info(BOOL, shape), place, ends)
    source = step(b, where, "where", Info(INT64, shape), inside, turned, place)
    # A length beyond the rows asks for a row that there is not.
    if batch:
        source, x = source.transposed((1, 0)), x.transposed((1, 0, *range(2, len(x.shape))))
    wide = b.dense(source).reshaped((count_of, rows, 1))
    assert wide is not None  # a dense tensor takes any shape
    attrs = {"batch_dims": 1}
    info = Info(x.dtype, x.shape)
    made = pick_rows(b, Node("gather_nd", (), (), attrs), (x, wide), [info])
    if isinstance(made, str) or not batch:
        return made
    return [made[0].transposed((1, 0, *range(2, len(x.shape))))]


def unpool(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """max_unpool: elements put among zeros, in the smallest result, of which y may be more."""
    x, places = inputs[:2]
    assert x is not None and places is not None
    if x.dtype.size > 8:
        return f"no kernel for {node.op} of {x.dtype}"
    natural = unpooled(node.attrs, x.shape)
    if 0 in natural or 0 in x.shape:
        return "nothing to put"
    if is_constant(x) and is_constant(places):
        return "computed once"  # where the plan's zeros do not reach
    zero = b.local(np.zeros((1,) * len(natural), x.dtype.numpy), x.dtype)
    y = b.new(x.dtype, natural)
    b.copy(zero.broadcast_to(natural), y)
    x, places = b.dense(x), b.dense(places)
    params = PutElementsParams(
        1, y.size, x.size, 1, 1, x.dtype.size, 8, Combination.REPLACE, Number.RAW
    )
    b.emit(PUT_ELEMENTS, (1, 1, 1), params, (places, x, y), behind=True)
    more = [want - have for have, want in zip(natural, results[0].shape, strict=True)]
    attrs = {"pads": (*(0,) * len(more), *more), "value": 0}
    return pad(b, Node("pad", (), (), attrs), (y,), results)


PLAIN: dict[str, Lowering] = {
    "reverse_sequence": reverse,
    "max_unpool": unpool,
}
