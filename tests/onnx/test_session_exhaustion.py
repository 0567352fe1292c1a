"""A session whose memory ends: each allocation of its opening and its first runs fails in turn."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilework
from tests.onnx.linear import X, expected, external, linear
from tests.onnx.test_control_flow import powers
from tests.onnx.test_dynamic import picked
from tilework.engine.devices import get_device
from tilework.engine.session import GraphSession
from tilework.hal import open_device
from tilework.onnx.model import load_graph
from tilework.onnx.session import InferenceSession
from tilework.onnx.source import Source

pytestmark = pytest.mark.onnx


def whole(path: Path) -> Any:
    """The linear model with its constants inside."""
    del path
    return linear()


MODELS: dict[str, Callable[[Path], Any]] = {"inside": whole, "external": external}


def held() -> tuple[int, int]:
    gc.collect()
    now = get_device(0).statistics
    return now.in_use, now.spans


@pytest.mark.parametrize("kind", MODELS)
def test_each_allocation_of_a_session_may_fail(kind: str, tmp_path: Path) -> None:
    device = get_device(0)
    made = MODELS[kind](tmp_path)
    larger = np.concatenate([X, X + 1, -X])

    def once() -> None:
        with InferenceSession(made) as session:
            for x in (X, larger, X):
                np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x))

    once()  # the kernels' modules are loaded and stay
    before = held()
    for points in range(200):
        device.allocator.fail_at = points
        try:
            once()
        except tilework.OutOfMemory as error:
            assert "bytes of device memory" in str(error)
        else:
            break
        finally:
            left, device.allocator.fail_at = device.allocator.fail_at, None
        assert left is not None
        assert left < 0
        assert held() == before, f"allocation {points} failed and something was leaked"
    assert points > 5, "weight, arena, and two programs of image, state and table"
    once()


@pytest.mark.parametrize("points", range(12))
def test_a_session_works_on_after_each_failure(points: int) -> None:
    """The same session: what failed is done again, and what was done is not lost."""
    device = get_device(0)
    with InferenceSession(linear()) as session:
        session.run(None, {"x": X})
        for rows in range(3, 7):
            x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3) - 4
            device.allocator.fail_at = points
            try:
                session.run(None, {"x": x})
            except tilework.OutOfMemory:
                pass
            finally:
                device.allocator.fail_at = None
            np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))
            np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x))


STAGED: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "loop": (
        powers,
        {"x": X[:, :2].copy(), "count": np.array(3), "limit": np.array(1e9, np.float32)},
    ),
    "stages": (picked, {"x": np.arange(20, dtype=np.float32).reshape(5, 4) - 9}),
}


@pytest.mark.parametrize("kind", STAGED)
def test_each_allocation_between_stages_may_fail(kind: str) -> None:
    """What one stage has left on the device goes back when the next one fails."""
    device = get_device(0)
    make, feeds = STAGED[kind]
    with InferenceSession(make()) as session:
        wanted = session.run(None, feeds)
        settled = held()  # with all plans made
        for points in range(200):
            device.allocator.fail_at = points
            try:
                session.run(None, feeds)
            except tilework.OutOfMemory:
                pass
            else:
                break
            finally:
                device.allocator.fail_at = None
            assert held() == settled, f"allocation {points} failed and something was leaked"
        assert points > 5 or kind == "stages", "what a loop carries and stacks"
    before = held()
    results = None
    for points in range(200):
        device.allocator.fail_at = points
        try:
            with InferenceSession(make()) as session:
                results = session.run(None, feeds)
        except tilework.OutOfMemory:
            pass
        finally:
            device.allocator.fail_at = None
        if results is not None:
            break
        assert held() == before, f"allocation {points} failed and something was leaked"
    assert results is not None
    assert points > 10
    for result, right in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(result, right)


def test_loading_a_kernels_module_may_fail() -> None:
    """The first session of a device loads the modules that it needs."""
    device = open_device(threads=1)
    source = Source(linear(), None, device)
    graph = load_graph(source.data, source.external).graph
    for points in range(100):
        device.allocator.fail_at = points
        try:
            with GraphSession(graph, device) as once:
                (y,) = once.run({"x": X}, ["y"])
        except tilework.OutOfMemory:
            device.allocator.fail_at = None
            continue
        np.testing.assert_allclose(y, expected(X))
        break
    assert points > 6
    device.close()
