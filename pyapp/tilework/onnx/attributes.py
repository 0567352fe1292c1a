"""AttributeProto to a Python value: int, float, str, tuples of these, arrays, or a GraphProto."""

from __future__ import annotations

from typing import Any

from tilework.core.errors import InvalidGraph, InvalidProtobuf
from tilework.onnx.proto import AttributeProto, NodeProto
from tilework.onnx.tensors import chunks, read_tensor

# AttributeProto.AttributeType -> the field that holds the value
_FIELDS = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    13: "tp",
}


def attribute_value(attribute: AttributeProto, node: NodeProto) -> Any:
    """The attribute's value; `node` is named in errors.

    Old files state no type; then it is told by the field that is set.
    """
    where = f"{node.op_type} '{node.name}', attribute '{attribute.name}'"
    if attribute.ref_attr_name:
        raise InvalidGraph(
            f"{where}: refers to a function's attribute, but the node is in no function"
        )
    kind = _FIELDS.get(attribute.type)
    if kind is None:
        kind = next((name for name in _FIELDS.values() if attribute.has(name)), None)
    if kind is None:
        raise InvalidProtobuf(f"{where}: has type {attribute.type} and no value that is read")
    value = getattr(attribute, kind)
    try:
        if kind == "s":
            return str(value, "utf-8")
        if kind == "strings":
            return tuple(str(text, "utf-8") for text in value)
    except UnicodeDecodeError:
        raise InvalidProtobuf(f"{where}: is not UTF-8") from None
    if kind == "t":
        if value is None:
            raise InvalidProtobuf(f"{where}: has no tensor")
        return read_tensor(value, where).constant.array
    if kind == "floats":
        return tuple(chunks(value, "<f4").tolist())
    if kind in ("ints", "graphs", "tensors"):
        return tuple(value)
    return value
