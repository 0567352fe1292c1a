"""Executables: what is refused, what is described, what comes back when they go."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from tests.hal import modules
from tests.hal.modules import FUNCREF, I32, I64, KERNEL, NOTHING, PROCEDURE, PUT, SUCCEED
from tests.hal.traffic import come_and_go
from tilework.core.errors import DeviceLost, InvalidArgument, InvalidExecutable
from tilework.hal import Buffer, Device, Program, open_device
from tilework.hal.executable import Entry, Executable
from tilework.hal.kernel import Binding, Kernel
from tilework.hal.library import kernel_module


def held(device: Device) -> tuple[int, int, int, int]:
    """What executables take: bytes, spans, table slots, and how many there are."""
    now = device.statistics
    return now.in_use, now.spans, device.executables.table.taken, len(device.executables)


def settles(device: Device, expected: object) -> None:
    """Workers let go within milliseconds; a loaded machine is given longer."""
    deadline = time.monotonic() + 60
    while held(device) != expected and time.monotonic() < deadline:
        time.sleep(0.001)
    assert held(device) == expected


def recorded(device: Device, entry: Entry, out: Buffer, count: int = 100) -> Program:
    commands = device.command_buffer("own")
    commands.dispatch(entry, (count, 1, 1), None, [out])
    return commands.finish()


def puts(device: Device, executable: Executable, value: int) -> None:
    """Every element that the module's kernel writes is `value`."""
    with device.allocate(400) as out:
        program = recorded(device, executable["put"], out)
        device.submit(program)
        program.free()
        assert struct.unpack("<100I", out.read()) == (value,) * 100


def test_a_new_device_has_loaded_the_processor_only() -> None:
    device = open_device(threads=1)
    assert len(device.executables) == 1
    assert device.executables.generation == 1
    device.close()


def test_load_and_free(device: Device) -> None:
    before = held(device)
    for value in (7, 9):
        executable = device.load(modules.puts(value), "own")
        puts(device, executable, value)
        executable.free()
        executable.free()
        settles(device, before)


def test_the_same_bytes_are_the_same_executable(device: Device) -> None:
    before = held(device)
    first = device.load(modules.puts(1), "one")
    again = device.load(bytearray(modules.puts(1)), "another name")
    other = device.load(modules.puts(2))
    assert first is again and first.loads == 2
    assert other is not first and other.digest != first.digest
    again.free()
    puts(device, first, 1)
    puts(device, other, 2)
    first.free()
    with pytest.raises(DeviceLost, match="freed"):
        first["put"]
    other.free()
    settles(device, before)


def test_entries_are_described(device: Device) -> None:
    with device.load(kernel_module("probe", "simd"), "probe") as executable:
        names = [entry.name for entry in executable.entries]
        assert {"nop", "fail", "trap", "work", "trace"} <= set(names)
        assert len(executable) == len(names) == len(set(names))
        for number, name in enumerate(names):
            assert executable.entry(number) is executable[name]
        trace = executable["trace"].described
        assert trace.bindings == (Binding("out", "inout", False), Binding("seen", "output", False))
        assert trace.params_length == 4
        params: Any = trace.params
        assert params.FIELDS == ("value: u32",)
        assert params(5).pack() == struct.pack("<I", 5)
        with pytest.raises(InvalidArgument, match=r"TraceParams: value is -1; expected u32"):
            params(-1).pack()
        nop = executable["nop"].described
        assert (nop.params, nop.params_length, nop.bindings) == (None, 0, ())


def test_what_a_module_says_agrees_with_the_generated_python(device: Device) -> None:
    """Both come from the .wit; a family built from another one would be found here."""
    import tilework.hal.kernels.elementwise as generated

    with device.load(kernel_module("elementwise", "simd"), "elementwise") as executable:
        kernels = [value for value in vars(generated).values() if isinstance(value, Kernel)]
        assert len(kernels) == len(executable)
        for kernel in kernels:
            told = executable[kernel.name].described
            assert told.bindings == kernel.bindings
            assert told.params_length == kernel.params_length
            assert told.family == kernel.family
            ours: Any = kernel.params
            theirs: Any = told.params
            assert theirs._fields == ours._fields
            assert theirs.__name__ == ours.__name__


