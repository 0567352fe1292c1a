"""Attention: all operands are read through strides, so heads are never transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import FLOAT32
from tilework.hal.kernels.attention import F32_ATTENTION, AttentionParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Operands
from tilework.plan.tensor import Tensor


def _rows(b: Builder, tensor: Tensor) -> Tensor:
    """The tensor with its features side by side."""
    return tensor if tensor.strides[-1] == 1 or tensor.shape[-1] == 1 else b.copied(tensor)


def attention(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """softmax(scale q kᵀ + mask) v."""
    q, k, v, mask = [*inputs, None][:4]
    assert q is not None and k is not None and v is not None
    if q.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {q.dtype}"
    q, k, v = _rows(b, q), _rows(b, k), _rows(b, v)
    batch, heads, rows, _ = q.shape
    keys, values = v.shape[2:]
    out = _output(b, node, (batch, heads, rows, values))
    wide = None if mask is None else mask.broadcast_to((batch, heads, rows, keys))
    group = heads // max(k.shape[1], 1)
    for one in range(group):  # of the heads that share keys, all firsts, all seconds, …
        parts = [_every(tensor, one, group) for tensor in (q, wide, out)]
        _emit(b, node, parts[0], k, v, parts[1], parts[2])
    return [out]


def _every(tensor: Tensor | None, first: int, step: int) -> Any:
    if tensor is None or step == 1:
        return tensor
    shape = (tensor.shape[0], tensor.shape[1] // step, *tensor.shape[2:])
    return tensor.sliced((0, first, 0, 0), (1, step, 1, 1), shape)


def _emit(
    b: Builder, node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor
) -> None:
    batch, heads, rows, features = q.shape
    keys, values = v.shape[2:]
    steps = (0, 0, 0, 0) if mask is None else mask.strides
    cut = tiles.attention_tiles(rows, keys, features, values, heads, batch, b.threads)
    attrs: Any = node.attrs
    params = AttentionParams(
        query_length=rows,
        key_length=keys,
        head_size=features,
        value_size=values,
        q_batch=q.strides[0],
        q_head=q.strides[1],
        q_row=q.strides[2],
        k_batch=k.strides[0],
        k_head=k.strides[1],
        k_row=k.strides[2],
        v_batch=v.strides[0],
        v_head=v.strides[1],
        v_row=v.strides[2],
        out_batch=out.strides[0],
        out_head=out.strides[1],
        out_row=out.strides[2],
        mask_batch=steps[0],
        mask_head=steps[1],
        mask_row=steps[2],
        mask_column=steps[3],
        tile_rows=cut.tile_rows,
        scale=float(attrs.get("scale", 1.0)),
    )
    counts = cut.counts(rows, heads, batch)
    b.emit(F32_ATTENTION, counts, params, (q, k, v, mask, out), cut.scratch)


def _output(b: Builder, node: Node, shape: tuple[int, ...]) -> Tensor:
    """Heads side by side within a row when that is how the result is read on."""
    readers = b.readers(node.outputs[0])
    if readers and all(
        reader.op == "transpose" and tuple(reader.attrs.get("perm", ())) == (0, 2, 1, 3)
        for reader in readers
    ):
        batch, heads, rows, values = shape
        out = b.new(FLOAT32, (batch, rows, heads, values)).transposed((0, 2, 1, 3))
        return replace(out, shape=shape)
    return b.new(FLOAT32, shape)
