"""Outside memory as buffers, where kernels see the host's; elsewhere a refusal in words."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from tilework.core.errors import DeviceLost, InvalidArgument, Unsupported
from tilework.hal import Access, Buffer, Device, MemoryType, Slot
from tilework.hal.kernels.probe import TRACE, TraceParams


def aligned(nbytes: int, fill: int = 0) -> memoryview:
    """Writable host memory whose address is a multiple of 64, as far as the device can tell."""
    from ctypes import addressof, c_ubyte

    room = (c_ubyte * (nbytes + 64))()
    view = memoryview(room).cast("B")[-addressof(room) % 64 :][:nbytes]
    view[:] = bytes([fill]) * nbytes
    return view


def refused(device: Device) -> bool:
    """Where nothing can be imported: that this is said, and nothing leaked; True then."""
    if device.imports:
        return False
    before = device.statistics
    called: list[int] = []
    with pytest.raises(Unsupported, match=r"image cannot be imported: .*inline and heap modes"):
        device.import_memory(aligned(64), "image", release=lambda: called.append(1))
    assert device.statistics == before
    assert not called, "memory that was never taken was given back"
    return True


def test_memory_is_imported_and_imported_again(device: Device) -> None:
    if refused(device):
        return
    data = aligned(64, 3)
    before = device.statistics
    for _ in range(2):
        with device.import_memory(data, "image") as buffer:
            assert MemoryType.IN_PLACE in buffer.memory
            assert buffer.nbytes == 64
            assert device.statistics.imported == before.imported + 64
            assert device.statistics.in_use == before.in_use, "imported memory is the host's"
            assert buffer.read() == bytes(data)
        assert device.statistics == before


def test_the_release_callback_runs_once(device: Device) -> None:
    if refused(device):
        return
    data = aligned(64)
    calls: list[int] = []
    record: Callable[[], None] = lambda: calls.append(1)  # noqa: E731 - typed for mypy
    for ending in ("free", "drop", "held"):
        calls.clear()
        buffer = device.import_memory(data, release=record)
        part = buffer.subspan(8, 8)
        assert not calls
        if ending == "held":
            commands = device.command_buffer()
            commands.fill(part, b"\7")
            program = commands.finish()
            buffer.free()
            assert not calls, "a program still writes there"
            device.submit(program)
            assert bytes(data[8:16]) == b"\7" * 8
            program.free()
        elif ending == "free":
            buffer.free()
            buffer.free()
            with pytest.raises(DeviceLost):
                part.read()
        else:
            del buffer, part
            gc.collect()
        assert calls == [1], ending
        buffer = part = None  # type: ignore[assignment]
        gc.collect()
        assert calls == [1], f"{ending}: called again"


def test_kernels_work_on_imported_memory_in_place(device: Device) -> None:
    if refused(device):
        return
    data, seen = aligned(4 * 100), aligned(4 * 100, 0xFF)
    copied = device.statistics
    commands = device.command_buffer()
    commands.dispatch(TRACE, (100, 1, 1), TraceParams(7), [Slot(0, 0, 400), Slot(1, 0, 400)])
    program = commands.finish()
    before = device.statistics
    with device.import_memory(data) as a, device.import_memory(seen) as b:
        device.submit(program, [a, b])
    after = device.statistics
    assert list(data.cast("I")) == [7] * 100
    assert max(seen.cast("I")) < device.threads
    # The program and its slot table, but none of the data.
    assert after.copied_in - before.copied_in <= 64
    assert after.copied_out == copied.copied_out
    program.free()


def test_copies_of_one_memory_imported_twice_are_seen(device: Device) -> None:
    if refused(device):
        return
    data = aligned(64)
    with device.import_memory(data[:40]) as a, device.import_memory(data[32:]) as b:
        commands = device.command_buffer()
        with pytest.raises(InvalidArgument, match="overlap"):
            commands.copy(a.subspan(8, 32), b)
        commands.copy(a.subspan(0, 32), b)
        commands.finish().free()


def test_what_cannot_be_imported_is_refused(device: Device) -> None:
    if refused(device):
        return
    data = aligned(64)
    before = device.statistics
    calls: list[int] = []

    def take(what: object, access: Access | None = None) -> Buffer:
        return device.import_memory(what, "image", access=access, release=lambda: calls.append(1))

    with pytest.raises(InvalidArgument, match=r"image is not C-contiguous"):
        take(data[::2])
    with pytest.raises(InvalidArgument, match=r"image lies at .* no multiple"):
        take(data[1:])
    with pytest.raises(InvalidArgument, match=r"image is read-only"):
        take(data.toreadonly(), Access.ALL)
    assert device.statistics == before
    assert not calls
    with take(data.toreadonly()) as buffer:
        assert buffer.access == Access.READ
        with pytest.raises(InvalidArgument, match="needs access WRITE"):
            device.command_buffer().fill(buffer, b"a")


def test_a_bytearray_cannot_move_while_it_is_imported(device: Device) -> None:
    if refused(device):
        return
    data = bytearray(4096)
    try:
        buffer = device.import_memory(data)
    except InvalidArgument as error:  # where this bytearray happens to lie
        assert "no multiple" in str(error)
        return
    with pytest.raises(BufferError):
        data.extend(bytes(100_000))
    buffer.free()
    data.extend(bytes(100_000))
