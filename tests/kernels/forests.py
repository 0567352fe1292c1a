"""Random ensembles of trees, for the kernel's cases and for graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilework.ir.opdefs.trees import LEAF, MEMBER, Trees

Array = NDArray[Any]
GRID = np.array([-1, -0.5, -0.0, 0, 0.25, 1])  # splits that x has too


def grown(
    count: int, depth: int, targets: int = 1, modes: Any = (0,), seed: int = 0, features: int = 5,
    votes: int = 1, base: Any = (0.0,), special: bool = False,
) -> Trees:  # fmt: skip
    """Random trees whose branches end early now and then; a leaf in five says nothing."""
    rng = np.random.default_rng(seed)
    rows: list[list[int]] = []  # mode, feature, true, false

    def grow(left: int) -> int:
        rows.append([LEAF, 0, len(rows), len(rows)])
        own = len(rows) - 1
        if left and rng.random() < 0.9:
            mode, feature = int(rng.choice(modes)), int(rng.integers(features))
            true, false = grow(left - 1), grow(left - 1)
            rows[own] = [mode, feature, true, false]
        return own

    roots = np.array([grow(depth) for _ in range(count)])
    table = np.array(rows)
    leaves = np.flatnonzero(table[:, 0] == LEAF)
    voters = np.repeat(leaves[rng.random(len(leaves)) < 0.8], votes)
    splits = rng.choice(GRID, len(rows))
    if special:
        splits = rng.choice([*GRID, np.inf, -np.inf, 0.1, 1e300, -1e300], len(rows))
    asked = np.flatnonzero(table[:, 0] == MEMBER).tolist()
    return Trees(
        roots, table[:, 0], table[:, 1], splits, table[:, 2], table[:, 3],
        rng.random(len(rows)) < 0.5,
        (rng.permutation(voters), rng.integers(0, targets, len(voters)),
         rng.standard_normal(len(voters)).astype(np.float32).astype(np.float64)),
        targets, np.array(base),
        {node: rng.choice(GRID, int(rng.integers(0, 4)), replace=False) for node in asked},
    )  # fmt: skip
