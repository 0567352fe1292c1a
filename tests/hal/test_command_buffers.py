"""Recording and running: fill, copy, update, dispatch, barriers, slots, replay; what is refused."""

from __future__ import annotations

import random
import struct

import pytest

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfRange
from tilework.hal import Device, Slot
from tilework.hal.kernels.probe import NOP, TRACE, WORK, FailParams, TraceParams, WorkParams

LENGTHS = (1, 2, 3, 4, 63, 65_535, 65_536, 65_537, 200_001)


def words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data))


@pytest.mark.parametrize("pattern", [b"\xab", b"\x12\x34", b"\x12\x34\x56\x78", b"\x07" * 4])
@pytest.mark.parametrize("length", [4, 64, 65_536, 65_540, 131_076])
def test_fill(device: Device, pattern: bytes, length: int) -> None:
    with device.allocate(length + 64) as buffer:
        buffer.write(bytes([0xEE]) * (length + 64))
        commands = device.command_buffer("fill")
        commands.fill(buffer.subspan(32, length), pattern)
        program = commands.finish()
        device.submit(program)
        got = buffer.read()
        assert got[32 : 32 + length] == pattern * (length // len(pattern))
        assert got[:32] + got[32 + length :] == bytes([0xEE]) * 64
        program.free()


@pytest.mark.parametrize("length", LENGTHS)
def test_copy_and_update(device: Device, length: int) -> None:
    data = random.Random(length).randbytes(length)
    with device.allocate(length) as a, device.allocate(length + 2) as b:
        commands = device.command_buffer("copy")
        commands.update(a, data)
        commands.barrier()
        commands.copy(a, b.subspan(1, length))
        program = commands.finish()
        device.submit(program)
        assert b.read(1, length) == data
        program.free()


def test_an_update_keeps_what_it_was_given(device: Device) -> None:
    with device.allocate(4) as buffer:
        data = bytearray(b"abcd")
        commands = device.command_buffer()
        commands.update(buffer, data)
        data[:] = b"wxyz"
        program = commands.finish()
        device.submit(program)
        assert buffer.read() == b"abcd"
        program.free()


def test_every_tile_runs_once_and_regions_run_in_order(device: Device) -> None:
    count, rounds = 1000, 20
    with device.allocate(4 * count) as out, device.allocate(4 * count) as seen:
        commands = device.command_buffer("trace")
        commands.fill(out, b"\0")
        for _ in range(rounds):
            commands.barrier()
            commands.dispatch(TRACE, (count, 1, 1), TraceParams(1), [out, seen])
        program = commands.finish()
        assert program.regions == rounds + 1
        for _ in range(10):
            device.submit(program)
            assert words(out.read()) == [rounds] * count
            assert set(words(seen.read())) <= set(range(device.threads))
        program.free()


def test_dispatches_without_a_barrier_all_run(device: Device) -> None:
    buffers = [device.allocate(4 * n) for n in (1, 7, 300)]
    seen = device.allocate(4 * 300)
    commands = device.command_buffer("side by side")
    for buffer in buffers:
        commands.fill(buffer, b"\0")
    commands.barrier()
    for n, buffer in zip((1, 7, 300), buffers, strict=True):
        commands.dispatch(TRACE, (n, 1, 1), TraceParams(n), [buffer, seen])
    program = commands.finish()
    device.submit(program)
    for n, buffer in zip((1, 7, 300), buffers, strict=True):
        assert words(buffer.read()) == [n] * n
    program.free()
    for buffer in [*buffers, seen]:
        buffer.free()


def test_three_dimensions_are_all_walked(device: Device) -> None:
    with device.allocate(4 * 3) as out, device.allocate(4 * 3) as seen:
        commands = device.command_buffer()
        commands.fill(out, b"\0")
        commands.barrier()
        # One thread's additions to the same word would race on several; count the tiles instead.
        commands.dispatch(NOP, (3, 5, 7), None, [])
        commands.dispatch(TRACE, (3, 1, 1), TraceParams(2), [out, seen])
        program = commands.finish()
        device.submit(program)
        assert words(out.read()) == [2, 2, 2]
        program.free()


def test_an_empty_program_and_empty_dispatches_finish(device: Device) -> None:
    for counts in ([], [(0, 1, 1)], [(0, 1, 1), (1, 0, 1), (1, 1, 1), (5, 5, 0)]):
        commands = device.command_buffer()
        for count in counts:
            commands.dispatch(NOP, count, None, [])
            commands.barrier()
        program = commands.finish()
        for _ in range(3):
            device.submit(program)
        program.free()


def test_slots_are_resolved_at_submit(device: Device) -> None:
    a, b, seen = device.allocate(40), device.allocate(80), device.allocate(40)
    for buffer in (a, b):
        buffer.write(bytes(buffer.nbytes))
    commands = device.command_buffer("slots")
    commands.dispatch(TRACE, (5, 1, 1), TraceParams(3), [Slot(0, 8, 20), Slot(1, 0, 40)])
    program = commands.finish()
    assert program.slot_extents == (28, 40)
    device.submit(program, [a, seen])
    device.submit(program, [b, seen])
    device.submit(program, [b, seen])
    device.submit(program, [b.subspan(40), seen])
    assert words(a.read()) == [0, 0, 3, 3, 3, 3, 3, 0, 0, 0]
    assert words(b.read()) == [0, 0, 6, 6, 6, 6, 6, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 0, 0, 0]
    with pytest.raises(InvalidArgument, match="2 slots, 1 buffers"):
        device.submit(program, [a])
    with pytest.raises(OutOfRange, match=r"slot 0 .* needs 28 bytes"):
        device.submit(program, [a.subspan(0, 27), seen])
    program.free()
    for buffer in (a, b, seen):
        buffer.free()


def test_programs_keep_their_buffers_alive(device: Device) -> None:
    commands = device.command_buffer()
    out = device.allocate(8)
    commands.fill(out, b"\x05")
    program = commands.finish()
    address = out.address
    del out
    other = device.allocate(8)
    assert other.address != address
    device.submit(program)
    program.free()
    other.free()
    with pytest.raises(DeviceLost):
        device.submit(program)


def test_results_do_not_depend_on_the_threads(device: Device) -> None:
    with device.allocate(4 * 64) as out:
        commands = device.command_buffer()
        commands.dispatch(WORK, (64, 1, 1), WorkParams(100), [out])
        program = commands.finish()
        device.submit(program)
        got = struct.unpack("<64f", out.read())
        program.free()

    def rounded(value: float) -> float:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])

    value = 7.0
    for _ in range(100):
        value = rounded(rounded(value * rounded(1.0001)) + 0.5)
    assert got[7] == pytest.approx(value, rel=1e-5)