@pytest.mark.parametrize("number", [1, 5, -1])
def test_an_entry_that_is_not_there(device: Device, number: int) -> None:
    with device.load(modules.puts(3), "own") as executable:
        with pytest.raises(InvalidArgument, match=f"own has 1 kernels, none has number {number}"):
            executable.entry(number)
        with pytest.raises(InvalidArgument, match="own has no kernel no_such; it has put"):
            executable["no_such"]


def test_a_module_that_does_not_describe_itself_takes_a_kernel(device: Device) -> None:
    binary = modules.module([("put", KERNEL, PUT)], sizes=(4, 2, 0, 0), data=b"\5\0\0\0")
    with device.load(binary, "silent") as executable, device.allocate(16) as out:
        entry = executable["put"]
        assert entry.kernel is None
        commands = device.command_buffer()
        with pytest.raises(InvalidArgument, match="silent does not say what put takes"):
            commands.dispatch(entry, (4, 1, 1), None, [out])
        told = entry.with_kernel(Kernel("own", "put", None, 0, (Binding("out", "output", False),)))
        commands.dispatch(told, (4, 1, 1), None, [out])
        program = commands.finish()
        device.submit(program)
        program.free()
        assert struct.unpack("<4I", out.read()) == (5,) * 4


def test_what_a_program_names_stays(device: Device) -> None:
    before = held(device)
    executable = device.load(modules.puts(6), "own")
    with device.allocate(400) as out:
        entry = executable["put"]
        commands = device.command_buffer()
        commands.dispatch(entry, (100, 1, 1), None, [out])
        with pytest.raises(InvalidArgument, match=r"own.* in use by 1 programs"):
            executable.free()
        program = commands.finish()
        del commands
        with pytest.raises(InvalidArgument, match=r"own.* in use by 1 programs"):
            executable.free()
        device.submit(program)
        assert struct.unpack("<100I", out.read()) == (6,) * 100
        program.free()
        executable.free()
        with pytest.raises(DeviceLost, match="freed"):
            device.command_buffer().dispatch(entry, (1, 1, 1), None, [out])
    settles(device, before)


def test_an_entry_of_another_device_is_refused(device: Device) -> None:
    other = open_device(threads=1)
    entry = other.load(modules.puts(1), "own")["put"]
    with device.allocate(4) as out, pytest.raises(InvalidArgument, match="another device's"):
        device.command_buffer().dispatch(entry, (1, 1, 1), None, [out])
    other.close()


def test_regions_are_aligned_as_the_module_asks(device: Device) -> None:
    kernel = {"name": "put", "params": None, "bindings": [["out", "output", False]]}
    told = {"version": 1, "family": "own", "kernels": [kernel]}
    # i32.const 0 instead of the load: what is put is the region's address.
    address = PUT.replace(bytes.fromhex("2300 280200"), bytes.fromhex("2300"))
    binary = modules.module([("put", KERNEL, address)], sizes=(4, 12, 0, 0), interface=told)
    with device.load(binary, "own") as executable, device.allocate(4) as out:
        program = recorded(device, executable["put"], out, 1)
        device.submit(program)
        program.free()
        assert struct.unpack("<I", out.read())[0] % 4096 == 0


def test_more_slots_than_a_table_begins_with(device: Device) -> None:
    before = held(device)
    names = [f"k{i}" for i in range(5000)]
    many = device.load(modules.module([(name, KERNEL, SUCCEED) for name in names]), "many")
    assert len(many) == 5000
    after = device.load(modules.puts(8), "own")
    puts(device, after, 8)
    many.free()
    after.free()
    settles(device, before)


