"""Threads that do not come back: what was open fails, all else goes on, on new threads."""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Sequence

import pytest

from tests.hal.opened import OPENED
from tilework.core.errors import KernelFailure, ThreadLost
from tilework.hal import Device, Program, open_device
from tilework.hal._abi import QUEUE_CLAIM, QUEUE_SIZE, Status
from tilework.hal.failure import failure
from tilework.hal.kernels.probe import HANG, TRACE, HangParams, TraceParams
from tilework.hal.threads import RING_BYTES

PATIENCE = 0.4  # seconds, instead of ten
SPINS = 4_000_000_000  # looks of the submitting thread, some seconds, until it gives up waiting


def several() -> bool:
    """Whether this place gives a device more than one thread."""
    return sys.platform != "emscripten" or max(OPENED) > 1


# Inline there are no workers: the one thread that could hang is the one that would notice.
pytestmark = pytest.mark.skipif(
    "not __import__('tests.hal.test_watchdog', fromlist=['several']).several()",
    reason="one thread has no workers to watch",
)


async def opened(threads: int) -> Device:
    device = open_device(threads)
    assert await device.ready()
    device.ring.patience = PATIENCE
    return device


class Hanging:
    """A program whose tiles hang on a worker until they are let go, if ever."""

    def __init__(self, device: Device, tiles: int = 2) -> None:
        self.words = device.allocate(8, "words")
        commands = device.command_buffer("model")
        commands.dispatch(HANG, (tiles, 1, 1), HangParams(SPINS), [self.words], label="Loop 'x'")
        self.program = commands.finish()
        self.hold()

    def hold(self) -> None:
        self.words.write(bytes(8))

    @property
    def inside(self) -> bool:
        """Whether a worker is in a tile."""
        return bool(self.words.read()[4])

    def let_go(self) -> None:
        self.words.write(struct.pack("<I", 1))

    def free(self) -> None:
        self.program.free()
        self.words.free()


