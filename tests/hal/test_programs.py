"""Programs: what they keep, how often they are submitted, what is checked when slots are bound."""

from __future__ import annotations

import gc

import pytest

from tilework.core.errors import DeviceLost, InvalidArgument, NotReady, OutOfRange
from tilework.core.growing import Growth
from tilework.hal import Buffer, Device, Program, Slot
from tilework.hal.transient import Transient


def filling(device: Device, target: Buffer | Slot, *, reusable: bool = True) -> Program:
    commands = device.command_buffer("filling")
    commands.fill(target, b"\x05")
    return commands.finish(reusable=reusable)


# -- what a program keeps --------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["whole", "subspan"])
def test_a_buffer_freed_by_name_stays_until_its_programs_are_gone(
    device: Device, through: str
) -> None:
    """A replay must never write into memory that is somebody else's by then."""
    out = device.allocate(8, "out")
    part = out.subspan(0)
    programs = [filling(device, out if through == "whole" else part) for _ in range(2)]
    address, before = out.address, device.statistics
    out.free()
    for use in (out.read, part.read, lambda: filling(device, part), out.hold):
        with pytest.raises(DeviceLost, match="after it was freed"):
            use()
    assert device.statistics == before, "the span went though programs hold it"
    with device.allocate(8) as other:
        assert other.address != address
        other.write(bytes(8))
        device.submit(programs[0])
        assert other.read() == bytes(8)
    programs[0].free()
    assert device.statistics.spans == before.spans - 3
    programs[1].free()
    assert device.statistics.spans == before.spans - 7, "the span outlived its last holder"


def test_what_is_dropped_unfreed_comes_back(device: Device) -> None:
    before = device.statistics.spans
    out = device.allocate(8)
    commands = device.command_buffer()
    commands.fill(out, b"\1")
    program = filling(device, out)
    out.free()
    del program
    assert device.statistics.spans == before + 1, "an unfinished command buffer keeps its buffers"
    del commands
    gc.collect()
    assert device.statistics.spans == before
    assert out.label == ""  # the object is still here; only its memory went


def test_a_buffer_is_held_as_often_as_it_is_let_go(device: Device) -> None:
    before = device.statistics.spans
    buffer = device.allocate(8)
    buffer.hold()
    buffer.subspan(4).hold()
    buffer.free()
    buffer.free()
    buffer.let_go()
    assert device.statistics.spans == before + 1
    buffer.let_go()
    assert device.statistics.spans == before
    with pytest.raises(DeviceLost):
        buffer.placed()


def test_a_program_freed_in_flight_goes_at_its_end(device: Device) -> None:
    before = device.statistics.spans
    out = device.allocate(8)
    program = filling(device, Slot(0, 0, 8))
    program.begin([out])
    table = program.bind([out])
    assert program.in_flight == 1
    program.free()
    out.free()
    assert device.statistics.spans == before + 4, "memory of a submission in flight went"
    with pytest.raises(DeviceLost, match="submitted after it was freed"):
        program.begin([out])
    program.end([out], table)
    assert program.in_flight == 0
    assert device.statistics.spans == before


def test_submissions_in_flight_have_tables_of_their_own(device: Device) -> None:
    program = filling(device, Slot(0, 0, 8))
    a, b = device.allocate(8), device.allocate(8)
    spans = device.statistics.spans
    tables = []
    for buffer in (a, b, b, a):
        program.begin([buffer])
        tables.append(program.bind([buffer]))
    assert tables[2] == 0, "bindings that did not change were written again"
    assert len({tables[0], tables[1], tables[3]}) == 3
    for buffer, table in zip((a, b, b, a), tables, strict=True):
        program.end([buffer], table)
    assert device.statistics.spans == spans + 2
    for buffer in (b, a, b):
        device.submit(program, [buffer])
        assert buffer.read() == b"\x05" * 8
    assert device.statistics.spans == spans + 2, "tables are used again"
    program.free()
    a.free()
    b.free()


# -- one-shot --------------------------------------------------------------------------------------


def test_a_one_shot_program_runs_once_and_goes(device: Device) -> None:
    before = device.statistics.spans
    with device.allocate(8) as out:
        program = filling(device, out, reusable=False)
        assert program.one_shot
        device.submit(program)
        assert out.read() == b"\x05" * 8
        with pytest.raises(InvalidArgument, match="one-shot and was submitted before"):
            device.submit(program)
        waiting = filling(device, out, reusable=False)
        waiting.begin()
        with pytest.raises(InvalidArgument, match="one-shot and was submitted before"):
            device.submit(waiting)
        waiting.end()
    assert device.statistics.spans == before
    program.free()


def test_a_refused_submission_does_not_use_a_one_shot_up(device: Device) -> None:
    with device.allocate(8) as out:
        program = filling(device, Slot(0, 0, 8), reusable=False)
        with pytest.raises(InvalidArgument, match="1 slots, 0 buffers"):
            device.submit(program)
        device.submit(program, [out])
        assert out.read() == b"\x05" * 8


# -- overlap ---------------------------------------------------------------------------------------