# -- what is refused, before any thread sees it ------------------------------------------------


def test_recording_is_checked(device: Device) -> None:
    with device.allocate(40, "out") as out:
        commands = device.command_buffer()
        with pytest.raises(InvalidArgument, match="takes 2 bindings"):
            commands.dispatch(TRACE, (1, 1, 1), TraceParams(1), [out])
        with pytest.raises(InvalidArgument, match="binding seen is missing"):
            commands.dispatch(TRACE, (1, 1, 1), TraceParams(1), [out, None])
        with pytest.raises(InvalidArgument, match="parameters are FailParams"):
            commands.dispatch(TRACE, (1, 1, 1), FailParams(1, 1), [out, out])
        with pytest.raises(InvalidArgument, match="3 bytes, the kernel takes 4"):
            commands.dispatch(TRACE, (1, 1, 1), b"abc", [out, out])
        with pytest.raises(InvalidArgument, match="at most 16,777,215"):
            commands.dispatch(NOP, (4096, 4096, 1), None, [])
        with pytest.raises(InvalidArgument, match="tiles"):
            commands.dispatch(NOP, (-1, 1, 1), None, [])
        with pytest.raises(InvalidArgument, match="scratch"):
            commands.dispatch(NOP, (1, 1, 1), None, [], scratch=1 << 30)
        with pytest.raises(InvalidArgument, match="1, 2 or 4 bytes"):
            commands.fill(out, b"abc")
        with pytest.raises(InvalidArgument, match="no multiple"):
            commands.fill(out.subspan(0, 6), b"abcd")
        with pytest.raises(InvalidArgument, match="overlap"):
            commands.copy(out.subspan(0, 20), out.subspan(19, 20))
        with pytest.raises(InvalidArgument, match="the source has 4 bytes"):
            commands.copy(out.subspan(0, 4), out.subspan(8, 8))
        with pytest.raises(InvalidArgument, match="3 bytes were given for a target of 40"):
            commands.update(out, b"abc")
        with pytest.raises(OutOfRange, match="negative"):
            commands.fill(Slot(0, -4, 4), b"a")
        program = commands.finish()
        assert not program.commands, "what was refused was recorded"
        with pytest.raises(InvalidArgument, match="was finished"):
            commands.fill(out, b"a")
        program.free()


def test_a_freed_buffer_cannot_be_recorded(device: Device) -> None:
    out = device.allocate(4)
    out.free()
    with pytest.raises(DeviceLost):
        device.command_buffer().fill(out, b"a")
