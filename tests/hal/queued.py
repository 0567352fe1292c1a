"""Programs and buffers for the tests of the queue."""

from __future__ import annotations

import struct

from tilework.hal import Buffer, Device, Operation, Program, Slot
from tilework.hal.kernels.probe import FAIL, TRACE, WORK, FailParams, TraceParams, WorkParams

PATIENCE = 60.0  # seconds, so that what hangs fails; nothing takes that long


def add(device: Device, value: int, count: int = 8) -> Program:
    """out[x] += value for `count` elements of slot 0; slot 1 takes the workers' numbers."""
    commands = device.command_buffer(f"add {value}")
    commands.dispatch(
        TRACE, (count, 1, 1), TraceParams(value), [Slot(0, 0, 4 * count), Slot(1, 0, 4 * count)]
    )
    return commands.finish()


def zeros(device: Device, count: int = 8) -> Buffer:
    buffer = device.allocate(4 * count)
    buffer.write(bytes(4 * count))
    return buffer


def words(buffer: Buffer) -> list[int]:
    return list(struct.unpack(f"<{buffer.nbytes // 4}I", buffer.read()))


def failing(device: Device, label: str = "bad") -> Program:
    commands = device.command_buffer(label)
    commands.dispatch(FAIL, (4, 1, 1), FailParams(2, 77), [], label=label)
    return commands.finish()


def long(device: Device, seen: Buffer, regions: int = 5) -> Program:
    """Takes about 10 ms a region on one thread."""
    commands = device.command_buffer("long")
    for _ in range(regions):
        commands.dispatch(WORK, (100, 1, 1), WorkParams(40_000), [seen])
        commands.barrier()
    return commands.finish()


async def finish(operation: Operation) -> None:
    """Awaits an operation, as a coroutine for `create_task`."""
    await operation
