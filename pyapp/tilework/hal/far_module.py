"""far_module: the module whose one kernel copies from a second memory into the device's.

Clang has no address space for a second memory, so the few dozen bytes are put together here.
Source: the WebAssembly core specification 3.0, binary format; DynamicLinking.md of the
tool-conventions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tilework.hal._abi import (
    BINDING_DATA,
    BINDING_LENGTH,
    DISPATCH_BINDINGS,
    DISPATCH_PARAMS,
    TILE_X,
)
from tilework.hal.interface import SECTION, VERSION

KERNEL = "far_copy"
_INTERFACE = {
    "version": VERSION,
    "family": "far",
    "kernels": [
        {
            "name": KERNEL,
            "params": {
                "name": "FarCopyParams",
                "format": "<II",
                "fields": ["offset: u32", "tile: u32"],
            },
            "bindings": [["target", "output", False]],
        }
    ],
}
_OFFSET, _TILE = 0, 4  # of the parameters
_I32, _MEMORY, _SHARED = 0x7F, 2, 3  # limits with a maximum, shared
_PAGES = 65536
_ADD, _SUBTRACT, _MULTIPLY, _LESS, _SELECT = 0x6A, 0x6B, 0x6C, 0x49, 0x1B
_DISPATCH, _AT, _PARAMS, _BINDING, _START = range(5)  # locals; the first two are arguments


def far_module(number: int) -> bytes:
    """The module; its imports are env.memory, env.far and env.__memory_base. No two numbers give
    the same bytes."""
    limits = bytes([_SHARED]) + _number(0) + _number(_PAGES)
    imports = [_text("env") + _text(name) + bytes([_MEMORY]) + limits for name in ("memory", "far")]
    signature = b"\x60" + _vector([bytes([_I32])] * 2) + _vector([bytes([_I32])])
    return b"".join(
        [
            b"\0asm\1\0\0\0",
            _section(0, _text("dylink.0") + b"\1" + _counted(bytes(4))),
            _section(1, _vector([signature])),
            _section(2, _vector(imports)),
            _section(3, _vector([_number(0)])),
            _section(7, _vector([_text(KERNEL) + b"\0" + _number(0)])),
            _section(10, _vector([_counted(_body())])),
            _section(0, _text("tilework.far") + _number(number)),
            _section(0, _text(SECTION) + json.dumps(_INTERFACE).encode()),
        ]
    )


def _body() -> bytes:
    """target[start:start + n] = far[offset + start:][:n], start = x tile, n = min(tile, rest)."""
    tile = _load(_PARAMS, _TILE)
    rest = _load(_BINDING, BINDING_LENGTH) + _get(_START) + bytes([_SUBTRACT])
    return b"".join(
        [
            _vector([_number(3) + bytes([_I32])]),
            _load(_DISPATCH, DISPATCH_PARAMS) + _set(_PARAMS),
            _load(_DISPATCH, DISPATCH_BINDINGS) + _set(_BINDING),
            _load(_AT, TILE_X) + tile + bytes([_MULTIPLY]) + _set(_START),
            _load(_BINDING, BINDING_DATA) + _get(_START) + bytes([_ADD]),
            _load(_PARAMS, _OFFSET) + _get(_START) + bytes([_ADD]),
            rest + tile + rest + tile + bytes([_LESS, _SELECT]),
            b"\xfc" + _number(10) + _number(0) + _number(1),  # memory.copy into 0 from 1
            b"\x41\0\x0b",  # i32.const 0, end
        ]
    )


def _load(pointer: int, offset: int) -> bytes:
    return _get(pointer) + b"\x28\x02" + _number(offset)


def _get(local: int) -> bytes:
    return b"\x20" + _number(local)


def _set(local: int) -> bytes:
    return b"\x21" + _number(local)


def _number(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _counted(data: bytes) -> bytes:
    return _number(len(data)) + data


def _text(name: str) -> bytes:
    return _counted(name.encode())


def _vector(items: Sequence[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _counted(body)
