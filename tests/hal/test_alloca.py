"""Transients: memory that the queue hands out and takes back in the order of semaphores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.hal.queued import PATIENCE, add, words, zeros
from tilework.core.errors import (
    Cancelled,
    DeviceLost,
    InvalidArgument,
    NotReady,
    OutOfMemory,
    TimedOut,
)
from tilework.hal import Access, Buffer, Device, Slot, Usage, open_device

MIB = 1 << 20


@pytest.fixture
def limited() -> Iterator[Device]:
    """A device that has 2 MiB to give beyond what it needs for itself."""
    device = short_of_memory()
    yield device
    device.close()


def short_of_memory() -> Device:
    """See `limited`."""
    device = open_device(threads=1)
    device.allocator.limit = device.statistics.in_use + 2 * MIB
    return device


def test_alloca(device: Device) -> None:
    ready = device.semaphore()
    buffer = device.queue.alloca(100, "scratch", signal=(ready, 1))
    ready.wait(1)
    buffer.write(b"\x05" * 100)
    assert buffer.read() == b"\x05" * 100
    assert buffer.operation is not None and buffer.operation.done
    assert device.queue.dealloca(buffer).done


def test_what_a_transient_knows_at_once(device: Device) -> None:
    start = device.semaphore()
    buffer = device.queue.alloca(
        100, "scratch", usage=Usage.TRANSFER, access=Access.READ, wait=(start, 1)
    )
    assert (buffer.nbytes, buffer.label, buffer.transient) == (100, "scratch", True)
    assert (buffer.usage, buffer.access) == (Usage.TRANSFER, Access.READ)
    assert not buffer.ready and buffer.subspan(4, 8).transient
    with device.allocate(4) as lasting:
        assert not lasting.transient
        with pytest.raises(InvalidArgument, match="is not from alloca"):
            device.queue.dealloca(lasting)
    start.signal(1)
    assert buffer.ready
    with pytest.raises(InvalidArgument, match="is not from alloca"):
        device.queue.dealloca(buffer.subspan(0, 4))
    device.queue.dealloca(buffer)


def test_an_alloca_waits(device: Device) -> None:
    start, ready = device.semaphore(), device.semaphore()
    buffer = device.queue.alloca(100, wait=(start, 1), signal=(ready, 1))
    with pytest.raises(TimedOut):
        ready.wait(1, 0.01)
    for use in (buffer.read, lambda: buffer.write(b"abc"), buffer.view):
        with pytest.raises(NotReady, match="wait for its alloca"):
            use()
    start.signal(1)
    ready.wait(1)
    buffer.write(b"abc")
    device.queue.dealloca(buffer)


def test_an_alloca_whose_wait_fails(device: Device) -> None:
    start, ready = device.semaphore(), device.semaphore()
    before = device.statistics.in_use
    buffer = device.queue.alloca(100, wait=(start, 1), signal=(ready, 1))
    assert device.statistics.in_use > before, "memory is reserved early"
    start.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        ready.wait(1)
    assert device.statistics.in_use == before
    with pytest.raises(DeviceLost):
        buffer.read()


@pytest.mark.parametrize("between", ["fill, copy", "nothing between"])
def test_a_chain_without_host_waits(device: Device, between: str) -> None:
    line, target = device.semaphore(), zeros(device, 16)
    before = device.statistics.in_use
    buffer = device.queue.alloca(64, signal=(line, 1))
    if between == "fill, copy":
        device.queue.fill(buffer, b"\x0a\x0b", wait=(line, 1), signal=(line, 2))
        device.queue.copy(buffer, target, wait=(line, 2), signal=(line, 3))
        device.queue.dealloca(buffer, wait=(line, 3), signal=(line, 4))
        line.wait(4)
        assert target.read() == b"\x0a\x0b" * 32
    else:
        device.queue.dealloca(buffer, wait=(line, 1), signal=(line, 2))
        line.wait(2)
    assert device.statistics.in_use == before


def test_many_chains_reuse_memory(device: Device) -> None:
    line, target = device.semaphore(), zeros(device, 16)
    before = device.statistics
    for turn in range(32):
        at = 4 * turn
        buffer = device.queue.alloca(MIB, wait=(line, at), signal=(line, at + 1))
        device.queue.fill(buffer, bytes([turn]), wait=(line, at + 1), signal=(line, at + 2))
        device.queue.copy(
            buffer.subspan(64, 64), target, wait=(line, at + 2), signal=(line, at + 3)
        )
        device.queue.dealloca(buffer, wait=(line, at + 3), signal=(line, at + 4))
        if turn % 4 == 3:
            line.wait(at + 4)
            assert target.read() == bytes([turn]) * 64
            assert device.statistics.in_use == before.in_use
    assert device.statistics.reserved - before.reserved <= 16 * MIB


def test_cycles(device: Device) -> None:
    for turn in range(2):
        line = device.semaphore()
        buffer = device.queue.alloca(256, signal=(line, 1))
        device.queue.fill(buffer, bytes([turn + 1]), wait=(line, 1), signal=(line, 2))
        line.wait(2)
        assert buffer.read() == bytes([turn + 1]) * 256
        device.queue.dealloca(buffer, wait=(line, 2), signal=(line, 3))
        line.wait(3)


def test_after_dealloca_it_is_gone(device: Device) -> None:
    start = device.semaphore()
    buffer = device.queue.alloca(64)
    program_of = device.command_buffer("kept")
    program_of.fill(Slot(0, 0, 64), b"\1")
    program = program_of.finish()
    waiting = device.queue.dealloca(buffer, wait=(start, 1))
    refused = r"was used after it was given to dealloca"
    uses: list[Callable[[], object]] = [
        lambda: device.queue.dealloca(buffer),
        lambda: device.queue.execute(program, [buffer]),
        lambda: device.queue.read(bytes(64), 0, buffer),
        lambda: device.queue.write(buffer, bytearray(64), 0),
    ]
    for use in uses:
        with pytest.raises(DeviceLost, match=refused):
            use()
    start.signal(1)
    waiting.wait()
    uses = [
        lambda: device.queue.fill(buffer, b"\1"),
        lambda: device.queue.dealloca(buffer),
        buffer.read,
    ]
    for use in uses:
        with pytest.raises(DeviceLost):
            use()
    program.free()


@pytest.mark.parametrize("how", ["wait fails", "cancelled"])
def test_a_failed_dealloca_frees_nothing(device: Device, how: str) -> None:
    start, gone = device.semaphore(), device.semaphore()
    buffer = device.queue.alloca(64)
    buffer.write(b"\x07" * 64)
    operation = device.queue.dealloca(buffer, wait=(start, 1), signal=(gone, 1))
    if how == "cancelled":
        assert operation.cancel()
    else:
        start.fail(ValueError("no"))
    with pytest.raises(Cancelled if how == "cancelled" else ValueError):
        gone.wait(1)
    assert buffer.read() == b"\x07" * 64
    device.queue.fill(buffer, b"\x08").wait()
    assert buffer.read() == b"\x08" * 64
    before = device.statistics.spans
    assert device.queue.dealloca(buffer).done
    assert device.statistics.spans == before - 1


# -- in programs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        "fill 4", "range", "fill 1", "copy to", "copy from", "fill, copy", "update",
        "no access named",
    ],
)  # fmt: skip
def test_transients_in_commands(device: Device, case: str) -> None:
    line = device.semaphore()
    access = Access(0) if case == "no access named" else Access.ALL
    buffer = device.queue.alloca(64, access=access, signal=(line, 1))
    lasting = device.allocate(64)
    lasting.write(b"\x33" * 64)
    commands = device.command_buffer(case)
    expected = bytes(64)
    if case in ("fill 4", "no access named"):
        commands.fill(buffer, b"\1\2\3\4")
        expected = b"\1\2\3\4" * 16
    elif case == "fill 1":
        commands.fill(buffer, b"\xab")
        expected = b"\xab" * 64
    elif case == "range":
        commands.fill(buffer, b"\0")
        commands.barrier()
        commands.fill(buffer.subspan(16, 32), b"\xcd\xef")
        expected = bytes(16) + b"\xcd\xef" * 16 + bytes(16)
    elif case == "copy to":
        commands.copy(lasting, buffer)
        expected = b"\x33" * 64
    elif case == "update":
        commands.update(buffer, bytes(range(64)))
        expected = bytes(range(64))
    else:
        commands.fill(buffer, b"\x44")
        commands.barrier()
        commands.copy(buffer, lasting)
        expected = b"\x44" * 64
    program = commands.finish()
    device.queue.execute(program, wait=(line, 1), signal=(line, 2))
    line.wait(2)
    assert buffer.read() == expected
    if case in ("copy from", "fill, copy"):
        assert lasting.read() == expected
    program.free()
    device.queue.dealloca(buffer)


@pytest.mark.parametrize("way", ["direct", "slot"])
def test_recorded_before_it_has_memory(limited: Device, way: str) -> None:
    """Also when there is none at all while it is recorded, enqueued and bound."""
    other = limited.allocate(2 * MIB - 128 * 1024)
    line = limited.semaphore()
    buffer = limited.queue.alloca(MIB, "late", signal=(line, 1))
    commands = limited.command_buffer("late")
    commands.fill(Slot(0, 0, MIB) if way == "slot" else buffer, b"\x21")
    program = commands.finish()
    slots = [buffer] if way == "slot" else []
    operation = limited.queue.execute(program, slots, wait=(line, 1), signal=(line, 2))
    assert "without memory" in repr(buffer) and not operation.done
    other.free()
    line.wait(2)
    assert buffer.read(0, 9) == b"\x21" * 9
    assert buffer.read(MIB - 9, 9) == b"\x21" * 9
    limited.queue.dealloca(buffer)
    program.free()


def test_a_transient_feeds_a_dispatch(device: Device) -> None:
    line, out = device.semaphore(), zeros(device)
    buffer = device.queue.alloca(32, signal=(line, 1))
    line.wait(1)
    buffer.write(b"\x09\0\0\0" * 8)
    one = add(device, 1)
    device.queue.copy(buffer, out, signal=(line, 2))
    device.queue.execute(one, [out, buffer], wait=(line, 2), signal=(line, 3))
    device.queue.dealloca(buffer, wait=(line, 3), signal=(line, 4))
    line.wait(4)
    assert words(out) == [10] * 8
    one.free()


def test_cycles_with_one_program(device: Device) -> None:
    one = add(device, 3)
    for _ in range(3):
        line, seen = device.semaphore(), zeros(device)
        buffer = device.queue.alloca(32, signal=(line, 1))
        device.queue.fill(buffer, b"\0", wait=(line, 1), signal=(line, 2))
        device.queue.execute(one, [buffer, seen], wait=(line, 2), signal=(line, 3))
        line.wait(3)
        assert words(buffer) == [3] * 8
        device.queue.dealloca(buffer, wait=(line, 3), signal=(line, 4))
        line.wait(4)
    one.free()


def test_two_chains_in_flight(device: Device) -> None:
    one, ten, seen = add(device, 1), add(device, 10), zeros(device)
    lines = [device.semaphore(), device.semaphore()]
    buffers: list[Buffer] = []
    for line, program in zip(lines, (one, ten), strict=True):
        buffer: Buffer = device.queue.alloca(32, signal=(line, 1))
        device.queue.fill(buffer, b"\0", wait=(line, 1), signal=(line, 2))
        device.queue.execute(program, [buffer, seen], wait=(line, 2), signal=(line, 3))
        buffers.append(buffer)
    for line in lines:
        line.wait(3)
    assert [words(buffer)[0] for buffer in buffers] == [1, 10]
    for buffer in buffers:
        device.queue.dealloca(buffer)
    one.free()
    ten.free()


# -- when there is no memory -------------------------------------------------------------------


@pytest.mark.parametrize("from_what", ["dealloca", "free"])
def test_an_alloca_waits_for_memory_that_is_coming_back(limited: Device, from_what: str) -> None:
    line, done = limited.semaphore(), limited.semaphore()
    queue = limited.queue
    first = queue.alloca(3 * MIB // 2, "first", signal=(line, 1))
    queue.fill(first, b"\1", wait=(line, 1), signal=(line, 2))
    second = queue.alloca(3 * MIB // 2, "second", signal=(done, 1))
    queue.fill(second, b"\2", wait=(done, 1), signal=(done, 2))
    assert not second.ready
    if from_what == "dealloca":
        queue.dealloca(first, wait=(line, 2), signal=(line, 3))
    else:
        line.wait(2)
        first.free()
    done.wait(2)
    assert second.read(MIB, 4) == b"\2\2\2\2"
    queue.dealloca(second)
    queue.idle()


def test_memory_that_nobody_gives_back(limited: Device) -> None:
    """A wait that only memory could end says how much was asked and is free."""
    ready = limited.semaphore()
    first = limited.queue.alloca(3 * MIB // 2, "first")
    second = limited.queue.alloca(3 * MIB // 2, "second", signal=(ready, 1))
    with pytest.raises(TimedOut):
        ready.wait(1, 0)
    with pytest.raises(OutOfMemory, match=r"second needs 1,572,864 bytes.* are free"):
        ready.wait(1)
    assert isinstance(second.operation and second.operation.failure, OutOfMemory)
    limited.queue.dealloca(first)
    third = limited.queue.alloca(3 * MIB // 2, "third")
    assert third.ready
    limited.queue.dealloca(third)


def test_more_than_there_can_ever_be(limited: Device) -> None:
    with pytest.raises(OutOfMemory, match="huge needs"):
        limited.queue.alloca(1 << 30, "huge")
    limited.queue.idle()


def test_starving_allocas_are_fed_in_order(limited: Device) -> None:
    first = limited.queue.alloca(3 * MIB // 2)
    large = limited.queue.alloca(3 * MIB // 2)
    small = limited.queue.alloca(MIB)
    cancelled = limited.queue.alloca(MIB)
    assert cancelled.operation is not None and cancelled.operation.cancel()
    limited.queue.dealloca(first)
    assert large.operation is not None and small.operation is not None
    large.operation.wait()
    assert not small.ready
    limited.queue.dealloca(large)
    small.operation.wait()
    assert small.ready
    limited.queue.dealloca(small)
    limited.queue.idle()


async def test_an_await_is_fed() -> None:
    """Memory that another task frees wakes an alloca that is awaited."""
    own = short_of_memory()
    other = own.allocate(3 * MIB // 2)
    buffer = own.queue.alloca(MIB)
    assert buffer.operation is not None and not buffer.ready
    asyncio.get_running_loop().call_later(0.01, other.free)
    await buffer.operation.finished(PATIENCE)
    assert buffer.ready
    own.queue.dealloca(buffer)
    own.close()
