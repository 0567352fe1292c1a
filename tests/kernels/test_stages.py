"""Graphs that are planned part by part, in every memory mode: a loop, a branch, sizes from data.

By hand and against the references, so that pages run them as the desktop does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tilework.core.config import IN_PLACE
from tilework.core.dtypes import BOOL, FLOAT32, INT64
from tilework.engine.resident import Resident
from tilework.engine.session import GraphSession
from tilework.hal import Device, open_device
from tilework.ir.graph import Constant, Graph, Node, Value
from tilework.ir.reference import run_reference
from tilework.ir.verifier import verify

pytestmark = pytest.mark.kernels
WIDTH = 8
LARGE = IN_PLACE // (4 * WIDTH)  # rows that are worked on in place


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    opened = open_device(threads=1)
    yield opened
    opened.close()


def f32(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def matrix(name: str) -> Value:
    return Value(name, FLOAT32, None)


def loop() -> Graph:
    """`count` times s = tanh(s w + x) while its sum is below 1e9; stacks the sums of columns."""
    body = Graph(
        "turn",
        (Value("i", INT64, ()), Value("go", BOOL, ()), matrix("s"), matrix("x"), matrix("w")),
        (Value("again", BOOL, None), matrix("next"), matrix("sums")),
        (
            Node("matmul", ("s", "w"), ("p",)),
            Node("add", ("p", "x"), ("q",)),
            Node("tanh", ("q",), ("next",)),
            Node("reduce_sum", ("next",), ("sums",), {"axes": (0,), "keepdims": 0}),
            Node("reduce_sum", ("sums",), ("total",), {"axes": (0,), "keepdims": 0}),
            Node("less", ("total", "most"), ("again",)),
        ),
        {"most": Constant(FLOAT32, (), np.array(1e9, np.float32))},
    )
    attrs = {"body": body, "carried": 1}
    return Graph(
        "loop",
        (matrix("x"), Value("count", INT64, ())),
        (matrix("y"), matrix("rows")),
        (
            Node("relu", ("x",), ("start",)),
            Node("loop", ("count", "", "start", "x", "w"), ("end", "rows"), attrs, "Loop 'l'"),
            Node("neg", ("end",), ("y",)),
        ),
        {"w": Constant(FLOAT32, (WIDTH, WIDTH), f32(WIDTH, WIDTH) / 4)},
    )


def picked() -> Graph:
    """The rows whose first element is positive, relu'd; negated instead if the sum of x is not."""
    yes = Graph("yes", (matrix("r"),), (matrix("a"),), (Node("relu", ("r",), ("a",)),), {})
    no = Graph("no", (matrix("r"),), (matrix("a"),), (Node("neg", ("r",), ("a",)),), {})
    zero = Constant(FLOAT32, (), np.array(0, np.float32))
    whole = {"keepdims": 0}
    return Graph(
        "picked",
        (matrix("x"),),
        (matrix("y"), Value("where", INT64, None)),
        (
            Node("slice", ("x",), ("c",), {"starts": (0,), "ends": (1,), "axes": (1,)}),
            Node("squeeze", ("c",), ("column",), {"axes": (1,)}),
            Node("greater", ("column", "zero"), ("mask",)),
            Node("nonzero", ("mask",), ("places",)),
            Node("squeeze", ("places",), ("where",), {"axes": (0,)}),
            Node("gather", ("x", "where"), ("rows",), {"axis": 0}),
            Node("reduce_sum", ("x",), ("sum",), {"axes": (0, 1), **whole}),
            Node("greater", ("sum", "zero"), ("cond",)),
            Node("if", ("cond", "rows"), ("y",), {"then": yes, "else": no}),
        ),
        {"zero": zero},
    )


@pytest.mark.parametrize("rows", [3, LARGE])
def test_a_loop_replays_its_body(device: Device, rows: int) -> None:
    graph = loop()
    verify(graph)
    with GraphSession(graph, device) as session:
        for count in (4, 1, 4, 0):
            feeds = {"x": f32(rows, WIDTH, seed=count), "count": np.array(count)}
            kept = feeds["x"].copy()
            wanted = run_reference(graph, feeds)
            y, stacked = session.run(feeds, ["y", "rows"])
            np.testing.assert_array_equal(feeds["x"], kept, "an input was written over")
            np.testing.assert_allclose(y, wanted["y"], rtol=1e-5, atol=1e-6)
            if count:
                np.testing.assert_allclose(stacked, wanted["rows"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [5, 4 * LARGE])
def test_rows_are_picked_and_a_branch_is_taken(device: Device, rows: int) -> None:
    graph = picked()
    verify(graph)
    with GraphSession(graph, device) as session:
        for seed in (1, 2, 3):
            x = f32(rows, WIDTH, seed=seed) + (0.5 if seed == 2 else -0.25)
            wanted = run_reference(graph, {"x": x})
            for fed in (x, Resident.of(device, x)):
                y, where = session.run_resident({"x": fed}, ["y", "where"], {"y": None})
                assert isinstance(y, Resident)
                np.testing.assert_array_equal(y.read(), wanted["y"])
                np.testing.assert_array_equal(where, wanted["where"])


def test_nothing_is_kept(device: Device) -> None:
    before = None
    for turn in range(3):
        for graph, feeds in (
            (loop(), {"x": f32(LARGE, WIDTH), "count": np.array(3)}),
            (picked(), {"x": f32(LARGE, WIDTH)}),
        ):
            with GraphSession(graph, device) as session:
                session.run(feeds, [value.name for value in graph.outputs])
        now = device.statistics
        if turn:
            assert before == (now.in_use, now.spans, now.imported)
        before = (now.in_use, now.spans, now.imported)


@pytest.mark.parametrize("rows", [3, LARGE])
def test_what_is_fed_lies_in_any_order(device: Device, rows: int) -> None:
    """As references give it: a transposed array, not that array's memory."""
    graph = Graph(
        "order", (matrix("x"),), (matrix("y"),), (Node("neg", ("x",), ("y",)),), {}
    )  # fmt: skip
    x = f32(WIDTH, rows).T
    with GraphSession(graph, device) as session:
        for fed in (x, x[::-1], np.ascontiguousarray(x)):
            np.testing.assert_array_equal(session.run({"x": fed}, ["y"])[0], -fed)
