"""Replaces calls of a model's own functions (FunctionProto) by their bodies.

A body's names get a prefix that no other call has; attributes that refer to the function's
(`ref_attr_name`) get the call's value or the function's default, or vanish. Every node knows the
opsets that it was written for: a function imports its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from tilework.core.config import CALL_DEPTH, INLINED_NODES
from tilework.core.errors import InvalidGraph
from tilework.onnx.ops.table import DOMAINS
from tilework.onnx.proto import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
)

Opsets = Mapping[str, int]
Functions = Mapping[tuple[str, str, str], FunctionProto]


class Placed(NamedTuple):
    """A node, the opsets that it is written for, and how many calls deep it is."""

    node: NodeProto
    opsets: Opsets
    depth: int = 0


class _Call(NamedTuple):
    """What a call's body is rewritten with: names of values, attributes given and defaults."""

    names: dict[str, str]
    prefix: str
    given: Mapping[str, AttributeProto]
    defaults: Mapping[str, AttributeProto]


def opset_table(imports: Sequence[OperatorSetIdProto]) -> dict[str, int]:
    """Version by domain."""
    return {DOMAINS.get(entry.domain, entry.domain): entry.version for entry in imports}


def function_table(functions: Sequence[FunctionProto]) -> Functions:
    """Functions by what a node calls them."""
    return {(one.domain, one.name, one.overload): one for one in functions}


def inline(
    nodes: Sequence[NodeProto], functions: Functions, opsets: Opsets, depth: int = 0
) -> list[Placed]:
    """The nodes with every call replaced. Raises InvalidGraph."""
    result: list[Placed] = []
    _expand(nodes, functions, opsets, result, depth)
    return result


def _expand(
    nodes: Sequence[NodeProto],
    functions: Functions,
    opsets: Opsets,
    result: list[Placed],
    depth: int,
) -> None:
    for node in nodes:
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is None:
            if len(result) >= INLINED_NODES:
                raise InvalidGraph(f"inlined functions make more than {INLINED_NODES} nodes")
            result.append(Placed(node, opsets, depth))
            continue
        if depth == CALL_DEPTH:
            raise InvalidGraph(
                f"function '{node.op_type}' is called {CALL_DEPTH} calls deep; it must not call "
                "itself"
            )
        body = _body(node, function, len(result), depth)
        own = {**opsets, **opset_table(function.opset_import)}
        _expand(body, functions, own, result, depth + 1)


def _body(call: NodeProto, function: FunctionProto, number: int, depth: int) -> list[NodeProto]:
    if len(call.input) > len(function.input) or len(call.output) > len(function.output):
        raise InvalidGraph(
            f"{call.op_type} '{call.name}': the function takes {len(function.input)} inputs and "
            f"has {len(function.output)} outputs"
        )
    prefix = f"{call.name or call.op_type}/{number}.{depth}/"
    names = {"": ""}
    for index, name in enumerate(function.input):
        names[name] = call.input[index] if index < len(call.input) else ""
    copies = {}  # an output that is an input of the function needs a node of its own
    for index, name in enumerate(function.output):
        if index < len(call.output) and call.output[index]:
            if name in names:
                copies[call.output[index]] = names[name]
            else:
                names[name] = call.output[index]
    given = {attribute.name: attribute for attribute in call.attribute}
    defaults = {attribute.name: attribute for attribute in function.attribute_proto}
    scope = _Call(names, prefix, given, defaults)
    body = []
    for node in function.node:
        copy = _copied(node, scope)
        copy.input = [names.setdefault(name, prefix + name) for name in node.input]
        copy.output = [names.setdefault(name, prefix + name) for name in node.output]
        body.append(copy)
    for target, source in copies.items():
        copy = NodeProto()
        copy.op_type, copy.input, copy.output = "Identity", [source], [target]
        body.append(copy)
    return body


def _copied(node: NodeProto, scope: _Call) -> NodeProto:
    copy = NodeProto()
    copy.__dict__.update(node.__dict__)
    copy.name = scope.prefix + node.name
    attributes = (_bound(attribute, scope) for attribute in node.attribute)
    copy.attribute = [attribute for attribute in attributes if attribute is not None]
    return copy


def _bound(attribute: AttributeProto, scope: _Call) -> AttributeProto | None:
    """The attribute as it is in this call; None when neither call nor function gives a value."""
    name = attribute.ref_attr_name
    value = (scope.given.get(name) or scope.defaults.get(name)) if name else attribute
    if value is None or (value is attribute and attribute.g is None):
        return value
    copy = AttributeProto()
    copy.__dict__.update(value.__dict__)
    copy.name = attribute.name
    if value is attribute and attribute.g is not None:
        copy.g = _within(attribute.g, scope)
    return copy


def _within(graph: GraphProto, scope: _Call) -> GraphProto:
    """A graph inside a body's node: what it takes from the body has other names now.

    Where it has a name of its own that a value around the call has, its own gets the prefix.
    """
    own = {one.name for one in graph.input} | {one.name for one in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    names = {name: new for name, new in scope.names.items() if name not in own or not name}
    meant = set(names.values())
    names.update((name, scope.prefix + name) for name in own if name and name in meant)
    inner = scope._replace(names=names)
    copy = GraphProto()
    copy.__dict__.update(graph.__dict__)
    copy.node = []
    for node in graph.node:
        renamed = _copied(node, inner)
        renamed.input = [names.get(name, name) for name in node.input]
        renamed.output = [names.get(name, name) for name in node.output]
        copy.node.append(renamed)
    # An output may be taken from the body directly; it then needs a node of its own.
    for output in graph.output:
        if output.name not in own and output.name in names:
            alias = NodeProto()
            alias.op_type, alias.input, alias.output = (
                "Identity", [names[output.name]], [output.name],
            )  # fmt: skip
            copy.node.append(alias)
    changed = {name: names[name] for name in own if name in names and name}
    if changed:
        for field in ("input", "initializer", "output"):
            copy.__dict__[field] = [_named(one, changed) for one in getattr(graph, field)]
        copy.value_info = [one for one in graph.value_info if one.name not in changed]
    return copy


_Named = TypeVar("_Named", ValueInfoProto, TensorProto)


def _named(one: _Named, names: Mapping[str, str]) -> _Named:
    copy = type(one)()
    copy.__dict__.update(one.__dict__)
    copy.name = names.get(one.name, one.name)
    return copy
