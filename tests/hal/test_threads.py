"""Schedules: random programs against a sequential model, and workers that join late."""

from __future__ import annotations

import random
import struct

import pytest

from tilework.core.errors import KernelFailure
from tilework.hal import Buffer, Device, Program
from tilework.hal.kernels.probe import FAIL, TRACE, WORK, FailParams, TraceParams, WorkParams


def record(
    device: Device, rng: random.Random, out: Buffer, seen: Buffer
) -> tuple[Program, list[int] | None]:
    """A random program, and what it leaves in `out`: None when it fails."""
    commands = device.command_buffer("random")
    expected: list[int] | None = [0] * 40
    commands.fill(out, b"\0")
    for _ in range(rng.randint(1, 20)):
        commands.barrier()
        count, value = rng.randint(1, 40), rng.randint(1, 9)
        commands.dispatch(TRACE, (count, 1, 1), TraceParams(value), [out, seen])
        if expected is not None:
            expected[:count] = [v + value for v in expected[:count]]
        if rng.random() < 0.2:
            steps = rng.choice([1, 100, 3000])
            commands.dispatch(WORK, (rng.randint(1, 9), 1, 1), WorkParams(steps), [seen])
        if rng.random() < 0.02:
            commands.dispatch(FAIL, (3, 1, 1), FailParams(rng.randint(0, 2), 50), [])
            expected = None
    return commands.finish(), expected


@pytest.mark.parametrize("seed", range(5))
def test_random_schedules_agree_with_a_sequential_model(device: Device, seed: int) -> None:
    rng = random.Random(seed)
    with device.allocate(160) as out, device.allocate(160) as seen:
        programs = [record(device, rng, out, seen) for _ in range(12)]
        for _ in range(300):
            program, expected = rng.choice(programs)
            if expected is None:
                with pytest.raises(KernelFailure, match="returned 50"):
                    device.submit(program)
            else:
                device.submit(program)
                assert list(struct.unpack("<40I", out.read())) == expected
        for program, _ in programs:
            program.free()


def test_the_workers_come_to_help(device: Device) -> None:
    """With enough work every thread that is ready runs tiles."""
    if device.threads == 1:
        assert device.ready_threads == 1
        return
    with device.allocate(4 * 4000) as out, device.allocate(4 * 4000) as seen:
        out.write(bytes(out.nbytes))
        commands = device.command_buffer()
        commands.dispatch(WORK, (4000, 1, 1), WorkParams(10_000), [seen])
        commands.barrier()
        commands.dispatch(TRACE, (4000, 1, 1), TraceParams(1), [out, seen])
        program = commands.finish()
        helped = set()
        for _ in range(50):
            device.submit(program)
            helped |= set(struct.unpack("<4000I", seen.read()))
            if len(helped) > 1:
                break
        program.free()
    # In a browser, workers start only once Python has gone back to the event loop: the runner
    # waits for them before it starts pytest.
    assert len(helped) > 1, f"only threads {helped} ever ran a tile"
