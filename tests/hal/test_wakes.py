"""Who is woken: nobody for what one thread does alone, everybody for what others may have to do."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from tilework.hal import Device, Program
from tilework.hal._abi import QUEUE_WAKE
from tilework.hal.kernels.probe import NOP


def regions(device: Device, tiles: Sequence[int]) -> Program:
    """So many tiles in each region; 0 is a region without any."""
    commands = device.command_buffer("regions")
    for count in tiles:
        commands.dispatch(NOP, (count, 1, 1), None, [])
        commands.barrier()
    return commands.finish()


def woken(device: Device, call: Callable[[], object]) -> int:
    """How often waiting threads were told to look."""

    def word() -> int:
        (count,) = struct.unpack("<I", device.ring._memory.peek(QUEUE_WAKE, 4))
        return int(count)

    before = word()
    call()
    return (word() - before) % (1 << 32)


@pytest.mark.parametrize(
    ("tiles", "told"),
    [
        ([], 1),
        ([1], 1),
        ([1, 1, 1, 1, 1], 1),
        ([2], 2),
        ([2, 1, 1], 2),  # what follows the last that can be shared is one thread's
        ([1, 1, 2], 4),  # and what is before it is announced: sleepers are on their way then
        ([1, 3, 0, 1, 2, 0, 1], 5),
    ],
)
def test_regions_of_one_tile_at_the_end_wake_nobody(
    device: Device, tiles: list[int], told: int
) -> None:
    program = regions(device, tiles)
    device.submit(program)
    for _ in range(20):
        assert woken(device, lambda: device.submit(program)) == told  # the end counts as one
    program.free()


def test_what_is_pushed_is_announced_whoever_runs_it(device: Device) -> None:
    program = regions(device, [1, 1])
    device.submit(program)

    def run() -> None:
        operation = device.queue.execute(program)
        operation.wait()

    for _ in range(5):
        assert woken(device, run) >= 2
    program.free()


def test_a_thread_that_stops_after_some_tiles_leaves_no_region_unannounced(device: Device) -> None:
    program = regions(device, [1] * 5)
    device.submit(program)
    ring = device.ring
    for _ in range(5):
        number = ring.push(*program.addresses, 0)
        while ring.look() <= number:
            told = woken(device, partial(ring.wait, number + 1, 0.001, 1))
            # Each of these opens what it does not run; where there are workers they may be faster.
            assert told >= 1 or device.threads > 1
        ring.retire(number + 1)
    program.free()
