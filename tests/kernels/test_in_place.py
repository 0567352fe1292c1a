"""Sessions on NumPy's own memory: nothing large is copied where kernels see it, and nothing else
changes. In a browser's inline and heap modes as they are; the desktop's driver can import only what
lies in its own memory, so there the arrays are views of buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tilework.core.config import IN_PLACE
from tilework.core.dtypes import FLOAT32
from tilework.core.errors import KernelFailure
from tilework.engine.session import GraphSession
from tilework.hal import Buffer, Device, open_device
from tilework.ir.graph import Constant, Graph, Node, Value

pytestmark = pytest.mark.kernels
SMALL_COPIES = 4096  # slot tables and the like, bytes


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    opened = open_device(threads=1)
    yield opened
    opened.close()


class Ground:
    """Arrays that kernels can work on; keeps the buffers under those of the desktop."""

    def __init__(self, device: Device, patch: pytest.MonkeyPatch) -> None:
        self.device = device
        self.copies = device.memory.name == "DEVICE"  # a browser's arena: nothing can be imported
        self.buffers: list[Buffer] = []
        if not device.imports and not self.copies:
            patch.setattr(device.driver, "imports", True)
            self.native = False
        else:
            self.native = device.imports

    def array(self, *shape: int, seed: int = 0) -> Any:
        values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        if self.native or self.copies:
            return values
        buffer = self.device.allocate(values.nbytes)
        self.buffers.append(buffer)
        made = np.frombuffer(buffer.view() or b"", np.float32).reshape(shape)
        made[...] = values
        return made

    def free(self) -> None:
        for buffer in self.buffers:
            buffer.free()


@pytest.fixture
def ground(device: Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    before = device.statistics
    made = Ground(device, monkeypatch)
    yield made
    made.free()
    after = device.statistics
    assert after.imported == before.imported, "an array was not let go"


def graph(*outputs: str) -> Graph:
    """h = a * b, y = h + c, z = relu(y); `n` rows of 64."""
    given = tuple(Value(name, FLOAT32, ("n", 64)) for name in "ab")
    constants = {"c": Constant(FLOAT32, (64,), np.arange(64, dtype=np.float32))}
    nodes = (
        Node("mul", ("a", "b"), ("h",)),
        Node("add", ("h", "c"), ("y",)),
        Node("relu", ("y",), ("z",)),
    )
    return Graph("test", given, tuple(Value(n, FLOAT32, None) for n in outputs), nodes, constants)


def reference(a: Any, b: Any) -> dict[str, Any]:
    y = a * b + np.arange(64, dtype=np.float32)
    return {"h": a * b, "y": y, "z": np.maximum(y, 0), "a": a}


ROWS = IN_PLACE // 256  # the fewest that are worked on in place


@pytest.mark.parametrize("outputs", ["z", "y", "hz", "yz", "az"])
def test_large_inputs_are_read_where_they_lie(ground: Ground, outputs: str) -> None:
    device = ground.device
    a, b = ground.array(ROWS, 64, seed=1), ground.array(ROWS, 64, seed=2)
    kept = a.copy(), b.copy()
    with GraphSession(graph(*outputs), device) as session:
        for turn in range(3):
            before = device.statistics
            results = session.run({"a": a, "b": b}, list(outputs))
            after = device.statistics
            for name, got in zip(outputs, results, strict=True):
                np.testing.assert_allclose(got, reference(a, b)[name], rtol=1e-6, err_msg=name)
            assert np.array_equal(a, kept[0]), "an input was written over"
            assert np.array_equal(b, kept[1]), "an input was written over"
            copied = after.copied_in - before.copied_in
            if ground.copies:
                assert copied >= a.nbytes + b.nbytes
            elif turn:
                assert copied <= SMALL_COPIES
            if ground.native and turn and "a" not in outputs:
                assert after.copied_out == before.copied_out, "a result was copied"


def test_small_inputs_and_odd_ones_are_copied(ground: Ground) -> None:
    """Below the limit, and where the array lies across: the same results, by a copy."""
    device = ground.device
    room = ground.array(2 * ROWS * 64 + 1)
    with GraphSession(graph("z"), device) as session:
        for rows, shift in ((ROWS - 1, 0), (ROWS, 1), (ROWS, 0), (ROWS, 1)):
            a = room[shift : shift + rows * 64].reshape(rows, 64)
            b = ground.array(rows, 64, seed=3)
            before = device.statistics
            (z,) = session.run({"a": a, "b": b}, ["z"])
            copied = device.statistics.copied_in - before.copied_in
            np.testing.assert_allclose(z, reference(a, b)["z"], rtol=1e-6)
            if not ground.copies and (rows, shift) == (ROWS, 1):
                assert a.nbytes <= copied < a.nbytes + b.nbytes, "just the one that lies across"


def test_inputs_that_must_not_be_written_are_read_in_place(ground: Ground) -> None:
    device = ground.device
    a, b = ground.array(ROWS, 64, seed=4), ground.array(ROWS, 64, seed=5)
    for array in (a, b):
        array.flags.writeable = False
    with GraphSession(graph("z"), device) as session:
        session.run({"a": a, "b": b}, ["z"])
        before = device.statistics
        (z,) = session.run({"a": a, "b": a}, ["z"])
        np.testing.assert_allclose(z, reference(a, a)["z"], rtol=1e-6)
        if not ground.copies:
            assert device.statistics.copied_in - before.copied_in <= SMALL_COPIES


def test_results_are_the_callers_own(ground: Ground) -> None:
    device = ground.device
    a, b = ground.array(ROWS, 64, seed=6), ground.array(ROWS, 64, seed=7)
    with GraphSession(graph("z"), device) as session:
        (first,) = session.run({"a": a, "b": b}, ["z"])
        expected = first.copy()
        (second,) = session.run({"a": b, "b": b}, ["z"])
        assert np.array_equal(first, expected), "a later run wrote into an earlier result"
        assert not np.shares_memory(first, second)
        first[...] = 0
        np.testing.assert_allclose(session.run({"a": a, "b": b}, ["z"])[0], expected)


def test_a_run_that_fails_lets_its_arrays_go(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = ground.device
    a, b = ground.array(ROWS, 64, seed=8), ground.array(ROWS, 64, seed=9)
    with GraphSession(graph("z"), device) as session:
        session.run({"a": a, "b": b}, ["z"])
        before = device.statistics

        def failing(*arguments: object) -> None:
            raise KernelFailure("no", kernel="add", tile=(0, 0, 0), status=1, command=0)

        with monkeypatch.context() as patch:
            patch.setattr(device, "submit", failing)
            with pytest.raises(KernelFailure):
                session.run({"a": a, "b": b}, ["z"])
        assert device.statistics.imported == before.imported
        (z,) = session.run({"a": a, "b": b}, ["z"])
        np.testing.assert_allclose(z, reference(a, b)["z"], rtol=1e-6)
