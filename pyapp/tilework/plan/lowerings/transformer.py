"""What transformers have around attention: of copies, elementwise kernels and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT16, FLOAT32, INT32
from tilework.core.growing import most
from tilework.hal.kernels.rotary import F32_ROTARY, RotaryParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Info
from tilework.ir.opdefs.transformer import (
    causal_hidden,
    from_the_start,
    padding_spans,
)
from tilework.plan.bands import banded
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.attention import apart, appended
from tilework.plan.lowerings.elementwise import binary, compare, logical, where
from tilework.plan.lowerings.move import gather, grown
from tilework.plan.tensor import Tensor

ROTARY = 16384  # elements a tile, by rotary.wit
FILLED = (FLOAT32, FLOAT16)  # what a mask is made in


def _rows(x: Tensor, first: int, count: int, batch: int | None = None) -> Tensor:
    """Rows of a cache, of all sequences or of one."""
    start, shape = (0, first, 0), (x.shape[1], count, x.shape[3])
    firsts = (0 if batch is None else batch, *start)
    part = x.sliced(firsts, (1, 1, 1, 1), (x.shape[0] if batch is None else 1, *shape))
    assert part is not None  # no step is negative
    return part


def append(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """One kernel, which reads the lengths where there are any."""
    past, new, lengths = [*inputs, None][:3]
    assert past is not None and new is not None
    fresh = new.shape[2]
    before = past.shape[2]
    output = node.outputs[0]
    y = None if lengths is not None else grown(b, output, past, new, 2)
    if y is not None:
        return [y]
    if lengths is not None:
        if lengths.dtype is not INT32:
            return f"no kernel for lengths of {lengths.dtype}"
        if from_the_start(node.attrs, fresh):
            lengths, before = None, 0
            output = output if past.shape[2] == 0 else ""
        else:
            lengths = b.dense(lengths)
    return [appended(b, past, new, lengths, before, results[0].shape[2], output)]


def first(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A view."""
    assert inputs[0] is not None
    return [_rows(inputs[0], 0, results[0].shape[2])]


