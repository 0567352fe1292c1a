"""What transformers have around attention: of copies, elementwise kernels and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.transformer import (
    causal_bias,
    padding_spans,
    past_lengths,
    row_positions,
)
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Operands
from tilework.plan.lowerings.attention import apart
from tilework.plan.lowerings.elementwise import binary, compare, logical, where
from tilework.plan.lowerings.move import gather
from tilework.plan.tensor import Tensor


def _rows(x: Tensor, first: int, count: int, batch: int | None = None) -> Tensor:
    """Rows of a cache, of all sequences or of one."""
    start, shape = (0, first, 0), (x.shape[1], count, x.shape[3])
    firsts = (0 if batch is None else batch, *start)
    part = x.sliced(firsts, (1, 1, 1, 1), (x.shape[0] if batch is None else 1, *shape))
    assert part is not None  # no step is negative
    return part


def append(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """past, new rows, and zeros behind them, each copied to its place."""
    past, new = inputs[0], inputs[1]
    assert past is not None and new is not None
    y = b.new(results[0].dtype, results[0].shape)
    fresh, held, whole = new.shape[2], past.shape[2], y.shape[2]
    lengths = past_lengths(node.attrs, fresh)
    if lengths is None:
        b.copy(past, _rows(y, 0, held))
        b.copy(new, _rows(y, held, fresh))
        return [y]
    together = len(set(lengths)) == 1
    for index, length in enumerate(lengths[:1] if together else lengths):
        one = None if together else index
        b.copy(_rows(past, 0, length, one), _rows(y, 0, length, one))
        b.copy(_rows(new, 0, fresh, one), _rows(y, length, fresh, one))
        end = length + fresh
        if whole > end:
            rest = _rows(y, end, whole - end, one)
            zero = b.local(np.zeros((1, 1, 1, 1), y.dtype.numpy), y.dtype)
            b.copy(zero.broadcast_to(rest.shape), rest)
    return [y]


def first(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A view."""
    assert inputs[0] is not None
    return [_rows(inputs[0], 0, results[0].shape[2])]


def repeat(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """One copy from a view in which each head is followed by an axis of stride 0."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    wide = replace(
        x,
        shape=(*x.shape[:2], attrs["times"], *x.shape[2:]),
        strides=(*x.strides[:2], 0, *x.strides[2:]),
    )
    view = b.dense(wide).reshaped(results[0].shape)
    assert view is not None  # a dense tensor takes any shape
    return [view]


def causal(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A constant of the plan."""
    _, _, rows, keys = results[0].shape
    dtype = results[0].dtype
    return [b.local(causal_bias(node.attrs, rows, keys, np.dtype(dtype.numpy)), dtype)]


def positions(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A constant of the plan."""
    return [b.local(row_positions(node.attrs, results[0].shape[1]), INT64)]


def padding(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Comparisons of the keys' numbers with the lengths."""
    lengths = inputs[0]
    result = results[0]
    assert lengths is not None
    if lengths.dtype is not INT32 or result.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {lengths.dtype} and {result.dtype}"
    batch, keys = result.shape[0], result.shape[3]
    attrs: Any = node.attrs
    key = b.local(np.arange(keys, dtype=np.int32).reshape(1, 1, 1, keys), INT32)
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
        b.local(np.full((1, 1, 1, 1), number, np.float32), FLOAT32)
        for number in (attrs["filter"], 0.0)
    )
    return where(b, Node("where", (), ()), (hidden, filled, zero), results)


def rotary(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Two products and their sum for each side of the pairs, copied to their places."""
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
    pairs, features = cos.shape[2], x.shape[3]
    c, s = (
        replace(
            angle,
            shape=(angle.shape[0], 1, *angle.shape[1:]),
            strides=(angle.strides[0], 0, *angle.strides[1:]),
        )
        for angle in (cos, sin)
    )
    y = b.new(x.dtype, x.shape)
    step = 2 if interleaved else 1
    behind = 1 if step == 2 else pairs
    half = (*x.shape[:3], pairs)

    def side(tensor: Tensor, first: int) -> Tensor:
        part = tensor.sliced((0, 0, 0, first), (1, 1, 1, step), half)
        assert part is not None
        return part

    def apply(op: str, left: Tensor, right: Tensor) -> Tensor:
        made = binary(b, Node(op, (), ()), (left, right), (Info(FLOAT32, half),))
        assert not isinstance(made, str)  # FLOAT32 has kernels
        b.live.setdefault(made[0].storage, 0)  # nobody else knows of it
        return made[0]

    for tensor in (x, cos, sin):  # each is read more than once, so nothing may go over it
        b.live[tensor.storage] = b.live.get(tensor.storage, 0) + 1
    first, second = side(x, 0), side(x, behind)
    b.copy(apply("sub", apply("mul", first, c), apply("mul", second, s)), side(y, 0))
    b.copy(apply("add", apply("mul", second, c), apply("mul", first, s)), side(y, behind))
    if 2 * pairs < features:
        rest = [
            tensor.sliced((0, 0, 0, 2 * pairs), (1, 1, 1, 1), (*half[:3], features - 2 * pairs))
            for tensor in (x, y)
        ]
        assert rest[0] is not None and rest[1] is not None
        b.copy(rest[0], rest[1])
    for tensor in (x, cos, sin):
        b.live[tensor.storage] -= 1
    return y
