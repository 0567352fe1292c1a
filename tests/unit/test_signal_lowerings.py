"""Fourier transforms and frames against the references, on the desktop device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tilework.core.dtypes import FLOAT16
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


@pytest.mark.parametrize("shape", [(3, 12, 1), (2, 9, 4, 2), (37, 5, 2), (2, 3, 400, 1)])
@pytest.mark.parametrize("inverse", [0, 1])
def test_dft(shape: tuple[int, ...], inverse: int) -> None:
    m = Maker()
    x = m.input("x", list(shape))
    outputs = [
        m.op("dft", x, axis=axis, length=length, inverse=inverse, onesided=0)
        for axis in range(len(shape) - 1)
        for length in (shape[axis], shape[axis] + 3, max(shape[axis] - 2, 1))
    ]
    assert not reasons(check(m.graph(*outputs), {"x": f32(*shape)}, rtol=1e-4, atol=1e-3))


def test_one_side_and_back() -> None:
    m = Maker()
    half = m.op("dft", m.input("x", [4, 30, 1]), axis=1, length=30, inverse=0, onesided=1)
    back = m.op("dft", half, axis=1, length=30, inverse=1, onesided=1)
    short = m.op("dft", half, axis=1, length=20, inverse=1, onesided=1)
    assert not reasons(check(m.graph(half, back, short), {"x": f32(4, 30, 1)}, atol=1e-4))


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("length", [16, 25, 41])
def test_stft(onesided: int, length: int) -> None:
    m = Maker()
    x, w = m.input("x", [2, 100, 1]), m.input("w", [length])
    attrs: dict[str, Any] = {"step": 7, "length": length, "onesided": onesided}
    graph = m.graph(m.op("stft", x, w, **attrs), m.op("stft", x, **attrs))
    assert not reasons(check(graph, {"x": f32(2, 100, 1), "w": f32(length)}, atol=1e-4))


def test_stft_of_complex_numbers() -> None:
    m = Maker()
    y = m.op("stft", m.input("x", [1, 60, 2]), step=5, length=20, onesided=0)
    assert not reasons(check(m.graph(y), {"x": f32(1, 60, 2)}, atol=1e-4))


def test_half_floats_are_widened() -> None:
    m = Maker()
    y = m.op("dft", m.input("x", [2, 24, 1], FLOAT16), axis=1, length=24, inverse=0, onesided=1)
    feeds = {"x": f32(2, 24, 1).astype(np.float16)}
    assert not reasons(check(m.graph(y), feeds, rtol=2e-3, atol=2e-2))


def test_what_scratch_does_not_hold_stays_on_the_host() -> None:
    m = Maker()
    x = m.input("x", [1, 20000, 1])
    y = m.op("dft", x, axis=1, length=20000, inverse=0, onesided=1)
    (reason,) = reasons(check(m.graph(y), {"x": f32(1, 20000, 1)}, rtol=1e-3, atol=1e-2))
    assert "more than scratch" in reason


def test_of_constants_is_computed_once() -> None:
    m = Maker()
    y = m.op("dft", m.constant(f32(2, 6, 1)), axis=1, length=6, inverse=0, onesided=1)
    z = m.op("add", y, m.input("x", [2, 4, 2]))
    check(m.graph(z), {"x": f32(2, 4, 2)})
