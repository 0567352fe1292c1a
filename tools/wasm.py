"""Reads the sections of a WebAssembly module that the build checks: imports, exports, customs.

Owns no knowledge of what they should be; tools/kernels.py does. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

_KINDS = ("function", "table", "memory", "global", "tag")


@dataclass(frozen=True, slots=True)
class Module:
    """What a module wants and gives: (module, name, kind), (name, kind), custom sections' names."""

    imports: tuple[tuple[str, str, str], ...]
    exports: tuple[tuple[str, str], ...]
    customs: tuple[str, ...]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self) -> str:
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def limits(self) -> None:
        has_maximum = self.byte() & 1
        self.number()
        if has_maximum:
            self.number()


def read_module(data: bytes) -> Module:
    """Read a binary module. Raises ValueError when it is not one."""
    if data[:8] != b"\0asm\1\0\0\0":
        raise ValueError("not a WebAssembly module of version 1")
    reader = _Reader(data)
    reader.at = 8
    imports: list[tuple[str, str, str]] = []
    exports: list[tuple[str, str]] = []
    customs: list[str] = []
    try:
        while reader.at < len(data):
            section = reader.byte()
            end = reader.number() + reader.at
            if section == 0:
                customs.append(reader.name())
            elif section == 2:
                imports = [_read_import(reader) for _ in range(reader.number())]
            elif section == 7:
                exports = [_read_export(reader) for _ in range(reader.number())]
            reader.at = end
    except IndexError:
        raise ValueError("the module is truncated") from None
    return Module(tuple(imports), tuple(exports), tuple(customs))


def _read_import(reader: _Reader) -> tuple[str, str, str]:
    module, name = reader.name(), reader.name()
    kind = _KINDS[reader.byte()]
    if kind == "function":
        reader.number()
    elif kind == "table":
        reader.byte()
        reader.limits()
    elif kind == "memory":
        reader.limits()
    elif kind == "global":
        reader.byte()
        reader.byte()
    else:
        reader.byte()
        reader.number()
    return module, name, kind


def _read_export(reader: _Reader) -> tuple[str, str]:
    name = reader.name()
    kind = _KINDS[reader.byte()]
    reader.number()
    return name, kind
