"""Semaphores and fences: values, failures, time-outs, several parties. No device work is in these.

A **party** is who else signals or waits: a thread on the desktop, and a task of the event loop
everywhere. Pyodide has no threads; what needs one says so.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tilework.core.errors import Deadlock, InvalidArgument, KernelFailure, TimedOut
from tilework.hal import (
    Device,
    Fence,
    Semaphore,
    all_reached,
    any_reached,
    open_device,
    wait_all,
    wait_any,
)

THREADED = pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has no threads")
PATIENCE = 60.0  # seconds, so that what hangs fails; nothing here takes that long


def test_values_only_grow(device: Device) -> None:
    assert device.semaphore().value == 0
    semaphore = device.semaphore(5)
    assert semaphore.value == 5
    for value in (6, 7, 100, 1 << 31, (1 << 63) - 1, 1 << 70):
        semaphore.signal(value)
        assert semaphore.value == value
    assert semaphore.failure is None


@pytest.mark.parametrize("value", [5, 4, 0])
def test_a_signal_that_does_not_grow_is_refused(device: Device, value: int) -> None:
    semaphore = device.semaphore(5, "frames")
    with pytest.raises(InvalidArgument, match=rf"signal of {value} on <Semaphore frames at 5>"):
        semaphore.signal(value)
    assert semaphore.value == 5
    semaphore.signal(6)
    assert semaphore.value == 6


def test_what_is_no_point_is_refused(device: Device) -> None:
    semaphore = device.semaphore()
    with pytest.raises(InvalidArgument, match="starts at -1"):
        device.semaphore(-1)
    for points in [(semaphore, -1)], [(semaphore, 0.5)], [semaphore], [(3, semaphore)], "ab":
        with pytest.raises(InvalidArgument, match="is no point to wait for"):
            wait_all(points)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", ["query", "wait", "value passed", "time", "any", "type"])
def test_a_failure_is_for_good(device: Device, use: str) -> None:
    semaphore = device.semaphore(2)
    error = KernelFailure("it broke", kernel="k", tile=(1, 2, 3), status=4, command=5)
    semaphore.fail(error)
    uses: dict[str, Callable[[], object]] = {
        "query": lambda: semaphore.value,
        "wait": lambda: semaphore.wait(3),
        "value passed": lambda: semaphore.wait(1),
        "time": lambda: semaphore.wait(3, 0),
        "any": lambda: wait_any([(semaphore, 1), (device.semaphore(), 1)]),
        "type": lambda: Fence((semaphore, 1)).wait(),
    }
    for _ in range(2):
        with pytest.raises(KernelFailure, match="it broke") as caught:
            uses[use]()
        assert caught.value is error
    assert semaphore.failure is error
    with pytest.raises(KernelFailure):
        semaphore.signal(9)


def test_the_first_failure_wins(device: Device) -> None:
    semaphore = device.semaphore()
    semaphore.fail(ValueError("first"))
    semaphore.fail(KeyError("second"))
    with pytest.raises(ValueError, match="first"):
        semaphore.wait(1)


@pytest.mark.parametrize("waiting", [wait_all, wait_any])
@pytest.mark.parametrize("nothing", [None, [], Fence()])
def test_waiting_for_nothing(
    waiting: Callable[[object], int | None], nothing: object
) -> None:
    assert waiting(nothing) in (None, -1)


def test_a_value_that_is_there(device: Device) -> None:
    semaphore = device.semaphore(2)
    for value in (2, 1, 0):
        semaphore.wait(value)
        semaphore.wait(value, 0)


@pytest.mark.parametrize("seconds", [0, -1.0, 1e-9, 0.01])
def test_time_runs_out(device: Device, seconds: float) -> None:
    semaphore = device.semaphore(1, "frames")
    for _ in range(3):
        with pytest.raises(TimedOut, match=r"frames to reach 2 \(it is at 1\)"):
            semaphore.wait(2, seconds)
    with pytest.raises(TimeoutError):
        wait_any([(semaphore, 2), (device.semaphore(), 1)], seconds)
    assert semaphore.value == 1
    semaphore.signal(2)
    semaphore.wait(2, seconds)


def test_a_wait_takes_its_time(device: Device) -> None:
    """Who polls with short waits must not spin: alone or not, the time passes.

    Where a page is not isolated a clock shows whole milliseconds (WebKitGTK), hence two of them.
    """
    began = time.monotonic()
    with pytest.raises(TimedOut):
        device.semaphore().wait(1, 0.05)
    assert time.monotonic() - began >= 0.05 - 0.002


def test_all_and_any(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()
    a.signal(1)
    with pytest.raises(TimedOut):
        wait_all([(a, 1), (b, 1)], 0)
    assert wait_any([(a, 1), (b, 1)], 0) == 0
    assert wait_any([(b, 1), (a, 1)]) == 1
    b.signal(1)
    wait_all([(a, 1), (b, 1)])
    assert wait_any([(a, 2), (b, 2), (b, 1), (a, 1)]) == 2


def test_any_takes_what_is_there_before_a_failure(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore(1)
    a.fail(ValueError("a is broken"))
    assert wait_any([(a, 1), (b, 1)]) == 1
    with pytest.raises(ValueError, match="a is broken"):
        wait_any([(b, 2), (a, 1)])
    with pytest.raises(ValueError, match="a is broken"):
        wait_all([(b, 2), (a, 1)])
    assert b.value == 1


def test_semaphores_of_two_devices_are_not_mixed(device: Device) -> None:
    other = open_device(threads=1)
    try:
        with pytest.raises(InvalidArgument, match="several devices"):
            wait_all([(device.semaphore(), 0), (other.semaphore(), 0)])
        with pytest.raises(InvalidArgument, match="another device's"):
            device.queue.barrier(wait=(other.semaphore(), 0))
        with pytest.raises(InvalidArgument, match="another device's"):
            device.queue.barrier(signal=(other.semaphore(), 1))
    finally:
        other.close()


# -- fences ------------------------------------------------------------------------------------


def test_a_fence_has_each_semaphore_once(device: Device) -> None:
    a, b = device.semaphore(label="a"), device.semaphore(label="b")
    fence = Fence([(a, 1), (b, 4), (a, 3), (a, 2)])
    assert fence.points == ((a, 3), (b, 4))
    joined = Fence.join(fence, Fence((b, 7)), Fence())
    assert joined.points == ((a, 3), (b, 7))
    assert "a ≥ 3" in repr(fence)
    assert not fence.done
    fence.signal()
    assert (a.value, b.value) == (3, 4)
    assert fence.done and not joined.done
    fence.wait()
    with pytest.raises(TimedOut):
        joined.wait(0)
    b.signal(6)
    assert wait_any([fence, (b, 7)]) == 0


def test_a_fence_signals_all_or_none(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore(5)
    with pytest.raises(InvalidArgument, match="must grow"):
        Fence([(a, 1), (b, 5)]).signal()
    assert (a.value, b.value) == (0, 5)


def test_a_fence_fails_all(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()
    fence = Fence([(a, 1), (b, 1)])
    fence.fail(ValueError("no"))
    for use in (lambda: fence.done, fence.wait, fence.signal, lambda: a.value, lambda: b.value):
        with pytest.raises(ValueError, match="no"):
            use()


# -- nobody left -------------------------------------------------------------------------------


def test_a_deadlock_says_who_waits_for_what(device: Device) -> None:
    frames, ready = device.semaphore(3, "frames"), device.semaphore(label="ready")
    waiting = device.queue.barrier(wait=(ready, 2), signal=(frames, 4))
    words = (
        r"nothing is left that could end this wait for frames to reach 4 \(it is at 3\)\. "
        r"On the queue: barrier waits for ready to reach 2 \(it is at 0\)"
    )
    with pytest.raises(Deadlock, match=words):
        frames.wait(4)
    with pytest.raises(Deadlock, match="the end of barrier, which waits"):
        waiting.wait()
    with pytest.raises(Deadlock, match="barrier waits for ready"):
        device.queue.idle()
    ready.signal(2)
    frames.wait(4)
    waiting.wait()
    device.queue.idle()


# -- another party: a thread -------------------------------------------------------------------


class Party:
    """A thread that runs `act`; `join` raises what it raised."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(act,))
        self._thread.start()

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - `join` raises it
            self.error = error

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the other party hangs"
        if self.error is not None:
            raise self.error


