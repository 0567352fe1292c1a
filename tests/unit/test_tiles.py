"""Tile choice: what the kernels demand always holds, and threads find work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilework.core.config import SCRATCH
from tilework.plan.tiles import (
    ROWS,
    GemmTiles,
    attention_scratch,
    attention_tiles,
    gemm_rewrites,
    gemm_tiles,
    pack_b_tile_panels,
    packed_b_elements,
    share,
    square_tiles,
    squares_scratch,
)

pytestmark = pytest.mark.unit
extents = st.integers(1, 5000)
threads = st.integers(1, 64)


@given(m=extents, n=extents, k=st.integers(0, 5000), batch=st.integers(1, 40), threads=threads)
def test_gemm_tiles_are_what_the_kernel_takes(
    m: int, n: int, k: int, batch: int, threads: int
) -> None:
    tiles = gemm_tiles(m, n, k, batch, threads)
    assert tiles.tile_m % ROWS == 0 and tiles.tile_n % 8 == 0 and tiles.scratch == 0
    assert 0 < tiles.tile_m < m + ROWS and 0 < tiles.tile_n < n + 8
    x, y, z = tiles.counts(m, n, batch)
    assert (x - 1) * tiles.tile_n < n <= x * tiles.tile_n
    assert (y - 1) * tiles.tile_m < m <= y * tiles.tile_m
    assert z == batch and x * y * z <= 16_777_215


@given(
    squares=st.integers(1, 2000), filters=extents, channels=st.integers(4, 256), threads=threads
)
def test_square_tiles_fit_the_scratch_and_cover_everything(
    squares: int, filters: int, channels: int, threads: int
) -> None:
    tiles = square_tiles(squares, filters, channels, threads)
    assert 0 < tiles.squares <= squares and tiles.filters % 8 == 0
    assert tiles.scratch == squares_scratch(tiles.squares, channels) <= SCRATCH
    x, y, _ = tiles.counts(squares, filters)
    assert (x - 1) * tiles.filters < filters <= x * tiles.filters
    assert (y - 1) * tiles.squares < squares <= y * tiles.squares


def test_squares_leave_no_thread_without_work() -> None:
    for squares, filters, channels in ((196, 64, 64), (49, 32, 128), (16, 32, 128), (16, 256, 256)):
        for count in (1, 2, 4):
            x, y, _ = square_tiles(squares, filters, channels, count).counts(squares, filters)
            assert x * y >= count
    assert square_tiles(16, 64, 64, 1).counts(16, 64) == (1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "least"),
    [
        ((16, 384, 384, 1), 4),
        ((16, 1536, 384, 1), 8),
        ((128, 384, 1536, 1), 8),
        ((1024, 1024, 1024, 1), 8),
        ((1, 1536, 384, 1), 1),
        ((128, 128, 32, 12), 8),
    ],
)
def test_two_threads_find_work(shape: tuple[int, int, int, int], least: int) -> None:
    m, n, k, batch = shape
    x, y, z = gemm_tiles(m, n, k, batch, 2).counts(m, n, batch)
    assert x * y * z >= least


def test_tiny_products_stay_whole() -> None:
    assert gemm_tiles(4, 8, 8, 1, 16) == GemmTiles(ROWS, 8, 0)


def test_weights_from_memory_are_rewritten_by_one_tile_of_few_threads() -> None:
    cut, much = gemm_tiles(16, 1536, 384, 1, 2), 64 << 20
    assert gemm_rewrites(16, cut, 2, much)
    assert not gemm_rewrites(16, cut, 2, 1 << 20)  # in cache
    assert not gemm_rewrites(16, cut, 4, much)  # bandwidth
    assert not gemm_rewrites(3, cut, 2, much)  # these wait for B in any case
    assert not gemm_rewrites(200, gemm_tiles(200, 1536, 384, 1, 2), 2, much)  # panels are shared


def test_thin_products_take_many_rows() -> None:
    tiles = gemm_tiles(50_000, 8, 64, 1, 2)
    assert tiles.tile_m * 8 * 64 >= 200_000


@given(k=st.integers(0, 5000), n=extents, batch=st.integers(1, 40), threads=threads)
def test_pack_b(k: int, n: int, batch: int, threads: int) -> None:
    panels = pack_b_tile_panels(k, n, batch, threads)
    assert 1 <= panels <= -(-n // 8)
    assert panels % 4 == 0 or panels == -(-n // 8)
    assert packed_b_elements(k, n) == -(-n // 8) * 8 * k


def test_packing_a_large_matrix_occupies_threads() -> None:
    assert -(-128 // pack_b_tile_panels(1024, 1024, 1, 2)) >= 4
    assert pack_b_tile_panels(16, 16, 1, 1) == 2
    for threads in (1, 2, 8):  # what is packed in a few microseconds is one thread's
        assert pack_b_tile_panels(64, 64, 1, threads) == 8
        assert pack_b_tile_panels(128, 128, 1, threads) * 128 * 32 >= 32_768


@given(
    queries=extents, keys=extents, size=st.integers(1, 512), values=st.integers(1, 512),
    heads=st.integers(1, 32), batch=st.integers(1, 8), threads=threads,
    limit=st.sampled_from([65_536, 262_144, 1 << 20]),
)  # fmt: skip
def test_attention_fits_scratch(
    queries: int, keys: int, size: int, values: int, heads: int, batch: int, threads: int,
    limit: int,
) -> None:  # fmt: skip
    tiles = attention_tiles(queries, keys, size, values, heads, batch, threads, limit)
    assert attention_scratch(tiles.tile_rows, 8, size, values) <= tiles.scratch <= limit
    assert tiles.tile_rows % 4 == 0 and tiles.tile_rows < queries + 4
    x, y, z = tiles.counts(queries, heads, batch)
    assert (x - 1) * tiles.tile_rows < queries <= x * tiles.tile_rows and (y, z) == (heads, batch)


@pytest.mark.parametrize("queries", [16, 128, 256])
def test_attention_of_minilm(queries: int) -> None:
    tiles = attention_tiles(queries, queries, 32, 32, 12, 1, 2)
    assert tiles.tile_rows == min(queries, 128)
    whole = attention_scratch(tiles.tile_rows, queries, 32, 32)
    assert tiles.scratch == whole


def test_few_heads_are_cut_for_many_threads() -> None:
    assert attention_tiles(512, 512, 64, 64, 1, 1, 4).tile_rows == 32


@given(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 16))
def test_shares_are_no_larger_and_no_slower(extent: int, each: int, threads: int) -> None:
    """The slowest thread never has more than with `each`; tiles are more than half as large."""

    def slowest(one: int) -> int:
        tiles = -(-extent // one)
        return -(-tiles // threads) * one

    found = share(extent, each, threads)
    assert each // 2 < found <= each
    assert slowest(found) <= slowest(each)
    if threads == 1:
        assert found == each


@pytest.mark.parametrize(
    ("m", "n", "k"), [(196, 512, 512), (49, 160, 960), (1, 160, 640), (169, 256, 64)]
)
def test_two_threads_have_equal_shares_of_small_products(m: int, n: int, k: int) -> None:
    across, down, _ = gemm_tiles(m, n, k, 1, 2).counts(m, n)
    assert across * down % 2 == 0
