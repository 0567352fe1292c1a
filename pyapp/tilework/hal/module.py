"""A kernel module's bytes: what a loader must know of them before an engine sees them.

Reads just the sections that say how much memory and table the module wants, what it imports and
what it exports. Source: the WebAssembly core specification, binary format; the tool-conventions'
DynamicLinking.md for `dylink.0`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilework.core.errors import InvalidExecutable

_CUSTOM, _IMPORT, _EXPORT = 0, 2, 7
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_SHARED = 2  # bit of a memory's limits flag
_DYLINK_MEM_INFO = 1

HOST_PROVIDES = frozenset(
    {"memory", "__indirect_function_table", "__stack_pointer", "__memory_base", "__table_base"}
)


@dataclass(frozen=True, slots=True)
class Module:
    """What `dylink.0`, the imports and the exports say. Sizes in bytes and table slots."""

    memory_size: int
    memory_alignment: int
    table_size: int
    functions: tuple[str, ...]  # exported functions, in the module's order
    shared_flags: tuple[int, ...]  # where in the bytes each imported memory's limits flag stands


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.at = 0
        self.name = name

    def fail(self, what: str) -> InvalidExecutable:
        return InvalidExecutable(f"{self.name}: {what} at byte {self.at:,} of {len(self.data):,}")

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise self.fail("the module ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return result
            shift += 7
            if shift > 63:
                raise self.fail("a number is longer than 64 bits")

    def text(self) -> str:
        length = self.number()
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise self.fail("a name runs past the end")
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8") from None

    def limits(self) -> tuple[int, int]:
        """Flag and its place; skips minimum and maximum."""
        place = self.at
        flag = self.byte()
        self.number()
        if flag & 1:
            self.number()
        return flag, place


def read_module(data: bytes, name: str) -> Module:
    """Reads a position-independent module; InvalidExecutable says what is wrong and where."""
    reader = _Reader(data, name)
    if data[:8] != b"\0asm\1\0\0\0":
        raise InvalidExecutable(f"{name}: not a WebAssembly module (it starts with {data[:8]!r})")
    reader.at = 8
    memory: tuple[int, int, int] | None = None
    functions: list[str] = []
    shared: list[int] = []
    while reader.at < len(data):
        section, length = reader.byte(), reader.number()
        end = reader.at + length
        if end > len(data):
            raise reader.fail(f"section {section} runs past the end")
        if section == _CUSTOM:
            memory = _dylink(reader, end) or memory
        elif section == _IMPORT:
            shared = _imports(reader)
        elif section == _EXPORT:
            for _ in range(reader.number()):
                export, kind, _index = reader.text(), reader.byte(), reader.number()
                if kind == _FUNCTION:
                    functions.append(export)
        reader.at = end
    if memory is None:
        raise InvalidExecutable(
            f"{name}: no dylink.0 section; link it as a shared library (wasm-ld -shared)"
        )
    return Module(memory[0], memory[1], memory[2], tuple(functions), tuple(shared))


def _dylink(reader: _Reader, end: int) -> tuple[int, int, int] | None:
    if reader.text() != "dylink.0":
        return None
    while reader.at < end:
        kind, length = reader.byte(), reader.number()
        stop = reader.at + length
        if kind == _DYLINK_MEM_INFO:
            size, alignment, table, _table_alignment = (reader.number() for _ in range(4))
            return size, 1 << alignment, table
        reader.at = stop
    return 0, 1, 0


def _imports(reader: _Reader) -> list[int]:
    shared = []
    for _ in range(reader.number()):
        module, field, kind = reader.text(), reader.text(), reader.byte()
        if module != "env" or field not in HOST_PROVIDES:
            raise InvalidExecutable(
                f"{reader.name}: imports {module}.{field}, which the host does not have; a kernel "
                f"may import env.{', env.'.join(sorted(HOST_PROVIDES))}"
            )
        if kind == _MEMORY:
            shared.append(reader.limits()[1])
        elif kind == _TABLE:
            reader.byte()
            reader.limits()
        elif kind == _GLOBAL:
            reader.byte()
            reader.byte()
        else:
            raise reader.fail(f"{module}.{field} is imported as kind {kind}")
    return shared


def unshared(data: bytes, module: Module) -> bytes:
    """The same module for a memory that is not shared: one bit of each memory import cleared."""
    out = bytearray(data)
    for place in module.shared_flags:
        out[place] &= ~_SHARED
    return bytes(out)