def later(act: Callable[[], None]) -> Party:
    """`act` in a thread, when this one is likely to wait already; either order must be right."""

    def delayed() -> None:
        time.sleep(0.01)
        act()

    return Party(delayed)


@THREADED
@pytest.mark.parametrize(
    "case",
    ["beyond", "any", "twice", "failure", "one of all fails", "one of any fails"],
)
def test_another_thread(device: Device, case: str) -> None:
    a, b = device.semaphore(), device.semaphore()
    if case in ("beyond", "twice"):
        party = later(lambda: a.signal(3))
        for _ in range(2 if case == "twice" else 1):
            a.wait(2, PATIENCE)
        assert a.value == 3
    elif case == "any":
        party = later(lambda: b.signal(1))
        assert wait_any([(a, 1), (b, 1)], PATIENCE) == 1
    else:
        party = later(lambda: a.fail(ValueError("party")))
        with pytest.raises(ValueError, match="party"):
            if case == "failure":
                a.wait(1, PATIENCE)
            elif case == "one of all fails":
                wait_all([(b, 1), (a, 1)], PATIENCE)
            else:
                wait_any([(b, 1), (a, 1)], PATIENCE)
        assert b.value == 0
    party.join()


@THREADED
def test_threads_take_turns(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()

    def other() -> None:
        for turn in range(1, 51):
            a.wait(turn, PATIENCE)
            b.signal(turn)

    party = Party(other)
    for turn in range(1, 51):
        a.signal(turn)
        b.wait(turn, PATIENCE)
    party.join()


@THREADED
def test_two_threads_wait_for_the_same(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()
    parties = [Party(lambda: wait_all([(a, 1), (b, 1)], PATIENCE)) for _ in range(2)]
    time.sleep(0.01)
    a.signal(1)
    b.signal(1)
    for party in parties:
        party.join()


@THREADED
def test_a_wait_without_limit_is_no_deadlock_while_a_thread_lives(device: Device) -> None:
    semaphore = device.semaphore()
    party = later(lambda: semaphore.signal(1))
    semaphore.wait(1)
    party.join()


# -- another party: a task ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    ["beyond", "any", "all", "twice", "fence", "failure", "one of all fails", "one of any fails"],
)
async def test_another_task(device: Device, case: str) -> None:
    a, b = device.semaphore(), device.semaphore()

    async def act(call: Callable[[], None]) -> None:
        await asyncio.sleep(0.005)
        call()

    if case in ("beyond", "twice"):
        task = asyncio.create_task(act(lambda: a.signal(3)))
        for _ in range(2 if case == "twice" else 1):
            await a.reached(2, PATIENCE)
        assert a.value == 3
    elif case == "any":
        task = asyncio.create_task(act(lambda: b.signal(1)))
        assert await any_reached([(a, 1), (b, 1)], PATIENCE) == 1
    elif case in ("all", "fence"):
        fence = Fence([(a, 1), (b, 1)])
        task = asyncio.create_task(act(fence.signal))
        await (fence.reached(PATIENCE) if case == "fence" else all_reached(fence, PATIENCE))
        assert a.value == b.value == 1
    else:
        task = asyncio.create_task(act(lambda: a.fail(ValueError("party"))))
        with pytest.raises(ValueError, match="party"):
            if case == "failure":
                await a.reached(1, PATIENCE)
            elif case == "one of all fails":
                await all_reached([(b, 1), (a, 1)], PATIENCE)
            else:
                await any_reached([(b, 1), (a, 1)], PATIENCE)
        assert b.value == 0
    await task


async def test_tasks_take_turns(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()

    async def other() -> None:
        for turn in range(1, 51):
            await a.reached(turn, PATIENCE)
            b.signal(turn)

    task = asyncio.create_task(other())
    for turn in range(1, 51):
        a.signal(turn)
        await b.reached(turn, PATIENCE)
    await task


async def test_two_tasks_wait_for_the_same(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()
    tasks = [asyncio.create_task(all_reached([(a, 1), (b, 1)], PATIENCE)) for _ in range(2)]
    await asyncio.sleep(0.005)
    a.signal(1)
    await asyncio.sleep(0.005)
    assert not any(task.done() for task in tasks)
    b.signal(1)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("seconds", [0, 1e-9, 0.01])
async def test_an_await_runs_out_of_time(device: Device, seconds: float) -> None:
    semaphore = device.semaphore()
    for _ in range(2):
        with pytest.raises(TimedOut):
            await semaphore.reached(1, seconds)
    semaphore.signal(1)
    await semaphore.reached(1, seconds)


async def test_an_await_that_is_cancelled_leaves_nothing(device: Device) -> None:
    semaphore = device.semaphore()
    task = asyncio.create_task(_reach(semaphore))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    semaphore.signal(1)
    await semaphore.reached(1)


async def _reach(semaphore: Semaphore) -> None:
    await semaphore.reached(1)


@THREADED
async def test_a_thread_wakes_a_task(device: Device) -> None:
    semaphore = device.semaphore()
    party = later(lambda: semaphore.signal(1))
    await semaphore.reached(1, PATIENCE)
    party.join()
