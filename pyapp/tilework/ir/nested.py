"""Graphs inside nodes: a branch in the place of its `if`, constants of all depths by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tilework.ir.graph import Constant, Graph, Node


def in_place_of(node: Node, branch: Graph) -> tuple[list[Node], Mapping[str, Constant]]:
    """The branch's nodes under names of the graph around, and the constants that they read.

    `branch` is what the `if` at hand runs; its names get a prefix, which no other value has.
    """
    prefix = f"{next(filter(None, node.outputs))}/"
    captured = node.inputs[1:]
    names = {value.name: name for value, name in zip(branch.inputs, captured, strict=True)}
    constants: dict[str, Constant] = {}
    for name, constant in branch.constants.items():
        names[name] = name  # `with_own_constants` has seen to it that it is nobody else's
        constants[name] = constant
    made = {name for one in branch.nodes for name in one.outputs if name}
    aliases: list[tuple[str, str]] = []  # (what the branch calls it, an output of the node)
    for value, output in zip(branch.outputs, node.outputs, strict=False):
        if not output:
            continue
        if value.name in made and value.name not in names:
            names[value.name] = output
        else:
            aliases.append((value.name, output))
    names[""] = ""
    nodes = []
    for one in branch.nodes:
        outputs = tuple(names.setdefault(name, prefix + name) for name in one.outputs)
        nodes.append(replace(one, inputs=tuple(names[n] for n in one.inputs), outputs=outputs))
    nodes += [Node("identity", (names[source],), (output,)) for source, output in aliases]
    return nodes, constants


def with_own_constants(graph: Graph) -> tuple[Graph, dict[str, Constant]]:
    """The graph with each constant, at any depth, under a name that is its alone; and all of them.

    The graph's own keep theirs. Inner graphs whose constants are the same, as weights that both
    branches of a decoder read, have one for all.
    """
    if not any(isinstance(one, Graph) for node in graph.nodes for one in node.attrs.values()):
        return graph, dict(graph.constants)
    return _own(graph, "", _Known())


class _Known:
    """Constants met so far, by what they are, and their names."""

    def __init__(self) -> None:
        self._alike: dict[Any, list[tuple[str, Constant]]] = {}

    def same(self, constant: Constant) -> tuple[str, Constant] | None:
        """One that was entered and has the same elements."""
        for name, other in self._alike.get(_looks(constant), ()):
            if constant is other or _content(constant) == _content(other):
                return name, other
        return None

    def enter(self, name: str, constant: Constant) -> None:
        """Another that is known by `name`."""
        self._alike.setdefault(_looks(constant), []).append((name, constant))


_ENDS = 64  # elements that are looked at, first and last, before all are


def _looks(constant: Constant) -> Any:
    """What is alike of equal constants, and seldom of others."""
    array = constant.array
    if array is None:
        return constant.dtype.name, constant.shape, constant.external
    flat = array.reshape(-1)
    few = (flat[:_ENDS].tobytes(), flat[-_ENDS:].tobytes()) if array.dtype != object else id(array)
    return constant.dtype.name, constant.shape, few


def _content(constant: Constant) -> Any:
    array = constant.array
    if array is None:
        return constant.external
    return id(array) if array.dtype == object else array.tobytes()


def _own(graph: Graph, prefix: str, outside: _Known) -> tuple[Graph, dict[str, Constant]]:
    values = {name for node in graph.nodes for name in node.outputs}
    values.update(value.name for value in graph.inputs)
    renamed: dict[str, str] = {}
    constants: dict[str, Constant] = {}
    for name, constant in graph.constants.items():
        same = outside.same(constant) if prefix else None
        if same is None or same[0] in values:
            same = prefix + name, constant
            outside.enter(*same)
        renamed[name] = same[0]
        constants[same[0]] = same[1]
    found = dict(constants)
    nodes = []
    for number, node in enumerate(graph.nodes):
        attrs = dict(node.attrs)
        for key, value in attrs.items():
            if isinstance(value, Graph):
                attrs[key], more = _own(value, f"{prefix}{number}.{key}/", outside)
                found.update(more)
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs, attrs=attrs))
    outputs = tuple(
        replace(value, name=renamed.get(value.name, value.name)) for value in graph.outputs
    )
    changed = replace(graph, nodes=tuple(nodes), outputs=outputs, constants=constants)
    return changed, found