class Counting:
    """A program that adds one to a hundred numbers."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.out, self.seen = device.allocate(400, "out"), device.allocate(400, "seen")
        self.out.write(bytes(400))
        commands = device.command_buffer("count")
        commands.dispatch(TRACE, (100, 1, 1), TraceParams(1), [self.out, self.seen])
        self.program: Program = commands.finish()
        self.expected = 0

    def run(self, times: int = 20) -> None:
        for _ in range(times):
            self.device.submit(self.program)
        self.added(times)

    def added(self, times: int) -> None:
        self.expected += times
        assert struct.unpack("<100I", self.out.read()) == (self.expected,) * 100

    def free(self) -> None:
        self.program.free()
        self.out.free()
        self.seen.free()


def pushed(device: Device, programs: Sequence[Program]) -> tuple[list[int], list[int]]:
    """Their numbers in the ring and their slot tables."""
    tables: list[int] = []
    numbers: list[int] = []
    for program in programs:
        program.begin()
        tables.append(program.bind())
        addresses = program.image.address, program.state.address
        numbers.append(device.ring.push(*addresses, tables[-1]))
    return numbers, tables


@pytest.mark.parametrize("threads", [2, 4])
async def test_a_kernel_that_loops_for_ever_is_named(threads: int) -> None:
    device = await opened(threads)
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    counting.run()
    for _ in range(2):
        hanging.hold()
        with pytest.raises(KernelFailure, match=r"kernel hang \(Loop 'x'\) failed") as caught:
            device.submit(hanging.program)
        assert "it did not come back" in str(caught.value)
        assert caught.value.status == Status.STUCK
        assert caught.value.command == 0
        assert caught.value.tile in ((0, 0, 0), (1, 0, 0))
        counting.run()  # by this thread alone, until the new workers have started
        assert await device.ready(), "the new workers did not start"
        assert device.ready_threads == threads
        counting.run()
    hanging.let_go()
    counting.free()
    hanging.free()
    device.close()


async def test_what_was_pushed_behind_runs_on_the_new_threads() -> None:
    device = await opened(2)
    ring = device.ring
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    counting.run(1)
    programs = [counting.program, hanging.program, *[counting.program] * 3]
    numbers, tables = pushed(device, programs)
    assert ring.cancel(numbers[3], Status.SKIPPED)
    assert ring.wait(ring.pushed) == numbers[1] + 1
    assert ring.halted
    assert ring.outcome(numbers[0]).status == Status.ENDED
    assert ring.outcome(numbers[1]).status == Status.STUCK
    ring.go_on()
    assert ring.wait(ring.pushed) == ring.pushed
    assert ring.outcome(numbers[3]).status == Status.SKIPPED
    assert ring.outcome(numbers[4]).status == Status.ENDED
    ring.retire(ring.pushed)
    for program, table in zip(programs, tables, strict=True):
        program.end((), table)
    counting.added(3)
    counting.run()
    hanging.let_go()
    counting.free()
    hanging.free()
    device.close()


async def test_a_stale_worker_harms_nobody() -> None:
    """It comes back from its kernel when its submission is long over and others run."""
    device = await opened(2)
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    for _ in range(5):
        hanging.hold()
        with pytest.raises(KernelFailure, match="did not come back"):
            device.submit(hanging.program)
        counting.run(5)
        hanging.let_go()
        counting.run(200)
        assert await device.ready()
        counting.run(200)
    counting.free()
    hanging.free()
    device.close()


async def test_a_tile_that_nobody_has_is_a_lost_thread() -> None:
    """As if a worker had been ended between claiming a tile and running it."""
    device = await opened(2)
    ring = device.ring
    hanging, counting = Hanging(device, tiles=3), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    [number], [table] = pushed(device, [hanging.program])
    deadline = time.monotonic() + 20
    while not hanging.inside:  # the worker, in tile 2, its own
        assert time.monotonic() < deadline, "the worker has not begun"
        await asyncio.sleep(0.001)
    claim = int.from_bytes(ring._memory.read(QUEUE_CLAIM, 8), "little")
    share = QUEUE_SIZE + RING_BYTES  # the submitting thread's: tiles 0 and 1
    assert ring._memory.read(share, 8) == bytes(8)
    ring._memory.write((claim + 1).to_bytes(8, "little"), share)
    hanging.let_go()
    assert ring.wait(ring.pushed, 30) == number + 1
    outcome = ring.outcome(number)
    assert outcome.status == Status.LOST
    error = failure(hanging.program, outcome)
    assert isinstance(error, ThreadLost)
    assert "model" in str(error)
    ring.retire(ring.pushed)
    ring.go_on()
    hanging.program.end((), table)
    counting.run()
    counting.free()
    hanging.free()
    device.close()


@pytest.mark.parametrize("awaited", [False, True])
async def test_the_queue_goes_on_on_the_new_threads(awaited: bool) -> None:
    """What relies on the program that is stuck fails with its error; nothing else is touched."""
    device = await opened(2)
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    queue, line = device.queue, device.semaphore(label="line")
    before = queue.execute(counting.program)
    stuck = queue.execute(hanging.program, signal=(line, 1))
    relying = queue.execute(counting.program, wait=(line, 1))
    unrelated = [queue.execute(counting.program) for _ in range(3)]
    for operation in (before, *unrelated):
        if awaited:
            await operation.finished(60)
        else:
            operation.wait(60)
    counting.added(4)
    for operation in (stuck, relying):
        with pytest.raises(KernelFailure, match="did not come back"):
            operation.wait(60)
    assert await device.ready(), "the new workers did not start"
    counting.run()
    hanging.let_go()
    counting.free()
    hanging.free()
    device.close()


async def test_an_awaited_wait_notices_too() -> None:
    device = await opened(2)
    ring = device.ring
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"
    [number], [table] = pushed(device, [hanging.program])
    # The event loop's thread does not compute while workers do: one worker takes both tiles.
    assert await ring.ended(number + 1, 30) == number + 1
    assert ring.outcome(number).status == Status.STUCK
    ring.retire(ring.pushed)
    ring.go_on()
    hanging.program.end((), table)
    counting.run()
    hanging.let_go()
    counting.free()
    hanging.free()
    device.close()


async def test_a_long_tile_is_not_a_lost_one() -> None:
    device = await opened(2)
    device.ring.patience = 10.0
    hanging, counting = Hanging(device), Counting(device)
    assert await device.ready(), "the workers did not load the kernels"

    async def later() -> None:
        await asyncio.sleep(0.6)
        hanging.let_go()

    ring = device.ring
    [number], [table] = pushed(device, [hanging.program])
    waiting = asyncio.ensure_future(later())
    assert await ring.ended(number + 1, 30) == number + 1
    await waiting
    assert ring.outcome(number).status == Status.ENDED
    ring.retire(ring.pushed)
    hanging.program.end((), table)
    counting.run()
    counting.free()
    hanging.free()
    device.close()
