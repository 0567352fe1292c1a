"""Arithmetic on all integers and on float64 against the references, on the desktop device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tilework.core.dtypes import (
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    DType,
)
from tilework.plan.lowerings.numbers import NUMBERS, OPERATIONS
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels

ATTRS: dict[str, dict[str, Any]] = {"shift": {"left": 1}}
BITS = [op for op in OPERATIONS if op.startswith("bitwise")]


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


def numbers(dtype: DType, *shape: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if dtype is FLOAT64:
        return random.standard_normal(shape)
    limits = np.iinfo(dtype.numpy)
    return random.integers(limits.min, limits.max, shape, dtype.numpy, endpoint=True)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_of_every_dtype(op: str, dtype: DType) -> None:
    m = Maker()
    a, b, c = m.input("a", [30, 7], dtype), m.input("b", [7], dtype), m.input("c", [7, 30], dtype)
    attrs = ATTRS.get(op, {})
    if dtype is FLOAT64 and (op in ("mod", "shift") or op in BITS):
        return  # which have no meaning, or no kernel: the next test
    first = m.op(op, a, b, **attrs)
    turned = m.op(op, m.op("transpose", c, perm=(1, 0)), a, **attrs)
    feeds = {name: numbers(dtype, *shape, seed=seed)
             for seed, (name, shape) in enumerate({"a": (30, 7), "b": (7,), "c": (7, 30)}.items())}
    assert not reasons(check(m.graph(first, turned), feeds, rtol=0, atol=0))


def test_remainders_of_float64_stay_on_the_host() -> None:
    m = Maker()
    y = m.op("mod", m.input("a", [9], FLOAT64), m.input("b", [9], FLOAT64), fmod=1)
    feeds = {"a": numbers(FLOAT64, 9), "b": numbers(FLOAT64, 9, seed=1)}
    assert reasons(check(m.graph(y), feeds)) == ["no kernel for mod of float64 and float64"]


@pytest.mark.parametrize("dtype", [UINT8, INT32, UINT64], ids=str)
def test_bitwise_not(dtype: DType) -> None:
    m = Maker()
    x = m.input("x", [5, 9], dtype)
    m_constant = m.op("bitwise_not", m.constant(numbers(dtype, 5, 9, seed=2)))
    y = m.op("bitwise_xor", m.op("bitwise_not", x), m_constant)
    check(m.graph(y), {"x": numbers(dtype, 5, 9)}, rtol=0, atol=0)
    m = Maker()
    y = m.op("bitwise_not", m.input("x", [5, 9], dtype))
    assert not reasons(check(m.graph(y), {"x": numbers(dtype, 5, 9)}, rtol=0, atol=0))


@pytest.mark.parametrize("dtype", [INT32, INT64, UINT8], ids=str)
def test_whole_exponents(dtype: DType) -> None:
    m = Maker()
    a, b = m.input("a", [4, 6], FLOAT32), m.input("b", [6], dtype)
    exponents = np.array([0, 1, 2, 3, 5, 7], dtype.numpy)
    draft = check(m.graph(m.op("pow", a, b)), {"a": f32(4, 6), "b": exponents}, rtol=1e-6)
    assert not reasons(draft)


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders(fmod: int) -> None:
    m = Maker()
    y = m.op("mod", m.input("a", [50]), m.input("b", [50]), fmod=fmod)
    feeds = {"a": f32(50) * 10, "b": f32(50, seed=1)}
    assert not reasons(check(m.graph(y), feeds, rtol=0, atol=0))


@pytest.mark.parametrize("op", ["neg", "abs"])
@pytest.mark.parametrize("dtype", [INT8, INT32, INT64, FLOAT64], ids=str)
def test_signs(op: str, dtype: DType) -> None:
    m = Maker()
    x = m.input("x", [30, 7], dtype)
    y = m.op(op, m.op("transpose", x, perm=(1, 0)))
    feeds = {"x": numbers(dtype, 30, 7)}
    assert not reasons(check(m.graph(y, m.op("add", y, y)), feeds, rtol=0, atol=0))


@pytest.mark.parametrize("dtype", [INT8, INT32, INT64, UINT8], ids=str)
def test_integers_become_half_floats(dtype: DType) -> None:
    m = Maker()
    y = m.op("cast", m.input("x", [70000], dtype), to="float16")
    low, high = (-100, 100) if dtype.size == 1 else (-70000, 70000)
    x = np.linspace(max(low, np.iinfo(dtype.numpy).min), high, 70000).astype(dtype.numpy)
    if dtype.size > 1:
        x[:4] = (2**31 - 1, -(2**31), 65519, 65520)
    assert not reasons(check(m.graph(y), {"x": x}, rtol=0, atol=0))


def test_half_floats_are_chosen_as_they_are() -> None:
    m = Maker()
    c, a, b = m.input("c", [5, 1], BOOL), m.input("a", [5, 8], FLOAT16), m.input("b", [8], FLOAT16)
    feeds = {"c": np.arange(5).reshape(5, 1) % 2 == 0, "a": f32(5, 8).astype(np.float16),
             "b": f32(8).astype(np.float16)}  # fmt: skip
    draft = check(m.graph(m.op("where", c, a, b)), feeds, rtol=0, atol=0)
    assert [step.kernel.name for step in draft.steps] == ["where"]
