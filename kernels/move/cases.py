"""Cases of the kernels that move: transposes, slices, joins, bad indices, caches that grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, OUT_OF_RANGE, TOO_SHORT, Case, up
from tilework.hal.kernels.move import (
    APPEND_ROWS,
    GATHER,
    STRIDED_COPY,
    AppendParams,
    GatherParams,
    StridedCopyParams,
)

Array = NDArray[Any]
Six = tuple[int, int, int, int, int, int]
Draw = Callable[[st.SearchStrategy[Any]], Any]
SIZES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def numbers(n: int, size: int) -> Array:
    return np.random.default_rng(n).integers(0, 1 << 8 * size, n, np.uint64).astype(SIZES[size])


def six(values: Sequence[int], fill: int) -> Six:
    a, b, c, d, e, f = (fill,) * (6 - len(values)) + tuple(values)
    return a, b, c, d, e, f


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def copy(
    source: Array,
    sizes: Sequence[int],
    source_strides: Sequence[int],
    target_strides: Sequence[int],
    target_length: int,
    note: str,
    offsets: tuple[int, int] = (0, 0),
    tile: tuple[int, int] = (7, 9),
) -> Case:
    """One copy; what it must give comes from NumPy's strided views."""
    item = source.itemsize
    target = np.full(target_length, 77, source.dtype)
    expected = target.copy()
    if math.prod(sizes):
        view = as_strided(
            expected[offsets[1] :], tuple(sizes), tuple(s * item for s in target_strides)
        )
        view[...] = as_strided(
            source[offsets[0] :], tuple(sizes), tuple(s * item for s in source_strides)
        )
    whole = six(sizes, 1)
    counts = (up(whole[-1], tile[1]), up(math.prod(whole[:-1]), tile[0]), 1)
    params = StridedCopyParams(
        whole, six(source_strides, 0), six(target_strides, 0), *offsets, *tile, item
    )
    return Case(STRIDED_COPY, counts, params, [source, target], {1: expected}, note=note)


def transpose(shape: Sequence[int], order: Sequence[int], size: int, **more: Any) -> Case:
    sizes = [shape[i] for i in order]
    strides = [dense(shape)[i] for i in order]
    total = math.prod(shape)
    note = f"transpose {shape} {order} of {size} bytes {more or ''}"
    return copy(numbers(total, size), sizes, strides, dense(sizes), total, note, **more)


def gather(
    outer: int, axis: int, indices: Array, inner: int, tile: int, note: str, status: int = 0
) -> Case:
    """A gather of `inner` bytes an element."""
    source = np.random.default_rng(axis).integers(0, 256, outer * axis * inner).astype(np.uint8)
    count = indices.size
    target = np.zeros(outer * count * inner, np.uint8)
    expected = target
    if status == 0 and target.size:
        expected = source.reshape(outer, axis, inner)[:, indices].ravel()
    params = GatherParams(outer, axis, count, inner, tile, indices.itemsize)
    return Case(
        GATHER, (up(outer * count, tile), 1, 1), params, [source, indices, target],
        {2: expected}, status=status, note=note,
    )  # fmt: skip


def append(
    shape: tuple[int, int, int, int],
    extents: tuple[int, int, int],
    lengths: Sequence[int] | None,
    note: str,
    status: int = 0,
    over: bool = False,
    room: int = 0,
    there: bool = False,
) -> Case:
    """A cache of (batch, heads, held, features); extents are rows that count, new, and present.

    The new rows lie as a projection leaves them, (batch, rows, heads, features). `over`: present is
    past, and keeps what is there. `room`: rows from one head of present to the next. `there`:
    present has the rows of past.
    """
    batch, heads, held, features = shape
    before, fresh, whole = extents
    past = numbers(math.prod(shape), 4).reshape(shape)
    new = numbers(7 + batch * fresh * heads * features, 4)[7:]
    new = new.reshape(batch, fresh, heads, features)
    present = past.copy() if over else np.zeros((batch, heads, whole, features), np.uint32)
    starts = [before] * batch if lengths is None else [one + 1 - fresh for one in lengths]
    for number, first in enumerate([] if status else starts):
        present[number, :, :first] = past[number, :, :first]
        present[number, :, first : first + fresh] = new[number].swapaxes(0, 1)
    item = 4 * features
    params = AppendParams(
        heads, held, before, fresh, whole, item, fresh * heads * item, item, heads * item,
        room or whole,
    )  # fmt: skip
    told = None if lengths is None else np.array(lengths, np.int32)
    target = past.reshape(-1) if over else np.full(present.size, 7, np.uint32)
    if room:  # the last head's room ends with its rows
        wide = np.full((batch, heads, room, features), 7, np.uint32)
        wide[:, :, :held] = past if there else 7
        goal = wide.copy()
        goal[:, :, :whole] = present
        end = wide.size - (room - whole) * features
        target, present = wide.reshape(-1)[:end], goal.reshape(-1)[:end]
    arrays = [None if there else past.reshape(-1), new.reshape(-1), told, target]
    expected = {} if there and status else {3: present.reshape(-1)}
    return Case(
        APPEND_ROWS, (heads, batch, 1), params, arrays, expected, status=status, note=note,
        same={3: 0} if over else {},
    )  # fmt: skip


