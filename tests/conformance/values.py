"""The pack's messages as Python values, read by tilework's own wire reader.

A tensor is an array, a sequence a list, an absent optional None. NumPy and tilework only, so that a
page reads them as the desktop does. Source: onnx/onnx-data.proto (SequenceProto, OptionalProto).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tilework.onnx.proto import BYTES, INT, MESSAGE, MESSAGES, STRING, Field, Message, TensorProto
from tilework.onnx.proto import parse as parse_message
from tilework.onnx.tensors import read_tensor

_VARINT, _LENGTH = 0, 2  # wire types
# OptionalProto.DataType
_TENSOR, _SEQUENCE = 1, 3


class SequenceProto(Message):
    name: str = ""
    elem_type: int = 0
    tensor_values: Sequence[TensorProto] = ()
    sequence_values: Sequence[SequenceProto] = ()
    TAGS: ClassVar[dict[int, Field]] = {}
    NUMBERS: ClassVar[dict[int, str]] = {}


class OptionalProto(Message):
    name: str = ""
    elem_type: int = 0
    tensor_value: TensorProto | None = None
    sequence_value: SequenceProto | None = None
    TAGS: ClassVar[dict[int, Field]] = {}
    NUMBERS: ClassVar[dict[int, str]] = {}


SequenceProto.TAGS = {
    1 << 3 | _LENGTH: ("name", STRING, None),
    2 << 3 | _VARINT: ("elem_type", INT, None),
    3 << 3 | _LENGTH: ("tensor_values", MESSAGES, TensorProto),
    5 << 3 | _LENGTH: ("sequence_values", MESSAGES, SequenceProto),
}
OptionalProto.TAGS = {
    1 << 3 | _LENGTH: ("name", BYTES, None),
    2 << 3 | _VARINT: ("elem_type", INT, None),
    3 << 3 | _LENGTH: ("tensor_value", MESSAGE, TensorProto),
    5 << 3 | _LENGTH: ("sequence_value", MESSAGE, SequenceProto),
}


def read_value(kind: str, message: memoryview, where: str) -> Any:
    """What the message holds. Raises as tilework's reader does."""
    if kind == "tensor":
        return read_tensor(parse_message(TensorProto, message), where).constant.array
    if kind == "sequence":
        return _sequence(parse_message(SequenceProto, message), where)
    if kind == "optional":
        optional = parse_message(OptionalProto, message)
        if optional.elem_type == _TENSOR and optional.tensor_value is not None:
            return read_tensor(optional.tensor_value, where).constant.array
        if optional.elem_type == _SEQUENCE and optional.sequence_value is not None:
            return _sequence(optional.sequence_value, where)
        return None
    raise ValueError(f"{where}: a value of kind {kind!r}")


def _sequence(message: SequenceProto, where: str) -> list[Any]:
    found: list[Any] = [read_tensor(t, where).constant.array for t in message.tensor_values]
    return found or [_sequence(one, where) for one in message.sequence_values]
