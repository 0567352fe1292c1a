"""Kernel modules made by hand, byte by byte: small, sound ones, and each with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence

I32, I64, FUNCREF = 0x7F, 0x7E, 0x70
KERNEL = ((I32, I32), (I32,))
PROCEDURE = ((), ())
SUCCEED = b"\x41\x00\x0b"  # i32.const 0, end
NOTHING = b"\x0b"
TRAP = b"\x00\x0b"
# out[x] = the word at the start of the module's data: d->bindings[0].data + 4 * t->x
PUT = bytes.fromhex("2000 280210 280200 2001 280200 4102 74 6a 2300 280200 360200 4100 0b")
# Traps unless the first word of the data is 0, and makes it 1.
ONCE = bytes.fromhex("2300 280200 0440 00 0b 2300 4101 360200 0b")
MEMORY = (3, 0, 65536)  # limits flag (maximum, shared), minimum, maximum

Type = tuple[tuple[int, ...], tuple[int, ...]]


def number(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def counted(data: bytes) -> bytes:
    return number(len(data)) + data


def text(name: str) -> bytes:
    return counted(name.encode())


def vector(items: Sequence[bytes]) -> bytes:
    return number(len(items)) + b"".join(items)


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + counted(body)


def limits(values: Sequence[int | None]) -> bytes:
    return b"".join(number(value) for value in values if value is not None)


def module(
    functions: Sequence[tuple[str, Type, bytes]] = (("k", KERNEL, SUCCEED),),
    *,
    sizes: Sequence[int] = (0, 0, 0, 0),
    needed: Sequence[str] = (),
    memory: Sequence[int | None] = MEMORY,
    table: Sequence[int | None] | None = None,
    more_imports: Sequence[bytes] = (),
    start: int | None = None,
    data: bytes = b"",
    interface: object = None,
) -> bytes:
    """A module; `functions` are (name, type, body), exported unless the name is empty.

    `sizes` is dylink.0's memory info: size, alignment as a power of 2, table size, its alignment.
    `data` is written to the start of the module's region.
    """
    info = b"\x01" + counted(b"".join(map(number, sizes)))
    if needed:
        info += b"\x02" + counted(vector([text(name) for name in needed]))
    imports = [text("env") + text("memory") + b"\x02" + limits(memory)]
    imports += [text("env") + text("__memory_base") + b"\x03\x7f\x00"]
    if table is not None:
        imports += [text("env") + text("__indirect_function_table") + b"\x01\x70" + limits(table)]
    imports += more_imports
    types = [b"\x60" + counted(bytes(p)) + counted(bytes(r)) for _, (p, r), _ in functions]
    exports = [
        text(name) + b"\x00" + number(i) for i, (name, _, _) in enumerate(functions) if name
    ]
    code = [counted(b"\x00" + body) for _, _, body in functions]
    out = b"\0asm\1\0\0\0" + section(0, text("dylink.0") + info)
    out += section(1, vector(types)) + section(2, vector(imports))
    out += section(3, vector([number(i) for i in range(len(functions))]))
    out += section(7, vector(exports))
    if start is not None:
        out += section(8, number(start))
    out += section(10, vector(code))
    if data:
        out += section(11, vector([b"\x00\x23\x00\x0b" + counted(data)]))
    if interface is not None:
        told = interface if isinstance(interface, bytes) else json.dumps(interface).encode()
        out += section(0, text("tilework.interface") + told)
    return out


def puts(value: int, name: str = "put") -> bytes:
    """A module whose one kernel writes `value` into out[x], from its own data."""
    kernel = {"name": name, "params": None, "bindings": [["out", "output", False]]}
    told = {"version": 1, "family": "own", "kernels": [kernel]}
    word = value.to_bytes(4, "little")
    return module([(name, KERNEL, PUT)], sizes=(4, 2, 0, 0), data=word, interface=told)
