"""Dispatches: parameters, bindings, tiles, entry points and pipelines, with each range recorded as
a buffer (`direct`) or bound at submit (`slot`)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

from tilework.hal import Buffer, CommandBuffer, Device, Kernel, Slot
from tilework.hal.kernels.probe import (
    F32_ABS,
    NEGATE,
    NUMBER,
    PUT_WORDS,
    SCALE,
    TRACE,
    TWICE,
    PutWordsParams,
    ScaleParams,
    TraceParams,
)

COUNT = 32
BYTES = 4 * COUNT
At = Callable[[int], Buffer | Slot]


def floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def read_floats(buffer: Buffer) -> list[float]:
    return list(struct.unpack(f"<{buffer.nbytes // 4}f", buffer.read()))


def read_words(buffer: Buffer) -> list[int]:
    return list(struct.unpack(f"<{buffer.nbytes // 4}I", buffer.read()))


INPUT = [float(i) - 7.5 for i in range(COUNT)]


@pytest.fixture(params=["direct", "slot"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def holding(device: Device, *contents: bytes) -> list[Buffer]:
    buffers = []
    for content in contents:
        buffers.append(device.allocate(len(content)))
        buffers[-1].write(content)
    return buffers


def run(
    device: Device, way: str, buffers: list[Buffer], record: Callable[[CommandBuffer, At], None]
) -> None:
    """Records with the buffers or with slots that stand for them, submits, waits."""

    def at(index: int) -> Buffer | Slot:
        return buffers[index] if way == "direct" else Slot(index, 0, buffers[index].nbytes)

    commands = device.command_buffer(way)
    record(commands, at)
    program = commands.finish()
    device.submit(program, buffers if way == "slot" else ())
    program.free()


def test_parameters_and_bindings(device: Device, way: str) -> None:
    buffers = holding(device, floats(INPUT), bytes(BYTES))
    run(
        device,
        way,
        buffers,
        lambda c, at: c.dispatch(SCALE, (COUNT, 1, 1), ScaleParams(3.0, 10.0), [at(0), at(1)]),
    )
    assert read_floats(buffers[1]) == [3 * x + 10 for x in INPUT]
    assert read_floats(buffers[0]) == INPUT


def test_parameters_arrive(device: Device, way: str) -> None:
    words = (0x11223344, 0xFFFFFFFF, 0, 0xA5A55A5A)
    buffers = holding(device, b"\xcc" * 32)
    run(
        device,
        way,
        buffers,
        lambda c, at: c.dispatch(PUT_WORDS, (1, 1, 1), PutWordsParams(*words), [at(0)]),
    )
    assert buffers[0].read() == struct.pack("<4I", *words) + b"\xcc" * 16


def test_every_tile_knows_its_number(device: Device, way: str) -> None:
    buffers = holding(device, b"\xff" * BYTES)
    run(device, way, buffers, lambda c, at: c.dispatch(NUMBER, (COUNT, 1, 1), b"", [at(0)]))
    assert read_words(buffers[0]) == list(range(COUNT))


def test_many_tiles(device: Device, way: str) -> None:
    buffers = holding(device, b"\xff" * 4096)
    run(device, way, buffers, lambda c, at: c.dispatch(NUMBER, (1024, 1, 1), b"", [at(0)]))
    assert read_words(buffers[0]) == list(range(1024))


def test_two_entries_of_one_executable(device: Device, way: str) -> None:
    """Both run in one region, each does its own work on the same input."""
    buffers = holding(device, floats(INPUT), bytes(BYTES), bytes(BYTES))

    def record(commands: CommandBuffer, at: At) -> None:
        commands.dispatch(NEGATE, (COUNT, 1, 1), b"", [at(0), at(1)])
        commands.dispatch(TWICE, (COUNT, 1, 1), b"", [at(0), at(2)])

    run(device, way, buffers, record)
    assert read_floats(buffers[1]) == [-x for x in INPUT]
    assert read_floats(buffers[2]) == [2 * x for x in INPUT]


def test_a_range_is_bound(device: Device, way: str) -> None:
    """Elements 1 and 2 of 4: what lies on both sides keeps its sign."""
    (buffer,) = holding(device, floats([-1.0, -2.0, -3.0, -4.0]))
    commands = device.command_buffer(way)
    middle = buffer.subspan(4, 8) if way == "direct" else Slot(0, 4, 8)
    commands.dispatch(F32_ABS, (2, 1, 1), b"", [middle])
    program = commands.finish()
    device.submit(program, [buffer] if way == "slot" else ())
    program.free()
    assert read_floats(buffer) == [-1.0, 2.0, 3.0, -4.0]


def test_a_buffer_and_a_slot_in_one_dispatch(device: Device) -> None:
    source, first, second = holding(device, floats(INPUT), bytes(BYTES), bytes(BYTES))
    commands = device.command_buffer()
    commands.dispatch(NEGATE, (COUNT, 1, 1), b"", [source, Slot(0, 0, BYTES)])
    program = commands.finish()
    for target in (first, second):
        device.submit(program, [target])
        assert read_floats(target) == [-x for x in INPUT]
    program.free()


PIPELINES = {
    "update, dispatch": (True, [TWICE]),
    "dispatch, dispatch": (False, [TWICE, NEGATE]),
    "update, dispatch, dispatch": (True, [NEGATE, TWICE]),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines(device: Device, way: str, name: str) -> None:
    """Each stage sees what the one before the barrier wrote, and it can be read afterwards."""
    updated, kernels = PIPELINES[name]
    start = bytes(BYTES) if updated else floats(INPUT)
    buffers = holding(device, start, *[bytes(BYTES) for _ in kernels])

    def record(commands: CommandBuffer, at: At) -> None:
        if updated:
            commands.update(at(0), floats(INPUT))
        for stage, kernel in enumerate(kernels):
            commands.barrier()
            commands.dispatch(kernel, (COUNT, 1, 1), b"", [at(stage), at(stage + 1)])

    run(device, way, buffers, record)
    expected = INPUT
    for kernel, buffer in zip(kernels, buffers[1:], strict=True):
        expected = [_one(kernel, x) for x in expected]
        assert read_floats(buffer) == expected


def _one(kernel: Kernel, x: float) -> float:
    return 2 * x if kernel is TWICE else -x


def test_a_pipeline_is_replayed(device: Device) -> None:
    """Five submissions of one two-stage program, each with buffers of its own."""
    commands = device.command_buffer()
    source, between, target = (Slot(index, 0, BYTES) for index in range(3))
    commands.dispatch(TWICE, (COUNT, 1, 1), b"", [source, between])
    commands.barrier()
    commands.dispatch(SCALE, (COUNT, 1, 1), ScaleParams(1.0, 1.0), [between, target])
    program = commands.finish()
    for turn in range(5):
        values = [x + 100 * turn for x in INPUT]
        buffers = holding(device, floats(values), bytes(BYTES), bytes(BYTES))
        device.submit(program, buffers)
        assert read_floats(buffers[0]) == values
        assert read_floats(buffers[1]) == [2 * x for x in values]
        assert read_floats(buffers[2]) == [2 * x + 1 for x in values]
    program.free()


def test_counts_of_zero_run_nothing_beside_others(device: Device, way: str) -> None:
    buffers = holding(device, bytes(BYTES), bytes(BYTES))

    def record(commands: CommandBuffer, at: At) -> None:
        commands.dispatch(TRACE, (0, 1, 1), TraceParams(9), [at(0), at(1)])
        commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(2), [at(0), at(1)])

    run(device, way, buffers, record)
    assert read_words(buffers[0]) == [2] * COUNT
