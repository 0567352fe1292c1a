"""Runs a graph with the operations' NumPy references: the oracle that plans are tested against.

Slow and simple on purpose. Never used while a model runs on a device, except node by node where
the planner falls back to the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tilework.core.config import FOLD_LIMIT
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count
from tilework.ir.graph import Constant, Graph
from tilework.ir.opdefs.registry import Array, Info, evaluate, infer_node, info_of


def constant_array(constant: Constant, external: memoryview | bytes | None = None) -> Array:
    """The constant as an array, viewing the model's bytes or `external`, never copying."""
    if constant.array is not None:
        return constant.array
    if external is None or constant.external is None:
        raise InvalidArgument("a constant lies in external data, which was not given")
    return np.frombuffer(
        external, constant.dtype.numpy, count(constant.shape), constant.external[0]
    ).reshape(constant.shape)


def run_reference(
    graph: Graph,
    feeds: Mapping[str, Array],
    external: memoryview | bytes | None = None,
    keep: Sequence[str] = (),
) -> dict[str, Array]:
    """The graph's outputs by name, and the values named in `keep`.

    `feeds` has an array for every input, `external` the bytes that external constants refer to.
    Raises InvalidArgument for a missing feed, and what the operations raise.
    """
    wanted = {value.name for value in graph.outputs} | set(keep)
    last: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        for name in node.inputs:
            last[name] = number
    known: dict[str, Array] = {}
    for value in graph.inputs:
        if value.name not in feeds:
            raise InvalidArgument(f"input '{value.name}' is not fed; feeds: {', '.join(feeds)}")
        known[value.name] = np.asarray(feeds[value.name])
    for name, constant in graph.constants.items():
        known[name] = constant_array(constant, external)
    for number, node in enumerate(graph.nodes):
        results = evaluate(node, [known[name] if name else None for name in node.inputs])
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                known[name] = result
        for name in node.inputs:
            if last.get(name) == number and name not in wanted:
                known.pop(name, None)
    return {name: known[name] for name in known if name in wanted}


def infer_graph(graph: Graph, inputs: Mapping[str, Info]) -> dict[str, Info]:
    """An Info for every value of the graph, from those of its inputs.

    Small constants carry their values, so that shape arithmetic is known. Raises as `infer_node`.
    """
    known: dict[str, Info] = dict(inputs)
    for name, constant in graph.constants.items():
        if constant.array is not None and constant.array.size <= FOLD_LIMIT:
            known[name] = info_of(constant.array)
        else:
            known[name] = Info(constant.dtype, constant.shape)
    for node in graph.nodes:
        _, results = infer_node(node, [known[name] if name else None for name in node.inputs])
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                known[name] = result
    return known
