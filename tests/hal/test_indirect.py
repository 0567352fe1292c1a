"""Indirect dispatch: tile counts that are read from a buffer when the region opens."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tilework.core.errors import InvalidArgument, KernelFailure, OutOfRange
from tilework.hal import Buffer, CommandBuffer, Device, Slot
from tilework.hal._abi import Status
from tilework.hal.kernels.probe import NOP, TRACE, TraceParams
from tilework.hal.usage import Access, Usage

COUNT = 50
BYTES = 4 * COUNT


def counts_of(x: int, y: int = 1, z: int = 1) -> bytes:
    return struct.pack("<3I", x, y, z)


def numbers(buffer: Buffer) -> list[int]:
    return list(struct.unpack(f"<{buffer.nbytes // 4}I", buffer.read()))


def refused(words: str) -> AbstractContextManager[object]:
    return pytest.raises(InvalidArgument, match=words)


def by_host(commands: CommandBuffer, counts: Buffer) -> int:
    counts.write(counts_of(7))
    return 7


def by_update(commands: CommandBuffer, counts: Buffer) -> int:
    commands.update(counts.subspan(0, 12), counts_of(11))
    commands.barrier()
    return 11


def by_fill(commands: CommandBuffer, counts: Buffer) -> int:
    commands.fill(counts.subspan(0, 12), struct.pack("<I", 1))
    commands.barrier()
    return 1


def by_copy(commands: CommandBuffer, counts: Buffer) -> int:
    commands.update(counts.subspan(64, 12), counts_of(23))
    commands.barrier()
    commands.copy(counts.subspan(64, 12), counts.subspan(0, 12))
    commands.barrier()
    return 23


def by_kernel(commands: CommandBuffer, counts: Buffer) -> int:
    # Three elements, each raised from 0 to 1, then the first to 6.
    commands.fill(counts, b"\0")
    commands.barrier()
    commands.dispatch(TRACE, (3, 1, 1), TraceParams(1), [counts, counts.subspan(64)])
    commands.barrier()
    commands.dispatch(TRACE, (1, 1, 1), TraceParams(5), [counts, counts.subspan(64)])
    commands.barrier()
    return 6


WRITERS = [by_host, by_update, by_fill, by_copy, by_kernel]


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("through", ["whole", "subspan", "slot"])
def test_counts_from(
    device: Device, write: Callable[[CommandBuffer, Buffer], int], through: str
) -> None:
    """Written before the barrier, read after it; elements past them stay."""
    with (
        device.allocate(BYTES) as out,
        device.allocate(BYTES) as seen,
        device.allocate(512) as whole,
    ):
        out.write(bytes(BYTES))
        whole.write(b"\xff" * 512)  # wherever else it reads is above every ceiling
        counts = whole if through == "whole" else whole.subspan(260, 128)
        commands = device.command_buffer("indirect")
        expected = write(commands, counts)
        source = Slot(0, 4, 12) if through == "slot" else counts
        commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(3), [out, seen], counts_from=source)
        program = commands.finish()
        slots = [whole.subspan(256)] if through == "slot" else []
        for replay in (1, 2):
            device.submit(program, slots)
            assert numbers(out) == [3 * replay] * expected + [0] * (COUNT - expected)
        program.free()


def test_counts_may_change_between_replays(device: Device) -> None:
    rng = random.Random(3)
    with device.allocate(BYTES) as out, device.allocate(BYTES) as seen, device.allocate(12) as at:
        out.write(bytes(BYTES))
        model = [0] * COUNT
        commands = device.command_buffer("indirect")
        commands.dispatch(TRACE, (9, 1, 1), TraceParams(100), [out, seen])
        commands.barrier()
        commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(1), [out, seen], counts_from=at)
        commands.dispatch(NOP, (5, 1, 1), None, [])
        commands.barrier()
        commands.dispatch(TRACE, (COUNT, 2, 1), TraceParams(1), [out, seen], counts_from=at)
        commands.barrier()
        commands.dispatch(TRACE, (4, 1, 1), TraceParams(10), [out, seen])
        program = commands.finish()
        for _ in range(200):
            n = rng.choice([0, 1, 2, 17, COUNT])
            at.write(counts_of(n, rng.choice([1, 1]), 1))
            device.submit(program)
            for i in range(COUNT):
                model[i] += 100 * (i < 9) + 2 * (i < n) + 10 * (i < 4)
            assert numbers(out) == model
        program.free()


@pytest.mark.parametrize("zero", [(0, 1, 1), (3, 0, 1), (3, 1, 0), (0, 0, 0)])
def test_no_tiles_at_all(device: Device, zero: tuple[int, int, int]) -> None:
    with device.allocate(BYTES) as out, device.allocate(BYTES) as seen, device.allocate(12) as at:
        out.write(bytes(BYTES))
        at.write(counts_of(*zero))
        commands = device.command_buffer()
        commands.dispatch(TRACE, (COUNT, 4, 4), TraceParams(1), [out, seen], counts_from=at)
        commands.barrier()
        commands.dispatch(TRACE, (2, 1, 1), TraceParams(1), [out, seen])
        program = commands.finish()
        device.submit(program)
        assert numbers(out) == [1, 1] + [0] * (COUNT - 2)
        program.free()


@pytest.mark.parametrize(
    "counts", [(9, 1, 1), (8, 3, 1), (8, 2, 2), (0xFFFFFFFF, 1, 1), (0, 0xFFFFFFFF, 0)]
)
def test_counts_above_the_recorded_ones_fail(device: Device, counts: tuple[int, int, int]) -> None:
    with device.allocate(BYTES) as out, device.allocate(BYTES) as seen, device.allocate(12) as at:
        out.write(bytes(BYTES))
        at.write(counts_of(*counts))
        commands = device.command_buffer("model")
        commands.dispatch(NOP, (3, 1, 1), None, [])
        commands.barrier()
        commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(1), [out, seen])
        commands.dispatch(
            TRACE, (8, 2, 1), TraceParams(1), [out, seen], counts_from=at, label="Loop 'x'"
        )
        program = commands.finish()
        for _ in range(3):
            with pytest.raises(KernelFailure, match=r"trace \(Loop 'x'\) was to run") as caught:
                device.submit(program)
            assert str(counts) in str(caught.value)
            assert "at most (8, 2, 1)" in str(caught.value)
            assert caught.value.status == Status.COUNTS_TOO_LARGE
            assert caught.value.command == 2
        assert numbers(out) == [0] * COUNT, "tiles of the region ran"
        at.write(counts_of(8))
        device.submit(program)
        assert numbers(out) == [2] * 8 + [1] * (COUNT - 8)
        program.free()


def test_what_cannot_hold_counts_is_refused(device: Device) -> None:
    commands = device.command_buffer()
    with device.allocate(64) as buffer:
        for source, error, words in (
            (buffer.subspan(0, 11), OutOfRange, "counts_from: three uint32 are 12 bytes"),
            (buffer.subspan(2, 20), InvalidArgument, "counts_from: .* is not aligned"),
            (Slot(0, 6, 12), InvalidArgument, "counts_from: .* is not aligned"),
            (Slot(0, 0, 8), OutOfRange, "counts_from: three uint32 are 12 bytes"),
            (Slot(-1, 0, 12), OutOfRange, "counts_from: .* negative"),
        ):
            with pytest.raises(error, match=words):
                commands.dispatch(NOP, (1, 1, 1), None, [], counts_from=source)
    with device.allocate(12, usage=Usage.DISPATCH) as buffer, refused("COUNTS"):
        commands.dispatch(NOP, (1, 1, 1), None, [], counts_from=buffer)
    with device.allocate(12, access=Access.WRITE) as buffer, refused("READ"):
        commands.dispatch(NOP, (1, 1, 1), None, [], counts_from=buffer)
    program = commands.finish()
    assert program.commands == ()
    program.free()


def test_counts_that_are_bound_need_their_usage(device: Device) -> None:
    commands = device.command_buffer()
    commands.dispatch(NOP, (4, 1, 1), None, [], counts_from=Slot(0, 0, 12))
    program = commands.finish()
    assert program.slot_extents == (12,)
    with device.allocate(12, usage=Usage.DISPATCH) as buffer, refused("COUNTS"):
        device.submit(program, [buffer])
    program.free()


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "queued"])
@pytest.mark.parametrize("through", ["whole", "subspan"])
def test_counts_from_the_queue(device: Device, recorded: bool, through: str) -> None:
    """Written by an update that the dispatch waits for, with no host wait between."""
    queue, done = device.queue, device.semaphore()
    with (
        device.allocate(BYTES) as out,
        device.allocate(BYTES) as seen,
        device.allocate(12) as whole,
        device.allocate(64) as larger,
    ):
        out.write(bytes(BYTES))
        larger.write(b"\xff" * 64)
        counts = whole if through == "whole" else larger.subspan(20, 12)
        arguments = (TRACE, (COUNT, 1, 1), TraceParams(3), [out, seen])
        update = queue.update(counts, counts_of(13), signal=(done, 1))
        if recorded:
            commands = device.command_buffer("indirect")
            commands.dispatch(*arguments, counts_from=counts)
            operation = queue.execute(commands.finish(reusable=False), wait=(done, 1))
        else:
            operation = queue.dispatch(*arguments, counts_from=counts, wait=(done, 1))
        operation.wait(60)
        assert update.done
        assert numbers(out) == [3] * 13 + [0] * (COUNT - 13)
