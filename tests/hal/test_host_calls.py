"""Host calls: when they run, what they return, what they raise, who ends them."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from tests.hal.queued import PATIENCE, add, finish, words, zeros
from tilework.core.errors import Cancelled, Deadlock, InvalidArgument, TimedOut
from tilework.hal import Deferred, Device

THREADED = pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has no threads")


def test_a_call_runs(device: Device) -> None:
    """As soon as the queue is driven, not while it is enqueued."""
    heard: list[object] = []
    done = device.semaphore()
    operation = device.queue.host_call(heard.append, "a", signal=(done, 1))
    assert not heard and not operation.done
    with pytest.raises(TimedOut):
        done.wait(1, 0)
    assert not heard, "no time only looks"
    done.wait(1)
    assert heard == ["a"] and operation.done
    device.queue.idle()
    assert heard == ["a"]


def test_a_call_waits(device: Device) -> None:
    heard: list[tuple[int, str]] = []
    start, done = device.semaphore(), device.semaphore()

    def call(number: int, word: str) -> None:
        assert done.value == 0
        heard.append((number, word))

    device.queue.host_call(call, 7, "x", wait=(start, 1), signal=(done, 1))
    with pytest.raises(TimedOut):
        done.wait(1, 0.01)
    assert not heard
    start.signal(1)
    done.wait(1)
    assert heard == [(7, "x")]


def test_calls_run_between_programs(device: Device) -> None:
    """The host sees what the device wrote, and the device what the host wrote."""
    out, seen = zeros(device), zeros(device)
    one, line = add(device, 1), device.semaphore()
    heard: list[int] = []

    def look() -> None:
        heard.append(words(out)[0])
        out.write(b"\x64\0\0\0" * 8)

    for turn in range(0, 12, 2):
        device.queue.execute(one, [out, seen], wait=(line, turn), signal=(line, turn + 1))
        device.queue.host_call(look, wait=(line, turn + 1), signal=(line, turn + 2))
    line.wait(12)
    assert heard == [1, 101, 101, 101, 101, 101]
    one.free()


def test_a_call_that_does_not_block(device: Device) -> None:
    """Who depends on it goes first: the call itself can wait for them."""
    start, done, after = (device.semaphore() for _ in range(3))
    out, seen = zeros(device), zeros(device)
    one = add(device, 1)
    heard: list[int] = []

    def call() -> None:
        after.wait(1)
        heard.append(words(out)[0])

    device.queue.execute(one, [out, seen], wait=(done, 1), signal=(after, 1))
    operation = device.queue.host_call(call, blocking=False, wait=(start, 1), signal=(done, 1))
    start.signal(1)
    operation.wait()
    assert heard == [1]
    one.free()


def test_a_call_that_does_not_block_has_no_signals_to_fail(device: Device) -> None:
    done = device.semaphore()

    def call() -> None:
        raise ValueError("afterwards")

    operation = device.queue.host_call(call, blocking=False, signal=(done, 1))
    with pytest.raises(ValueError, match="afterwards"):
        operation.wait()
    assert done.value == 1


@pytest.mark.parametrize("waiting", [False, True], ids=["now", "waiting"])
def test_a_call_that_raises(device: Device, waiting: bool) -> None:
    start, a, b = (device.semaphore() for _ in range(3))
    error = ValueError("not like this")

    def call() -> None:
        raise error

    wait = (start, 1) if waiting else None
    operation = device.queue.host_call(call, wait=wait, signal=[(a, 1), (b, 1)])
    if waiting:
        start.signal(1)
    for semaphore in (a, b):
        with pytest.raises(ValueError, match="not like this") as caught:
            semaphore.wait(1)
        assert caught.value is error
    assert operation.failure is error
    heard: list[int] = []
    device.queue.host_call(heard.append, 1).wait()
    assert heard == [1]


def test_an_interrupt_is_raised_where_it_happened(device: Device) -> None:
    """Ctrl-C in a host call is not swallowed, and what waits for the call ends."""
    done = device.semaphore()

    def call() -> None:
        raise KeyboardInterrupt

    device.queue.host_call(call, signal=(done, 1))
    with pytest.raises(KeyboardInterrupt):
        device.queue.idle()
    assert isinstance(done.failure, KeyboardInterrupt)


def test_a_call_may_use_the_queue(device: Device) -> None:
    """Enqueue, wait, submit: nothing of the scheduler is held while it runs."""
    out, seen = zeros(device), zeros(device)
    one, done = add(device, 1), device.semaphore()

    def call(depth: int) -> None:
        device.queue.execute(one, [out, seen]).wait()
        device.submit(one, [out, seen])
        if depth:
            device.queue.host_call(call, depth - 1).wait()

    device.queue.host_call(call, 3, signal=(done, 1))
    done.wait(1)
    assert words(out) == [8] * 8
    one.free()


# -- ends that come later ----------------------------------------------------------------------


def test_an_end_that_comes_before_the_call_returns(device: Device) -> None:
    done = device.semaphore()

    def call() -> Deferred:
        later = device.queue.deferred()
        later.signal()
        later.fail(ValueError("only the first end counts"))
        return later

    device.queue.host_call(call, signal=(done, 1)).wait()
    assert done.value == 1


def test_an_end_that_never_comes(device: Device) -> None:
    later = device.queue.deferred()
    operation = device.queue.host_call(lambda: later)
    with pytest.raises(Deadlock, match="has been called and its end was not given"):
        operation.wait()
    later.signal()
    operation.wait()


@pytest.mark.parametrize("how", ["signal", "fail", "cancel"])
async def test_an_end_that_a_task_gives(device: Device, how: str) -> None:
    out, seen = zeros(device), zeros(device)
    one, done, after = add(device, 1), device.semaphore(), device.semaphore()
    later = device.queue.deferred()
    operation = device.queue.host_call(lambda: later, signal=(done, 1))
    device.queue.execute(one, [out, seen], wait=(done, 1), signal=(after, 1))
    task = asyncio.create_task(finish(operation))
    await asyncio.sleep(0.005)
    assert not task.done() and not operation.done
    if how == "signal":
        later.signal()
        await after.reached(1, PATIENCE)
        await task
        assert words(out) == [1] * 8
    else:
        if how == "fail":
            later.fail(ValueError("from a task"))
        else:
            assert operation.cancel()
            later.signal()  # too late, dropped
        expected = ValueError if how == "fail" else Cancelled
        with pytest.raises(expected):
            await after.reached(1, PATIENCE)
        with pytest.raises(expected):
            await task
        assert words(out) == [0] * 8
    one.free()


@THREADED
@pytest.mark.parametrize("how", ["signal", "fail"])
def test_signals_come_later(device: Device, how: str) -> None:
    """A thread takes the end along and gives it."""
    done = device.semaphore()
    threads: list[threading.Thread] = []

    def call() -> Deferred:
        later = device.queue.deferred()
        give = later.signal if how == "signal" else lambda: later.fail(ValueError("thread"))
        threads.append(threading.Thread(target=give))
        threads[0].start()
        return later

    operation = device.queue.host_call(call, signal=(done, 1))
    if how == "signal":
        done.wait(1, PATIENCE)
        operation.wait()
    else:
        with pytest.raises(ValueError, match="thread"):
            done.wait(1, PATIENCE)
    threads[0].join()


@pytest.mark.parametrize("how", ["signal", "fail"])
async def test_a_coroutine_signals_when_it_ends(device: Device, how: str) -> None:
    start, done = device.semaphore(), device.semaphore()
    heard: list[int] = []

    async def call(number: int) -> None:
        await asyncio.sleep(0.002)
        heard.append(number)
        if how == "fail":
            raise ValueError("in a task")

    device.queue.host_call(call, 5, wait=(start, 1), signal=(done, 1))
    asyncio.get_running_loop().call_later(0.002, start.signal, 1)
    if how == "signal":
        await done.reached(1, PATIENCE)
    else:
        with pytest.raises(ValueError, match="in a task"):
            await done.reached(1, PATIENCE)
    assert heard == [5]


async def test_a_coroutine_is_cancelled(device: Device) -> None:
    heard: list[int] = []

    async def call() -> None:
        heard.append(1)
        await asyncio.sleep(PATIENCE)
        heard.append(2)

    operation = device.queue.host_call(call)
    task = asyncio.create_task(finish(operation))
    while not heard:
        await asyncio.sleep(0.001)
    assert operation.cancel()
    with pytest.raises(Cancelled):
        await task
    assert heard == [1]


def test_a_blocking_wait_cannot_run_a_coroutine(device: Device) -> None:
    async def call() -> None:
        raise AssertionError("there is no event loop")

    operation = device.queue.host_call(call)
    with pytest.raises(Deadlock, match="host call call is a coroutine, which needs an await"):
        operation.wait()
    assert operation.cancel()


def test_a_coroutine_that_was_made_by_the_call_is_refused(device: Device) -> None:
    async def later() -> None:
        raise AssertionError("must not run")

    operation = device.queue.host_call(lambda: later())
    with pytest.raises(InvalidArgument, match="pass the coroutine function itself"):
        operation.wait()


def test_a_call_that_is_cancelled_does_not_run(device: Device) -> None:
    heard: list[int] = []
    start, done = device.semaphore(), device.semaphore()
    ready = device.queue.host_call(heard.append, 1)
    waiting = device.queue.host_call(heard.append, 2, wait=(start, 1), signal=(done, 1))
    assert ready.cancel() and waiting.cancel()
    start.signal(1)
    device.queue.idle()
    with pytest.raises(Cancelled, match="host call append was cancelled"):
        done.wait(1)
    assert heard == []
