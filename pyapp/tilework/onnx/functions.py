"""Replaces calls of a model's own functions (FunctionProto) by their bodies.

A body's names get a prefix that no other call has; attributes that refer to the function's
(`ref_attr_name`) get the call's value or the function's default, or vanish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilework.core.config import CALL_DEPTH, INLINED_NODES
from tilework.core.errors import InvalidGraph, NotImplemented
from tilework.onnx.proto import AttributeProto, FunctionProto, NodeProto

_Key = tuple[str, str, str]


def inline(
    nodes: Sequence[NodeProto], functions: Sequence[FunctionProto], opsets: Mapping[str, int]
) -> Sequence[NodeProto]:
    """The nodes with every call replaced. Raises InvalidGraph, NotImplemented.

    A function may import another version of an opset than the model; only equal ones are taken.
    """
    if not functions:
        return nodes
    table: dict[_Key, FunctionProto] = {}
    for function in functions:
        table[function.domain, function.name, function.overload] = function
        for entry in function.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            if opsets.get(domain, entry.version) != entry.version:
                raise NotImplemented(
                    f"function '{function.name}': it imports opset {entry.version} of "
                    f"'{domain or 'ai.onnx'}', the model {opsets[domain]}; inline it with "
                    "onnx.inliner"
                )
    result: list[NodeProto] = []
    _expand(nodes, table, result, 0)
    return result


def _expand(
    nodes: Sequence[NodeProto],
    table: Mapping[_Key, FunctionProto],
    result: list[NodeProto],
    depth: int,
) -> None:
    for node in nodes:
        function = table.get((node.domain, node.op_type, node.overload))
        if function is None:
            if len(result) >= INLINED_NODES:
                raise InvalidGraph(f"inlined functions make more than {INLINED_NODES} nodes")
            result.append(node)
            continue
        if depth == CALL_DEPTH:
            raise InvalidGraph(
                f"function '{node.op_type}' is called {CALL_DEPTH} calls deep; it must not call "
                "itself"
            )
        _expand(_body(node, function, len(result), depth), table, result, depth + 1)


def _body(call: NodeProto, function: FunctionProto, number: int, depth: int) -> list[NodeProto]:
    if len(call.input) > len(function.input) or len(call.output) > len(function.output):
        raise InvalidGraph(
            f"{call.op_type} '{call.name}': the function takes {len(function.input)} inputs and "
            f"has {len(function.output)} outputs"
        )
    given = {attribute.name: attribute for attribute in call.attribute}
    defaults = {attribute.name: attribute for attribute in function.attribute_proto}
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
    body = []
    for node in function.node:
        copy = NodeProto()
        copy.__dict__.update(node.__dict__)
        copy.name = prefix + node.name
        copy.input = [names.setdefault(name, prefix + name) for name in node.input]
        copy.output = [names.setdefault(name, prefix + name) for name in node.output]
        attributes = (_bound(a, given, defaults) for a in node.attribute)
        copy.attribute = [a for a in attributes if a is not None]
        body.append(copy)
    for target, source in copies.items():
        copy = NodeProto()
        copy.op_type, copy.input, copy.output = "Identity", [source], [target]
        body.append(copy)
    return body


def _bound(
    attribute: AttributeProto,
    given: Mapping[str, AttributeProto],
    defaults: Mapping[str, AttributeProto],
) -> AttributeProto | None:
    if not attribute.ref_attr_name:
        return attribute
    value = given.get(attribute.ref_attr_name) or defaults.get(attribute.ref_attr_name)
    if value is None:
        return None
    copy = AttributeProto()
    copy.__dict__.update(value.__dict__)
    copy.name = attribute.name
    return copy
