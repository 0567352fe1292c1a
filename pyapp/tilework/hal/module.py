"""A kernel module's bytes: what a loader must know of them before an engine sees them.

Reads the sections that say how much memory and table the module wants, what it imports, what it
exports and which kernels it describes, and refuses what no thread could run: `load` has then
reserved nothing, and no worker has seen the module. Source: the WebAssembly core specification,
binary format; the tool-conventions' DynamicLinking.md for `dylink.0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tilework.core.errors import InvalidExecutable
from tilework.hal.interface import SECTION, read_interface
from tilework.hal.kernel import Kernel
from tilework.hal.reader import Reader

_CUSTOM, _TYPE, _IMPORT, _FUNCTIONS, _MEMORIES, _EXPORT, _START, _CODE = 0, 1, 2, 3, 5, 7, 8, 10
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_KINDS = ("a function", "a table", "a memory", "a global", "a tag")
_HAS_MAXIMUM, _SHARED = 1, 2  # bits of a limits flag; higher ones are 64-bit or custom pages
_DYLINK_MEM_INFO, _DYLINK_NEEDED = 1, 2
_I32 = 0x7F
_VALUES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
_VALUES |= {0x70: "funcref", 0x6F: "externref"}
_KERNEL = ((_I32, _I32), (_I32,))
_PROCEDURE = ((), ())
_EMPTY_BODY = b"\0\x0b"  # no locals, end

PAGES = 65536  # the maximum of every memory that a device has, in pages of 64 KiB
HOST_PROVIDES = {
    "memory": _MEMORY,
    "__indirect_function_table": _TABLE,
    "__stack_pointer": _GLOBAL,
    "__memory_base": _GLOBAL,
    "__table_base": _GLOBAL,
}
# What one module of ours imports besides; see far_module.py.
_FAR = {"far": _MEMORY}
# Exports that are the linker's, not the kernel writer's.
_RELOCATE, _CONSTRUCT = "__wasm_apply_data_relocs", "__wasm_call_ctors"
_LINK = "link it with wasm-ld -shared --import-memory --shared-memory --max-memory=4294967296"

_Type = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Module:
    """What a module wants and gives. Sizes in bytes and table slots.

    `entries` are the functions that commands can name, in the module's order: those that its
    interface section lists, or all that it exports. `kernels` is what the section says of them.
    """

    memory_size: int
    memory_alignment: int
    table_size: int
    entries: tuple[str, ...]
    kernels: Mapping[str, Kernel]
    shared_flags: tuple[int, ...]  # where in the bytes each imported memory's limits flag stands


@dataclass(slots=True)
class _Sections:
    """What the sections said, before it is put together."""

    provided: Mapping[str, int] = field(default_factory=lambda: HOST_PROVIDES)
    dylink: tuple[int, int, int] | None = None
    kernels: dict[str, Kernel] | None = None
    types: list[_Type] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)  # type of each, by index
    exports: dict[str, int] = field(default_factory=dict)  # functions only
    empty: list[bool] = field(default_factory=list)  # whether a function has an empty body
    shared_flags: list[int] = field(default_factory=list)
    table_minimum: int = 0
    start: int | None = None


def read_module(data: bytes, name: str, far: bool = False) -> Module:
    """Reads a position-independent module; InvalidExecutable says what is wrong and what to do.

    With `far` it may import a second memory, env.far.
    """
    reader = Reader(data, name)
    if data[:8] != b"\0asm\1\0\0\0":
        raise reader.refuse(f"not a WebAssembly module (it starts with {data[:8]!r})")
    reader.at = 8
    found = _Sections(provided=HOST_PROVIDES | _FAR if far else HOST_PROVIDES)
    while reader.at < len(data):
        section, length = reader.byte(), reader.number()
        end = reader.at + length
        if end > len(data):
            raise reader.fail(f"section {section} runs past the end")
        if _section(reader, section, end, found) and reader.at != end:
            raise reader.fail(f"section {section} is not as long as it says")
        reader.at = end
    if found.dylink is None:
        raise reader.refuse("no dylink.0 section; link it as a shared library (wasm-ld -shared)")
    size, alignment, table_size = found.dylink
    if found.table_minimum > table_size:
        raise reader.refuse(
            f"imports a table of at least {found.table_minimum:,} entries, its dylink.0 section "
            f"announces {table_size:,}; {_LINK}"
        )
    _check_constructors(reader, found)
    entries = _entries(reader, found)
    kernels = found.kernels or {}
    return Module(size, alignment, table_size, entries, kernels, tuple(found.shared_flags))


def _section(reader: Reader, section: int, end: int, found: _Sections) -> bool:
    """Reads one section into `found`; False for one that is of no interest."""
    if section == _CUSTOM:
        kind = reader.text()
        if kind == "dylink.0":
            found.dylink = _dylink(reader, end)
        elif kind == SECTION:
            found.kernels = read_interface(reader.data[reader.at : end], reader.name)
        return False
    if section == _TYPE:
        found.types = [_type(reader) for _ in range(reader.number())]
    elif section == _IMPORT:
        _imports(reader, found)
    elif section == _FUNCTIONS:
        found.functions = [reader.number() for _ in range(reader.number())]
    elif section == _MEMORIES:
        raise reader.refuse(f"has a memory of its own, which the host cannot see; {_LINK}")
    elif section == _EXPORT:
        for _ in range(reader.number()):
            export, kind_of, index = reader.text(), reader.byte(), reader.number()
            if kind_of == _FUNCTION:
                found.exports[export] = index
    elif section == _START:
        found.start = reader.number()
    elif section == _CODE:
        found.empty = [reader.bytes() == _EMPTY_BODY for _ in range(reader.number())]
    else:
        return False
    return True


def _dylink(reader: Reader, end: int) -> tuple[int, int, int]:
    info = 0, 1, 0
    while reader.at < end:
        kind, length = reader.byte(), reader.number()
        stop = reader.at + length
        if kind == _DYLINK_MEM_INFO:
            size, alignment, table, _table_alignment = (reader.number() for _ in range(4))
            if alignment > 16 or size > PAGES << 16 or table > 1 << 20:
                raise reader.refuse(
                    f"its dylink.0 section asks for {size:,} bytes aligned to 2^{alignment} and "
                    f"{table:,} table entries; a device gives at most 4 GiB, 2^16 and 2^20"
                )
            info = size, 1 << alignment, table
        elif kind == _DYLINK_NEEDED:
            needed = [reader.text() for _ in range(reader.number())]
            if needed:
                raise reader.refuse(
                    f"needs the libraries {', '.join(needed)}; a kernel module is whole in "
                    "itself: link their objects into it"
                )
        reader.at = stop
    return info


def _type(reader: Reader) -> _Type:
    if reader.byte() != 0x60:
        raise reader.fail("a type that is no plain function type")
    parameters, results = reader.bytes(), reader.bytes()
    for value in parameters + results:
        if value not in _VALUES:
            raise reader.fail(f"the value type {value:#x}, which kernels cannot use,")
    return tuple(parameters), tuple(results)


def _limits(reader: Reader) -> tuple[int, int, int | None]:
    """Flag, minimum and maximum."""
    flag, minimum = reader.byte(), reader.number()
    return flag, minimum, reader.number() if flag & _HAS_MAXIMUM else None


def _imports(reader: Reader, found: _Sections) -> None:
    for _ in range(reader.number()):
        module, name, kind = reader.text(), reader.text(), reader.byte()
        if module != "env" or name not in found.provided:
            raise reader.refuse(
                f"imports {module}.{name}, which the host does not have; a kernel may import "
                f"env.{', env.'.join(sorted(found.provided))}"
            )
        if kind != found.provided[name]:
            what = _KINDS[kind] if kind < len(_KINDS) else f"kind {kind}"
            raise reader.refuse(
                f"imports {module}.{name} as {what}; it is {_KINDS[found.provided[name]]}"
            )
        if kind == _MEMORY:
            found.shared_flags.append(reader.at)
            _check_memory(reader, *_limits(reader))
        elif kind == _TABLE:
            if reader.byte() != 0x70:
                raise reader.refuse("imports a table that holds no functions")
            flag, found.table_minimum, maximum = _limits(reader)
            if flag > _HAS_MAXIMUM or maximum is not None:
                raise reader.refuse(
                    "imports a table with a maximum or 64-bit indices; the host's has neither, "
                    "for it grows with every module"
                )
        else:
            value, mutable = reader.byte(), reader.byte()
            if value != _I32 or mutable != (name == "__stack_pointer"):
                raise reader.refuse(
                    f"imports the global {name} as {_VALUES.get(value, hex(value))}, "
                    f"{'mutable' if mutable else 'constant'}; it is i32, and only the stack "
                    "pointer is mutable"
                )


def _check_memory(reader: Reader, flag: int, minimum: int, maximum: int | None) -> None:
    if flag > _HAS_MAXIMUM | _SHARED:
        raise reader.refuse(
            "imports a 64-bit memory or one with pages of another size; compile it for wasm32"
        )
    if not flag & _SHARED or maximum is None:
        raise reader.refuse(f"imports a memory that is not shared; {_LINK}")
    if maximum < PAGES:
        raise reader.refuse(
            f"takes a memory of at most {maximum:,} pages, a device's may have {PAGES:,}; {_LINK}"
        )
    if minimum > PAGES:
        raise reader.refuse(f"wants a memory of {minimum:,} pages, which nothing can have")


def _check_constructors(reader: Reader, found: _Sections) -> None:
    """Constructors would run on every thread, over data that the threads share.

    wasm-ld puts the function that calls them first and leaves it to the host to call that.
    """
    index = found.exports.get(_CONSTRUCT)
    if index is None:
        if found.start == 0 or 0 in found.exports.values() or not found.functions:
            return
        if _type_of(reader, found, 0) != _PROCEDURE:
            return
        index = 0
    if index < len(found.empty) and not found.empty[index]:
        raise reader.refuse(
            "has constructors (static initialisers), which no one runs; initialise data with "
            "constants"
        )


def _entries(reader: Reader, found: _Sections) -> tuple[str, ...]:
    if found.kernels is not None:
        for name in found.kernels:
            if name not in found.exports:
                raise reader.refuse(
                    f"its {SECTION} section describes {name}, which it does not export; append "
                    "the section of this very module"
                )
        names = [name for name in found.exports if name in found.kernels]
    else:
        names = [name for name in found.exports if name not in (_RELOCATE, _CONSTRUCT)]
    for name in names:
        signature = _type_of(reader, found, found.exports[name])
        if signature != _KERNEL:
            raise reader.refuse(
                f"{name} is {_words(signature)}, a kernel is {_words(_KERNEL)}; if it is no "
                "kernel, do not export it (static, or -fvisibility=hidden)"
            )
    return tuple(names)


def _type_of(reader: Reader, found: _Sections, function: int) -> _Type:
    try:
        return found.types[found.functions[function]]
    except IndexError:
        raise InvalidExecutable(f"{reader.name}: function {function} is not defined") from None


def _words(signature: _Type) -> str:
    parameters, results = ([_VALUES[value] for value in values] for values in signature)
    return f"({', '.join(parameters)}) -> ({', '.join(results)})"


def unshared(data: bytes, module: Module) -> bytes:
    """The same module for a memory that is not shared: one bit of each memory import cleared."""
    out = bytearray(data)
    for place in module.shared_flags:
        out[place] &= ~_SHARED
    return bytes(out)
