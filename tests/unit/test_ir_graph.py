"""Verifier, printer and oracle on graphs made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilework.core import errors
from tilework.core.dtypes import FLOAT32, INT64
from tilework.core.errors import InvalidArgument, InvalidGraph
from tilework.ir.graph import Constant, Graph, Node, Value
from tilework.ir.printer import format_graph
from tilework.ir.reference import run_reference
from tilework.ir.verifier import verify

pytestmark = pytest.mark.unit

WEIGHT = Constant(FLOAT32, (2,), array=np.array([3, 4], np.float32))
FAR = Constant(FLOAT32, (2,), external=(8, 8))


def graph(*nodes: Node, **changes: Any) -> Graph:
    made: dict[str, Any] = {
        "name": "g",
        "inputs": (Value("x", FLOAT32, ("n", 2)),),
        "outputs": (Value("y", FLOAT32, None),),
        "nodes": nodes,
        "constants": {"w": WEIGHT},
    }
    return Graph(**{**made, **changes})


ADD = Node("add", ("x", "w"), ("y",), {}, "Add 'sum'")


def test_a_right_graph_passes() -> None:
    verify(graph(ADD))
    verify(graph(ADD, constants={"w": FAR}))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (graph(), InvalidGraph, "output 'y' is produced by no node"),
        (graph(ADD, ADD), InvalidGraph, "Add 'sum': 'y' is produced twice"),
        (graph(ADD, constants={}), InvalidGraph, "Add 'sum': its input 'w' is neither"),
        (
            graph(Node("neg", ("y",), ("y",), {}, "")),
            InvalidGraph,
            "neg 'y': its input 'y' is produced only by a later node, or by itself",
        ),
        (graph(ADD, constants={"w": WEIGHT, "x": WEIGHT}), InvalidGraph, "'x' is also an input"),
        (graph(ADD, constants={"w": Constant(FLOAT32, (2,))}), InvalidGraph, "either an array or"),
        (graph(ADD, inputs=(Value("", FLOAT32, ()),)), InvalidGraph, "input '' is unnamed"),
        (graph(Node("neg", ("x",), ("",))), InvalidGraph, "has no outputs"),
        (graph(Node("add", ("x",), ("y",))), InvalidGraph, "'add' needs 2"),
        (graph(Node("wobble", ("x",), ("y",))), errors.NotImplemented, "'wobble' is not defined"),
    ],
)
def test_wrong_graphs_are_told(wrong: Graph, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        verify(wrong)


def test_printing() -> None:
    split = Node("split", ("x",), ("a", ""), {"sizes": tuple(range(20)), "axis": 0}, "")
    text = format_graph(
        graph(
            ADD,
            split,
            constants={"w": WEIGHT, "far": FAR},
            values={"y": Value("y", FLOAT32, ("", 2))},
        )
    )
    assert text.splitlines() == [
        "graph 'g'",
        "  input    x: float32[n, 2]",
        "  constant w: float32[2] = [3.0, 4.0]",
        "  constant far: float32[2] external bytes 8..16",
        "  y: float32[?, 2] = add(x, w)  # Add 'sum'",
        "  a, _ = split(x) {axis=0, sizes=(0, 1, 2, 3, 4, 5, 6, 7, … 20)}",
        "  output   y: float32[*]",
    ]


def test_oracle() -> None:
    x = np.ones((1, 2), np.float32)
    assert run_reference(graph(ADD), {"x": x})["y"].tolist() == [[4, 5]]
    far = np.array([0, 0, 5, 6], np.float32).tobytes()
    made = graph(ADD, constants={"w": FAR})
    assert run_reference(made, {"x": x}, far)["y"].tolist() == [[6, 7]]
    with pytest.raises(InvalidArgument, match="external data, which was not given"):
        run_reference(made, {"x": x})
    with pytest.raises(InvalidArgument, match="input 'x' is not fed; feeds: z"):
        run_reference(made, {"z": x}, far)


def test_oracle_frees_what_nobody_reads_and_keeps_what_is_asked() -> None:
    chain = (
        Node("neg", ("x",), ("a",)),
        Node("neg", ("a",), ("b",)),
        Node("shape", ("b",), ("y",)),
    )
    made = graph(*chain, outputs=(Value("y", INT64, None),))
    x = np.ones((1, 2), np.float32)
    assert set(run_reference(made, {"x": x})) == {"y"}
    assert set(run_reference(made, {"x": x}, keep=["a"])) == {"a", "y"}
