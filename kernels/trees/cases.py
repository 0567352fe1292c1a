"""Cases of trees: every question a node may ask, uneven depths, many votes, damaged numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.kernels.forests import GRID, grown
from tests.kernels.harness import OUT_OF_RANGE, SCRATCH, Case, Tolerance, refused, short, up
from tilework.hal.kernels.trees import F32_TREES, F64_TREES, Aggregate, TreesParams
from tilework.ir.opdefs.registry import OPS
from tilework.ir.opdefs.trees import Trees
from tilework.plan.lowerings.trees import AGGREGATES, packed


def ensemble(
    trees: Trees, rows: int, how: str = "SUM", wide: bool = False, tile: int = 100, note: str = "",
) -> Case:  # fmt: skip
    dtype = np.float64 if wide else np.float32
    rng = np.random.default_rng(rows)
    x = rng.choice([*GRID, 0.1, np.nan, np.inf, -np.inf], (rows, 5)).astype(dtype)
    y = OPS["tree_ensemble"].reference({"trees": trees, "aggregate": how}, x)[0]
    made = packed(trees, dtype)
    params = TreesParams(
        rows, 5, len(made.roots), len(made.nodes), len(made.votes), trees.targets, made.depth, tile,
        AGGREGATES[how],
    )  # fmt: skip
    base = np.broadcast_to(trees.base, (trees.targets,)).astype(dtype)
    bindings = [x.ravel(), made.roots, made.nodes.view(np.uint8), made.votes.view(np.uint8), base,
                np.full(y.size, np.nan, dtype)]  # fmt: skip
    return Case(
        F64_TREES if wide else F32_TREES, (up(rows, tile), 1, 1), params, bindings,
        {5: y.ravel()}, Tolerance(2, 1e-6), scratch=512 * trees.targets,
        note=f"{note} {rows} {how} {trees!r} {tile}",
    )  # fmt: skip


PLAIN = ensemble(grown(3, 3), 20)


def damaged(note: str, binding: int, field: int, value: int, **changes: Any) -> Case:
    """One u32 of a binding is something else."""
    bindings = [None if b is None else b.copy() for b in PLAIN.bindings]
    data = bindings[binding]
    assert data is not None
    data.view(np.uint32)[field] = value
    return Case(F32_TREES, (1, 1, 1), PLAIN.params._replace(**changes), bindings,
                status=OUT_OF_RANGE, scratch=PLAIN.scratch, note=note)  # fmt: skip


MIXED = [
    ensemble(grown(7, 5, 2, modes, seed, special=True), 90, wide=wide, note=f"{modes} {wide}")
    for seed, modes in enumerate([(0,), (1,), (2,), (3,), (4,), (5,), (6,), range(7)])
    for wide in (False, True)
]
CASES: list[Case] = [
    PLAIN,
    *MIXED,
    *(ensemble(grown(4, 4), rows, tile=tile)
      for rows, tile in ((0, 1), (1, 1), (7, 8), (8, 8), (9, 3), (64, 64), (65, 64), (200, 130))),
    *(ensemble(grown(5, 4, 3, votes=votes, base=base), 30, how)
      for how in AGGREGATES for votes, base in ((1, (0.5,)), (3, (1.0, -2.0, 0.25)))),
    ensemble(grown(3, 0), 5, note="leaves alone"),
    ensemble(grown(2, 9, seed=4), 70, wide=True, note="deep"),
    damaged("root", 1, 0, 99),
    damaged("feature", 2, 1, 5),
    damaged("child", 2, 2, 1 << 30),
    damaged("its own child", 2, 2, 0),
    damaged("votes without end", 3, 1, 0x7FFFFFFF, votes=1),
    refused(PLAIN, tile_rows=0),
    refused(PLAIN, SCRATCH, scratch=PLAIN.scratch - 4),
    *short(PLAIN),
]  # fmt: skip
assert set(AGGREGATES.values()) == set(Aggregate)
