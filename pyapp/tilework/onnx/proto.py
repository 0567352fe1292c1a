"""Reads ONNX's protobuf messages from bytes, without copying tensors and without a generator.

Owns the wire format and the tables of the messages' fields; knows nothing of what a model means
(that is `onnx.model`). A message is a plain object on which only the fields that the bytes hold
are set, the class gives the defaults. Bytes fields and packed numbers are memoryviews into the
given buffer. Source: protobuf.dev/programming-guides/encoding, onnx/onnx.proto (field numbers).

Whatever the bytes are, the outcome is a message or an InvalidProtobuf that says the byte offset
and the path of fields that led there; time is linear in the number of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from tilework.core.config import MESSAGE_DEPTH
from tilework.core.errors import InvalidProtobuf

# How a field's bytes become a value. The last letter S: repeated.
INT, STRING, BYTES, MESSAGE, FLOAT = "int", "string", "bytes", "message", "float"
INTS, STRINGS, BYTESS, MESSAGES = "ints", "strings", "bytess", "messages"
FIXED32S, FIXED64S = "fixed32s", "fixed64s"  # a list of memoryviews of 4- or 8-byte numbers

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRES: dict[str, tuple[int, ...]] = {
    INT: (_VARINT,),
    FLOAT: (_FIXED32,),
    INTS: (_VARINT, _LENGTH),
    FIXED32S: (_FIXED32, _LENGTH),
    FIXED64S: (_FIXED64, _LENGTH),
}
_WIRE_NAMES = {0: "varint", 1: "64-bit", 2: "length-delimited", 5: "32-bit"}

Field = tuple[str, str, "type[Message] | None"]
Raw = bytes | memoryview


class Message:
    """Base of the messages; `TAGS` maps a whole tag (number << 3 | wire type) to its field."""

    TAGS: ClassVar[dict[int, Field]] = {}
    NUMBERS: ClassVar[dict[int, str]] = {}

    def has(self, field: str) -> bool:
        """Whether the bytes held the field."""
        return field in self.__dict__


class OperatorSetIdProto(Message):
    domain: str = ""
    version: int = 0


class StringStringEntryProto(Message):
    key: str = ""
    value: str = ""


class DimensionProto(Message):
    dim_value: int = 0
    dim_param: str = ""
    denotation: str = ""


class TensorShapeProto(Message):
    dim: Sequence[DimensionProto] = ()


class TensorTypeProto(Message):
    elem_type: int = 0
    shape: TensorShapeProto | None = None


class OtherTypeProto(Message):
    """A sparse type: known to be there, not read."""


class MapTypeProto(Message):
    key_type: int = 0
    value_type: TypeProto | None = None


class WrappingTypeProto(Message):
    """A sequence's or an optional's type."""

    elem_type: TypeProto | None = None


class TypeProto(Message):
    tensor_type: TensorTypeProto | None = None
    sequence_type: WrappingTypeProto | None = None
    map_type: MapTypeProto | None = None
    sparse_tensor_type: OtherTypeProto | None = None
    optional_type: WrappingTypeProto | None = None


class ValueInfoProto(Message):
    name: str = ""
    type: TypeProto | None = None


class TensorProto(Message):
    dims: Sequence[int] = ()
    data_type: int = 0
    float_data: Sequence[memoryview] = ()
    int32_data: Sequence[int] = ()
    string_data: Sequence[memoryview] = ()
    int64_data: Sequence[int] = ()
    name: str = ""
    raw_data: memoryview = memoryview(b"")
    double_data: Sequence[memoryview] = ()
    uint64_data: Sequence[int] = ()  # read as signed; the user of it wraps
    external_data: Sequence[StringStringEntryProto] = ()
    data_location: int = 0


class AttributeProto(Message):
    name: str = ""
    ref_attr_name: str = ""
    type: int = 0
    f: float = 0.0
    i: int = 0
    s: memoryview = memoryview(b"")
    t: TensorProto | None = None
    g: GraphProto | None = None
    floats: Sequence[memoryview] = ()
    ints: Sequence[int] = ()
    strings: Sequence[memoryview] = ()
    tensors: Sequence[TensorProto] = ()
    graphs: Sequence[GraphProto] = ()
    tp: TypeProto | None = None


class NodeProto(Message):
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    name: str = ""
    op_type: str = ""
    attribute: Sequence[AttributeProto] = ()
    domain: str = ""
    overload: str = ""


class GraphProto(Message):
    node: Sequence[NodeProto] = ()
    name: str = ""
    initializer: Sequence[TensorProto] = ()
    doc_string: str = ""
    input: Sequence[ValueInfoProto] = ()
    output: Sequence[ValueInfoProto] = ()
    value_info: Sequence[ValueInfoProto] = ()
    sparse_initializer: Sequence[OtherTypeProto] = ()


class FunctionProto(Message):
    name: str = ""
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    attribute: Sequence[str] = ()
    node: Sequence[NodeProto] = ()
    opset_import: Sequence[OperatorSetIdProto] = ()
    domain: str = ""
    attribute_proto: Sequence[AttributeProto] = ()
    overload: str = ""


class ModelProto(Message):
    ir_version: int = 0
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc_string: str = ""
    graph: GraphProto | None = None
    opset_import: Sequence[OperatorSetIdProto] = ()
    metadata_props: Sequence[StringStringEntryProto] = ()
    functions: Sequence[FunctionProto] = ()


def _table(message: type[Message], fields: dict[int, Field]) -> None:
    message.TAGS = {
        number << 3 | wire: field
        for number, field in fields.items()
        for wire in _WIRES.get(field[1], (_LENGTH,))
    }
    message.NUMBERS = {number: field[0] for number, field in fields.items()}


_table(OperatorSetIdProto, {1: ("domain", STRING, None), 2: ("version", INT, None)})
_table(StringStringEntryProto, {1: ("key", STRING, None), 2: ("value", STRING, None)})
_table(
    DimensionProto,
    {
        1: ("dim_value", INT, None),
        2: ("dim_param", STRING, None),
        3: ("denotation", STRING, None),
    },
)
_table(TensorShapeProto, {1: ("dim", MESSAGES, DimensionProto)})
_table(TensorTypeProto, {1: ("elem_type", INT, None), 2: ("shape", MESSAGE, TensorShapeProto)})
_table(WrappingTypeProto, {1: ("elem_type", MESSAGE, TypeProto)})
_table(MapTypeProto, {1: ("key_type", INT, None), 2: ("value_type", MESSAGE, TypeProto)})
_table(
    TypeProto,
    {
        1: ("tensor_type", MESSAGE, TensorTypeProto),
        4: ("sequence_type", MESSAGE, WrappingTypeProto),
        5: ("map_type", MESSAGE, MapTypeProto),
        8: ("sparse_tensor_type", MESSAGE, OtherTypeProto),
        9: ("optional_type", MESSAGE, WrappingTypeProto),
    },
)
_table(ValueInfoProto, {1: ("name", STRING, None), 2: ("type", MESSAGE, TypeProto)})
_table(
    TensorProto,
    {
        1: ("dims", INTS, None),
        2: ("data_type", INT, None),
        4: ("float_data", FIXED32S, None),
        5: ("int32_data", INTS, None),
        6: ("string_data", BYTESS, None),
        7: ("int64_data", INTS, None),
        8: ("name", STRING, None),
        9: ("raw_data", BYTES, None),
        10: ("double_data", FIXED64S, None),
        11: ("uint64_data", INTS, None),
        13: ("external_data", MESSAGES, StringStringEntryProto),
        14: ("data_location", INT, None),
    },
)
_table(
    AttributeProto,
    {
        1: ("name", STRING, None),
        2: ("f", FLOAT, None),
        3: ("i", INT, None),
        4: ("s", BYTES, None),
        5: ("t", MESSAGE, TensorProto),
        6: ("g", MESSAGE, GraphProto),
        7: ("floats", FIXED32S, None),
        8: ("ints", INTS, None),
        9: ("strings", BYTESS, None),
        10: ("tensors", MESSAGES, TensorProto),
        11: ("graphs", MESSAGES, GraphProto),
        14: ("tp", MESSAGE, TypeProto),
        20: ("type", INT, None),
        21: ("ref_attr_name", STRING, None),
    },
)
_table(
    NodeProto,
    {
        1: ("input", STRINGS, None),
        2: ("output", STRINGS, None),
        3: ("name", STRING, None),
        4: ("op_type", STRING, None),
        5: ("attribute", MESSAGES, AttributeProto),
        7: ("domain", STRING, None),
        8: ("overload", STRING, None),
    },
)
_table(
    GraphProto,
    {
        1: ("node", MESSAGES, NodeProto),
        2: ("name", STRING, None),
        5: ("initializer", MESSAGES, TensorProto),
        10: ("doc_string", STRING, None),
        11: ("input", MESSAGES, ValueInfoProto),
        12: ("output", MESSAGES, ValueInfoProto),
        13: ("value_info", MESSAGES, ValueInfoProto),
        15: ("sparse_initializer", MESSAGES, OtherTypeProto),
    },
)
_table(
    FunctionProto,
    {
        1: ("name", STRING, None),
        4: ("input", STRINGS, None),
        5: ("output", STRINGS, None),
        6: ("attribute", STRINGS, None),
        7: ("node", MESSAGES, NodeProto),
        9: ("opset_import", MESSAGES, OperatorSetIdProto),
        10: ("domain", STRING, None),
        11: ("attribute_proto", MESSAGES, AttributeProto),
        13: ("overload", STRING, None),
    },
)
_table(
    ModelProto,
    {
        1: ("ir_version", INT, None),
        2: ("producer_name", STRING, None),
        3: ("producer_version", STRING, None),
        4: ("domain", STRING, None),
        5: ("model_version", INT, None),
        6: ("doc_string", STRING, None),
        7: ("graph", MESSAGE, GraphProto),
        8: ("opset_import", MESSAGES, OperatorSetIdProto),
        14: ("metadata_props", MESSAGES, StringStringEntryProto),
        25: ("functions", MESSAGES, FunctionProto),
    },
)

AnyMessage = TypeVar("AnyMessage", bound=Message)


def parse(message: type[AnyMessage], data: bytes | bytearray | memoryview) -> AnyMessage:
    """Read one message that fills `data`. Raises InvalidProtobuf."""
    view = memoryview(data).cast("B")
    try:
        # Indexing bytes is faster than indexing a view of them; only slices must be views.
        return _read(message, data if isinstance(data, bytes) else view, view, 0, len(view), 0)
    except _Fault as fault:
        path = ".".join([message.__name__, *reversed(fault.path)])
        raise InvalidProtobuf(
            f"{path}: {fault.reason} at byte {fault.offset} of {len(view)}; "
            "the model file is truncated, damaged or not ONNX"
        ) from None


class _Fault(Exception):
    """What is wrong at which byte; the fields that led there are added while unwinding."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason
        self.path: list[str] = []


