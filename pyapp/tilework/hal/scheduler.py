"""Scheduler: pushes what may run, takes note of what has ended, and gets a wait to its end.

Shared memory has a ring of programs that run in the order in which they were pushed; what may be
pushed is the graph's to say. A failed entry halts the ring until what relied on it is skipped.

Threads: `lock` guards all lists and is held for moments. The ring has one user at a time: `_take`
makes a thread the one that **drives** until `_give`. Other threads that signal only leave things in
the lists; the driving one, or the next, goes on with them.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tilework.core.config import LEAST_SLICE, SHARED_SLICE, SLICE
from tilework.core.errors import (
    Cancelled,
    Deadlock,
    DeviceLost,
    InvalidArgument,
    TimedOut,
)
from tilework.hal._abi import Status
from tilework.hal.failure import failure
from tilework.hal.graph import Graph, does_not_grow
from tilework.hal.operation import Deferred, Kind, Operation, State
from tilework.hal.semaphore import Point, Semaphore

if TYPE_CHECKING:
    from tilework.hal.driver import Driver
    from tilework.hal.ring import Ring

# What a wait is for.
Goal: TypeAlias = "Sequence[Point] | Operation"


@dataclass(slots=True)
class _Entry:
    """A place in the ring: its program's operation, then those that ride on it."""

    number: int
    operation: Operation
    riders: list[Operation]


