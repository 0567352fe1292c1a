"""What exports in float16 hold beside elementwise operations: on the device, near float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32, run_device
from tilework.core.dtypes import FLOAT16
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def f16(*shape: int, seed: int = 0) -> Any:
    return f32(*shape, seed=seed).astype(np.float16)


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


@pytest.mark.parametrize("c", [None, (9,), (1,), (5, 1), (5, 9)])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm(c: tuple[int, ...] | None, turned: int) -> None:
    m = Maker()
    a = m.input("a", [7, 5] if turned else [5, 7], FLOAT16)
    feeds = {"a": f16(7, 5) if turned else f16(5, 7)}
    operands = [a, m.constant(f16(9, 7) if turned else f16(7, 9))]
    if c is not None:
        operands.append(m.constant(f16(*c, seed=1)))
    y = m.op("gemm", *operands, transpose_a=turned, transpose_b=turned, alpha=0.5)
    assert not reasons(check(m.graph(y), feeds, rtol=5e-3, atol=5e-3))


def test_gemm_with_another_share_of_c_stays_on_the_host() -> None:
    m = Maker()
    y = m.op("gemm", m.input("a", [5, 7], FLOAT16), m.constant(f16(7, 9)), m.constant(f16(9)),
             beta=0.5)  # fmt: skip
    (reason,) = reasons(check(m.graph(y), {"a": f16(5, 7)}, rtol=5e-3, atol=5e-3))
    assert "times 0.5" in reason


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (1, 6, 4, 3)])
def test_batch_normalisation(shape: tuple[int, ...]) -> None:
    m = Maker()
    vectors = [f16(6), f16(6, seed=1), f16(6, seed=2), np.abs(f16(6, seed=3))]
    x = m.input("x", list(shape), FLOAT16)
    y = m.op("batch_normalization", x, *map(m.constant, vectors), epsilon=1e-5)
    assert not reasons(check(m.graph(y), {"x": f16(*shape)}, rtol=5e-3, atol=5e-3))


def test_batch_normalisation_by_numbers_of_a_run_stays_on_the_host() -> None:
    m = Maker()
    vectors = [f16(6), f16(6, seed=1), f16(6, seed=2)]
    x, given = m.input("x", [2, 6], FLOAT16), m.input("v", [6], FLOAT16)
    y = m.op("batch_normalization", x, *map(m.constant, vectors), given)
    _, draft = run_device(m.graph(y), {"x": f16(2, 6), "v": np.abs(f16(6))})
    assert reasons(draft) == ["its numbers are computed"]
