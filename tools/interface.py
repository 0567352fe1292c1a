"""Writes the `tilework.interface` section: what a kernel module says of itself.

From a family's .wit, as pyapp/tilework/hal/interface.py states it and reads it; tools/compiler.py
appends it to every module that it links.
"""

from __future__ import annotations

import json
from typing import Any

from tools.wit import pascal, python_name, record_format, snake, wit_type
from tools.wit_reader import Family, Kernel

SECTION = "tilework.interface"
VERSION = 1


def section(family: Family) -> bytes:
    """A custom section with the kernels of `family`, to be appended to its module."""
    told = {
        "version": VERSION,
        "family": snake(family.name),
        "kernels": [_kernel(kernel) for kernel in family.kernels],
    }
    text = json.dumps(told, separators=(",", ":")).encode()
    body = bytes([*_number(len(SECTION)), *SECTION.encode(), *text])
    return bytes([0, *_number(len(body)), *body])


def _kernel(kernel: Kernel) -> dict[str, Any]:
    params = None
    if kernel.record is not None:
        params = {
            "name": pascal(kernel.record.name),
            "format": record_format(kernel.record),
            "fields": [f"{python_name(f.name)}: {wit_type(f)}" for f in kernel.record.fields],
        }
    bindings = [[snake(b.name), b.access, b.optional] for b in kernel.bindings]
    return {"name": snake(kernel.name), "params": params, "bindings": bindings}


def _number(value: int) -> list[int]:
    """Unsigned LEB128."""
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return [*out, value]