class Scheduler(Graph):
    """One device's; `Queue` is its face. Nothing here computes but what `drive` is waiting for."""

    def __init__(self, driver: Driver, ring: Ring) -> None:
        super().__init__()
        self._driver = driver
        self._ring = ring
        self._owner: int | None = None  # the thread that drives
        self._depth = 0
        self._wanting = 0  # threads that wait to drive
        self._entries: deque[_Entry] = deque()
        self._pump: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is enqueued and not over, or still in the ring."""
        return bool(self.unfinished or self._entries)

    # -- what semaphores, operations and the queue ask for --------------------------------------

    def look(self) -> None:
        """Takes note of what has ended, unless another thread is at it; computes nothing."""
        if self._entries and self._take():
            try:
                self._turn()
            finally:
                self._give()

    def enqueue(self, operation: Operation) -> None:
        """Takes an operation on; what can be pushed is pushed. InvalidArgument, DeviceLost."""
        self.look()
        self._add(operation)
        self._push_what_can_be()

    def signal(self, points: Sequence[Point]) -> None:
        """Raises all these values, or none: InvalidArgument, or a semaphore's failure."""
        self.look()
        with self.lock:
            for semaphore, value in points:
                if semaphore.failed is not None:
                    raise semaphore.failed
                if value <= semaphore.reading:
                    raise InvalidArgument(does_not_grow(semaphore, value))
            for semaphore, value in points:
                self._advance(semaphore, value)
        self._push_what_can_be()

    def fail(self, semaphore: Semaphore, error: BaseException) -> None:
        """Fails a semaphore and what waits for it; the first failure stays."""
        self.look()
        with self.lock:
            self._fail(semaphore, error)
        self._push_what_can_be()

    def cancel(self, operation: Operation) -> bool:
        """See `Operation.cancel`."""
        error = Cancelled(f"{operation.label} was cancelled")
        self._take_in_time()
        try:
            self._turn()
            with self.lock:
                if operation.state is State.OVER:
                    return False
                if operation.state is State.IN_FLIGHT and operation.kind is Kind.DEVICE:
                    assert operation.number is not None
                    return self._ring.cancel(operation.number, Status.CANCELLED)
                if operation.task is not None:
                    operation.task.cancel()
                self.conclude(operation, error)
            self._turn()
            return True
        finally:
            self._give()

    # -- driving: one thread at a time ---------------------------------------------------------

    def _take(self) -> bool:
        """Makes this thread the one that drives; False when another one does."""
        me = threading.get_ident()
        with self.lock:
            if self._owner not in (None, me):
                return False
            self._owner = me
            self._depth += 1
            return True

    def _give(self) -> None:
        with self.lock:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

    def _take_in_time(self) -> None:
        with self._changed:
            self._wanting += 1
            try:
                while not self._take():
                    self._changed.wait(SHARED_SLICE)
            finally:
                self._wanting -= 1

    def _push_what_can_be(self) -> None:
        if (self._ready or self._doomed or self._fed) and self._take():
            try:
                self._turn()
            finally:
                self._give()

    def _turn(self) -> None:
        """Takes note of what has ended and pushes what can be. Only for the thread that drives."""
        with self.lock:
            self._skip_doomed()
            self._retire()
            if self._fed:
                self._feed()
            while self._ready:
                operation = self._ready.popleft()
                if operation.state is not State.READY:
                    continue
                number = self._relies_on(operation)
                if number is None:
                    operation.state = State.WAITING
                elif operation.kind is Kind.ORDER:
                    self._ride(operation, number)
                elif self._ring.free:
                    self._push(operation)
                else:
                    self._ready.appendleft(operation)
                    break
                self._skip_doomed()

    def _ride(self, operation: Operation, number: int) -> None:
        if number < 0:
            self.conclude(operation)
            return
        entry = self._entries[number - self._entries[0].number]
        entry.riders.append(operation)
        self._promise(operation, number)

    def _push(self, operation: Operation) -> None:
        program = operation.program
        assert program is not None
        try:
            operation.table = program.bind(operation.slots)
            number = self._ring.push(
                program.image.placed(), program.state.placed(), operation.table
            )
        except Exception as error:  # noqa: BLE001 - it is the operation's failure
            program.forget_bindings()
            self.conclude(operation, error)
            return
        self._entries.append(_Entry(number, operation, []))
        self._promise(operation, number)

    def _skip_doomed(self) -> None:
        while self._doomed:
            operation, error = self._doomed.popleft()
            if operation.state is State.IN_FLIGHT and operation.number is not None:
                if self._ring.cancel(operation.number, Status.SKIPPED):
                    self.conclude(operation, error)

    def _retire(self) -> None:
        if not self._entries:
            return
        ring = self._ring
        ended, halted = ring.look(), ring.halted
        if halted:
            ended = ring.look()  # it rests, so now the number is the failed one's
        while self._entries and self._entries[0].number < ended:
            entry = self._entries[0]
            operation = entry.operation
            error: BaseException | None = None
            if halted and entry.number == ended - 1 and operation.program is not None:
                outcome = ring.outcome(entry.number)
                if outcome.status == Status.CANCELLED:
                    error = Cancelled(f"{operation.label} was cancelled")
                elif outcome.status != Status.ENDED:
                    error = failure(operation.program, outcome)
            self.conclude(operation, error)  # it is over already if it was skipped
            self._let_go(operation)
            for rider in entry.riders:
                self.conclude(rider)
            self._entries.popleft()
        self._skip_doomed()
        ring.retire(ended)
        if halted:
            ring.go_on()
            self._announce()

    # -- waiting -------------------------------------------------------------------------------

    def drive(self, met: Callable[[], bool], goal: Goal, timeout: float | None) -> None:
        """Blocks and works until `met`. TimedOut, Deadlock, or what `met` raises."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self.look()
        if met():
            return
        if timeout is not None and timeout <= 0:
            raise TimedOut(f"not yet: {_words(goal)}")
        while True:
            seen = self._version
            worked = self._work(goal, deadline)
            if met():
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimedOut(f"{timeout} seconds have passed: {_words(goal)}")
            if not worked:
                self._rest(seen, goal, left)
            elif self._wanting:
                # Who drives takes its turn again before anybody else has woken.
                time.sleep(LEAST_SLICE)

    def _work(self, goal: Goal, deadline: float | None) -> bool:
        """One step towards `goal`; False when there is nothing that this thread can do."""
        if not self._take():
            return False
        try:
            self._turn()
            call = self._next(self._calls)
            if call is None and self._entries:
                # However short the wait, it computes a little: who repeats it gets there.
                left = None if deadline is None else max(LEAST_SLICE, deadline - time.monotonic())
                if not self._driver.alone:
                    left = SHARED_SLICE if left is None else min(left, SHARED_SLICE)
                self._ring.wait(self._target(goal), left)
                self._turn()
                return True
        finally:
            self._give()
        if call is not None:
            self._run(call)
        return call is not None

    def _target(self, goal: Goal) -> int:
        """How many entries must have ended before Python has something to do, at the latest."""
        with self.lock:
            first, last = self._entries[0].number, self._entries[-1].number
            numbers = [self._relies_on(operation) for operation in self._hosts]
            if self._ready:
                numbers.append((first + last) // 2)  # the ring is full: fill it before it is empty
            if self._starving:
                numbers.append(first)
            if isinstance(goal, Operation):
                numbers.append(goal.number)
            else:
                numbers += [
                    by.number
                    for semaphore, value in goal
                    for by, promised in semaphore.promises.items()
                    if promised >= value > semaphore.reading
                ]
            return min((n for n in numbers if n is not None and n >= first), default=last) + 1

    def _rest(self, seen: int, goal: Goal, left: float | None) -> None:
        """Nothing to do: sleeps until something changes, or says why it never will."""
        alone = self._driver.alone
        with self._changed:
            if self._version != seen:
                return
            if not alone:
                self._changed.wait(SLICE if left is None else min(SLICE, left))
            if self._fed:
                return
            if self._version == seen and self._starving and self._owner is None:
                # Nobody gives memory back any more.
                operation = self._starving.popleft()
                self.conclude(operation, operation.hunger)
                return
        if alone:
            if left is None:
                raise Deadlock(self._deadlock(goal))
            time.sleep(left)

    def _deadlock(self, goal: Goal) -> str:
        waiting = [
            f"{operation.label} waits for {_words(tuple(operation.waits.items()))}"
            for operation in self.unfinished
            if operation.waits
        ]
        waiting += [f"{o.label} is a coroutine, which needs an await" for o in self._tasks]
        waiting += [
            f"{operation.label} has been called and its end was not given"
            for operation in self.unfinished
            if operation.state is State.RUNNING
        ]
        who = "; ".join(waiting) or "the queue is empty"
        return f"nothing is left that could end this wait for {_words(goal)}. On the queue: {who}"

    async def driven(self, met: Callable[[], bool], goal: Goal, timeout: float | None) -> None:
        """As `drive`, with the event loop left free; other tasks may signal, so no Deadlock."""
        deadline = None if timeout is None else time.monotonic() + timeout
        loop = asyncio.get_running_loop()
        self.look()
        while True:
            watcher = loop, loop.create_future()
            with self.lock:
                self._watchers.append(watcher)
            try:
                if met():
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(f"{timeout} seconds have passed: {_words(goal)}")
                if self._fed:
                    self._push_what_can_be()
                if self._starving:  # memory that comes back does not announce itself
                    left = SLICE if left is None else min(left, SLICE)
                if self._pump is None or self._pump[0] is not loop or self._pump[1].done():
                    self._pump = loop, loop.create_task(self._pumped())
                await asyncio.wait((watcher[1],), timeout=left)
            finally:
                watcher[1].cancel()
                with self.lock, suppress(ValueError):
                    self._watchers.remove(watcher)

    async def _pumped(self) -> None:
        """Drives for all tasks of an event loop that wait, as long as there is something to do."""
        while True:
            if not self._take():
                await asyncio.sleep(SHARED_SLICE)
                continue
            try:
                self._turn()
                call = self._next(self._calls) or self._next(self._tasks)
                if call is None:
                    if not self._entries:
                        return
                    # One after another: each may be what a task waits for.
                    await self._ring.ended(self._entries[0].number + 1, SLICE)
                    self._turn()
            finally:
                self._give()
            if call is not None:
                self._run(call)
            await self._driver.rest()

    # -- host calls ----------------------------------------------------------------------------

    def _next(self, calls: deque[Operation]) -> Operation | None:
        with self.lock:
            while calls:
                operation = calls.popleft()
                if operation.state is State.READY:
                    operation.state = State.RUNNING
                    return operation
        return None

    def _run(self, operation: Operation) -> None:
        """Runs a host call, with no lock held: it may wait, enqueue, signal."""
        call = operation.call
        assert call is not None
        if operation.early:
            with self.lock:
                signals, operation.signals = operation.signals, ()
                for semaphore, value in signals:
                    self._give_signal(operation, semaphore, value)
            self._push_what_can_be()
        if inspect.iscoroutinefunction(call):
            operation.task = asyncio.get_running_loop().create_task(self._finish(operation, call))
            return
        try:
            result = call()
            if inspect.iscoroutine(result):
                result.close()
                raise InvalidArgument(
                    f"{operation.label} returned a coroutine; pass the coroutine function itself"
                )
        except BaseException as error:
            self.conclude(operation, error)
            self._push_what_can_be()
            if not isinstance(error, Exception):
                raise
            return
        if isinstance(result, Deferred):
            result.bind(operation)
        else:
            self.conclude(operation)
        self._push_what_can_be()

    async def _finish(self, operation: Operation, call: Callable[[], Awaitable[object]]) -> None:
        error: BaseException | None = None
        try:
            await call()
        except asyncio.CancelledError:
            error = Cancelled(f"{operation.label} was cancelled")
            raise
        except Exception as raised:  # noqa: BLE001 - it is the operation's failure
            error = raised
        finally:
            self.conclude(operation, error)
            self._push_what_can_be()

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Fails what waits with DeviceLost, and waits for what runs to stop."""
        self._take_in_time()
        try:
            with self.lock:
                self._closed = True
                lost = DeviceLost("the device was closed")
                for entry in reversed(self._entries):
                    self._ring.cancel(entry.number, Status.SKIPPED)
                for operation in tuple(self.unfinished):
                    if operation.task is not None:
                        operation.task.cancel()
                    self.conclude(operation, lost)
            while self._entries:
                self._ring.wait(self._entries[-1].number + 1)
                self._turn()
        finally:
            self._give()


def _words(goal: Goal) -> str:
    if isinstance(goal, Operation):
        return f"the end of {goal.label}, which {goal.state.value}"
    return ", ".join(
        f"{s.label or 'an unnamed semaphore'} to reach {v} (it is at {s.reading})" for s, v in goal
    )
