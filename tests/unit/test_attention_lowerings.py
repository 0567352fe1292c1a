"""What attention may ask for beside its result: caps, windows, lengths, scores; all on kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tests.unit.test_plan_lowerings import kernels, on_device
from tilework.core.dtypes import INT64

pytestmark = pytest.mark.kernels

BATCH, HEADS, SHARED, ROWS, KEYS, SIZE = 2, 4, 2, 5, 7, 6


def sides(m: Maker) -> list[str]:
    return [
        m.input("q", [BATCH, HEADS, ROWS, SIZE]),
        m.input("k", [BATCH, SHARED, KEYS, SIZE]),
        m.input("v", [BATCH, SHARED, KEYS, 8]),
    ]


def numbers() -> dict[str, Any]:
    return {
        "q": f32(BATCH, HEADS, ROWS, SIZE, scale=2.0),
        "k": f32(BATCH, SHARED, KEYS, SIZE, seed=1),
        "v": f32(BATCH, SHARED, KEYS, 8, seed=2),
    }


@pytest.mark.parametrize("nan_zero", [0, 1])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_caps_and_rows_that_see_nothing(softcap: float, nan_zero: int) -> None:
    m = Maker()
    mask = m.input("mask", [ROWS, KEYS])
    y = m.op("attention", *sides(m), mask, scale=0.7, softcap=softcap, nan_zero=nan_zero)
    hidden = np.where(f32(ROWS, KEYS) > 0, 0, -np.inf).astype(np.float32)
    hidden[2] = -np.inf
    draft = check(m.graph(y), {**numbers(), "mask": hidden})
    assert set(kernels(draft)) == {"f32_attention"}


@pytest.mark.parametrize("left", [-1, 0, 2])
@pytest.mark.parametrize("right", [-1, 0, 1])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows_of_padded_keys(left: int, right: int, causal: int) -> None:
    m = Maker()
    lengths = m.input("lengths", [BATCH], INT64)
    attrs = {"left": left, "right": right, "causal": causal}
    y = m.op("scaled_attention", *sides(m), "", "", "", lengths, **attrs)
    draft = check(m.graph(y), {**numbers(), "lengths": np.array([7, 5])})
    assert on_device(draft)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_scores_that_are_asked_for(softcap: float, masked: bool, mode: int) -> None:
    m = Maker()
    inputs, feeds = sides(m), numbers()
    if masked:
        inputs.append(m.input("mask", [BATCH, 1, ROWS, KEYS]))
        feeds["mask"] = np.where(f32(BATCH, 1, ROWS, KEYS) > 0, 0, -np.inf).astype(np.float32)
        feeds["mask"][1, 0, 3] = -np.inf
    y, *_, scores = m.op(
        "scaled_attention", *inputs, outputs=4, scores=mode, softcap=softcap, scale=0.4
    )
    draft = check(m.graph(y, scores), feeds)
    assert on_device(draft)
    assert "f32_attention" in kernels(draft)
