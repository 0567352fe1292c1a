"""Mutations of model files: of the bytes, and of what the bytes say.

A mutation is drawn from a seeded generator, so a model's number and the seed name it for ever.
Those of the content take the file apart by the tables of tilework's own wire reader and put it
together again, so that what comes out is a well-formed protobuf that says something odd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from tilework.onnx.proto import Message, ModelProto, NodeProto

_VARINT, _LENGTH = 0, 2
_SIZES = {1: 8, 5: 4}  # bytes of the other wire types
_HUGE = (
    *(-1, 0, 1, 2, 3, 7, 255, 4096, 65535, 1 << 20, 1 << 31, (1 << 31) - 1, (1 << 32) - 1),
    *(1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63), -2, -5, 1000, 100_000, 10**9),
)
_DIMENSIONS = {"dims", "dim_value", "ints", "i"}
_TYPES = {"data_type", "elem_type", "type"}


@dataclass(slots=True, eq=False)
class Field:
    """One field of a message; `value` is a number, a list of packed numbers, bytes or fields."""

    number: int
    wire: int
    name: str
    value: Any
    of: type[Message] | None


Fields: TypeAlias = list[Field]


# -- taking apart and putting together ------------------------------------------------------------


def _read_number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def take_apart(message: type[Message], raw: bytes) -> Fields:
    """The fields of a well-formed message, those inside it as well."""
    fields, at = [], 0
    while at < len(raw):
        tag, at = _read_number(raw, at)
        name, kind, of = message.TAGS.get(tag, ("", "", None))
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value, at = _read_number(raw, at)
        elif wire == _LENGTH:
            size, at = _read_number(raw, at)
            value, at = raw[at : at + size], at + size
            if of is not None:
                value = take_apart(of, value)
            elif kind == "ints":
                value = list(_unpacked(value))
        else:
            value, at = raw[at : at + _SIZES[wire]], at + _SIZES[wire]
        fields.append(Field(tag >> 3, wire, name, value, of))
    return fields


def _unpacked(raw: bytes) -> Iterator[int]:
    at = 0
    while at < len(raw):
        value, at = _read_number(raw, at)
        yield value


def put_together(fields: Fields) -> bytes:
    """The bytes of the fields."""
    out = bytearray()
    for field in fields:
        out += _number(field.number << 3 | field.wire)
        if field.wire == _VARINT:
            out += _number(field.value)
            continue
        content = field.value
        if field.of is not None:
            content = put_together(content)
        elif isinstance(content, list):
            content = b"".join(map(_number, content))
        if field.wire == _LENGTH:
            out += _number(len(content))
        out += content
    return bytes(out)


# -- what is where --------------------------------------------------------------------------------


def _messages(fields: Fields) -> Iterator[Fields]:
    """The message and all that are inside it."""
    yield fields
    for field in fields:
        if field.of is not None:
            yield from _messages(field.value)


def _numbers(fields: Fields, names: set[str]) -> list[tuple[Field, int | None]]:
    """The places of numbers in fields of these names; with a position in a packed list."""
    found: list[tuple[Field, int | None]] = []
    for message in _messages(fields):
        for field in message:
            if field.name not in names or field.of is not None:
                continue
            if isinstance(field.value, list):
                found += [(field, index) for index in range(len(field.value))]
            elif field.wire == _VARINT:
                found.append((field, None))
    return found


def _get(place: tuple[Field, int | None]) -> int:
    field, index = place
    return int(field.value if index is None else field.value[index])


def _set(place: tuple[Field, int | None], value: int) -> None:
    field, index = place
    if index is None:
        field.value = value
    else:
        field.value[index] = value


def _nodes(fields: Fields) -> list[Fields]:
    return [
        field.value
        for message in _messages(fields)
        for field in message
        if field.of is NodeProto
    ]


# -- mutations of the content ---------------------------------------------------------------------


def _swap_dimensions(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    places = _numbers(model, _DIMENSIONS)
    if len(places) > 1:
        a, b = draw.sample(places, 2)
        first, second = _get(a), _get(b)
        _set(a, second)
        _set(b, first)


def _huge_number(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    places = _numbers(model, _DIMENSIONS)
    if places:
        _set(draw.choice(places), draw.choice(_HUGE))


def _other_type(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    places = _numbers(model, _TYPES)
    if places:
        _set(draw.choice(places), draw.randrange(30))


def _other_version(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    places = _numbers(model, {"version", "ir_version"})
    if places:
        _set(draw.choice(places), draw.choice((*_HUGE, *range(1, 30))))


def _cycle(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    """A node reads what it, or any other, makes; or a name is made twice."""
    nodes = _nodes(model)
    inputs = [f for node in nodes for f in node if f.name == "input"]
    outputs = [f for node in nodes for f in node if f.name == "output"]
    if inputs and outputs:
        targets = inputs if draw.random() < 0.8 else outputs
        draw.choice(targets).value = draw.choice(outputs).value


def _other_operator(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    places = [f for node in _nodes(model) for f in node if f.name == "op_type"]
    if places:
        draw.choice(places).value = draw.choice(names)


def _reorder(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    message = draw.choice([m for m in _messages(model) if len(m) > 1] or [model])
    draw.shuffle(message)


def _drop(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    message = draw.choice([m for m in _messages(model) if m] or [model])
    if message:
        del message[draw.randrange(len(message))]


def _double(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    message = draw.choice([m for m in _messages(model) if m] or [model])
    if message:
        again = draw.choice(message)
        message[:0] = [again] * draw.choice((1, 1, 1, 2, 1000))


def _swap_fields(model: Fields, draw: Random, names: Sequence[bytes]) -> None:
    """Two messages of a kind exchange what they hold: shapes, attributes, tensors, whole nodes."""
    kinds: dict[Any, list[Field]] = {}
    for message in _messages(model):
        for field in message:
            if field.of is not None:
                kinds.setdefault(field.of, []).append(field)
    several = [fields for fields in kinds.values() if len(fields) > 1]
    if several:
        a, b = draw.sample(draw.choice(several), 2)
        if not _inside(a, b) and not _inside(b, a):
            a.value, b.value = b.value, a.value


def _inside(outer: Field, inner: Field) -> bool:
    return any(field is inner for message in _messages(outer.value) for field in message)


_CONTENT: Mapping[str, Callable[[Fields, Random, Sequence[bytes]], None]] = {
    "swapped dimensions": _swap_dimensions,
    "huge number": _huge_number,
    "other type": _other_type,
    "other version": _other_version,
    "cycle": _cycle,
    "other operator": _other_operator,
    "reordered": _reorder,
    "dropped": _drop,
    "doubled": _double,
    "swapped messages": _swap_fields,
}

# -- mutations of the bytes -----------------------------------------------------------------------


def _flip(raw: bytearray, draw: Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)


def _truncate(raw: bytearray, draw: Random) -> None:
    del raw[draw.randrange(len(raw)) :]


def _splice(raw: bytearray, draw: Random) -> None:
    start, size = draw.randrange(len(raw)), draw.randrange(1, 64)
    place = draw.randrange(len(raw))
    part = raw[start : start + size]
    raw[place : place + (size if draw.random() < 0.5 else 0)] = part


def _random_bytes(raw: bytearray, draw: Random) -> None:
    place = draw.randrange(len(raw))
    raw[place : place + draw.randrange(8)] = draw.randbytes(draw.randrange(1, 8))


_BYTES: Mapping[str, Callable[[bytearray, Random], None]] = {
    "bit flips": _flip,
    "truncated": _truncate,
    "spliced": _splice,
    "random bytes": _random_bytes,
}
KINDS = (*_CONTENT, *_BYTES)


def mutate(content: bytes, draw: Random, names: Sequence[bytes]) -> tuple[str, bytes]:
    """(what was done, the mutated file); `names` are operators to choose from."""
    kinds = draw.choices(KINDS, k=draw.choice((1, 1, 1, 2, 3)))
    for kind in sorted(kinds, key=KINDS.index):  # those of the content first
        if kind in _CONTENT:
            fields = take_apart(ModelProto, content)
            _CONTENT[kind](fields, draw, names)
            content = put_together(fields)
        elif content:
            raw = bytearray(content)
            _BYTES[kind](raw, draw)
            content = bytes(raw)
    return ", ".join(kinds), content