GLOBAL = b"\x03env\x0f__stack_pointer\x03"
INTERFACE = {"version": 1, "family": "own", "kernels": []}
PARAMS = {"name": "P", "format": "<I", "fields": ["a: u32"]}


def entry(**changed: object) -> dict[str, object]:
    """An interface of one kernel, `k`, with something changed."""
    kernel = {"name": "k", "params": None, "bindings": [], **changed}
    return {**INTERFACE, "kernels": [kernel]}


REFUSED = {
    "64-bit memory": (modules.module(memory=(7, 0, 65536)), "compile it for wasm32"),
    "other pages": (modules.module(memory=(11, 0, 65536)), "pages of another size"),
    "memory is too small": (modules.module(memory=(3, 0, 16384)), "at most 16,384 pages"),
    "memory is not shared": (modules.module(memory=(1, 0, 65536)), "not shared; link it with"),
    "memory without end": (modules.module(memory=(0, 0, None)), "not shared; link it with"),
    "memory is too large": (modules.module(memory=(3, 65537, 65537)), "65,537 pages"),
    "own memory": (
        modules.module() + modules.section(5, b"\x01\x00\x01"), "a memory of its own"
    ),
    "larger table": (modules.module(table=(0, 9, None)), "at least 9 entries, its dylink.0 .* 0"),
    "table with an end": (modules.module(table=(1, 0, 64)), "a table with a maximum"),
    "libraries": (modules.module(needed=["libm.so", "libc.so"]), "libraries libm.so, libc.so"),
    "huge data": (modules.module(sizes=(1 << 33, 0, 0, 0)), "asks for 8,589,934,592 bytes"),
    "stack pointer of i64": (
        modules.module(more_imports=[GLOBAL + b"\x7e\x01"]), "__stack_pointer as i64, mutable"
    ),
    "stack pointer is constant": (
        modules.module(more_imports=[GLOBAL + b"\x7f\x00"]), "__stack_pointer as i32, constant"
    ),
    "stack pointer is a function": (
        modules.module(more_imports=[b"\x03env\x0f__stack_pointer\x00\x00"]), "as a function; it"
    ),
    "signature": (
        modules.module([("f", ((I32, I64), (I32,)), SUCCEED)]),
        r"f is \(i32, i64\) -> \(i32\), a kernel is \(i32, i32\) -> \(i32\)",
    ),
    "no result": (modules.module([("f", ((I32, I32), ()), NOTHING)]), r"-> \(\), a kernel is"),
    "function references": (
        modules.module([("f", ((I32, FUNCREF), (I32,)), SUCCEED)]), r"f is \(i32, funcref\)"
    ),
    "constructors": (
        modules.module([("__wasm_call_ctors", PROCEDURE, b"\x01\x0b"), ("k", KERNEL, SUCCEED)]),
        "has constructors",
    ),
    "hidden constructors": (
        modules.module([("", PROCEDURE, b"\x01\x0b"), ("k", KERNEL, SUCCEED)]), "has constructors"
    ),
    "described, not exported": (
        modules.module(interface=entry(name="other")), "describes other, which it does not export"
    ),
    "described, no kernel": (
        modules.module([("k", PROCEDURE, NOTHING)], start=0, interface=entry()),
        r"k is \(\) -> \(\)",
    ),
    "interface is no JSON": (modules.module(interface=b"{"), "section is damaged"),
    "interface of tomorrow": (
        modules.module(interface={**INTERFACE, "version": 2}),
        "has version 2, this tilework reads 1",
    ),
    "interface without kernels": (modules.module(interface={"version": 1}), "section is damaged"),
    "access": (modules.module(interface=entry(bindings=[["a", "rw", False]])), "'rw'"),
    "format": (
        modules.module(interface=entry(params={**PARAMS, "format": "<9999999s"})),
        "the format or a field of P",
    ),
    "values": (
        modules.module(interface=entry(params={**PARAMS, "format": "<II"})),
        "P has 1 values, its format <II",
    ),
    # These only an engine can know: the submitting thread's refuses before a worker sees them.
    "start traps": (
        modules.module([("", PROCEDURE, b"\x00\x0b"), ("k", KERNEL, SUCCEED)], start=0),
        "the engine refuses to instantiate",
    ),
    "more memory than there is": (
        modules.module(memory=(3, 65536, 65536)), "the engine refuses to instantiate"
    ),
    "data outside its memory": (
        modules.module(data=b"x" * 16).replace(b"\x00\x23\x00\x0b", b"\x00\x41\x7c\x0b"),
        "the engine refuses to instantiate",
    ),
    "a body of nonsense": (modules.module([("k", KERNEL, b"\xff\x0b")]), "does not accept"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_module_that_no_thread_can_run_is_refused(device: Device, case: str) -> None:
    binary, words = REFUSED[case]
    before, generation = held(device), device.executables.generation
    for _ in range(3):
        with pytest.raises(InvalidExecutable, match=f"^mine: .*{words}"):
            device.load(binary, "mine")
    assert held(device) == before
    assert device.executables.generation == generation, "workers were told"
    with device.load(modules.puts(4), "own") as executable:
        puts(device, executable, 4)
    settles(device, before)


def test_every_truncation_is_refused(device: Device) -> None:
    whole = modules.puts(4)
    before = held(device)
    for length in range(len(whole)):
        try:
            executable = device.load(whole[:length], "cut")
        except InvalidExecutable:
            continue
        # What is left is a module: the cut was between sections.
        executable.free()
    settles(device, before)


async def test_a_worker_that_cannot_load_reaches_submit() -> None:
    """The module's start function runs once and traps on every later thread."""
    probe = open_device()
    threads = min(2, probe.threads)
    probe.close()
    device = open_device(threads)
    assert await device.ready()
    functions = [("", PROCEDURE, modules.ONCE), ("k", KERNEL, SUCCEED)]
    once = modules.module(functions, sizes=(4, 2, 0, 0), start=0, interface=entry())
    executable = device.load(once, "once")
    commands = device.command_buffer()
    commands.dispatch(executable["k"], (4, 1, 1), None, [])
    program = commands.finish()
    if threads == 1:
        device.submit(program)
    else:
        deadline = time.monotonic() + 20
        with pytest.raises(DeviceLost, match="worker"):
            while time.monotonic() < deadline:
                device.submit(program)
                time.sleep(0.001)
        with pytest.raises(DeviceLost, match="worker"):
            device.submit(program)
        program.free()
        executable.free()
        assert device.executables.leaving == 0, "a worker that is gone is waited for"
    device.close()


def test_a_worker_that_fails_while_it_is_asked_is_noticed(device: Device) -> None:
    """Between the two questions of `confirm`: one that has failed counts as one that has passed."""
    executables = device.executables

    class Late:
        """The driver, whose worker fails just after the first question, whichever that is."""

        def __init__(self) -> None:
            self.failed = False

        def fault(self) -> str:
            before, self.failed = self.failed, True
            return "it has failed" if before else ""

        def passed(self, generation: int) -> bool:
            assert generation == executables.generation
            before, self.failed = self.failed, True
            return before

    real = device.heap.driver
    device.heap.driver = Late()  # type: ignore[assignment]
    try:
        executables.renewed()
        with pytest.raises(DeviceLost, match="it has failed"):
            for _ in range(3):
                assert executables.unconfirmed, "nobody will ask again"
                executables.confirm()
    finally:
        device.heap.driver = real


def test_modules_come_and_go_under_load(device: Device) -> None:
    """Old and new modules compute side by side on all threads; memory and slots come back."""
    figures = come_and_go(device, 60)
    assert (figures.bytes_kept, figures.spans_kept, figures.slots_kept) == (0, 0, 0), figures
    assert figures.in_flight >= 6
    assert figures.threads >= min(2, device.threads), figures
    # Of 60 modules with one slot each: the one that stays, one that computes, those that wait.
    assert figures.top <= device.executables.table.top + 2 + figures.waiting, figures
