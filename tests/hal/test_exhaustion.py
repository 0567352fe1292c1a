"""Memory that ends: each allocation of each action fails in turn. The error is typed and says how
much was asked, free and largest; nothing is leaked; the next call is right."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tilework.core.errors import OutOfMemory
from tilework.hal import Buffer, Device, Slot, open_device
from tilework.hal.allocator import Allocator
from tilework.hal.kernels.probe import TRACE, TraceParams
from tilework.hal.library import kernel_module
from tilework.hal.transient import Transient

WORDS = r"needs [\d,]+ bytes of device memory; [\d,]+ are free, the largest piece is [\d,]+, and "


def held(device: Device) -> tuple[int, int, int]:
    gc.collect()
    now = device.statistics
    return now.in_use, now.spans, now.imported


def fails_everywhere(device: Device, action: Callable[[], None]) -> int:
    """Runs `action` with its first, second, … allocation failing, until all succeed; their number.

    `action` gives back what it takes.
    """
    for points in range(100):
        before = held(device)
        device.allocator.fail_at = points
        try:
            action()
        except OutOfMemory as error:
            assert device.allocator.fail_at < 0
            assert re.search(WORDS, str(error))
        else:
            assert device.allocator.fail_at is not None
            assert device.allocator.fail_at >= 0, "an error was swallowed"
            return points
        finally:
            device.allocator.fail_at = None
        assert held(device) == before, f"allocation {points} failed and something was leaked"
        works(device)
    raise AssertionError("more than 100 allocations")


def works(device: Device) -> None:
    with device.allocate(64) as out, device.allocate(64) as other:
        commands = device.command_buffer("after")
        commands.fill(out, b"\5")
        commands.barrier()
        commands.copy(out, other)
        device.submit(commands.finish(reusable=False))
        assert other.read() == b"\5" * 64


def traced(device: Device, out: Buffer) -> None:
    """Records, runs and checks a program with all kinds of commands."""
    with device.allocate(400, "seen") as seen:
        commands = device.command_buffer("traced")
        commands.fill(out, b"\0")
        commands.update(seen, bytes(400))
        commands.barrier()
        commands.dispatch(TRACE, (100, 1, 1), TraceParams(3), [Slot(0, 0, 400), seen])
        with_slots = commands.finish()
        try:
            device.submit(with_slots, [out])
        finally:
            with_slots.free()
    assert out.read() == b"\3\0\0\0" * 100


# -- the actions -----------------------------------------------------------------------------------


def test_opening_a_device(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """A device that does not come to be leaves neither threads nor memory behind."""
    threads = min(2, device.threads)
    drivers: list[Any] = []
    closed: list[int] = []

    def opening(fail_at: int | None) -> Device:
        def failing(*arguments: Any, **options: Any) -> Allocator:
            allocator = Allocator(*arguments, **options)
            allocator.fail_at = fail_at
            driver = arguments[0].__self__
            drivers.append(weakref.ref(driver))
            ending = driver.close

            def close() -> None:
                closed.append(1)
                ending()

            driver.close = close
            return allocator

        with monkeypatch.context() as patch:
            patch.setattr("tilework.hal.heap.Allocator", failing)
            return open_device(threads=threads, mode=device.mode)

    points = 0
    while True:
        closed.clear()
        try:
            opened = opening(points)
        except OutOfMemory as error:
            assert re.search(WORDS, str(error))
        else:
            break
        assert closed == [1], "the driver was left open"
        gc.collect()
        assert drivers.pop()() is None, "the driver is still referred to"
        points += 1
    assert points > threads, "queue, threads and processor need memory, a failure was swallowed"
    opened.allocator.fail_at = None
    works(opened)
    opened.close()


def test_loading_an_executable(device: Device) -> None:
    opened = open_device(threads=1, mode=device.mode)
    binary = kernel_module("probe", opened.build)

    def load() -> None:
        opened.load(binary, "again").free()

    assert fails_everywhere(opened, load) >= 1
    opened.close()


def test_recording_and_running(device: Device) -> None:
    """Also the loading of the kernels' module, when the first command asks for it."""
    opened = open_device(threads=1, mode=device.mode)
    with opened.allocate(400, "out") as out:
        points, left = 0, True
        while left:
            # Until the module is there to stay.
            spans = held(opened)[1]
            opened.allocator.fail_at = points
            with suppress(OutOfMemory):
                traced(opened, out)
                left = False
            opened.allocator.fail_at = None
            assert held(opened)[1] <= spans + 1, "more than the module stayed"
            works(opened)
            points += left
        # seen; the module; the image, with the module loaded for good; and now the table.
        assert points == 4
        assert fails_everywhere(opened, lambda: traced(opened, out)) == 4
    opened.close()