BOTH = (np.int32, np.int64)
CASES: list[Case] = [
    append((1, 2, 5, 16), (5, 1, 6), None, "one row behind five"),
    append((2, 3, 5, 3), (5, 2, 7), None, "short rows"),
    append((2, 2, 4, 8), (0, 3, 9), None, "a prompt into a cache with room"),
    append((2, 2, 300, 8), (0, 1, 301), [300, 17], "lengths of their own, 0 behind"),
    append((3, 1, 6, 4), (0, 2, 6), [1, 5, 3], "in a cache that has room"),
    append((2, 3, 40, 8), (0, 2, 40), [9, 30], "where the cache is", over=True),
    append((2, 3, 5, 4), (5, 1, 6), [5, 5], "room behind each head", room=9),
    append((2, 3, 5, 4), (5, 2, 7), [6, 6], "where its rows are", room=9, there=True),
    append((2, 3, 5, 4), (5, 1, 8), None, "0 behind them", room=8, there=True),
    append((2, 3, 5, 4), (5, 1, 6), [5, 4], "a shorter one", OUT_OF_RANGE, room=9, there=True),
    append((1, 2, 6, 4), (0, 2, 8), [8], "beyond the cache", OUT_OF_RANGE),
    append((1, 2, 9, 4), (0, 2, 9), [9], "more rows than there are", OUT_OF_RANGE),
    append((1, 2, 6, 4), (0, 2, 8), [0], "less than the new rows", OUT_OF_RANGE),
    *(transpose((rows, columns), (1, 0), 4, tile=tile)
      for rows, columns in ((1, 1), (4, 4), (5, 7), (8, 12), (13, 9), (3, 17), (64, 33))
      for tile in ((64, 64), (5, 6), (1, 1))),
    *(transpose((6, 11), (1, 0), size) for size in SIZES),
    *(transpose((2, 5, 3, 6), order, 4, tile=(16, 16))
      for order in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 1, 3, 2), (3, 2, 1, 0), (2, 0, 3, 1))),
    *(transpose((2, lines, n), (0, 2, 1), 4, tile=tile)
      for lines in (2, 3, 4) for n in (1, 3, 4, 5, 8, 11) for tile in ((100, 64), (5, 64), (7, 2))),
    transpose((2, 3, 2, 3, 2, 3), (5, 4, 3, 2, 1, 0), 4),
    transpose((2, 3, 2, 3, 2, 3), (0, 2, 4, 1, 3, 5), 8, tile=(1000, 1000)),
    *(copy(numbers(n, size), [n], [1], [1], n, f"run of {n} by {size} bytes", tile=(1, 1 << 20))
      for size in SIZES for n in (0, 1, 2, 3, 4, 5, 7, 9, 15, 16, 17, 33, 300)),
    copy(numbers(5000, 4), [5000], [1], [1], 5000, "long run", tile=(1, 3000)),
    copy(numbers(60, 4), [5, 7], [12, 1], [7, 1], 35, "slice", offsets=(2, 0)),
    copy(numbers(35, 4), [5, 7], [7, 1], [12, 1], 60, "one part of a concat", offsets=(0, 3)),
    *(copy(numbers(10, s), [10], [-1], [1], 10, f"reversed by {s} bytes", offsets=(9, 0))
      for s in SIZES),
    copy(numbers(30, 4), [5, 3], [-6, -2], [3, 1], 15, "steps of -2", offsets=(29, 0)),
    copy(numbers(30, 4), [5, 6], [6, 1], [-6, 1], 30, "rows upside down", offsets=(0, 24)),
    copy(numbers(30, 4), [6, 5], [1, 6], [-5, 1], 30, "transpose upside down", offsets=(0, 25)),
    copy(numbers(30, 4), [6, 5], [1, -6], [5, 1], 30, "transpose from below", offsets=(24, 0)),
    *(copy(numbers(4, s), [3, 4, 5], [0, 1, 0], [20, 5, 1], 60, f"expanded by {s} bytes")
      for s in SIZES),
    copy(numbers(4, 4), [9, 4], [0, 1], [4, 1], 36, "repeated rows"),
    copy(numbers(6, 4), [0, 6], [6, 1], [6, 1], 6, "nothing"),
    copy(numbers(6, 4), [6, 0], [6, 1], [6, 1], 6, "rows of nothing"),
    *(gather(2, 5, np.array([0, 4, -1, -5, 2, 2], t), inner, tile, f"{t.__name__} {inner}, {tile}")
      for t in BOTH for inner in (0, 1, 3, 4, 5, 8, 12, 16, 20, 33, 100) for tile in (1, 5, 99)),
    gather(1, 7, np.array([3, 6], np.int64), 1536, 99, "rows of an embedding"),
    *(gather(2, 5, np.array([0, bad], t), 4, 9, f"index {bad} of {np.dtype(t).name}", OUT_OF_RANGE)
      for t in BOTH for bad in (5, -6, 1 << 30)),
    gather(2, 5, np.array([1 << 32], np.int64), 4, 9, "index beyond 32 bits", OUT_OF_RANGE),
    gather(2, 0, np.array([0], np.int32), 4, 9, "index into nothing", OUT_OF_RANGE),
    gather(2, 5, np.array([], np.int32), 4, 9, "no index"),
    gather(0, 5, np.array([7], np.int32), 4, 9, "nothing to gather from"),
    Case(GATHER, (1, 1, 1), GatherParams(2, 5, 2, 4, 9, 4),
         [np.zeros(39, np.uint8), np.zeros(2, np.int32), np.zeros(16, np.uint8)],
         status=TOO_SHORT, note="source too short"),
    Case(GATHER, (1, 1, 1), GatherParams(2, 5, 2, 4, 9, 4),
         [np.zeros(40, np.uint8), np.zeros(1, np.int32), np.zeros(16, np.uint8)],
         status=TOO_SHORT, note="indices too short"),
    Case(GATHER, (1, 1, 1), GatherParams(2, 5, 2, 4, 9, 2),
         [np.zeros(40, np.uint8), np.zeros(2, np.int32), np.zeros(16, np.uint8)],
         status=INVALID_PARAMS, note="2-byte indices"),
    *(Case(STRIDED_COPY, (1, 1, 1), StridedCopyParams((1, 1, 1, 1, 2, 3), (0, 0, 0, 0, *ss),
           (0, 0, 0, 0, *ts), so, to, 8, 8, 4), [numbers(6, 4), numbers(6, 4)],
           status=TOO_SHORT, note=f"reaches outside {i}")
      for i, (ss, ts, so, to) in enumerate([
          ((3, 1), (3, 1), 1, 0), ((3, 1), (3, 1), 0, 1), ((4, 1), (3, 1), 0, 0),
          ((-3, 1), (3, 1), 2, 0), ((3, 1), (3, -1), 0, 1), ((1 << 30, 1), (3, 1), 0, 0)])),
    Case(STRIDED_COPY, (1, 1, 1), StridedCopyParams((1,) * 6, (0,) * 6, (0,) * 6, 0, 0, 1, 1, 3),
         [numbers(6, 4), numbers(6, 4)], status=INVALID_PARAMS, note="3-byte elements"),
]  # fmt: skip


