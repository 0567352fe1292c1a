"""Cases of picking and putting by indices: element sizes, both widths of index, every operation."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, OUT_OF_RANGE, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels.index import (
    PICK_ELEMENTS,
    PICK_ROWS,
    PUT_ELEMENTS,
    PUT_ROWS,
    Combination,
    ElementsParams,
    Number,
    PutElementsParams,
    RowsParams,
)
from tilework.ir.opdefs.registry import OPS

Array = NDArray[Any]
REDUCTIONS = ("none", "add", "mul", "max", "min")  # by Combination
KINDS: dict[Any, Number] = {
    np.float32: Number.FLOAT32, np.int32: Number.INT32, np.int64: Number.INT64,
}  # fmt: skip
RAW = (np.uint8, np.uint16, np.uint32, np.uint64)


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def places(shape: tuple[int, ...], extent: int, dtype: Any, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(-extent, extent, shape).astype(dtype)


def pick(x: Array, indices: Array, tile: int, note: str = "") -> Case:
    [wanted] = OPS["gather_elements"].reference({"axis": 1}, x, indices)
    outer, axis, inner = x.shape
    count = indices.shape[1]
    params = ElementsParams(outer, axis, count, inner, tile, x.itemsize, indices.itemsize)
    return Case(
        PICK_ELEMENTS,
        (up(outer * count, tile), 1, 1),
        params,
        [x.ravel(), indices.ravel(), np.full(wanted.size, 9, x.dtype)],
        {2: wanted.ravel()},
        note=f"{x.dtype} {x.shape} {indices.dtype} {note}",
    )


def put(x: Array, indices: Array, op: Combination, tile: int, note: str = "") -> Case:
    updates = numbers(indices.shape, x.dtype, 2)
    attrs = {"axis": 1, "reduction": REDUCTIONS[op]}
    [wanted] = OPS["scatter_elements"].reference(attrs, x, indices, updates)
    outer, axis, inner = x.shape
    kind = KINDS.get(x.dtype.type, Number.RAW)
    params = PutElementsParams(
        outer, axis, indices.shape[1], inner, tile, x.itemsize, indices.itemsize, op, kind
    )
    return Case(
        PUT_ELEMENTS,
        (up(outer, tile), 1, 1),
        params,
        [indices.ravel(), updates.ravel(), x.ravel()],
        {2: wanted.ravel()},
        Tolerance(2) if x.dtype.kind == "f" else Tolerance(0),
        note=f"{op.name} {x.dtype} {x.shape} {indices.dtype} {note}",
    )


def rows(
    x: Array, batch: int, indices: Array, tile: int, op: Combination | None = None, note: str = ""
) -> Case:
    """`x` is (batch, extents, inner); `op` None picks."""
    depth, inner = indices.shape[-1], x.shape[-1]
    extents = (*(1,) * (6 - depth), *x.shape[1:-1])
    count = indices.shape[1]
    kind = KINDS.get(x.dtype.type, Number.RAW)
    params = RowsParams(
        batch, count, depth, inner, extents, tile, x.itemsize, indices.itemsize,
        Combination.REPLACE if op is None else op, kind,
    )  # fmt: skip
    counts = (up(batch * count, tile), 1, 1)
    if op is None:
        [wanted] = OPS["gather_nd"].reference({"batch_dims": 1}, x, indices)
        bindings = [x.ravel(), indices.ravel(), np.full(wanted.size, 9, x.dtype)]
        return Case(PICK_ROWS, counts, params, bindings, {2: wanted.ravel()}, note=f"{note} {tile}")
    updates = numbers((batch, count, inner), x.dtype, 3)
    wanted = np.stack(
        [
            OPS["scatter_nd"].reference({"reduction": REDUCTIONS[op]}, *each)[0]
            for each in zip(x, indices, updates, strict=True)
        ]
    )
    return Case(
        PUT_ROWS,
        counts,
        params,
        [indices.ravel(), updates.ravel(), x.ravel()],
        {2: wanted.ravel()},
        Tolerance(2) if x.dtype.kind == "f" else Tolerance(0),
        note=f"{op.name} {x.dtype} {note} {tile}",
    )


def triples(batch: int, count: int, extents: tuple[int, ...], dtype: Any = np.int64) -> Array:
    """Indices into each of the extents."""
    columns = [places((batch, count), extent, dtype, i) for i, extent in enumerate(extents)]
    return np.stack(columns, axis=-1)


DATA = numbers((2, 4, 5, 3), np.float32)
SMALL = numbers((1, 3, 2), np.uint32)
CASES: list[Case] = [
    *(pick(numbers((2, 6, n), dtype), places((2, 4, n), 6, index), 3)
      for dtype in RAW for index in (np.int32, np.int64) for n in (1, 5)),
    pick(numbers((2, 6, 1), np.uint8), places((2, 0, 1), 6, np.int64), 3, "nothing to pick"),
    *(put(numbers((3, 6, n), dtype), places((3, 8, n), 6, index), op, 2)
      for dtype in KINDS for index in (np.int32, np.int64) for n in (1, 3) for op in Combination),
    *(put(numbers((3, 6, 2), dtype), places((3, 1, 2), 6, np.int64), Combination.REPLACE, 1)
      for dtype in RAW),
    *(rows(numbers((2, 4, 5, n), dtype), 2, triples(2, 7, (4, 5)), 3, note=f"pick {dtype} {n}")
      for dtype in RAW for n in (1, 3, 300)),
    rows(DATA, 2, triples(2, 7, (4, 5), np.int32), 100, note="i32"),
    *(rows(numbers((1, 4, 5, n), dtype), 1, triples(1, 30, (4, 5)), 30, op, f"{n}")
      for dtype in KINDS for n in (1, 3) for op in Combination if op),
    rows(numbers((1, 9, 4), np.uint16), 1, np.array([[[3], [-1], [0]]], np.int64), 2,
         Combination.REPLACE),
    *(Case(kernel, (1, 1, 1), params, bindings, status=status, note=note)
      for index, element, tile, short, status, note in (
          (3, 4, 1, 0, OUT_OF_RANGE, "an index outside"),
          (-4, 4, 1, 0, OUT_OF_RANGE, "an index before"),
          (0, 3, 1, 0, INVALID_PARAMS, "an element of 3 bytes"),
          (0, 4, 0, 0, INVALID_PARAMS, "tile of 0"),
          (0, 4, 1, 1, TOO_SHORT, "x too short"),
      )
      for x, at in [(SMALL.ravel()[short:], np.full(2, index, np.int64))]
      for kernel, params, bindings in (
          (PICK_ELEMENTS, ElementsParams(1, 3, 1, 2, tile, element, 8), [x, at, SMALL.ravel()]),
          (PUT_ELEMENTS, PutElementsParams(1, 3, 1, 2, tile, element, 8, 0, 0),
           [at, SMALL.ravel(), x]),
          (PICK_ROWS, RowsParams(1, 2, 1, 2, (1, 1, 1, 1, 1, 3), tile, element, 8, 0, 0),
           [x, at, SMALL.ravel()]),
          (PUT_ROWS, RowsParams(1, 2, 1, 2, (1, 1, 1, 1, 1, 3), tile, element, 8, 0, 0),
           [at, SMALL.ravel(), x]),
      )),
]  # fmt: skip


@st.composite
def _drawn(draw: st.DrawFn) -> Case:
    outer, axis, inner = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    count, tile = draw(st.integers(0, 9)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(list(KINDS)))
    x, at = numbers((outer, axis, inner), dtype), places((outer, count, inner), axis, np.int64)
    if draw(st.booleans()):
        return pick(x, at, tile, "drawn")
    return put(x, at, draw(st.sampled_from(list(Combination))), tile, "drawn")


DRAWN: dict[str, st.SearchStrategy[Case]] = {"elements": _drawn()}
