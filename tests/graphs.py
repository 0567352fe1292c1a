"""Small graphs for tests, written node by node, and their runs by reference and on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, from_numpy
from tilework.engine.devices import get_device
from tilework.engine.session import GraphSession
from tilework.ir.graph import Constant, Extent, Graph, Node, Value
from tilework.ir.reference import run_reference
from tilework.ir.verifier import verify


class Maker:
    """Collects nodes; methods return names of values."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.constants: dict[str, Constant] = {}

    def input(self, name: str, shape: Sequence[Extent], dtype: Any = FLOAT32) -> str:
        self.inputs.append(Value(name, dtype, tuple(shape)))
        return name

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        value = np.asarray(array) if isinstance(array, np.ndarray) else np.asarray(array, dtype)
        name = f"c{len(self.constants)}"
        self.constants[name] = Constant(from_numpy(value.dtype), value.shape, value)
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        number = len(self.nodes)
        names = tuple(f"v{number}.{index}" for index in range(outputs))
        self.nodes.append(Node(op, inputs, names, attrs, f"{op} number {number}"))
        return names[0] if outputs == 1 else names

    def graph(self, *outputs: str) -> Graph:
        made = Graph(
            "test",
            tuple(self.inputs),
            tuple(Value(name, FLOAT32, None) for name in outputs),
            tuple(self.nodes),
            self.constants,
        )
        verify(made)
        return made


def f32(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    """Normally distributed float32."""
    random = np.random.default_rng(seed + sum(shape))
    return (random.standard_normal(shape) * scale).astype(np.float32)


def run_device(
    graph: Graph, feeds: Mapping[str, Any], threads: int = 2
) -> tuple[list[Any], Any]:
    """The outputs by a plan on the desktop device, and its draft."""
    with GraphSession(graph, get_device(threads)) as session:
        names = [value.name for value in graph.outputs]
        feeds = {name: np.array(array, order="C") for name, array in feeds.items()}
        results = session.run(feeds, names)
        again = session.run(feeds, names)
        for first, second in zip(results, again, strict=True):
            np.testing.assert_array_equal(first, second)  # a replay is the same run
        return results, session.plan(feeds).draft


def check(graph: Graph, feeds: Mapping[str, Any], rtol: float = 1e-5, atol: float = 1e-5) -> Any:
    """Asserts that the device and the references agree; gives the draft."""
    wanted = run_reference(graph, feeds)
    results, draft = run_device(graph, feeds)
    for value, result in zip(graph.outputs, results, strict=True):
        right = wanted[value.name]
        assert (result.dtype, result.shape) == (right.dtype, right.shape)
        np.testing.assert_allclose(result, right, rtol=rtol, atol=atol)
    return draft
