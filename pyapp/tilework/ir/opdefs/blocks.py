"""Weights of few bits, in blocks along k that share a scale: products by them, rows of them.

dequantize_blocks (b, scales [, zeros]): n, k, bits, block_size; (n, k) in the scales' dtype, from
    (n, blocks, bytes) with `bits` (2, 4, 8) a number, low bits first, as MatMulNBits has them.
matmul_blocks (x, b, scales [, zeros [, bias]]): the same attributes; x @ dequantize_blocksᵀ + bias.
    attr rounds: x may be rounded to 16 bits, block by block.
gather_blocks (b, indices, scales [, zeros]): attrs bits (4, 8), block_size; rows of b (rows, bytes)
    with scales (rows, blocks) and zeros (rows, bytes of so many numbers), dequantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT32, INT64, UINT8
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, quiet
from tilework.ir.opdefs.index import wrapped
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def unpacked(packed: Array, bits: int) -> Array:
    """The last axis's bytes as numbers of `bits` bits, low bits first."""
    parts = [packed >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


def _infer_blocks(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    b, scales, zeros = [*infos, None][:3]
    assert b is not None and scales is not None
    check_kind(node, [scales], FLOATS)
    n, k, bits, size = (int(node.attrs[name]) for name in ("n", "k", "bits", "block_size"))
    if bits not in (2, 4, 8) or size < 1:
        raise fail(node, infos, f"{bits} bits in blocks of {size}; bits are 2, 4 or 8")
    blocks = -(-k // size)
    size_of = {"b": n * blocks * -(-size * bits // 8), "scales": n * blocks}
    if b.dtype is not UINT8 or _count(b) != size_of["b"] or _count(scales) != size_of["scales"]:
        raise fail(node, infos, f"b must hold {size_of['b']} bytes, scales {n * blocks} numbers")
    if zeros is not None and _count(zeros) != n * (
        -(-blocks * bits // 8) if zeros.dtype is UINT8 else blocks
    ):
        raise fail(node, infos, "zeros must hold one number for each block")
    return [Info(scales.dtype, (n, k))]


def _count(info: Info) -> int:
    return int(np.prod(info.shape, dtype=np.int64))


def _blocks(
    attrs: Attrs, b: Array, scales: Array, zeros: Array | None = None
) -> tuple[Array, ...]:
    n, k, bits, size = (int(attrs[name]) for name in ("n", "k", "bits", "block_size"))
    blocks = -(-k // size)
    numbers = unpacked(b.reshape(n, blocks, -1), bits)[..., :size].astype(np.float32)
    middle: Any = np.float32(1 << bits - 1)
    if zeros is not None:
        if zeros.dtype == np.uint8:
            zeros = unpacked(zeros.reshape(n, -1), bits)[:, :blocks]
        middle = zeros.reshape(n, blocks, 1).astype(np.float32)
    wide = (numbers - middle) * scales.reshape(n, blocks, 1).astype(np.float32)
    return (np.ascontiguousarray(wide.reshape(n, -1)[:, :k]).astype(scales.dtype),)


define("dequantize_blocks", (2, 3), _infer_blocks, quiet(_blocks))


def _infer_matmul_blocks(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, b, scales, zeros, bias = [*infos, None, None][:5]
    assert x is not None and b is not None and scales is not None
    (weights,) = _infer_blocks(node, [b, scales, zeros])
    n, k = weights.shape
    if x.dtype is not scales.dtype or not x.shape or x.shape[-1] != k:
        raise fail(node, infos, f"x must be (..., {k}) in the dtype of the scales")
    if bias is not None and (bias.shape != (n,) or bias.dtype is not x.dtype):
        raise fail(node, infos, f"bias must be ({n},) in the dtype of x")
    return [Info(x.dtype, (*x.shape[:-1], n))]


def _matmul_blocks(
    attrs: Attrs,
    x: Array,
    b: Array,
    scales: Array,
    zeros: Array | None = None,
    bias: Array | None = None,
) -> tuple[Array, ...]:
    (weights,) = _blocks(attrs, b, scales, zeros)
    y = np.matmul(x.astype(np.float32), weights.astype(np.float32).T)
    if bias is not None:
        y = y + bias.astype(np.float32)
    return (np.asarray(y, x.dtype),)


define("matmul_blocks", (3, 5), _infer_matmul_blocks, quiet(_matmul_blocks))


def _infer_gather_blocks(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    b, indices, scales, zeros = [*infos, None][:4]
    assert b is not None and indices is not None and scales is not None
    check_kind(node, [scales], FLOATS)
    bits, size = int(node.attrs["bits"]), int(node.attrs["block_size"])
    if bits not in (4, 8) or size < 1:
        raise fail(node, infos, f"{bits} bits in blocks of {size}; bits are 4 or 8")
    if indices.dtype not in (INT32, INT64):
        raise fail(node, infos, f"indices must be int32 or int64, they are {indices.dtype}")
    if b.dtype is not UINT8 or len(b.shape) != 2 or size * bits % 8:
        raise fail(node, infos, "b must be (rows, bytes) of uint8, blocks of whole bytes")
    rows, k = b.shape[0], b.shape[1] * 8 // bits
    blocks = -(-k // size)
    if k % size or scales.shape != (rows, blocks):
        raise fail(node, infos, f"scales must be ({rows}, {blocks}), of whole blocks of {size}")
    if zeros is not None and (
        zeros.dtype is not UINT8 or zeros.shape != (rows, -(-blocks * bits // 8))
    ):
        raise fail(node, infos, "zeros must be bytes of one number for each block")
    return [Info(scales.dtype, (*indices.shape, k))]


def _gather_blocks(
    attrs: Attrs, b: Array, indices: Array, scales: Array, zeros: Array | None = None
) -> tuple[Array, ...]:
    places = wrapped(indices, b.shape[0], 0).reshape(-1)
    n, k = places.size, b.shape[1] * 8 // attrs["bits"]
    some = None if zeros is None else zeros[places]
    (found,) = _blocks({**attrs, "n": n, "k": k}, b[places], scales[places], some)
    return (found.reshape(*indices.shape, k),)


define("gather_blocks", (3, 4), _infer_gather_blocks, quiet(_gather_blocks))
