"""Kernel and Binding: what the host knows of one compiled entry point.

Instances are written by tools/wit.py from the families' .wit files into `hal/kernels/`; the
command buffer reads them to check and to lay out a dispatch. Nothing here is loaded or run.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tilework.core.errors import InvalidArgument

Access: TypeAlias = Literal["input", "output", "inout"]


@dataclass(frozen=True, slots=True)
class Binding:
    """One span of device memory that a kernel takes; an `optional` one may be None."""

    name: str
    access: Access
    optional: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """An entry point `name` of the module `family`.

    `params` is the NamedTuple whose `pack()` gives `params_length` bytes, or None and 0 for a
    kernel without parameters; `bindings` are in the order of the kernel's C enum. A Kernel that was
    read from a module's own bytes has `params.FIELDS` besides, in the words of `refused`.
    """

    family: str
    name: str
    params: type | None
    params_length: int
    bindings: tuple[Binding, ...]


_RANGES = {
    "u8": (0, 2**8 - 1), "u16": (0, 2**16 - 1), "u32": (0, 2**32 - 1), "u64": (0, 2**64 - 1),
    "s8": (-(2**7), 2**7 - 1), "s16": (-(2**15), 2**15 - 1),
    "s32": (-(2**31), 2**31 - 1), "s64": (-(2**63), 2**63 - 1),
}  # fmt: skip
_F32_MAX = 3.4028234663852886e38


def _complaint(value: object, kind: str) -> str | None:
    """What `value` should have been for a WIT `kind`, or None when it is right."""
    if kind == "bool":
        return None
    if kind in ("f32", "f64"):
        if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
            return f"a number ({kind})"
        number = float(value)  # type: ignore[arg-type]
        finite = number - number == 0
        return f"{kind}, at most {_F32_MAX}" if finite and abs(number) > _F32_MAX else None
    if kind.startswith("enum"):
        low, high, word = 0, int(kind[4:]) - 1, "a case of the enum"
    else:
        (low, high), word = _RANGES[kind], kind
    if not hasattr(value, "__index__") or not low <= value.__index__() <= high:
        return f"{word}, an integer from {low} to {high}"
    return None


def refused(record: str, values: Sequence[object], fields: Sequence[str]) -> InvalidArgument:
    """The error for a `record` that did not pack: names record, field, value and range.

    `fields` has for each value `name: kind` or, for a tuple, `name: (kind kind ...)`; a kind is a
    scalar of WIT or `enum` and the number of its cases.
    """
    for value, field in zip(values, fields, strict=True):
        name, types = field.split(": ")
        kinds = types.strip("()").split()
        if types[0] != "(":
            elements: Sequence[object] = (value,)
            labels = [name]
        elif isinstance(value, (tuple, list)) and len(value) == len(kinds):
            elements = value
            labels = [f"{name}[{i}]" for i in range(len(kinds))]
        else:
            return InvalidArgument(
                f"{record}: {name} is {value!r}; expected a tuple of {len(kinds)}"
            )
        for element, label, kind in zip(elements, labels, kinds, strict=True):
            complaint = _complaint(element, kind)
            if complaint is not None:
                return InvalidArgument(f"{record}: {label} is {element!r}; expected {complaint}")
    return InvalidArgument(f"{record}: {tuple(values)!r} cannot be packed")


def pack(
    layout: struct.Struct, record: str, values: Sequence[object], fields: Sequence[str]
) -> bytes:
    """The bytes of a `record` whose description was read at run time; else what `refused` says."""
    flat: list[object] = []
    for value, field in zip(values, fields, strict=True):
        kinds = field.partition(": ")[2]
        elements = value if kinds[0] == "(" else (value,)
        if not isinstance(elements, (tuple, list)) or len(elements) != len(kinds.split()):
            raise refused(record, values, fields)
        flat += elements
        for element, kind in zip(elements, kinds.strip("()").split(), strict=True):
            if kind.startswith("enum") and _complaint(element, kind):
                raise refused(record, values, fields)
    try:
        return layout.pack(*flat)
    except (struct.error, OverflowError, TypeError):
        raise refused(record, values, fields) from None
