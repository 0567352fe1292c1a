"""How products and attention are cut into tiles, and how much scratch a tile needs.

Pure functions of sizes and the number of threads; the lowerings call them, the kernels' README
files carry the measurements behind the numbers. Nothing here knows buffers or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from tilework.core.config import SCRATCH
from tilework.core.growing import most

PANEL: Final = 8  # columns of B that the GEMM's register tile takes
ROWS: Final = 6  # rows of A that it takes

_TILES_A_THREAD: Final = 4  # a thread that came late or was interrupted leaves little undone
_LEAST_WORK: Final = 250_000  # multiply-adds of a tile, 8 µs: claiming one costs 1 to 2 %
_MANY: Final = 8  # tiles a thread; one more or less of so many is not felt
_LEAST_STEP: Final = 40_000  # the same of a recurrent step
_LEAST_FEW: Final = 12_000  # the same of one or two rows, which wait for the weights
_FEW_ROWS: Final = 2
_TILE_M: Final = 64  # rows for which a panel of B stays in L1, A's block of k in L2
_PACK_BYTES: Final = 65_536
_LEAST_PACK: Final = 32_768  # bytes, 5 µs: less is packed before another thread has come
_REWRITERS: Final = 2  # threads
_CACHED: Final = 16 << 20  # bytes of weights that may still be in cache when they are read again
_SIDE: Final = 4  # SIDE of kernels/gemm/f32_gemm_pack_b.c
_QUANT_GROUP: Final = 8  # TW_GROUP of kernels/quant/panel.h
_SQUARES_SCRATCH: Final = SCRATCH * 5 // 8  # the rest of L2 is for filters
_STRIP_CYCLES: Final = (0.0, 3.4, 3.4, 4.2, 4.5, 5.3, 6.1)  # a step of k, by rows
_HEADS_A_THREAD: Final = 4  # fewer than products: cutting a head packs its keys again
_TILE_QUERIES: Final = 128
_FEWEST_QUERIES: Final = 32  # below, packing keys and values costs more than 5 %
_QUERY_STEP: Final = 4  # a divisor of the group, so that few groups are short
_QUERY_GROUP: Final = 16  # GROUP of kernels/attention/f32_attention.c
_KEY_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class GemmTiles:
    """Rows and columns of C that a tile computes; `scratch` in bytes a thread."""

    tile_m: int
    tile_n: int
    scratch: int

    def counts(self, m: int, n: int, batch: int = 1) -> tuple[int, int, int]:
        """Tile counts (x, y, z) of a dispatch over (batch, m, n)."""
        return -(-n // self.tile_n), -(-m // self.tile_m), batch


@dataclass(frozen=True, slots=True)
class SquareTiles:
    """Squares of 4 x 4 outputs and filters that a tile of f32_winograd computes."""

    squares: int
    filters: int
    scratch: int

    def counts(self, squares: int, filters: int) -> tuple[int, int, int]:
        """Tile counts (x, y, z) of a dispatch."""
        return -(-filters // self.filters), -(-squares // self.squares), 1


@dataclass(frozen=True, slots=True)
class AttentionTiles:
    """Query rows that a tile computes; `scratch` in bytes a thread."""

    tile_rows: int
    scratch: int

    def counts(self, query_length: int, heads: int, batch: int) -> tuple[int, int, int]:
        """Tile counts (x, y, z) of a dispatch."""
        return -(-query_length // self.tile_rows), heads, batch


def packed_b_elements(k: int, n: int) -> int:
    """Elements of B (k, n) packed in panels of 8 columns; also the least `packed_stride`."""
    return -(-n // PANEL) * PANEL * k


def gemm_rewrites(rows: int, cut: GemmTiles, threads: int, weights: int) -> bool:
    """Whether a product with constant B brings B's panels by writing (`rewrite` of gemm.wit).

    B has to come from memory (the session's `weights`, in bytes, are more than caches hold), for
    rows enough to hide it and for one tile alone. What is written has to go back to memory, so
    few threads at once: 16 rows on one take 7 GB/s of weights, 15 with what goes back.
    """
    return 4 <= rows <= cut.tile_m and threads <= _REWRITERS and weights >= _CACHED


def packed_b_firsts(k: int, n: int) -> int:
    """Elements that `firsts` of f32_gemm_pack_b take after the panels."""
    return -(-(-(-n // PANEL) * -(-k // 2)) // 4)


def pack_b_tile_panels(k: int, n: int, batch: int, threads: int) -> int:
    """Panels that one tile of f32_gemm_pack_b packs: about 64 KiB, down to half to occupy threads.

    A multiple of 4, which the kernel packs side by side, unless that is all of B.
    """
    panels = max(1, -(-n // PANEL))
    each = max(1, k * PANEL * 4)
    shares = -(-2 * threads // max(1, batch)) if threads > 1 else 1
    share = max(-(-panels // shares), -(-_LEAST_PACK // each))
    return min(panels, _evenly(max(1, min(_PACK_BYTES // each, share)), 1, _SIDE))


def _evenly(extent: int, parts: int, multiple: int) -> int:
    """Length of each of `parts` pieces of `extent`, rounded up to a multiple."""
    return max(multiple, -(-extent // (parts * multiple)) * multiple)


def share(extent: int, each: int, threads: int) -> int:
    """Units a tile, at most `each`: of those above half of it the one whose slowest thread has the
    least, for an odd tile left over keeps one thread busy while all others wait."""
    extent, each = most(extent), most(each)
    if threads == 1 or each >= extent or extent > _MANY * threads * each:
        return each

    def slowest(one: int) -> int:
        tiles = -(-extent // one)
        return -(-tiles // threads) * one

    return min(range(each, each // 2, -1), key=slowest)


def _shared(m: int, n: int, rows: int, columns: int, threads: int) -> tuple[int, int]:
    """(tile_m, tile_n) by the same rule: of those within a sixteenth of the best the nearest to
    `rows` by `columns` tiles."""
    best: tuple[int, int, int, int] | None = None
    for down in range(rows, rows + threads if rows > 1 else rows + 1):
        tile_m = _evenly(m, down, ROWS)
        for across in range(-(-columns // 2), columns + threads + 1):
            tile_n = _evenly(n, across, PANEL)
            made = -(-m // tile_m) * -(-n // tile_n)
            slowest = -(-made // threads) * threads * tile_m * tile_n
            found = 16 * slowest // (m * n), abs(down * across - rows * columns), tile_m, tile_n
            if best is None or found < best:
                best = found
    assert best is not None
    return best[2:]


def gemm_tiles(m: int, n: int, k: int, batch: int, threads: int) -> GemmTiles:
    """Tiles of f32_gemm for C (batch, m, n) = A (batch, m, k) B.

    Rows are cut first, into even pieces of about 64; then columns, until there are enough tiles
    for the threads or a tile becomes so small that handing it out would be felt. Thin products
    (n k small) get more rows a tile for the same reason. One or two rows take as long as reading
    the weights does, so they are worth more threads, and each of them the same share.
    """
    m, n, k, batch = most(m), most(n), most(k), most(batch)
    work = max(1, m * n * k * batch)
    few = m * batch <= _FEW_ROWS
    wanted = min(_TILES_A_THREAD * threads, max(1, work // (_LEAST_FEW if few else _LEAST_WORK)))
    if few and wanted > threads:
        wanted -= wanted % threads
    if threads == 1:
        wanted = 1
    rows = max(_TILE_M, min(m, -(-_LEAST_WORK // max(1, n * k))))
    tile_m = _evenly(m, max(1, round(m / rows)), ROWS)
    made = -(-m // tile_m) * batch
    cuts = min(max(1, -(-wanted // made)), max(1, -(-n // PANEL)))
    if wanted > 1 and batch == 1 and made < _MANY * threads:
        tile_m, tile_n = _shared(m, n, made, cuts, threads)
    else:
        tile_n = _evenly(n, cuts, PANEL)
    return GemmTiles(tile_m, tile_n, 0)


@dataclass(frozen=True, slots=True)
class RecurrentTiles:
    """Panels of 8 units and sequences that a tile computes, of one step or of `all_steps`."""

    panels: int
    rows: int
    all_steps: bool
    scratch: int

    def counts(self, batch: int, hidden: int) -> tuple[int, int, int]:
        """Tile counts (x, y, z) of a dispatch."""
        return -(-hidden // (self.panels * PANEL)), -(-batch // self.rows), 1


def recurrent_tiles(
    batch: int, hidden: int, gates: int, ways: int, threads: int, whole: bool
) -> RecurrentTiles:
    """Tiles of a layer of `ways` directions, which run side by side.

    A tile that goes through all steps (if the cell can, `whole`) keeps its weights in its core's
    cache and waits for nobody; so where sequences and directions occupy the threads, and where a
    step is too little to be shared. Else each step is cut: few sequences are bound by reading the
    weights, so into less than a product's tiles.
    """
    panels = -(-hidden // PANEL)
    work = batch * gates * hidden * hidden
    parts = -(-threads // ways)
    if work < 2 * _LEAST_STEP:
        parts = min(parts, batch)
    if whole and parts <= batch:
        rows = min(_evenly(batch, parts, 1), SCRATCH // (4 * hidden))
        if rows > 0:
            return RecurrentTiles(panels, rows, True, 4 * rows * hidden)
    tile_rows = _evenly(batch, max(1, round(batch / _TILE_M)), ROWS)
    wanted = min(2 * threads, max(1, work // _LEAST_STEP)) if threads > 1 else 1
    return RecurrentTiles(-(-panels // min(wanted, panels)), tile_rows, False, 0)


def quant_packed_bytes(k: int, n: int) -> int:
    """Bytes of B (k, n) packed for i8_gemm: panel.h's heads, fours of weights and offsets."""
    fours = -(-k // _QUANT_GROUP) * _QUANT_GROUP // 4
    fours += fours // 10 + 8
    return -(-n // PANEL) * (64 + fours * 4 * PANEL + -(-fours // 8) * 16)


def quant_scratch(rows: int, k: int) -> int:
    """Bytes that i8_gemm needs for a tile of so many rows."""
    return rows * (5 * -(-k // _QUANT_GROUP) * _QUANT_GROUP + 4)


def quant_tiles(m: int, n: int, k: int, threads: int, batch: int = 1) -> GemmTiles:
    """Tiles of i8_gemm for C (m, n): those of f32_gemm for half the work, as far as rows fit."""
    cut = gemm_tiles(m, n, -(-k // 2), batch, threads)
    rows = max(1, min(cut.tile_m, SCRATCH // quant_scratch(1, k)))
    return GemmTiles(rows, cut.tile_n, quant_scratch(rows, k))


def row_walks(extents: tuple[int, ...], each: int) -> tuple[int, ...]:
    """Steps from one matrix of a dense batch to the next, of `each`; 0 along an extent of 1."""
    found = []
    for extent in reversed(extents):
        found.append(0 if extent == 1 else each)
        each *= extent
    return tuple(reversed(found))


def squares_scratch(squares: int, channels: int) -> int:
    """Bytes that f32_winograd needs for so many squares."""
    return 144 * squares * (channels + 8) + 4096


def square_tiles(squares: int, filters: int, channels: int, threads: int) -> SquareTiles:
    """Tiles of f32_winograd: the cut whose slowest thread is done first, by estimated cycles.

    Cutting the squares reads the filters again, cutting the filters transforms the inputs again;
    what neither leaves to a thread, it waits. At most as many squares as the scratch holds.
    """
    most = max((_SQUARES_SCRATCH - 4096) // (144 * (channels + 8)), 1)
    fewest = -(-squares // most)
    panels = -(-filters // PANEL)
    best: tuple[float, int, int] | None = None
    for parts in range(fewest, min(fewest + 4 * threads, squares) + 1):
        for cuts in range(1, min(max(4 * threads // parts, 1), panels) + 1):
            each, wide = -(-squares // parts), -(-panels // cuts)
            made = -(-squares // each) * -(-panels // wide)
            # Threads that come late or are interrupted: a few tiles more than threads are better.
            rounds = -(-made // threads) + (0.1 if made < 2 * threads and threads > 1 else 0.0)
            cost = rounds * _square_cycles(each, wide, channels)
            if best is None or cost < best[0]:
                best = cost, each, wide * PANEL
    assert best is not None
    return SquareTiles(best[1], best[2], squares_scratch(best[1], channels))


def _square_cycles(squares: int, panels: int, channels: int) -> float:
    """Cycles of one tile: products, filters that come from farther than L1, both transforms."""
    strips = -(-squares // ROWS)
    lengths = [squares // strips + (i < squares % strips) for i in range(strips)]
    products = sum(_STRIP_CYCLES[length] for length in lengths) * channels + 40.0 * strips
    return 36 * panels * (products + 2 * channels) + squares * (65 * channels + 400 * panels) + 700


def attention_scratch(tile_rows: int, key_block: int, head_size: int, value_size: int) -> int:
    """Bytes that f32_attention needs to take `key_block` (a multiple of 8) keys at a time."""
    wide = -(-value_size // PANEL) * PANEL
    kept = tile_rows * (wide + 2)
    return 4 * (kept + key_block * (head_size + wide + _QUERY_GROUP))


def attention_tiles(
    query_length: int,
    key_length: int,
    head_size: int,
    value_size: int,
    heads: int,
    batch: int,
    threads: int,
    limit: int = SCRATCH,
) -> AttentionTiles:
    """Tiles of f32_attention; `limit` is the scratch a thread has, in bytes.

    The kernel takes as many keys at a time as its scratch holds, so a smaller scratch is only
    slower. Every tile packs its head's keys and values, so that query rows are cut only when heads
    and batch do not occupy the threads. When not even 8 keys fit (head sizes of some thousands),
    the scratch is larger than `limit` and recording the dispatch fails.
    """
    query_length, key_length = most(query_length), most(key_length)
    made = max(1, heads * batch)
    cuts = -(-_HEADS_A_THREAD * threads // made) if threads > 1 else 1
    shortest = min(query_length, _FEWEST_QUERIES)
    rows = min(_TILE_QUERIES, max(shortest, -(-query_length // cuts)))
    tile_rows = _evenly(query_length, max(1, -(-query_length // rows)), _QUERY_STEP)
    block = min(-(-key_length // PANEL) * PANEL, _KEY_BLOCK)
    needed = partial(attention_scratch, key_block=PANEL, head_size=head_size, value_size=value_size)
    while tile_rows > _QUERY_STEP and needed(tile_rows) > limit:
        tile_rows = _evenly(tile_rows, 2, _QUERY_STEP)
    spare = limit - attention_scratch(tile_rows, 0, head_size, value_size)
    each = attention_scratch(0, PANEL, head_size, value_size)
    block = max(PANEL, min(block, spare // each * PANEL))
    return AttentionTiles(tile_rows, attention_scratch(tile_rows, block, head_size, value_size))
