"""Cases of resampling: every length of lines, several taps, indices that must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import OUT_OF_RANGE, Case, Tolerance, refused, short, up
from tilework.hal.kernels.resample import F32_RESAMPLE, ResampleParams

Array = NDArray[Any]


def resample(outer: int, axis: int, count: int, inner: int, taps: int, tile: int) -> Case:
    rng = np.random.default_rng(outer + axis + count + inner + taps)
    x = rng.standard_normal((outer, axis, inner)).astype(np.float32)
    indices = rng.integers(0, axis, (count, taps)).astype(np.int32)
    weights = rng.standard_normal((count, taps)).astype(np.float32)
    y = np.einsum("octj,ct->ocj", x[:, indices].astype(np.float64), weights)
    return Case(
        F32_RESAMPLE,
        (up(outer * count, tile), 1, 1),
        ResampleParams(outer, axis, count, inner, taps, tile),
        [x.ravel(), indices.ravel(), weights.ravel(), np.full(y.size, np.nan, np.float32)],
        {3: y.ravel()},
        Tolerance(4, 2e-6),
        note=f"{outer} {axis} {count} {inner} {taps}",
    )


WHOLE = resample(2, 3, 4, 5, 2, 8)


def outside(index: int) -> Case:
    bindings = [None if b is None else b.copy() for b in WHOLE.bindings]
    assert bindings[1] is not None
    bindings[1][3] = index
    return Case(
        F32_RESAMPLE, (1, 1, 1), WHOLE.params, bindings, status=OUT_OF_RANGE, note=f"index {index}"
    )


CASES: list[Case] = [
    *(resample(2, 5, 7, inner, 2, 3) for inner in (1, 2, 3, 4, 5, 8, 13)),
    *(resample(3, 4, 2, 6, taps, 2) for taps in (1, 2, 4, 9)),
    *(resample(*extents, 1, 4) for extents in ((1, 1, 9, 1), (0, 3, 3, 3), (2, 3, 3, 0))),
    outside(3),
    outside(-1),
    refused(WHOLE, tile_lines=0),
    refused(WHOLE, taps=0),
    *short(WHOLE),
]  # fmt: skip
