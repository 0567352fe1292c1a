"""Checks that a graph keeps its own rules: run after a front and, in tests, after every pass.

Looks at names, order and arity; shapes and dtypes are `opdefs`' business and need concrete inputs.
"""

from __future__ import annotations

from tilework.core.errors import InvalidGraph
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import check_arity, label, opdef


def verify(graph: Graph) -> None:
    """Raise InvalidGraph or NotImplemented naming the first thing that is wrong."""
    known: set[str] = set()
    for value in graph.inputs:
        if not value.name or value.name in known:
            raise InvalidGraph(f"graph '{graph.name}': input '{value.name}' is unnamed or twice")
        known.add(value.name)
    for name, constant in graph.constants.items():
        if name in known:
            raise InvalidGraph(f"graph '{graph.name}': constant '{name}' is also an input")
        if (constant.array is None) == (constant.external is None):
            raise InvalidGraph(
                f"graph '{graph.name}': constant '{name}' must have either an array or a place in "
                "the external data"
            )
        known.add(name)
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in known:
                raise _unknown(graph, label(node), name)
        check_arity(node, opdef(node))
        if not any(node.outputs):
            raise InvalidGraph(f"{label(node)}: has no outputs")
        for one in node.attrs.values():
            if isinstance(one, Graph):
                verify(one)
        for name in node.outputs:
            if name in known:
                raise InvalidGraph(f"{label(node)}: '{name}' is produced twice")
            if name:
                known.add(name)
    for value in graph.outputs:
        if value.name not in known:
            raise InvalidGraph(
                f"graph '{graph.name}': output '{value.name}' is produced by no node"
            )


def _unknown(graph: Graph, where: str, name: str) -> InvalidGraph:
    later = any(name in node.outputs for node in graph.nodes)
    reason = (
        "is produced only by a later node, or by itself: the nodes are in a cycle or out of order"
        if later
        else "is neither an input, nor a constant, nor produced by a node"
    )
    return InvalidGraph(f"{where}: its input '{name}' {reason}")
