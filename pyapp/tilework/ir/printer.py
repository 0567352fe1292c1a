"""A graph as text, for people: one line an input, constant and node. Never read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilework.core.shapes import count
from tilework.ir.graph import Constant, Graph, Node, Value

_SHOWN = 8  # elements of a constant or an attribute


def format_graph(graph: Graph) -> str:
    """The whole graph; constants by dtype and shape, small ones by value."""
    lines = [f"graph {graph.name!r}"]
    lines += [f"  input    {format_value(value)}" for value in graph.inputs]
    lines += [f"  constant {name}: {format_constant(c)}" for name, c in graph.constants.items()]
    lines += [f"  {format_node(node, graph.values)}" for node in graph.nodes]
    lines += [f"  output   {format_value(value)}" for value in graph.outputs]
    return "\n".join(lines)


def format_value(value: Value) -> str:
    """`name: float32[batch, 3]`; `?` is an unnamed extent, `[*]` an unknown rank."""
    if value.shape is None:
        return f"{value.name}: {value.dtype}[*]"
    extents = ", ".join("?" if extent == "" else str(extent) for extent in value.shape)
    return f"{value.name}: {value.dtype}[{extents}]"


def format_constant(constant: Constant) -> str:
    """dtype, shape and where it lies, or its value where that is short."""
    text = f"{constant.dtype}{list(constant.shape)}"
    if constant.external is not None:
        offset, nbytes = constant.external
        return f"{text} external bytes {offset}..{offset + nbytes}"
    if constant.array is not None and count(constant.shape) <= _SHOWN:
        return f"{text} = {constant.array.tolist()}"
    return text


def format_node(node: Node, values: Mapping[str, Value] | None = None) -> str:
    """`out, out = op(in, in) {attr=value}  # origin`; declared types of outputs where known."""
    outputs = ", ".join(
        format_value(values[name]) if values and name in values else name or "_"
        for name in node.outputs
    )
    inputs = ", ".join(name or "_" for name in node.inputs)
    attrs = ", ".join(f"{key}={_short(value)}" for key, value in sorted(node.attrs.items()))
    text = f"{outputs} = {node.op}({inputs})"
    if attrs:
        text += f" {{{attrs}}}"
    return f"{text}  # {node.origin}" if node.origin else text


def _short(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"({', '.join(map(repr, value[:_SHOWN]))}, … {len(value)})"
    return repr(value)
