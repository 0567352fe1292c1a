"""Usage and access: what a buffer was not made for is refused before any worker sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tilework.core.errors import InvalidArgument
from tilework.hal import Access, Buffer, CommandBuffer, Device, Slot, Usage, open_device
from tilework.hal.kernels.probe import TRACE, WORK, TraceParams, WorkParams

Bindable = Buffer | Slot
Record = Callable[[CommandBuffer, Bindable], None]


def source(commands: CommandBuffer, what: Bindable) -> None:
    commands.copy(what, Slot(1, 0, 8))


def target(commands: CommandBuffer, what: Bindable) -> None:
    commands.copy(Slot(1, 0, 8), what)


def fill(commands: CommandBuffer, what: Bindable) -> None:
    commands.fill(what, b"\1")


def update(commands: CommandBuffer, what: Bindable) -> None:
    commands.update(what, b"12345678")


def output(commands: CommandBuffer, what: Bindable) -> None:
    commands.dispatch(WORK, (2, 1, 1), WorkParams(1), [what])


def inout(commands: CommandBuffer, what: Bindable) -> None:
    commands.dispatch(TRACE, (2, 1, 1), TraceParams(1), [what, Slot(1, 0, 8)])


NEEDS: dict[Record, tuple[Access, Usage]] = {
    source: (Access.READ, Usage.TRANSFER),
    target: (Access.WRITE, Usage.TRANSFER),
    fill: (Access.WRITE, Usage.TRANSFER),
    update: (Access.WRITE, Usage.TRANSFER),
    output: (Access.WRITE, Usage.DISPATCH),
    inout: (Access.ALL, Usage.DISPATCH),
}


@pytest.mark.parametrize("record", NEEDS, ids=lambda record: record.__name__)
@pytest.mark.parametrize("usage", [Usage.TRANSFER, Usage.DISPATCH, Usage.MAP, Usage.ALL])
@pytest.mark.parametrize("access", [Access.READ, Access.WRITE, Access.ALL])
def test_commands_need_access_and_usage(
    device: Device, record: Record, usage: Usage, access: Access
) -> None:
    """At record for a buffer, when it is bound for a slot: the same answer, the same words."""
    needed, used = NEEDS[record]
    wrong = None
    if needed & ~access:
        wrong = f"needs access {'READ and WRITE' if needed == Access.ALL else needed.name}"
    elif used & ~usage:
        wrong = f"needs usage {used.name}"
    with (
        device.allocate(8, "limited", usage=usage, access=access) as buffer,
        device.allocate(8) as other,
    ):
        buffer.write(bytes(8))
        other.write(bytes(8))
        commands = device.command_buffer()
        if wrong is None:
            record(commands, buffer)
        else:
            with pytest.raises(InvalidArgument, match=rf"binding \w+ {wrong}; <Buffer limited"):
                record(commands, buffer)
        direct = commands.finish()
        assert bool(direct.commands) == (wrong is None), "what was refused was recorded"
        commands = device.command_buffer()
        record(commands, Slot(0, 0, 8))
        bound = commands.finish()
        slots = [buffer, other][: len(bound.slot_extents)]
        if wrong is None:
            device.submit(bound, slots)
        else:
            with pytest.raises(InvalidArgument, match=rf"slot 0 of .* {wrong}; <Buffer limited"):
                device.submit(bound, slots)
            assert buffer.read() == bytes(8)
        direct.free()
        bound.free()


def test_a_slot_needs_what_all_its_commands_need(device: Device) -> None:
    commands = device.command_buffer()
    commands.fill(Slot(0, 0, 8), b"\1")
    commands.barrier()
    commands.copy(Slot(0, 0, 8), Slot(1, 0, 8))
    program = commands.finish()
    with device.allocate(8, access=Access.WRITE) as half, device.allocate(8) as whole:
        with pytest.raises(InvalidArgument, match=r"slot 0 .* needs access READ and WRITE"):
            device.submit(program, [half, whole])
        device.submit(program, [whole, half])
        assert half.read() == b"\1" * 8
    program.free()


def test_another_devices_buffers_are_refused(device: Device) -> None:
    """Its address means something else here."""
    stranger = open_device(threads=1)
    theirs = stranger.allocate(8, "theirs")
    with pytest.raises(InvalidArgument, match=r"theirs.* is another device's"):
        device.command_buffer().fill(theirs, b"\1")
    commands = device.command_buffer()
    commands.fill(Slot(0, 0, 8), b"\1")
    program = commands.finish()
    with pytest.raises(InvalidArgument, match=r"slot 0 .* another device's"):
        device.submit(program, [theirs])
    program.free()
    theirs.free()
    stranger.close()
