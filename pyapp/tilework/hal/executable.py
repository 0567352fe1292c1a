"""Executable and Entry: a kernel module loaded on every thread, and one function of it.

Loading reserves what the module's `dylink.0` asks for (a zeroed data region, table slots) and has
the driver instantiate it. Which build (`simd`, `relaxed`) is the device's choice, made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilework.core.errors import InvalidExecutable
from tilework.hal.module import read_module, unshared

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer
    from tilework.hal.device import Device


@dataclass(frozen=True, slots=True)
class Entry:
    """A function that commands can name: its index in every thread's table."""

    name: str
    index: int
    executable: Executable


@dataclass(frozen=True, slots=True)
class Executable:
    """A loaded module. `generation` counts the device's loads up to and with this one."""

    name: str
    generation: int
    data: Buffer
    entries: dict[str, Entry]


# Exports that are the linker's, not the kernel writer's.
_LINKER = frozenset({"__wasm_apply_data_relocs", "__wasm_call_ctors"})


def load(device: Device, name: str, binary: bytes, *, processor: bool = False) -> Executable:
    """Loads `binary` on every thread of `device`; InvalidExecutable says what is wrong with it."""
    module = read_module(binary, name)
    if not device.driver.shared:
        binary = unshared(binary, module)
    if not device.driver.accepts(binary):
        raise InvalidExecutable(
            f"{name}: this engine does not accept the module; it may be corrupt, or use "
            "instructions that the engine lacks (try the simd build)"
        )
    names = [function for function in module.functions if function not in _LINKER]
    data = device.allocate(max(module.memory_size, module.memory_alignment), f"{name}'s data")
    device.driver.clear(data.address, data.nbytes)
    table_base = device.reserve_table(module.table_size + len(names))
    first = table_base + module.table_size
    functions = [(first + i, function) for i, function in enumerate(names)]
    device.driver.load(binary, data.address, table_base, functions, processor)
    entries: dict[str, Entry] = {}
    executable = Executable(name, device.next_generation(), data, entries)
    for index, function in functions:
        entries[function] = Entry(function, index, executable)
    return executable
