"""The `tilework.interface` section: what a module's bytes say of their kernels.

tools/interface.py appends it from the family's .wit, as JSON:

    {"version": 1, "family": "probe", "kernels": [{
      "name": "trace",
      "params": {"name": "TraceParams", "format": "<I", "fields": ["value: u32"]} or null,
      "bindings": [["out", "inout", false], ...]   (name, access, optional)
    }]}

`format` is `struct`'s, `fields` are in the words of `kernel.refused`. A module of anyone's then
needs no Python file beside it: `Kernel.params` is made here.
"""

from __future__ import annotations

import json
import re
import struct
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from tilework.core.errors import InvalidExecutable
from tilework.hal.kernel import Binding, Kernel, pack

SECTION = "tilework.interface"
VERSION = 1

_FORMAT = re.compile(r"<[xbBhHiIqQfd?]*")
_KIND = r"(?:bool|[us](?:8|16|32|64)|f32|f64|enum[1-9]\d*)"
_FIELD = re.compile(rf"[A-Za-z]\w*: (?:{_KIND}|\({_KIND}(?: {_KIND})*\))")


def read_interface(section: bytes, module: str) -> dict[str, Kernel]:
    """The kernels by name, in the section's order; InvalidExecutable when it is not as above."""
    try:
        told = json.loads(section)
        if told["version"] != VERSION:
            raise InvalidExecutable(
                f"{module}: its {SECTION} section has version {told['version']}, this tilework "
                f"reads {VERSION}; build the module again"
            )
        kernels = [_kernel(_text(told["family"]), kernel) for kernel in told["kernels"]]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        if isinstance(error, InvalidExecutable):
            raise
        raise InvalidExecutable(
            f"{module}: its {SECTION} section is damaged ({type(error).__name__}: {error}); build "
            "the module again"
        ) from None
    return {kernel.name: kernel for kernel in kernels}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no name")
    return value


def _kernel(family: str, told: Mapping[str, Any]) -> Kernel:
    params, length = None, 0
    if told["params"] is not None:
        params, length = _params(told["params"])
    bindings = []
    for name, access, optional in told["bindings"]:
        if access not in ("input", "output", "inout") or not isinstance(optional, bool):
            raise ValueError(f"binding {name!r} is {access!r}, {optional!r}")
        bindings.append(Binding(_text(name), access, optional))
    return Kernel(family, _text(told["name"]), params, length, tuple(bindings))


def _params(told: Mapping[str, Any]) -> tuple[type, int]:
    """A NamedTuple of the record's fields with `pack()`, and its bytes."""
    name, form, fields = _text(told["name"]), _text(told["format"]), tuple(told["fields"])
    if not _FORMAT.fullmatch(form) or not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError(f"the format or a field of {name}")
    layout = struct.Struct(form)
    kinds = sum(len(field.partition(": ")[2].split()) for field in fields)
    if kinds != sum(letter not in "<x" for letter in form):
        raise ValueError(f"{name} has {kinds} values, its format {form}")
    names = [field.partition(":")[0] for field in fields]
    base: Any = namedtuple(name, names)  # type: ignore[misc]  # known at run time only

    def packed(self: tuple[Any, ...]) -> bytes:
        """The bytes that the kernel reads; else an InvalidArgument."""
        return pack(layout, name, self, fields)

    return type(name, (base,), {"__slots__": (), "FIELDS": fields, "pack": packed}), layout.size