def repeat(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """One copy from a view in which each head is followed by an axis of stride 0."""
    x = inputs[0]
    assert x is not None
    times = results[0].shape[1] // max(x.shape[1], 1)
    wide = replace(
        x,
        shape=(*x.shape[:2], times, *x.shape[2:]),
        strides=(*x.strides[:2], 0, *x.strides[2:]),
    )
    view = b.dense(wide).reshaped(results[0].shape)
    assert view is not None  # a dense tensor takes any shape
    return [view]


def causal(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A constant of the plan; with lengths, comparisons with them."""
    _, _, rows, keys = results[0].shape
    dtype = results[0].dtype
    lengths = inputs[2] if len(inputs) > 2 else None
    if lengths is None or from_the_start(node.attrs, rows):
        before = keys - rows if lengths is None else 0
        hides = causal_hidden(node.attrs, rows)
        bias = banded(b, (rows, keys), before, hides, np.finfo(dtype.numpy).min, dtype)
        return [replace(bias, shape=results[0].shape, strides=(0, 0, *bias.strides))]
    if lengths.dtype is not INT32 or dtype not in FILLED:
        return f"no kernel for {node.op} of {lengths.dtype} and {dtype}"
    bound = b.dense(lengths)
    bound = replace(bound, shape=(bound.size, 1, 1, 1), strides=(1, 0, 0, 0))
    attrs: Any = node.attrs
    # A key lies `ahead` of the length less what its sequence has: seen up to 0.
    ahead = np.arange(most(keys)) + (rows - 1 - np.arange(rows))[:, None]
    whole = ahead if attrs.get("causal", 1) else np.broadcast_to(np.arange(most(keys)), ahead.shape)
    flags = Info(BOOL, results[0].shape)

    def compared(op: str, numbers: Array) -> Tensor:
        table = b.local(numbers[None, None], INT32)
        table = replace(table, shape=(1, 1, rows, keys))
        found = compare(b, Node(op, (), ()), (table, bound), (flags,))
        assert not isinstance(found, str)  # INT32 has a kernel
        return found[0]

    hidden = compared("greater", whole)
    window = attrs.get("window", -1)
    if window >= 0:
        sides = (hidden, compared("less_or_equal", ahead + window))
        both = logical(b, Node("or", (), ()), sides, (flags,))
        assert not isinstance(both, str)  # flags have a kernel
        hidden = both[0]
    filled, zero = (
        b.local(np.full((1, 1, 1, 1), number, dtype.numpy), dtype)
        for number in (np.finfo(dtype.numpy).min, 0.0)
    )
    return where(b, Node("where", (), ()), (hidden, filled, zero), results)


def positions(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A constant of the plan; with lengths, a sum with them."""
    lengths = inputs[1] if len(inputs) > 1 else None
    batch, rows = results[0].shape
    if lengths is None or from_the_start(node.attrs, rows):
        every = np.broadcast_to(np.arange(rows), (batch, rows))
        return [b.local(every, results[0].dtype)]
    first = b.dense(lengths)
    first = replace(first, shape=(batch, 1), strides=(1, 0))
    more = b.local((np.arange(rows) + 1 - rows)[None], lengths.dtype)
    return binary(b, Node("add", (), ()), (first, more), results)


def padding(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Comparisons of the keys' numbers with the lengths."""
    lengths = inputs[0]
    result = results[0]
    assert lengths is not None
    if lengths.dtype is not INT32 or result.dtype not in FILLED:
        return f"no kernel for {node.op} of {lengths.dtype} and {result.dtype}"
    batch, keys = result.shape[0], result.shape[3]
    attrs: Any = node.attrs
    every = b.local(np.arange(most(keys), dtype=np.int32).reshape(1, 1, 1, -1), INT32)
    key = replace(every, shape=(1, 1, 1, keys))
    flags = Info(BOOL, result.shape)

    def compared(op: str, first: int) -> Tensor:
        bound = replace(
            lengths,
            shape=(batch, 1, 1, 1),
            strides=(lengths.strides[0], 0, 0, 0),
            offset=lengths.offset + first * lengths.strides[0],
        )
        found = compare(b, Node(op, (), ()), (key, bound), (flags,))
        assert not isinstance(found, str)  # INT32 has a kernel
        return found[0]

    hidden = compared("greater_or_equal", 0)
    if padding_spans(lengths.shape[0], batch):
        both = logical(b, Node("or", (), ()), (hidden, compared("less", batch)), (flags,))
        assert not isinstance(both, str)
        hidden = both[0]
    filled, zero = (
        b.local(np.full((1, 1, 1, 1), number, result.dtype.numpy), result.dtype)
        for number in (attrs["filter"], 0.0)
    )
    return where(b, Node("where", (), ()), (hidden, filled, zero), results)


def rotary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Pairs turned by their angles."""
    x, cos, sin = inputs
    assert x is not None and cos is not None and sin is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    return [_turned(b, x, cos, sin, bool(node.attrs.get("interleaved", 0)))]


def rotary_embedding(
    b: Builder, node: Node, inputs: Operands, results: Sequence[Info]
) -> Lowered:
    """ONNX's: the same, of rank 3 or 4, with the angles of its positions."""
    x, cos, sin, positions = [*inputs, None][:4]
    assert x is not None and cos is not None and sin is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    if positions is not None:
        found = []
        for cache in (cos, sin):
            shape = (*positions.shape, cache.shape[-1])
            picked = gather(
                b, Node("gather", (), (), {"axis": 0}), (cache, positions), (Info(FLOAT32, shape),)
            )
            if isinstance(picked, str):
                return picked
            found += picked
        cos, sin = found
    wide = apart(b, x, attrs.get("heads", 0))
    y = _turned(b, wide, cos, sin, bool(attrs.get("interleaved", 0)))
    if len(x.shape) == 4:
        return [y]
    return [b.dense(y.transposed((0, 2, 1, 3))).reshaped(x.shape) or y]


def _turned(b: Builder, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """x, (batch, heads, rows, features), turned by angles of (batch or 1, rows, pairs)."""
    x = x if x.strides[3] == 1 or x.shape[3] == 1 else b.copied(x)
    batch, heads, rows, features = x.shape
    pairs = cos.shape[2]
    cos, sin = (b.dense(angle).broadcast_to((batch, rows, pairs)) for angle in (cos, sin))
    # Heads stay within their row where they were: attention reads either.
    within = rows > 1 and x.strides[2] >= heads * features
    if within:
        y = b.new(FLOAT32, (batch, rows, heads, features)).transposed((0, 2, 1, 3))
    else:
        y = b.new(FLOAT32, x.shape)
    lines = batch * heads * rows
    each, tiles = b.tiles(lines * features, ROTARY)
    tile_lines = max(each // max(features, 1), 1)
    params = RotaryParams(
        batch=batch,
        heads=heads,
        rows=rows,
        features=features,
        pairs=pairs,
        x_batch=x.strides[0],
        x_head=x.strides[1],
        x_row=x.strides[2],
        y_batch=y.strides[0],
        y_head=y.strides[1],
        y_row=y.strides[2],
        angle_batch=cos.strides[0],
        angle_row=cos.strides[1],
        interleaved=int(interleaved),
        tile_lines=tile_lines,
    )
    tiles = -(-lines // tile_lines) if y.size else 0
    b.emit(F32_ROTARY, (tiles, 1, 1), params, (x, cos, sin, y))
    return y


PLAIN: dict[str, Lowering] = {
    "kv_append": append,
    "first_rows": first,
    "repeat_heads": repeat,
    "share_heads": repeat,
    "causal_bias": causal,
    "row_positions": positions,
    "padding_bias": padding,
}
FLOATS: dict[str, Lowering] = {
    "rotary_embedding": rotary_embedding,
    "rotate_pairs": rotary,
}
