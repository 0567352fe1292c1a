"""Products by weights of 4 or 8 bits in blocks: they stay so in memory, and are opened in cache."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import FLOAT32, UINT8
from tilework.core.shapes import count
from tilework.hal.kernels.quant import (
    F32_GEMM_BLOCKS,
    F32_GEMM_BLOCKS_PACK,
    BlocksPackParams,
    BlocksParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor

SCRATCH = 16384  # bytes, by quant.wit
PACK_BYTES = 65536
MOST_BLOCK = 512


def matmul_blocks(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """x (..., k) by (n, k) weights of few bits."""
    x, weights, scales, zeros, bias = [*inputs, None, None][:5]
    assert x is not None and weights is not None and scales is not None
    n, k, bits, block = (int(node.attrs[name]) for name in ("n", "k", "bits", "block_size"))
    if x.dtype is not FLOAT32 or (zeros is not None and zeros.dtype is not UINT8):
        return f"no kernel for {node.op} of {x.dtype}"
    if bits not in (4, 8) or block % 16 or not 16 <= block <= MOST_BLOCK or k == 0:
        return f"no kernel for {bits} bits in blocks of {block}"
    y = b.new(FLOAT32, results[0].shape)
    if y.size == 0:
        return [y]
    packed = _packed(b, (n, k, bits, block), weights, scales, zeros)
    rows = count(x.shape[:-1])
    flat = x.reshaped((rows, k))
    if flat is None or (k > 1 and flat.strides[-1] != 1):
        flat = b.dense(x).reshaped((rows, k))
    assert flat is not None
    cut = tiles.gemm_tiles(rows, n, k, 1, b.threads)
    params = BlocksParams(
        m=rows,
        n=n,
        k=k,
        bits=bits,
        block=block,
        lda=flat.strides[0] if rows > 1 else k,
        tile_m=cut.tile_m,
        tile_n=cut.tile_n,
    )
    vector = None if bias is None else b.dense(bias)
    b.emit(F32_GEMM_BLOCKS, cut.counts(rows, n), params, (flat, packed, vector, y), SCRATCH)
    return [y]


def _packed(
    b: Builder,
    extents: tuple[int, int, int, int],
    weights: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
) -> Tensor:
    n, k, bits, block = extents
    parts = [t for t in (weights, scales, zeros) if t is not None]
    panels = -(-n // tiles.PANEL)
    each = -(-k // block) * (48 + block * bits)
    shape = (panels * each,)
    if all(map(is_constant, parts)):
        key = f"panels of {bits} bits, {block}({','.join(map(view_key, parts))})"
        packed, fresh = b.prepared(key, UINT8, shape)
    else:
        packed, fresh = b.transient(UINT8, shape), True
    if fresh:
        tile = max(1, min(PACK_BYTES // each, -(-panels // (2 * b.threads))))
        params = BlocksPackParams(n=n, k=k, bits=bits, block=block, tile_panels=tile)
        dense = tuple(None if t is None else b.dense(t) for t in (weights, scales, zeros))
        b.emit(F32_GEMM_BLOCKS_PACK, (-(-panels // tile), 1, 1), params, (*dense, packed))
    return packed


FLOATS: dict[str, Lowering] = {
    "matmul_blocks": matmul_blocks,
}
