"""Ensembles of trees in graphs: what goes to the kernel and what stays on the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tests.kernels.forests import grown
from tilework.core.dtypes import FLOAT32, FLOAT64
from tilework.ir.opdefs.trees import Trees
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


def ran(trees: Trees, wide: bool = False, rows: int = 300) -> list[str]:
    m = Maker()
    x = m.input("x", ["n", 5], FLOAT64 if wide else FLOAT32)
    turned = m.op("transpose", m.op("transpose", x, perm=(1, 0)), perm=(1, 0))
    y = m.op("tree_ensemble", turned, trees=trees, aggregate="AVERAGE")
    return reasons(check(m.graph(y), {"x": f32(rows, 5).astype("f8" if wide else "f4")}))


@pytest.mark.parametrize("wide", [False, True])
def test_all_modes_are_on_the_device(wide: bool) -> None:
    assert not ran(grown(20, 6, 3, range(7), special=True, base=(1.0, 2.0, 3.0)), wide)


def test_a_split_that_is_no_number_stays_on_the_host() -> None:
    trees = grown(3, 3)
    splits = trees.splits.copy()
    splits[0] = np.nan
    assert ran(replace(trees, splits=splits)) == ["a split is no number"]


def test_too_many_targets_stay_on_the_host() -> None:
    (reason,) = ran(replace(grown(2, 2), targets=3000), rows=2)
    assert "more than scratch" in reason