def test_finishing_again_after_it_failed(device: Device) -> None:
    """What was recorded is not lost: finish may be called again once there is memory."""
    with device.allocate(64) as out:
        commands = device.command_buffer("again")
        commands.fill(out, b"\7")
        commands.barrier()
        commands.update(out.subspan(8, 4), b"abcd")
        for points in range(3):
            before = held(device)
            device.allocator.fail_at = points
            with pytest.raises(OutOfMemory, match=WORDS):
                commands.finish()
            device.allocator.fail_at = None
            assert held(device) == before
        program = commands.finish()
        device.submit(program)
        assert out.read() == b"\7" * 8 + b"abcd" + b"\7" * 52
        program.free()


def test_a_table_for_a_second_submission_in_flight(device: Device) -> None:
    commands = device.command_buffer()
    commands.fill(Slot(0, 0, 8), b"\1")
    program = commands.finish()
    with device.allocate(8) as a, device.allocate(8) as b:
        program.begin([a])
        table = program.bind([a])
        before = held(device)
        device.allocator.fail_at = 0
        with pytest.raises(OutOfMemory, match="slot table needs"):
            device.submit(program, [b])
        device.allocator.fail_at = None
        assert held(device) == before
        assert program.in_flight == 1
        program.end([a], table)
        device.submit(program, [b])
        assert b.read() == b"\1" * 8
    program.free()


def test_staging_a_transient(device: Device) -> None:
    transient = Transient(device.heap, 64, "later")
    before = held(device)
    device.allocator.fail_at = 0
    with pytest.raises(OutOfMemory, match=f"later {WORDS}"):
        transient.stage()
    device.allocator.fail_at = None
    assert held(device) == before
    transient.stage()
    transient.commit()
    transient.write(bytes(64))
    transient.free()
    assert held(device) == before


def queued(device: Device) -> None:
    """One of each operation, chained by semaphores, with a transient between."""
    line = device.semaphore()
    with device.allocate(64, "target") as target:
        transient = None
        try:
            transient = device.queue.alloca(64, "between", signal=(line, 1))
            device.queue.fill(transient, b"\3", wait=(line, 1), signal=(line, 2))
            device.queue.update(target, bytes(64), wait=(line, 1), signal=(line, 3))
            device.queue.copy(transient, target, wait=(line, 3), signal=(line, 4))
            device.queue.dealloca(transient, wait=(line, 4), signal=(line, 5))
            line.wait(5)
            assert target.read() == b"\3" * 64
        finally:
            device.queue.idle()
            if transient is not None:
                transient.free()


def test_operations_of_the_queue(device: Device) -> None:
    """An alloca that finds no memory waits for some; nobody has any to give, so that fails too."""
    assert fails_everywhere(device, lambda: queued(device)) >= 2 + 3 * 3


def test_memory_that_really_ends(device: Device) -> None:
    """The driver's own refusal, with the growth that comes before it, and all that fits after."""
    opened = open_device(threads=1, mode=device.mode, limit=device.statistics.in_use + (4 << 20))
    held_back: list[Buffer] = []
    with pytest.raises(OutOfMemory, match=WORDS):
        while True:
            held_back.append(opened.allocate(300_000, "piece"))
    assert held_back
    with pytest.raises(OutOfMemory, match=WORDS):
        opened.allocate(1 << 40, "everything")
    held_back.pop().free()
    works(opened)
    for buffer in held_back:
        buffer.free()
    opened.allocate(3 << 20).free()
    opened.close()
