"""Runs a graph with the operations' NumPy references: the oracle that plans are tested against.

Slow and simple on purpose. Never used while a model runs on a device, except node by node where
the planner falls back to the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.config import FOLD_LIMIT
from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import Info, infer_node, info_of
from tilework.ir.opdefs.subgraph import constant_array, interpret, map_graphs


def run_reference(
    graph: Graph,
    feeds: Mapping[str, Any],
    external: memoryview | bytes | None = None,
    keep: Sequence[str] = (),
) -> dict[str, Any]:
    """The graph's outputs by name, and the values named in `keep`.

    `feeds` has an array for every input (a list for a sequence, None for an empty optional),
    `external` the bytes that external constants refer to. Raises InvalidArgument for a missing
    feed, and what the operations raise.
    """
    for value in graph.inputs:
        if value.name not in feeds:
            raise InvalidArgument(f"input '{value.name}' is not fed; feeds: {', '.join(feeds)}")
    given = [feeds[value.name] for value in graph.inputs]
    arrays = [one if one is None or isinstance(one, list) else np.asarray(one) for one in given]
    return interpret(_with_arrays(graph, external), arrays, keep)


def _with_arrays(graph: Graph, external: memoryview | bytes | None) -> Graph:
    """The graph, and those inside it, with every constant as an array."""

    def within(inner: Graph) -> Graph:
        return _with_arrays(inner, external)

    constants = {
        name: replace(one, array=constant_array(one, external), external=None)
        for name, one in graph.constants.items()
    }
    nodes = tuple(replace(node, attrs=map_graphs(node.attrs, within)) for node in graph.nodes)
    return replace(graph, nodes=nodes, constants=constants)


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