def _varint(raw: Raw, pos: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit number at `pos` and where it ends."""
    start, value, shift = pos, 0, 0
    while pos < end:
        byte = raw[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise _Fault(start, "a number of more than 64 bits")
            return value, pos
        shift += 7
        if shift >= 70:
            raise _Fault(start, "a number of more than 10 bytes")
    raise _Fault(start, "the message ends inside a number")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _read(
    message: type[AnyMessage], raw: Raw, view: memoryview, pos: int, end: int, depth: int
) -> AnyMessage:
    if depth > MESSAGE_DEPTH:
        raise _Fault(pos, f"messages are nested more than {MESSAGE_DEPTH} deep")
    result = message()
    values: dict[str, Any] = result.__dict__
    tags = message.TAGS
    name = ""
    try:
        while pos < end:
            start = pos
            name = ""
            tag = raw[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = _varint(raw, start, end)
            wire = tag & 7
            field = tags.get(tag)
            if field is None:
                pos = _skip(message, raw, tag, start, pos, end)
                continue
            name, kind, of = field
            if wire == 2:
                if pos >= end:
                    raise _Fault(pos, "the message ends before a length")
                length = raw[pos]
                pos += 1
                if length > 0x7F:
                    length, pos = _varint(raw, pos - 1, end)
                stop = pos + length
                if stop > end:
                    raise _Fault(pos, f"a length of {length} where {end - pos} bytes are left")
                if kind == "message" or kind == "messages":
                    assert of is not None  # the tables say so
                    child = _read(of, raw, view, pos, stop, depth + 1)
                    if kind == "message":
                        values[name] = child
                    elif name in values:
                        values[name].append(child)
                    else:
                        values[name] = [child]
                elif kind == "string":
                    values[name] = str(raw[pos:stop], "utf-8")
                elif kind == "strings":
                    values.setdefault(name, []).append(str(raw[pos:stop], "utf-8"))
                elif kind == "bytes":
                    values[name] = view[pos:stop]
                elif kind == "ints":
                    values.setdefault(name, []).extend(_packed(raw, pos, stop))
                else:
                    size = 4 if kind == "fixed32s" else 8 if kind == "fixed64s" else 1
                    if length % size:
                        raise _Fault(pos, f"{length} bytes do not hold {size}-byte numbers")
                    values.setdefault(name, []).append(view[pos:stop])
                pos = stop
            elif wire == 0:
                number = raw[pos] if pos < end else 0x80
                if number > 0x7F:
                    number, pos = _varint(raw, pos, end)
                    number = _signed(number)
                else:
                    pos += 1
                if kind == "int":
                    values[name] = number
                else:
                    values.setdefault(name, []).append(number)
            else:
                stop = pos + (4 if wire == _FIXED32 else 8)
                if stop > end:
                    raise _Fault(pos, "the message ends inside a number")
                if kind == "float":
                    values[name] = struct.unpack_from("<f", view, pos)[0]
                else:
                    values.setdefault(name, []).append(view[pos:stop])
                pos = stop
    except _Fault as fault:
        if name:
            many = values.get(name)
            repeated = isinstance(many, list) or (field is not None and field[1] == "messages")
            fault.path.append(f"{name}[{len(many or ())}]" if repeated else name)
        raise
    except UnicodeDecodeError:
        unreadable = _Fault(pos, "a name that is not UTF-8")
        unreadable.path.append(name)
        raise unreadable from None
    return result


def _packed(raw: Raw, pos: int, end: int) -> list[int]:
    chunk = bytes(raw[pos:end])
    if chunk.isascii():  # all below 0x80: one byte a number
        return list(chunk)
    numbers = []
    while pos < end:
        number, pos = _varint(raw, pos, end)
        numbers.append(_signed(number))
    return numbers


def _skip(message: type[Message], raw: Raw, tag: int, start: int, pos: int, end: int) -> int:
    """Where the unknown field behind `tag` ends."""
    number, wire = tag >> 3, tag & 7
    known = message.NUMBERS.get(number)
    if known is not None:
        found = _WIRE_NAMES.get(wire, f"wire type {wire}")
        raise _Fault(start, f"field '{known}' ({number}) is {found}, which it cannot be")
    if number == 0 or number >> 29:
        raise _Fault(start, f"field number {number}")
    if wire == _VARINT:
        return _varint(raw, pos, end)[1]
    if wire == _LENGTH:
        length, pos = _varint(raw, pos, end)
        stop = pos + length
    elif wire in (_FIXED32, _FIXED64):
        stop = pos + (4 if wire == _FIXED32 else 8)
    else:
        raise _Fault(start, f"wire type {wire} in field {number}, which ONNX does not use")
    if stop > end:
        raise _Fault(pos, f"field {number} needs {stop - pos} bytes, {end - pos} are left")
    return stop
