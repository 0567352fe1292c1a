"""Operation: one thing on the queue, from its enqueuing to its end.

The scheduler moves it from state to state; whoever enqueued it can wait for it or cancel it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from tilework.core.errors import OutOfMemory
from tilework.hal.semaphore import Point, Semaphore

if TYPE_CHECKING:
    import asyncio

    from tilework.hal.buffer import Buffer
    from tilework.hal.program import Program
    from tilework.hal.scheduler import Scheduler


class Kind(Enum):
    """What an operation needs to happen."""

    DEVICE = "device"  # a program: a place in the ring
    ORDER = "order"  # nothing: it is over when its waits are
    HOST = "host"  # Python: it runs when its waits are reached and somebody drives the queue


class State(Enum):
    """Where an operation is."""

    WAITING = "waits"  # in Python, for a value that nothing in the ring promises
    READY = "is ready"  # in Python, for a free place in the ring or for somebody to drive
    IN_FLIGHT = "is in flight"  # in the ring, or riding on an entry that it waits for
    RUNNING = "runs"  # on the host, also when its signals come later
    OVER = "is over"


class Operation:
    """One thing on the queue: its waits, its signals, what it keeps alive.

    Returned by every method of Queue; `await` it, or `wait` for it, or leave it alone.
    """

    __slots__ = (
        "__weakref__", "_scheduler", "action", "call", "early", "error", "hunger", "kept", "kind",
        "label", "number", "prepare", "program", "signals", "slots", "state", "table", "task",
        "waits",
    )  # fmt: skip

    def __init__(
        self,
        scheduler: Scheduler,
        kind: Kind,
        label: str,
        waits: Sequence[Point],
        signals: Sequence[Point],
        *,
        program: Program | None = None,
        slots: Sequence[Buffer] = (),
        call: Callable[[], Any] | None = None,
        early: bool = False,
        action: Callable[[], None] | None = None,
        prepare: Callable[[], None] | None = None,
        kept: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._scheduler = scheduler
        self.kind = kind
        self.label = label
        self.signals = tuple(signals)
        # The scheduler's own, under its lock.
        self.state = State.WAITING
        self.error: BaseException | None = None
        self.waits: dict[Semaphore, int] = dict(waits)  # those not reached yet
        self.number: int | None = None  # of the ring's entry that it is, or rides on
        self.program = program
        self.slots = tuple(slots)
        self.table = 0  # of slots, as `Program.bind` gave it
        self.call = call  # HOST: what runs
        self.early = early  # HOST: it signals before it runs
        self.action = action  # ORDER: what happens when its waits are reached
        self.prepare = prepare  # ORDER: what must succeed before; None once it has
        self.hunger: OutOfMemory | None = None  # why it has not
        self.kept = tuple(kept)  # called once nothing of it can run any more
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        how = f"failed: {self.error!r}" if self.error else self.state.value
        return f"<Operation {self.label}: {how}>"

    @property
    def done(self) -> bool:
        """Whether it is over, well or not. Never blocks."""
        self._scheduler.look()
        return self.state is State.OVER

    @property
    def failure(self) -> BaseException | None:
        """Why it failed; None as long as it has not. Never blocks."""
        self._scheduler.look()
        return self.error

    def cancel(self) -> bool:
        """Ends it early: its signals fail with Cancelled. False when it was over.

        A program that runs stops at the next tile; True then means that it is going to end.
        """
        return self._scheduler.cancel(self)

    def wait(self, timeout: float | None = None) -> None:
        """Blocks until it is over and raises its failure. See `Semaphore.wait`."""
        self._scheduler.drive(self._over, self, timeout)

    async def finished(self, timeout: float | None = None) -> None:
        """As `wait`, with the event loop left free; `await operation` is the same."""
        await self._scheduler.driven(self._over, self, timeout)

    def __await__(self) -> Generator[Any, None, None]:
        return self.finished().__await__()

    def _over(self) -> bool:
        if self.error is not None and self.state is State.OVER:
            raise self.error
        return self.state is State.OVER


class Deferred:
    """The end of a host call that comes later. Made by `Queue.deferred`; the call returns it.

    It may be given from every thread, also before the call has returned.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._operation: Operation | None = None
        self._given: tuple[BaseException | None] | None = None

    def signal(self) -> None:
        """The call has succeeded: its signals are given. Only the first end counts."""
        self._give(None)

    def fail(self, error: BaseException) -> None:
        """The call has failed: its signals fail with `error`. Only the first end counts."""
        self._give(error)

    def bind(self, operation: Operation) -> None:
        """For the scheduler: the operation that this is the end of."""
        with self._scheduler.lock:
            self._operation = operation
            given = self._given
        if given:
            self._scheduler.conclude(operation, given[0])

    def _give(self, error: BaseException | None) -> None:
        with self._scheduler.lock:
            if self._given is not None:
                return
            self._given = (error,)
            operation = self._operation
        if operation is not None:
            self._scheduler.conclude(operation, error)
