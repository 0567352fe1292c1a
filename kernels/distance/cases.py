"""Cases of distances: every tail of columns, powers, long rows, no features, what is near."""

from __future__ import annotations

import numpy as np

from tests.kernels.harness import Case, Tolerance, refused, short, up
from tests.kernels.windows import values
from tilework.hal.kernels.distance import F32_DISTANCE, DistanceParams


def distance(
    rows: int, columns: int, features: int, power: int = 2, tile: tuple[int, int] = (2, 16),
    apart: float = 1.0, special: bool = False,
) -> Case:  # fmt: skip
    """`apart`: how far the two sides are, around 100."""
    x = (100 + apart * values(rows, features, seed=columns)).astype(np.float32)
    y = (100 + apart * values(features, columns, seed=rows)).astype(np.float32)
    if special:
        x[0, 0], y[-1, -1] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)[:, :, None] - y.astype(np.float64)
        z = (np.abs(wide) ** power).sum(1)
    return Case(
        F32_DISTANCE,
        (up(columns, tile[1]), up(rows, tile[0]), 1),
        DistanceParams(rows, columns, features, power, *tile),
        [x.ravel(), y.ravel(), np.zeros(rows * columns, np.float32)],
        {2: z.ravel()},
        # A difference of neighbours is exact; its powers are rounded, and sums of up to 128 terms.
        Tolerance(3 * power + min(features, 128)),
        note=f"{rows} x {columns}, {features} features, power {power}, {apart} apart",
    )


WHOLE = distance(3, 21, 5)
CASES = [
    WHOLE,
    *(distance(2, columns, 3, tile=(1, 16)) for columns in (1, 2, 3, 4, 15, 33)),
    *(distance(3, 19, 7, power) for power in (1, 2, 3, 5)),
    distance(1, 40, 300, apart=1e-3),
    distance(5, 5, 129, 1),
    distance(2, 6, 0),
    distance(4, 30, 4, special=True),
    refused(WHOLE, tile_rows=0),
    refused(WHOLE, tile_columns=0),
    refused(WHOLE, power=0),
    *short(WHOLE),
]
