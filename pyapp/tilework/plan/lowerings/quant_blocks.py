"""Products by weights of 4 or 8 bits in blocks: read where they lie, as the file has them."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, UINT8
from tilework.core.growing import most
from tilework.core.shapes import count
from tilework.hal.kernels.quant import (
    F32_GATHER_BLOCKS,
    F32_GEMM_BLOCKS,
    BlocksParams,
    GatherBlocksParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands

PANEL_BYTES = 16384  # by quant.wit
FEW = 3  # of kernels/quant/f32_gemm_blocks.c
MOST_BLOCK = 512
ELEMENTS = 32768  # a tile, by quant.wit


def matmul_blocks(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """x (..., k) by (n, k) weights of few bits."""
    x, weights, scales, zeros, bias = [*inputs, None, None][:5]
    assert x is not None and weights is not None and scales is not None
    n, k, bits, block = (int(node.attrs[name]) for name in ("n", "k", "bits", "block_size"))
    if x.dtype is not FLOAT32 or (zeros is not None and zeros.dtype is not UINT8):
        return f"no kernel for {node.op} of {x.dtype}"
    if k == 0 or not _valid(bits, block):
        return f"no kernel for {bits} bits in blocks of {block}"
    y = b.new(FLOAT32, results[0].shape)
    if y.size == 0:
        return [y]
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
        rounds=int(bool(node.attrs.get("rounds", 0))),
    )
    given = [None if t is None else b.dense(t) for t in (weights, scales, zeros, bias)]
    scratch = PANEL_BYTES
    if most(rows) <= FEW:
        blocks = -(-k // block) + 3
        scratch = max(scratch, 4 * blocks * (max(block, 128 // bits) + 2))
    b.emit(
        F32_GEMM_BLOCKS, cut.counts(rows, n), params, (flat, *given, y), min(scratch, SCRATCH)
    )
    return [y]


def gather_blocks(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Rows of a table (rows, bytes) by index."""
    table, indices, scales, zeros = [*inputs, None][:4]
    assert table is not None and indices is not None and scales is not None
    bits, block = int(node.attrs["bits"]), int(node.attrs["block_size"])
    k = results[0].shape[-1]
    if scales.dtype is not FLOAT32 or not _valid(bits, block):
        return f"no kernel for {bits} bits in blocks of {block} with scales of {scales.dtype}"
    y = b.new(FLOAT32, results[0].shape)
    if y.size == 0:
        return [y]
    tile = max(ELEMENTS // k, 1)
    params = GatherBlocksParams(
        count=indices.size,
        rows=table.shape[0],
        k=k,
        bits=bits,
        block=block,
        tile_rows=tile,
        index_size=indices.dtype.size,
    )
    given = [b.dense(table), b.dense(indices), b.dense(scales)]
    last = None if zeros is None else b.dense(zeros)
    b.emit(F32_GATHER_BLOCKS, (-(-indices.size // tile), 1, 1), params, (*given, last, y))
    return [y]


def _valid(bits: int, block: int) -> bool:
    if not 16 <= block <= MOST_BLOCK:
        return False
    return block % 16 == 0 if bits == 8 else bits == 4 and (block == 16 or block % 32 == 0)


FLOATS: dict[str, Lowering] = {
    "matmul_blocks": matmul_blocks,
    "gather_blocks": gather_blocks,
}
