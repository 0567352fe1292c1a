"""Runs a graph by references, node after node: what control flow and `ir.reference` stand on.

Slow and simple on purpose. A value is an array, a list (a sequence) or None (an optional without
one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count
from tilework.ir.graph import Constant, Graph
from tilework.ir.opdefs.registry import Array, evaluate


def constant_array(constant: Constant, external: memoryview | bytes | None = None) -> Array:
    """The constant as an array, viewing the model's bytes or `external`, never copying."""
    if constant.array is not None:
        return constant.array
    if external is None or constant.external is None:
        raise InvalidArgument("a constant lies in external data, which was not given")
    return np.frombuffer(
        external, constant.dtype.numpy, count(constant.shape), constant.external[0]
    ).reshape(constant.shape)


def interpret(
    graph: Graph, values: Sequence[Any], keep: Sequence[str] = ()
) -> dict[str, Any]:
    """The graph's outputs by name, and the values named in `keep`.

    `values` has one for each input; constants must have arrays. Raises what the operations raise.
    """
    wanted = {value.name for value in graph.outputs} | set(keep)
    last: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        for name in node.inputs:
            last[name] = number
    known: dict[str, Any] = {name: constant_array(one) for name, one in graph.constants.items()}
    for value, given in zip(graph.inputs, values, strict=True):
        known[value.name] = given
    for number, node in enumerate(graph.nodes):
        results = evaluate(node, [known[name] if name else None for name in node.inputs])
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                known[name] = result
        for name in node.inputs:
            if last.get(name) == number and name not in wanted:
                known.pop(name, None)
    return {name: known[name] for name in known if name in wanted}


def call(graph: Graph, values: Sequence[Any]) -> list[Any]:
    """The graph's outputs in their order."""
    found = interpret(graph, values)
    return [found[value.name] for value in graph.outputs]


def map_graphs(attrs: Mapping[str, Any], change: Callable[[Graph], Graph]) -> dict[str, Any]:
    """Attributes whose graphs are changed; what is no graph stays."""
    return {
        name: change(value) if isinstance(value, Graph) else value
        for name, value in attrs.items()
    }