@st.composite
def _copies(draw: Draw) -> Case:
    """Any permutation of any region of an array, some axes reversed, into a dense target."""
    rank = draw(st.integers(1, 6))
    shape = draw(st.lists(st.integers(1, 6), min_size=rank, max_size=rank))
    order = draw(st.permutations(range(rank)))
    strides, offset = list(dense(shape)), 0
    extents = list(shape)
    for i in range(rank):
        how = draw(st.sampled_from(["whole", "whole", "reversed", "repeated", "part"]))
        if how == "reversed":
            offset += (extents[i] - 1) * strides[i]
            strides[i] = -strides[i]
        elif how == "repeated":
            strides[i] = 0
        elif how == "part":
            first = draw(st.integers(0, extents[i] - 1))
            offset += first * strides[i]
            extents[i] -= first
    sizes = [extents[i] for i in order]
    total = math.prod(sizes)
    tile = (draw(st.integers(1, 40)), draw(st.integers(1, 12)))
    source = numbers(math.prod(shape), draw(st.sampled_from([1, 2, 4, 4, 8])))
    return copy(
        source, sizes, [strides[i] for i in order], dense(sizes), total, "drawn", (offset, 0), tile
    )


@st.composite
def _gathers(draw: Draw) -> Case:
    axis = draw(st.integers(1, 9))
    indices = draw(st.lists(st.integers(-axis, axis - 1), max_size=12))
    dtype = draw(st.sampled_from(BOTH))
    inner = draw(st.sampled_from([1, 2, 4, 7, 8, 24, 64, 1100]))
    outer, tile = draw(st.integers(0, 3)), draw(st.integers(1, 9))
    return gather(outer, axis, np.array(indices, dtype), inner, tile, "drawn")


DRAWN: dict[str, st.SearchStrategy[Case]] = {"copies": _copies(), "gathers": _gathers()}
