"""Chains of float16: one conversion in, one out, and rounding where it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, f32, run_device
from tests.unit.test_plan_lowerings import kernels
from tilework.core.dtypes import FLOAT16
from tilework.ir.graph import Graph
from tilework.plan.twins import FEW, NETWORK

pytestmark = pytest.mark.kernels

ROWS = FEW // 64
SHAPE = (ROWS, 64)


def ran(graph: Graph, **feeds: Any) -> tuple[list[Any], list[str]]:
    results, draft = run_device(graph, feeds)
    return results, kernels(draft)


def halves(seed: int = 0) -> Any:
    return f32(*SHAPE, seed=seed).astype(np.float16)


def test_a_chain_is_rounded_at_its_end() -> None:
    m = Maker()
    turned = m.op("transpose", m.op("exp", m.input("x", SHAPE, FLOAT16)), perm=(1, 0))
    x = halves()
    (found,), used = ran(m.graph(m.op("sqrt", turned)), x=x)
    assert (used.count("widen_half"), used.count("narrow_half")) == (1, 1)
    exact = np.sqrt(np.exp(x.astype(np.float32).T))
    np.testing.assert_allclose(found, exact.astype(np.float16), rtol=2**-11)


def test_few_elements_are_rounded_at_each_step() -> None:
    m = Maker()
    graph = m.graph(m.op("sqrt", m.op("exp", m.input("x", [8], FLOAT16))))
    x = f32(8).astype(np.float16)
    (found,), used = ran(graph, x=x)
    assert (used.count("widen_half"), used.count("narrow_half")) == (2, 2)
    np.testing.assert_array_equal(found, np.sqrt(np.exp(x)))


def test_few_elements_of_a_network_are_not() -> None:
    """Its token is computed as its prompt is."""
    m = Maker()
    last = m.op("sqrt", m.op("exp", m.input("x", [8], FLOAT16)))
    side = m.op("matmul", m.input("y", [1, 512]), m.constant(f32(512, NETWORK // 2048)))
    x = f32(8).astype(np.float16)
    (found, _), used = ran(m.graph(last, side), x=x, y=f32(1, 512))
    assert (used.count("widen_half"), used.count("narrow_half")) == (1, 1)
    exact = np.sqrt(np.exp(x.astype(np.float32)))
    np.testing.assert_allclose(found, exact.astype(np.float16), rtol=2**-11)


def test_what_is_asked_for_is_stored_too() -> None:
    m = Maker()
    inner = m.op("exp", m.input("x", SHAPE, FLOAT16))
    graph = m.graph(inner, m.op("sqrt", inner), m.op("neg", inner))
    x = halves()
    results, used = ran(graph, x=x)
    assert (used.count("widen_half"), used.count("narrow_half")) == (1, 3)
    wide = np.exp(x.astype(np.float32))
    for found, exact in zip(results, (wide, np.sqrt(wide), -wide), strict=True):
        np.testing.assert_allclose(found, exact.astype(np.float16), rtol=2**-10)


def test_a_cast_rounds() -> None:
    """float32 → float16 → float32 is written to lose what float16 has not."""
    m = Maker()
    graph = m.graph(m.op("cast", m.op("cast", m.input("x", SHAPE), to="float16"), to="float32"))
    x = f32(*SHAPE)
    (found,), _ = ran(graph, x=x)
    np.testing.assert_array_equal(found, x.astype(np.float16).astype(np.float32))


def test_a_twin_ends_when_its_memory_is_used_again() -> None:
    """where writes over float16 that nobody else reads; what is behind reads the new numbers."""
    m = Maker()
    x, y = m.input("x", SHAPE, FLOAT16), m.input("y", SHAPE, FLOAT16)
    one, two = m.op("exp", x), m.op("sin", y)
    picked = m.op("where", m.op("less", x, y), one, two)
    graph = m.graph(m.op("sqrt", m.op("abs", picked)), m.op("neg", picked))
    given = {"x": halves(), "y": halves(1)}
    results, _ = ran(graph, **given)
    a, b = (side.astype(np.float32) for side in given.values())
    exact = np.where(a < b, np.exp(a), np.sin(b))
    np.testing.assert_allclose(results[0], np.sqrt(np.abs(exact)), rtol=2**-9, atol=1e-4)
    np.testing.assert_allclose(results[1], -exact, rtol=2**-9, atol=1e-4)
