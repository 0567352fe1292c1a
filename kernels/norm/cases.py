"""Cases of the norms, of rows and of groups of channels: every combination of optional operands,
tails, in place, special rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import (
    INVALID_PARAMS,
    SCRATCH,
    TOO_SHORT,
    Case,
    Tolerance,
    refused,
    short,
    up,
)
from tests.kernels.windows import ERF, gapped, gelu_tanh
from tilework.hal.kernels.norm import (
    F32_GROUP_NORM,
    F32_LAYER_NORM,
    F32_RMS_NORM,
    Activation,
    GroupNormParams,
    NormParams,
)

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def values(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed + sum(shape))
    return np.asarray(rng.standard_normal(shape) * 2 + 0.5).astype(np.float32)


def norm(
    rms: bool,
    x: Array,
    tile: int,
    note: str,
    residual: bool = False,
    gamma: bool = False,
    beta: bool = False,
    total: bool = False,
    y_in: int | None = None,
    epsilon: float = 1e-5,
) -> Case:
    """x is (rows, columns); `y_in` is the number of the binding whose memory y takes."""
    rows, columns = x.shape
    r = values(rows, columns, seed=1) if residual else None
    g = values(columns, seed=2) if gamma else None
    b = values(columns, seed=3) if beta and not rms else None
    s = (x if r is None else x + r).astype(np.float32)  # what the kernel adds up and keeps
    wide = s.astype(np.float64)
    with np.errstate(all="ignore"):
        if not rms:
            wide = wide - wide.sum(1, keepdims=True) / columns
        variance = (wide * wide).sum(1, keepdims=True) / np.float64(columns)
        y = wide / np.sqrt(variance + np.float64(np.float32(epsilon)))
        # before gamma and beta, the error is some ulp of the largest element of the row
        y = y * (1 if g is None else g) + (0 if b is None else b)
        # the mean is kept in single precision, as the elements are
        mean = np.abs(s).sum(1) / np.float64(columns) / np.sqrt(variance[:, 0] + epsilon)
    shift = 0 if rms else 2.0**-24 * float(np.max(mean[np.isfinite(mean)], initial=0))
    finite = np.abs(y[np.isfinite(y)])
    size = float(np.max(finite, initial=1)) + (
        float(np.max(np.abs(g), initial=0)) if g is not None else 0
    )
    flat = [None if v is None else v.ravel() for v in (x, r, g, b)]
    if rms:
        flat.pop()
    out = len(flat)
    made = np.zeros(rows * columns, np.float32)
    expected: dict[int, Array] = {out: y.ravel()}
    if total:
        expected[out + 1] = s.ravel().astype(np.float64)
    return Case(
        F32_RMS_NORM if rms else F32_LAYER_NORM,
        (up(rows, tile), 1, 1),
        NormParams(rows, columns, tile, epsilon),
        [*flat, made, made.copy() if total else None],
        expected,
        Tolerance(4, 6e-7 * size + 3 * shift),
        same={} if y_in is None else {out: y_in},
        note=note,
    )


def special() -> Array:
    x = values(6, 21)
    x[1, 3], x[2, 5], x[3], x[4] = np.nan, np.inf, 0, 7
    x[5] += 1e4
    return x


FUNCTIONS: dict[Activation, Callable[[Array], Array]] = {
    Activation.NONE: lambda x: x,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    Activation.TANH: np.tanh,
    Activation.SILU: lambda x: x / (1 + np.exp(-x)),
    Activation.HARD_SWISH: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    Activation.GELU: lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
    Activation.GELU_TANH: gelu_tanh,
    Activation.QUICK_GELU: lambda x: x / (1 + np.exp(-1.702 * x)),
}


def group_norm(
    batch: int,
    channels: int,
    groups: int,
    pixels: int,
    last: bool,
    tile: int = 2,
    gap: int = 0,
    gamma: bool = True,
    beta: bool = True,
    activation: Activation = Activation.NONE,
    in_place: bool = False,
    moved: float = 0.0,
) -> Case:
    """`last`: channels lie side by side, `gap` elements more from pixel to pixel."""
    x = values(batch, channels, pixels) + np.float32(moved)
    g = values(channels, seed=2) if gamma else None
    b = values(channels, seed=3) if beta else None
    wide = x.astype(np.float64).reshape(batch, groups, channels // groups * pixels)
    wide = wide - (wide.mean(2, keepdims=True) if wide.size else 0)
    if wide.size:
        wide /= np.sqrt((wide * wide).mean(2, keepdims=True) + np.float64(np.float32(1e-5)))
    y = wide.reshape(x.shape)
    y = y * (1 if g is None else g[:, None]) + (0 if b is None else b[:, None])
    y = FUNCTIONS[activation](y)
    if last:
        x, y = x.transpose(0, 2, 1), y.transpose(0, 2, 1)
        fed = gapped(np.ascontiguousarray(x).reshape(-1, channels), channels + gap)
    else:
        fed = x.ravel()
    own = min(tile, groups) * (channels // groups)
    # before gamma and beta, the error is some ulp of the largest element, and of the mean
    size = float(np.max(np.abs(y), initial=1)) + abs(moved)
    return Case(
        F32_GROUP_NORM,
        (up(groups, tile), batch, 1),
        GroupNormParams(
            batch, channels, groups, pixels, channels + gap if last else 0, tile, 1e-5, activation
        ),
        [fed, g, b, np.zeros(y.size, np.float32)],
        {3: np.ascontiguousarray(y).ravel()},
        Tolerance(4, 1.5e-6 * size),
        same={3: 0} if in_place else {},
        scratch=up(own, 4) * 80 if last else 0,
        note=f"{batch} x {channels} in {groups} x {pixels} {activation.name.lower()} "
        f"{'last' if last else 'first'}{f' gap {gap}' * bool(gap)}{' in place' * in_place}",
    )


GROUPED = group_norm(2, 12, 3, 10, last=True)
OPTIONS = ("residual", "gamma", "beta", "total")
CASES: list[Case] = [
    *(norm(rms, values(5, 37), 2, "with " + " ".join(itertools.compress(OPTIONS, chosen)),
           **dict(zip(OPTIONS, chosen, strict=True)))
      for rms in (False, True) for chosen in itertools.product((False, True), repeat=4)
      if not (rms and chosen[2])),
    *(norm(rms, values(3, n), 1, f"{n} columns", gamma=True, beta=True)
      for rms in (False, True) for n in (1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 384, 10001)),
    *(norm(rms, values(5, 19), 2, f"in place of {where}", residual=True, gamma=True, y_in=where)
      for rms in (False, True) for where in (0, 1)),
    norm(False, values(5, 19), 2, "in place", y_in=0),
    norm(False, special(), 4, "special rows"),
    norm(True, special()[:5], 4, "special rows"),
    norm(False, values(4, 64) + 300, 4, "a large mean"),
    *(norm(rms, values(*shape), 4, f"{shape}")
      for rms in (False, True) for shape in ((0, 5), (3, 0))),
    norm(False, values(2, 30) * 1e-4, 4, "epsilon counts", epsilon=1e-3),
    Case(F32_LAYER_NORM, (1, 1, 1), NormParams(2, 2, 0, 1e-5),
         [values(4), None, None, None, values(4), None], status=INVALID_PARAMS, note="tile of 0"),
    *(Case(F32_LAYER_NORM, (1, 1, 1), NormParams(2, 2, 4, 1e-5),
           [values(4 - (i == k)) if k in (0, 1, 4, 5) else values(2 - (i == k)) for k in range(6)],
           status=TOO_SHORT, note=f"binding {i} too short") for i in range(6)),
]  # fmt: skip
CASES += [
    *(group_norm(*sizes, last, tile)
      for last in (False, True) for tile in (1, 3)
      for sizes in ((1, 1, 1, 1), (2, 6, 2, 5), (1, 10, 5, 33), (3, 7, 7, 9), (1, 40, 4, 300),
                    (1, 70, 1, 17), (2, 33, 3, 260), (0, 4, 2, 3), (2, 4, 2, 0))),
    *(group_norm(2, 12, 3, 10, last, gamma=gamma, beta=beta)
      for last in (False, True) for gamma in (False, True) for beta in (False, True)),
    *(group_norm(2, 10, 2, 11, last, activation=kind)
      for last in (False, True) for kind in Activation),
    *(group_norm(2, 10, 2, 11, last, in_place=True) for last in (False, True)),
    *(group_norm(1, 36, 4, 600, last, moved=100) for last in (False, True)),
    group_norm(2, 10, 2, 11, last=True, gap=3),
    refused(GROUPED, tile_groups=0),
    refused(GROUPED, groups=0),
    refused(GROUPED, groups=5),
    refused(GROUPED, x_pixel=11),
    *short(GROUPED),
    *short(group_norm(2, 12, 3, 10, last=False)),
    Case(F32_GROUP_NORM, GROUPED.counts, GROUPED.params, GROUPED.bindings, status=SCRATCH,
         scratch=GROUPED.scratch - 4, note="scratch"),
]  # fmt: skip


@st.composite
def _rows(draw: Draw) -> Case:
    rms = draw(st.booleans())
    options = {o: draw(st.booleans()) for o in OPTIONS if not (rms and o == "beta")}
    x = values(draw(st.integers(1, 9)), draw(st.integers(1, 80)), seed=draw(st.integers(0, 99)))
    return norm(rms, x, draw(st.integers(1, 5)), "drawn", **options)


DRAWN: dict[str, st.SearchStrategy[Case]] = {"rows": _rows()}
