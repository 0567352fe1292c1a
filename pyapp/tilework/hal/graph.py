"""Graph: operations, what they wait for and what they signal. Bookkeeping only.

An operation moves on as soon as each of its waits is reached, or is **promised** by an entry in the
ring: since the ring runs in order, a chain of dependent programs costs no round trip. Operations on
the host move on when their waits are reached. Everything here happens under `lock`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from contextlib import suppress
from typing import cast

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfMemory
from tilework.hal.operation import Kind, Operation, State
from tilework.hal.semaphore import Semaphore


class Graph:
    """What the scheduler knows. It takes operations out of `_ready`, `_calls`, `_tasks`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._version = 0  # counts changes that a sleeping thread should look at
        self.unfinished: dict[Operation, None] = {}
        self._ready: deque[Operation] = deque()  # DEVICE and ORDER, to be settled
        self._calls: deque[Operation] = deque()  # HOST, to be run
        self._tasks: deque[Operation] = deque()  # HOST, to be run in an event loop
        self._hosts: dict[Operation, None] = {}  # HOST, that wait
        self._starving: deque[Operation] = deque()  # that wait for memory
        self._fed = False
        self._doomed: deque[tuple[Operation, BaseException]] = deque()  # in the ring, to be skipped
        self._failing: deque[tuple[Semaphore, BaseException]] = deque()
        self._watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closed = False

    def fed(self) -> None:
        """For Allocator: memory has come back. Finalisers call it, so it only takes a note."""
        self._fed = True

    # -- beginning and end ---------------------------------------------------------------------

    def _add(self, operation: Operation) -> None:
        """Takes an operation on. InvalidArgument, DeviceLost; or what its program refuses."""
        with self.lock:
            if self._closed:
                raise DeviceLost("the device is closed; open a new one")
            for semaphore in (*dict(operation.signals), *operation.waits):
                if semaphore.driving is not cast(object, self):
                    raise InvalidArgument(f"{operation.label}: {semaphore!r} is another device's")
            for semaphore, value in operation.signals:
                if semaphore.failed is None and value <= semaphore.reading:
                    raise InvalidArgument(
                        f"{operation.label}: {does_not_grow(semaphore, value)}"
                    )
            failed = None
            for semaphore, value in tuple(operation.waits.items()):
                failed = failed or semaphore.failed
                if semaphore.failed is None and semaphore.reading >= value:
                    del operation.waits[semaphore]
            if operation.program is not None:
                operation.program.begin(operation.slots)
            self.unfinished[operation] = None
            if operation.kind is Kind.HOST:
                self._hosts[operation] = None
            for semaphore, value in operation.waits.items():
                semaphore.dependents[operation] = value
            if failed is not None:
                self.conclude(operation, failed)
            elif not self._prepared(operation):
                self._starving.append(operation)
            self._consider(operation)

    def conclude(self, operation: Operation, error: BaseException | None = None) -> None:
        """Ends an operation: its signals are given, or fail with `error`. Only the first counts."""
        with self.lock:
            if operation.state is State.OVER:
                return
            if error is None and operation.action is not None:
                try:
                    operation.action()
                except Exception as raised:  # noqa: BLE001 - it is the operation's failure
                    error = raised
            self._withdraw(operation)
            self._over(operation, error)
            for semaphore, value in operation.signals:
                if error is not None:
                    self._fail(semaphore, error)
                else:
                    self._give_signal(operation, semaphore, value)

    # -- values and failures ----------------------------------------------------------------------

    def _give_signal(self, operation: Operation, semaphore: Semaphore, value: int) -> None:
        if semaphore.failed is not None:
            return
        if value > semaphore.reading:
            self._advance(semaphore, value)
            return
        # Somebody has signalled past it meanwhile: the order was lost, so say it.
        operation.error = InvalidArgument(f"{operation.label}: {does_not_grow(semaphore, value)}")
        self._fail(semaphore, operation.error)

    def _over(self, operation: Operation, error: BaseException | None) -> None:
        in_ring = operation.state is State.IN_FLIGHT and operation.kind is Kind.DEVICE
        operation.state = State.OVER
        operation.error = error
        self.unfinished.pop(operation, None)
        self._hosts.pop(operation, None)
        if not in_ring:  # an entry lets go when the ring is done with it
            self._let_go(operation)
        self._announce()

    def _withdraw(self, operation: Operation) -> None:
        for semaphore in operation.waits:
            semaphore.dependents.pop(operation, None)
        for semaphore, _ in operation.signals:
            semaphore.promises.pop(operation, None)

    def _let_go(self, operation: Operation) -> None:
        # The handle may live on; what it kept alive may not.
        program, slots, kept = operation.program, operation.slots, operation.kept
        operation.program, operation.slots, operation.kept = None, (), ()
        operation.call = operation.action = operation.prepare = None
        if program is not None:
            program.end(slots, operation.table)
        for let_go in kept:
            let_go()

    def _advance(self, semaphore: Semaphore, value: int) -> None:
        semaphore.reading = value
        for operation, least in tuple(semaphore.dependents.items()):
            if least <= value:
                del semaphore.dependents[operation]
                operation.waits.pop(semaphore, None)
                self._consider(operation)
        self._announce()

    def _fail(self, semaphore: Semaphore, error: BaseException) -> None:
        # A list instead of recursion: a chain of dependents may be long.
        self._failing.append((semaphore, error))
        if len(self._failing) > 1:
            return
        while self._failing:
            failed, why = self._failing[0]
            if failed.failed is None:
                failed.failed = why
                for operation in tuple(failed.dependents):
                    if operation.state is State.IN_FLIGHT and operation.kind is Kind.DEVICE:
                        self._doomed.append((operation, why))
                    else:
                        self.conclude(operation, why)
            self._failing.popleft()
        self._announce()

    def _consider(self, operation: Operation) -> None:
        """Moves an operation on when its waits allow it."""
        if operation.state is not State.WAITING or operation.prepare is not None:
            return
        if operation.kind is Kind.HOST:
            if not operation.waits:
                operation.state = State.READY
                self._hosts.pop(operation, None)
                later = inspect.iscoroutinefunction(operation.call)
                (self._tasks if later else self._calls).append(operation)
                self._announce()
        elif self._relies_on(operation) is not None:
            operation.state = State.READY
            self._ready.append(operation)

    def _prepared(self, operation: Operation) -> bool:
        """Takes the memory that an alloca needs; False as long as there is none."""
        if operation.prepare is None or operation.state is State.OVER:
            return True
        try:
            operation.prepare()
        except OutOfMemory as error:
            operation.hunger = error
            return False
        except Exception as error:  # noqa: BLE001 - it is the operation's failure
            self.conclude(operation, error)
            return True
        operation.prepare = None
        return True

    def _feed(self) -> None:
        self._fed = False
        while self._starving and self._prepared(self._starving[0]):
            self._consider(self._starving.popleft())

    def _relies_on(self, operation: Operation) -> int | None:
        """The last entry that its waits need, -1 when they are reached; None: not promised yet."""
        last = -1
        for semaphore, value in operation.waits.items():
            numbers = [
                by.number
                for by, promised in semaphore.promises.items()
                if promised >= value and by.number is not None
            ]
            if not numbers:
                return None
            last = max(last, min(numbers))
        return last

    def _promise(self, operation: Operation, number: int) -> None:
        operation.state = State.IN_FLIGHT
        operation.number = number
        for semaphore, value in operation.signals:
            semaphore.promises[operation] = value
            for dependent, least in tuple(semaphore.dependents.items()):
                if least <= value:
                    self._consider(dependent)

    def _announce(self) -> None:
        self._version += 1
        self._changed.notify_all()
        watchers, self._watchers = self._watchers, []
        for loop, future in watchers:
            with suppress(RuntimeError):  # its loop was closed
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def does_not_grow(semaphore: Semaphore, value: int) -> str:
    """Why a signal is refused."""
    return f"signal of {value} on {semaphore!r}: a value must grow"
