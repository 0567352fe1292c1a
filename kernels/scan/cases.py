"""Cases of the kernels along an axis: every operation and type, ends of types, ties, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, SCRATCH, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels import scan
from tilework.hal.kernels.scan import (
    ArgParams,
    CumulateParams,
    Cumulation,
    Extreme,
    TopParams,
    Total,
    TotalParams,
)
from tilework.ir.opdefs.registry import OPS

Array = NDArray[Any]
Shape = tuple[int, int, int]
TYPES: dict[str, Any] = {"f32": np.float32, "i32": np.int32, "i64": np.int64}
SPECIAL = np.array([np.nan, 1, np.inf, -np.inf, 0.0, -0.0, 1, np.nan], np.float32)


def values(kind: str, shape: Shape, seed: int = 0) -> Array:
    """Numbers with ties among them; of integers some that make sums and products wrap."""
    rng = np.random.default_rng(seed)
    if kind == "f32":
        return np.round(rng.standard_normal(shape) * 4).astype(np.float32) / 2
    limits = np.iinfo(TYPES[kind])
    small = rng.integers(-3, 4, shape, TYPES[kind])
    ends = rng.choice(np.array([limits.min, limits.max, limits.max - 1]), shape)
    return np.where(rng.random(shape) < 0.1, ends, small).astype(TYPES[kind])


def cumulate(
    kind: str, x: Array, tile: int, op: Cumulation, exclusive: int = 0, reverse: int = 0,
    note: str = "", same: bool = False,
) -> Case:  # fmt: skip
    name = "cumsum" if op is Cumulation.SUM else "cumprod"
    attrs = {"axis": 1, "exclusive": exclusive, "reverse": reverse}
    wide = x.astype(np.float64) if kind == "f32" else x
    [wanted] = OPS[name].reference(attrs, wide)
    outer, axis, inner = x.shape
    return Case(
        getattr(scan, f"{kind.upper()}_CUMULATE"),
        (up(outer * inner, tile), 1, 1),
        CumulateParams(outer, axis, inner, tile, op, exclusive, reverse),
        [x.ravel(), x.ravel() if same else np.full(x.size, 9, x.dtype)],
        {1: wanted.ravel()},
        Tolerance(1, 1e-6) if kind == "f32" else Tolerance(0),
        same={1: 0} if same else {},
        note=f"{op.name} {x.shape} {exclusive}{reverse} {note}",
    )


def arg(kind: str, x: Array, tile: int, op: Extreme, last: int, note: str = "") -> Case:
    name = "argmax" if op is Extreme.LARGEST else "argmin"
    attrs = {"axis": 1, "keepdims": 0, "select_last_index": last}
    [wanted] = OPS[name].reference(attrs, x)
    outer, axis, inner = x.shape
    return Case(
        getattr(scan, f"{kind.upper()}_ARG"),
        (up(outer * inner, tile), 1, 1),
        ArgParams(outer, axis, inner, tile, op, last),
        [x.ravel(), np.full(outer * inner, 9, np.int64)],
        {1: wanted.ravel()},
        note=f"{op.name} {x.shape} {last} {note}",
    )


def top(x: Array, k: int, tile: int, op: Extreme, note: str = "") -> Case:
    attrs = {"axis": 1, "k": k, "largest": int(op is Extreme.LARGEST)}
    chosen, places = OPS["top_k"].reference(attrs, x)
    outer, axis, inner = x.shape
    return Case(
        scan.F32_TOP,
        (up(outer * inner, tile), 1, 1),
        TopParams(outer, axis, inner, k, tile, op),
        [x.ravel(), np.full(chosen.size, 9, np.float32), np.full(chosen.size, 9, np.int64)],
        {1: chosen.ravel(), 2: places.ravel()},
        scratch=8 * k,
        note=f"{op.name} {k} of {x.shape} {note}",
    )


def total(kind: str, x: Array, tile: int, op: Total, note: str = "") -> Case:
    name = f"reduce_{('sum', 'prod', 'max', 'min')[op]}"
    [wanted] = OPS[name].reference({"axes": (1,), "keepdims": 0}, x)
    outer, axis, inner = x.shape
    return Case(
        getattr(scan, f"{kind.upper()}_TOTAL"),
        (up(outer * inner, tile), 1, 1),
        TotalParams(outer, axis, inner, tile, op),
        [x.ravel(), np.full(outer * inner, 9, x.dtype)],
        {1: wanted.ravel()},
        note=f"{op.name} {x.shape} {note}",
    )


SHAPES: list[Shape] = [(3, 7, 1), (2, 5, 3), (1, 1, 4), (4, 33, 2)]
LINE = SPECIAL.reshape(1, -1, 1)
CASES: list[Case] = [
    *(cumulate(kind, values(kind, shape), 4, op, e, r)
      for kind in TYPES for shape in SHAPES for op in Cumulation for e in (0, 1) for r in (0, 1)),
    *(cumulate(kind, values(kind, (2, 5, 3)), 2, Cumulation.SUM, 0, 0, "in place", True)
      for kind in TYPES),
    cumulate("i64", values("i64", (2, 0, 3)), 2, Cumulation.SUM, note="empty axis"),
    cumulate("f32", np.full((1, 100_000, 1), 0.1, np.float32), 1, Cumulation.SUM, note="long"),
    *(arg(kind, values(kind, shape), 3, op, last)
      for kind in TYPES for shape in SHAPES for op in Extreme for last in (0, 1)),
    *(arg("f32", LINE[:, i:], 1, op, last, f"special {i}")
      for op in Extreme for last in (0, 1) for i in (0, 1, 2, 4)),
    *(top(values("f32", shape), k, 3, op)
      for shape in SHAPES for op in Extreme for k in {0, 1, min(3, shape[1]), shape[1]}),
    *(top(LINE, k, 1, op, "special") for op in Extreme for k in (1, 3, 8)),
    *(total(kind, values(kind, shape), 5, op)
      for kind in ("i32", "i64") for shape in (*SHAPES, (2, 0, 3)) for op in Total),
    Case(scan.F32_TOP, (1, 1, 1), TopParams(1, 4, 1, 3, 1, Extreme.LARGEST),
         [np.zeros(4, np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64)],
         status=SCRATCH, scratch=16, note="too little scratch"),
    Case(scan.F32_TOP, (1, 1, 1), TopParams(1, 4, 1, 5, 1, Extreme.LARGEST),
         [np.zeros(4, np.float32), np.zeros(5, np.float32), np.zeros(5, np.int64)],
         status=INVALID_PARAMS, scratch=64, note="more than there are"),
    Case(scan.F32_TOP, (1, 1, 1), TopParams(1, 4, 1, 2, 1, Extreme.LARGEST),
         [np.zeros(4, np.float32), np.zeros(2, np.float32), np.zeros(1, np.int64)],
         status=TOO_SHORT, scratch=64, note="indices too short"),
    Case(scan.I64_ARG, (1, 1, 1), ArgParams(2, 0, 1, 1, Extreme.LARGEST, 0),
         [np.zeros(1, np.int64), np.zeros(2, np.int64)], status=INVALID_PARAMS, note="no elements"),
    *(Case(kernel, (1, 1, 1), params, [x, x.copy()], status=status, note=note)
      for kernel, record, x in (
          (scan.F32_CUMULATE, CumulateParams, np.zeros(5, np.float32)),
          (scan.I32_TOTAL, TotalParams, np.zeros(5, np.int32)),
      )
      for params, status, note in (
          (record(2, 3, 1, 1, record is TotalParams, *(0, 0)[: len(record._fields) - 5]),
           TOO_SHORT, "x too short"),
          (record(1, 3, 1, 0, record is TotalParams, *(0, 0)[: len(record._fields) - 5]),
           INVALID_PARAMS, "tile of 0"),
      )),
]  # fmt: skip


@st.composite
def _drawn(draw: st.DrawFn) -> Case:
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 40)), draw(st.sampled_from([1, 2, 5])))
    tile, seed = draw(st.integers(1, 9)), draw(st.integers(0, 99))
    kind = draw(st.sampled_from(list(TYPES)))
    x = values(kind, shape, seed)
    what = draw(st.sampled_from(["cumulate", "arg", "top"]))
    if what == "cumulate":
        return cumulate(kind, x, tile, draw(st.sampled_from(list(Cumulation))), note="drawn")
    op = draw(st.sampled_from(list(Extreme)))
    if what == "arg":
        return arg(kind, x, tile, op, draw(st.integers(0, 1)), "drawn")
    x = values("f32", shape, seed)
    return top(x, draw(st.integers(0, shape[1])), tile, op, "drawn")


DRAWN: dict[str, st.SearchStrategy[Case]] = {"lines": _drawn()}
