"""What goes wrong on the queue, or is stopped: time-outs, failures, cancel, the device's end."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from tests.hal.queued import PATIENCE, add, failing, finish, long, words, zeros
from tilework.core.errors import (
    Cancelled,
    DeviceLost,
    InvalidArgument,
    KernelFailure,
    TimedOut,
)
from tilework.hal import (
    Device,
    open_device,
)

THREADED = pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has no threads")


# -- time-outs ---------------------------------------------------------------------------------


def test_short_waits_get_there(device: Device) -> None:
    """Each does a bounded part of the work, also where no other thread computes."""
    seen = zeros(device, 100)
    program = long(device, seen, regions=40)
    operation = device.queue.execute(program)
    with pytest.raises(TimedOut, match="the end of execute long"):
        operation.wait(0)
    for _ in range(1_000_000):
        try:
            operation.wait(0.001)
            break
        except TimedOut:
            pass
    assert operation.done
    program.free()


# -- failures ----------------------------------------------------------------------------------


def test_a_kernel_that_fails_fails_the_signals(device: Device) -> None:
    a, b, c = (device.semaphore() for _ in range(3))
    out, seen = zeros(device), zeros(device)
    bad, one = failing(device), add(device, 1)
    first = device.queue.execute(bad, signal=[(a, 1), (b, 1)])
    second = device.queue.execute(one, [out, seen], wait=(a, 1), signal=(c, 1))
    third = device.queue.barrier(wait=(c, 1))
    unrelated = device.queue.execute(one, [out, seen])
    with pytest.raises(KernelFailure, match=r"kernel fail \(bad\) failed in tile \(2, 0, 0\)") as e:
        c.wait(1)
    for operation in (first, second, third):
        assert operation.failure is e.value
        with pytest.raises(KernelFailure):
            operation.wait()
    assert b.failure is e.value
    unrelated.wait()
    assert words(out) == [1] * 8, "what relied on the failure must not run, the others must"
    device.queue.execute(one, [out, seen], signal=(device.semaphore(), 1)).wait()
    assert words(out) == [2] * 8
    bad.free()
    one.free()


def test_failures_travel(device: Device) -> None:
    """A wait that fails fails the signals with the same error, through every kind."""
    start, *line = (device.semaphore() for _ in range(6))
    out = zeros(device)
    queue, error = device.queue, ValueError("from the host")
    operations = [
        queue.barrier(wait=(start, 1), signal=(line[0], 1)),
        queue.fill(out, b"\1", wait=(line[0], 1), signal=(line[1], 1)),
        queue.host_call(out.write, b"\2" * 32, wait=(line[1], 1), signal=(line[2], 1)),
        queue.read(bytes([3] * 32), 0, out, wait=(line[2], 1), signal=(line[3], 1)),
    ]
    start.fail(error)
    with pytest.raises(ValueError, match="from the host") as caught:
        line[3].wait(1)
    assert caught.value is error
    assert all(operation.failure is error for operation in operations)
    assert words(out) == [0] * 8
    late = queue.fill(out, b"\4", wait=(line[3], 1), signal=(line[4], 1))
    assert late.failure is error and line[4].failure is error
    with pytest.raises(ValueError, match="from the host"):
        line[4].wait(1)
    queue.idle()
    assert words(out) == [0] * 8


def test_a_long_chain_fails_at_once(device: Device) -> None:
    start = device.semaphore()
    line = [device.semaphore() for _ in range(2000)]
    device.queue.barrier(wait=(start, 1), signal=(line[0], 1))
    for one, another in pairwise(line):
        device.queue.barrier(wait=(one, 1), signal=(another, 1))
    start.fail(ValueError("gone"))
    with pytest.raises(ValueError, match="gone"):
        line[-1].wait(1)


def test_a_promise_that_the_host_fails(device: Device) -> None:
    """What relied on the promise and has not ended is skipped; who promised goes on."""
    seen, out = zeros(device, 100), zeros(device)
    slow, one = long(device, seen, regions=100), add(device, 1)
    a, b = device.semaphore(), device.semaphore()
    promising = device.queue.execute(slow, signal=(a, 1))
    relying = device.queue.execute(one, [out, seen], wait=(a, 1), signal=(b, 1))
    a.fail(ValueError("not needed any more"))
    with pytest.raises(ValueError, match="not needed"):
        b.wait(1)
    assert isinstance(relying.failure, ValueError)
    promising.wait()
    device.queue.idle()
    assert words(out) == [0] * 8
    slow.free()
    one.free()


def test_a_signal_that_came_too_late(device: Device) -> None:
    """Two operations were to signal the same value: the second one has lost its order."""
    semaphore, start = device.semaphore(label="frames"), device.semaphore()
    waiting = device.queue.barrier(wait=(start, 1), signal=(semaphore, 1))
    semaphore.signal(1)
    start.signal(1)
    assert isinstance(waiting.failure, InvalidArgument)
    with pytest.raises(InvalidArgument, match=r"barrier: signal of 1 on .*: a value must grow"):
        semaphore.wait(1)


def test_a_submit_that_fails_beside_others(device: Device) -> None:
    """Device.submit raises its own failure only, and works on."""
    out, seen = zeros(device), zeros(device)
    bad, one = failing(device), add(device, 1)
    queued = device.queue.execute(bad)
    device.submit(one, [out, seen])
    assert isinstance(queued.failure, KernelFailure)
    waiting = device.queue.execute(one, [out, seen])
    with pytest.raises(KernelFailure):
        device.submit(bad)
    waiting.wait()
    assert words(out) == [2] * 8
    bad.free()
    one.free()


# -- cancel ------------------------------------------------------------------------------------


def test_cancel_before_it_starts(device: Device) -> None:
    start, done, after = (device.semaphore() for _ in range(3))
    out, seen = zeros(device), zeros(device)
    one = add(device, 1)
    operation = device.queue.execute(one, [out, seen], wait=(start, 1), signal=(done, 1))
    relying = device.queue.barrier(wait=(done, 1), signal=(after, 1))
    assert operation.cancel()
    assert operation.done and relying.done
    waits: list[Callable[[], None]] = [operation.wait, relying.wait]
    waits += [partial(done.wait, 1), partial(after.wait, 1)]
    for wait in waits:
        with pytest.raises(Cancelled, match="execute add 1 was cancelled"):
            wait()
    assert not operation.cancel()
    start.signal(1)
    device.queue.idle()
    assert words(out) == [0] * 8
    one.free()


def test_cancel_while_it_runs(device: Device) -> None:
    seen, out, quiet = zeros(device, 100), zeros(device), zeros(device)
    slow, one = long(device, seen, regions=500), add(device, 1)
    done, after = device.semaphore(), device.semaphore()
    operation = device.queue.execute(slow, signal=(done, 1))
    relying = device.queue.execute(one, [out, quiet], wait=(done, 1), signal=(after, 1))
    unrelated = device.queue.execute(one, [out, quiet])
    with pytest.raises(TimedOut):
        operation.wait(0.002)
    assert operation.cancel()
    with pytest.raises(Cancelled, match="execute long was cancelled"):
        operation.wait()
    with pytest.raises(Cancelled):
        after.wait(1)
    assert isinstance(relying.failure, Cancelled)
    unrelated.wait()
    assert words(out) == [1] * 8
    assert not operation.cancel()
    slow.free()
    one.free()


def test_cancel_what_is_behind_another(device: Device) -> None:
    """In the ring and not begun: it ends without a tile, the ones around it run."""
    out, seen = zeros(device), zeros(device)
    one, ten, hundred = add(device, 1), add(device, 10), add(device, 100)
    slow = long(device, zeros(device, 100), regions=100)
    device.queue.execute(slow)
    operations = [device.queue.execute(p, [out, seen]) for p in (one, ten, hundred)]
    assert operations[1].cancel()
    operations[2].wait()
    assert isinstance(operations[1].failure, Cancelled)
    assert words(out) == [101] * 8
    for program in (slow, one, ten, hundred):
        program.free()


async def test_cancel_while_it_is_awaited(device: Device) -> None:
    slow = long(device, zeros(device, 100), regions=500)
    operation = device.queue.execute(slow)
    task = asyncio.create_task(finish(operation))
    await asyncio.sleep(0.005)
    assert operation.cancel()
    with pytest.raises(Cancelled):
        await task
    slow.free()


# -- several threads of Python, and the end ----------------------------------------------------


@THREADED
def test_threads_wait_and_signal_while_it_computes(device: Device) -> None:
    """Whoever waits drives; signals come from anywhere."""
    out, seen = zeros(device), zeros(device)
    one = add(device, 1)
    ticks, line = device.semaphore(), device.semaphore()
    for number in range(40):
        device.queue.execute(
            one, [out, seen], wait=[(ticks, number + 1), (line, number)], signal=(line, number + 1)
        )
    problems: list[BaseException] = []

    def guarded(act: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [guarded(lambda: line.wait(40, PATIENCE)), guarded(lambda: line.wait(20, PATIENCE))]

    def signal() -> None:
        for number in range(40):
            ticks.signal(number + 1)

    threads.append(guarded(signal))
    line.wait(30, PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not problems, problems
    assert words(out) == [40] * 8
    one.free()


def test_closing_ends_what_waits() -> None:
    device = open_device(threads=1)
    start, done = device.semaphore(), device.semaphore()
    out, seen = zeros(device), zeros(device)
    one = add(device, 1)
    waiting = device.queue.execute(one, [out, seen], wait=(start, 1), signal=(done, 1))
    running = device.queue.execute(one, [out, seen])
    device.close()
    for operation in (waiting, running):
        assert isinstance(operation.failure, DeviceLost)
        with pytest.raises(DeviceLost, match="closed"):
            operation.wait()
    with pytest.raises(DeviceLost):
        done.wait(1)
    with pytest.raises(DeviceLost, match="closed"):
        device.queue.barrier()


def test_nothing_is_left_of_what_is_over(device: Device) -> None:
    """Operations and semaphores go with their last name, spans with their operation."""
    one = add(device, 1)
    buffers = [zeros(device), zeros(device)]
    semaphore = device.semaphore()
    device.queue.execute(one, buffers, signal=(semaphore, 1)).wait()
    before = device.statistics.spans
    left: list[weakref.ref[object]] = []
    for turn in range(50):
        other = device.semaphore()
        operation = device.queue.execute(
            one, buffers, wait=(semaphore, turn + 1), signal=[(semaphore, turn + 2), (other, 1)]
        )
        device.queue.fill(buffers[1], b"\0", wait=(semaphore, turn + 2))
        left += [weakref.ref(operation), weakref.ref(other)]
    semaphore.wait(51)
    device.queue.idle()
    del operation, other
    gc.collect()
    assert not any(ref() for ref in left)
    assert device.statistics.spans == before
    one.free()