def copying(device: Device, source: Buffer | Slot, target: Buffer | Slot) -> Program:
    commands = device.command_buffer("copying")
    commands.copy(source, target)
    return commands.finish()


@pytest.mark.parametrize("kind", ["two slots", "slot and buffer", "buffer and slot"])
def test_copies_that_overlap_once_bound_are_refused(device: Device, kind: str) -> None:
    with device.allocate(64, "both") as both, device.allocate(16) as other:
        both.write(bytes(range(64)))
        fixed = both.subspan(16, 16)
        program = {
            "two slots": lambda: copying(device, Slot(0, 0, 16), Slot(1, 0, 16)),
            "slot and buffer": lambda: copying(device, Slot(0, 0, 16), fixed),
            "buffer and slot": lambda: copying(device, fixed, Slot(0, 0, 16)),
        }[kind]()

        def slots(buffer: Buffer) -> list[Buffer]:
            return [buffer, fixed] if kind == "two slots" else [buffer]

        for offset in (1, 16, 31):
            for _ in range(2):
                with pytest.raises(InvalidArgument, match="overlap once the slots are bound"):
                    device.submit(program, slots(both.subspan(offset, 16)))
        assert both.read() == bytes(range(64)), "a refused copy ran"
        for fine in (both.subspan(0, 16), both.subspan(32, 16), other):
            fine.write(b"\x77" * 16)
            device.submit(program, slots(fine))
            assert fine.read() == fixed.read()
        program.free()


def test_copies_within_one_slot_are_checked_when_recorded(device: Device) -> None:
    with device.allocate(32) as buffer:
        buffer.write(bytes(range(32)))
        with pytest.raises(InvalidArgument, match="overlap"):
            copying(device, Slot(0, 0, 16), Slot(0, 15, 16))
        program = copying(device, Slot(0, 0, 16), Slot(0, 16, 16))
        device.submit(program, [buffer])
        assert buffer.read() == bytes(range(16)) * 2
        program.free()


# -- transients: implicit slots --------------------------------------------------------------------


def test_a_transient_is_a_slot_of_its_own(device: Device) -> None:
    """Recorded before it has memory; each submission uses the memory that it has then."""
    transient = Transient(device.heap, 16, "later")
    with device.allocate(16) as out, device.allocate(8) as given:
        commands = device.command_buffer("transients")
        commands.fill(transient, b"\x01")
        commands.barrier()
        commands.update(transient.subspan(4, 2), b"ab")
        commands.fill(Slot(1, 0, 8), b"\x09")
        commands.barrier()
        commands.copy(transient, out)
        program = commands.finish()
        assert program.implicit == (transient,)
        assert program.slot_extents == (0, 8), "slots of the caller's are what they were"
        for use in (lambda: device.submit(program, [given, given]), transient.read):
            with pytest.raises(NotReady, match=r"later: 16 bytes without memory"):
                use()
        assert program.in_flight == 0
        transient.stage()
        with pytest.raises(NotReady, match="for the host"):
            transient.write(b"x")
        device.submit(program, [given, given])
        assert out.read() == b"\1\1\1\1ab" + b"\1" * 10
        assert given.read() == b"\x09" * 8
        transient.commit()
        assert transient.read() == out.read()
        transient.free()
        with pytest.raises(DeviceLost, match="after it was freed"):
            device.submit(program, [given, given])
        program.free()


def test_copies_between_transients_are_checked_before_they_have_memory(device: Device) -> None:
    a, b = Transient(device.heap, 32), Transient(device.heap, 16)
    with pytest.raises(InvalidArgument, match="overlap"):
        copying(device, a.subspan(0, 16), a.subspan(15, 16))
    copying(device, a.subspan(0, 16), b).free()


# -- what grows ------------------------------------------------------------------------------------


def test_a_program_grows(device: Device) -> None:
    """Counts, bindings and parameters that are functions of a length are set anew."""
    growth = Growth(3, 64)
    length = growth.length
    out = device.allocate(256)
    commands = device.command_buffer("growing", growth)
    commands.fill(Slot(0, 0, length), b"\x05")
    commands.barrier()
    commands.copy(Slot(0, 0, length), out.subspan(64 + length, length))
    program = commands.finish()
    assert not growth.pinned
    table = growth.table()
    for now in (3, 1, 64, 17):
        values = table.at(now)
        assert values is not None
        program.grow(values)
        out.write(bytes(256))
        with device.allocate(64) as source:
            source.write(bytes(64))
            device.submit(program, [source])
            assert source.read() == b"\x05" * now + bytes(64 - now)
        assert out.read() == bytes(64 + now) + b"\x05" * now + bytes(192 - 2 * now)
        with device.allocate(64) as large, pytest.raises(OutOfRange, match="slot 0"):
            device.submit(program, [large.subspan(0, now - 1)])
    assert table.at(65) is None
    program.free()


def test_only_what_has_a_growth_grows(device: Device) -> None:
    with device.allocate(8) as out:
        program = filling(device, out)
        with pytest.raises(InvalidArgument, match="does not grow"):
            program.grow([])
        program.free()
