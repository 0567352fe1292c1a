"""Reading between pixels and placed maxima against the references, on the desktop device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tilework.core.dtypes import FLOAT16, INT64
from tilework.ir.graph import Graph
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def on_device(draft: Draft) -> bool:
    return not any(isinstance(step, HostStep) for step in draft.steps)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(mode: str, padding: str) -> None:
    m = Maker()
    attrs: dict[str, Any] = {"mode": mode, "padding": padding, "align_corners": 1}
    flat = m.op("grid_sample", m.input("x", [2, 5, 6, 7]), m.input("g", [2, 4, 9, 2]), **attrs)
    deep = m.op("grid_sample", m.input("z", [1, 3, 3, 4, 5]), m.input("h", [1, 2, 3, 4, 3]),
                **attrs)  # fmt: skip
    feeds = {"x": f32(2, 5, 6, 7), "g": f32(2, 4, 9, 2), "z": f32(1, 3, 3, 4, 5),
             "h": f32(1, 2, 3, 4, 3)}  # fmt: skip
    assert on_device(check(m.graph(flat, deep), feeds, rtol=1e-4))


def test_grid_sample_of_few_channels() -> None:
    m = Maker()
    attrs: dict[str, Any] = {"mode": "linear", "padding": "border", "align_corners": 0}
    grid = m.input("g", [2, 3, 9, 2])
    y = m.op("grid_sample", m.input("x", [2, 3, 6, 7]), grid, **attrs)
    z = m.op("grid_sample", m.op("transpose", m.input("z", [2, 7, 6, 1]), perm=(0, 3, 2, 1)), grid,
             **attrs)  # fmt: skip
    feeds = {"x": f32(2, 3, 6, 7), "g": f32(2, 3, 9, 2), "z": f32(2, 7, 6, 1)}
    assert on_device(check(m.graph(y, z), feeds, rtol=1e-4))


def test_grid_sample_reads_what_a_convolution_made() -> None:
    m = Maker()
    made = m.op("relu", m.op("transpose", m.input("x", [1, 6, 7, 8]), perm=(0, 3, 1, 2)))
    attrs: dict[str, Any] = {"mode": "linear", "padding": "zeros", "align_corners": 0}
    y = m.op("relu", m.op("grid_sample", made, m.input("g", [1, 3, 3, 2]), **attrs))
    assert on_device(check(m.graph(y), {"x": f32(1, 6, 7, 8), "g": f32(1, 3, 3, 2)}, rtol=1e-4))


def test_grid_sample_of_four_axes_stays_on_the_host() -> None:
    m = Maker()
    attrs: dict[str, Any] = {"mode": "linear", "padding": "border", "align_corners": 0}
    y = m.op("grid_sample", m.input("x", [1, 2, 2, 3, 2, 3]), m.input("g", [1, 2, 2, 2, 2, 4]),
             **attrs)  # fmt: skip
    feeds = {"x": f32(1, 2, 2, 3, 2, 3), "g": f32(1, 2, 2, 2, 2, 4)}
    assert not on_device(check(m.graph(y), feeds, rtol=1e-4))


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(mode: str, ratio: int) -> None:
    m = Maker()
    attrs: dict[str, Any] = {"mode": mode, "height": 2, "width": 3, "ratio": ratio,
                             "scale": 0.5, "half_pixel": 1}  # fmt: skip
    y = m.op("roi_align", m.input("x", [2, 5, 8, 9]), m.input("r", [3, 4]),
             m.input("b", [3], INT64), **attrs)  # fmt: skip
    rois = np.array([[0, 0, 8, 9], [2, 1, 30, 12], [5, 5, 5.5, 6]], np.float32)
    feeds = {"x": f32(2, 5, 8, 9), "r": rois, "b": np.array([0, 1, 1])}
    assert on_device(check(m.graph(y), feeds, rtol=1e-4))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_deform_conv(group: int, masked: bool) -> None:
    m = Maker()
    attrs: dict[str, Any] = {
        "kernel_shape": (3, 3), "strides": (1, 2), "dilations": (1, 1), "pads": (1, 1, 1, 1),
        "group": group, "offset_group": 2,
    }  # fmt: skip
    feeds = {"x": f32(2, 8, 6, 7), "w": f32(4, 8 // group, 3, 3), "o": f32(2, 36, 6, 4),
             "b": f32(4), "k": f32(2, 18, 6, 4)}  # fmt: skip
    names = ["x", "w", "o", "b", *(["k"] if masked else [])]
    used = {name: feeds[name] for name in names}
    inputs = [m.input(name, list(array.shape)) for name, array in used.items()]
    assert on_device(check(m.graph(m.op("deform_conv", *inputs, **attrs)), used, rtol=1e-4))


@pytest.mark.parametrize("order", [0, 1])
def test_places_of_the_largest(order: int) -> None:
    def graph(attrs: dict[str, Any], shape: list[int]) -> Graph:
        m = Maker()
        return m.graph(*m.op("max_pool", m.input("x", shape), outputs=2, **attrs))

    window: dict[str, Any] = {"strides": (2, 1), "pads": (1, 0, 1, 1), "storage_order": order}
    attrs: dict[str, Any] = {"kernel_shape": (3, 2), "ceil_mode": 1, **window}
    assert on_device(check(graph(attrs, [2, 5, 7, 6]), {"x": f32(2, 5, 7, 6)}))
    assert on_device(check(graph({"kernel_shape": (3,)}, [1, 3, 9]), {"x": f32(1, 3, 9)}))


def test_half_floats_are_widened() -> None:
    m = Maker()
    x, g = m.input("x", [1, 4, 5, 5], FLOAT16), m.input("g", [1, 3, 3, 2], FLOAT16)
    y = m.op("grid_sample", x, g, mode="linear", padding="zeros", align_corners=0)
    feeds = {"x": f32(1, 4, 5, 5).astype(np.float16), "g": f32(1, 3, 3, 2).astype(np.float16)}
    assert on_device(check(m.graph(y), feeds, rtol=2e-3, atol=2e-3))


@pytest.mark.parametrize("given", [0, 1, 2])
def test_boxes_are_suppressed(given: int) -> None:
    m = Maker()
    numbers = {"b": f32(2, 300, 4), "s": f32(2, 3, 300), "i": np.array([0.3], np.float32),
               "l": np.array([0.1], np.float32)}  # fmt: skip
    feeds = dict(list(numbers.items())[: 2 + given])
    inputs = [m.input(name, list(array.shape)) for name, array in feeds.items()]
    chosen = m.op("suppress", *inputs, most=20, center=0)
    assert on_device(check(m.graph(chosen), feeds, rtol=0, atol=0))


def test_boxes_beyond_scratch_stay_on_the_host() -> None:
    m = Maker()
    y = m.op("suppress", m.input("b", [1, 140000, 4]), m.input("s", [1, 1, 140000]), most=2)
    feeds = {"b": f32(1, 140000, 4), "s": f32(1, 1, 140000)}
    assert not on_device(check(m.graph(y), feeds, rtol=0, atol=0))
