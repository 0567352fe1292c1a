"""Semaphore and Fence: the only order between operations of the queue.

Pure bookkeeping: who wakes when a value grows, and how a wait gets work done, is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tilework.core.errors import InvalidArgument

if TYPE_CHECKING:
    from tilework.hal.operation import Operation


class Driving(Protocol):
    """What semaphores need of the scheduler."""

    def look(self) -> None:
        """Takes note of what has ended; computes nothing."""

    def signal(self, points: Sequence[Point]) -> None:
        """Raises all these values, or none: InvalidArgument, or a semaphore's failure."""

    def fail(self, semaphore: Semaphore, error: BaseException) -> None:
        """Fails the semaphore and what waits for it; the first failure stays."""

    def drive(
        self, met: Callable[[], bool], points: Sequence[Point], timeout: float | None
    ) -> None:
        """Blocks and works until `met`. TimedOut, Deadlock, or what `met` raises."""

    async def driven(
        self, met: Callable[[], bool], points: Sequence[Point], timeout: float | None
    ) -> None:
        """As `drive`, with the event loop left free; other tasks may signal, so no Deadlock."""


class Semaphore:
    """A value that only grows, or a failure that stays. Made by `Device.semaphore(initial=0)`.

    May be signalled, failed, asked and waited for from every thread. Values are whole numbers of
    any size. A failure is the semaphore's, not a point's: it takes values reached before with it.
    """

    __slots__ = ("__weakref__", "_driving", "dependents", "failed", "label", "promises", "reading")

    def __init__(self, driving: Driving, initial: int = 0, label: str = "") -> None:
        if initial < 0:
            raise InvalidArgument(f"a semaphore starts at {initial}; the least is 0")
        self._driving = driving
        self.label = label
        # The scheduler's own, all under its lock.
        self.reading = initial
        self.failed: BaseException | None = None
        self.dependents: dict[Operation, int] = {}  # unfinished, and the value they still need
        self.promises: dict[Operation, int] = {}  # in the ring, and the value they will signal

    def __repr__(self) -> str:
        state = f"failed: {self.failed}" if self.failed else f"at {self.reading}"
        return f"<Semaphore {self.label or 'unnamed'} {state}>"

    @property
    def driving(self) -> Driving:
        """The scheduler of this semaphore's device."""
        return self._driving

    @property
    def value(self) -> int:
        """The value reached by now; raises the failure if there is one. Never blocks."""
        self._driving.look()
        if self.failed is not None:
            raise self.failed
        return self.reading

    @property
    def failure(self) -> BaseException | None:
        """Why it failed, or None. Never blocks."""
        self._driving.look()
        return self.failed

    def signal(self, value: int) -> None:
        """Raises the value. InvalidArgument unless it grows; raises the failure if there is one."""
        self._driving.signal(((self, value),))

    def fail(self, error: BaseException) -> None:
        """Fails it for good, and with it all that waits for it. A second failure is dropped."""
        self._driving.fail(self, error)

    def wait(self, value: int, timeout: float | None = None) -> None:
        """Blocks until `value` is reached, and does the queue's work meanwhile.

        `timeout` is seconds: None has no limit, 0 only looks. TimedOut; Deadlock when nobody is
        left who could signal; the failure if there is one.
        """
        wait_all((self, value), timeout)

    async def reached(self, value: int, timeout: float | None = None) -> None:
        """As `wait`, with the event loop left free."""
        await all_reached((self, value), timeout)


Point: TypeAlias = "tuple[Semaphore, int]"


class Fence:
    """Points, one for each semaphore; of several for one the largest counts. Immutable."""

    __slots__ = ("points",)

    def __init__(self, points: Points = None) -> None:
        self.points: tuple[Point, ...] = points_of(points)

    def __repr__(self) -> str:
        return f"<Fence {', '.join(f'{s.label or s} ≥ {v}' for s, v in self.points)}>"

    @classmethod
    def join(cls, *fences: Fence) -> Fence:
        """The fence that is reached when all of `fences` are."""
        return cls([point for fence in fences for point in fence.points])

    @property
    def done(self) -> bool:
        """Whether every point is reached; raises a member's failure."""
        for driving in {semaphore.driving for semaphore, _ in self.points}:
            driving.look()
        return _all(self.points)

    def signal(self) -> None:
        """Raises every semaphore to its point, or none: InvalidArgument unless all of them grow."""
        if self.points:
            _one_device(self.points).signal(self.points)

    def fail(self, error: BaseException) -> None:
        """Fails every semaphore."""
        for semaphore, _ in self.points:
            semaphore.fail(error)

    def wait(self, timeout: float | None = None) -> None:
        """See `Semaphore.wait`."""
        wait_all(self, timeout)

    async def reached(self, timeout: float | None = None) -> None:
        """See `Semaphore.reached`."""
        await all_reached(self, timeout)


Points: TypeAlias = "Fence | Point | Sequence[Point | Fence] | None"


def points_of(points: Points) -> tuple[Point, ...]:
    """The points, one for each semaphore, in the order in which these first appear."""
    largest: dict[Semaphore, int] = {}
    for semaphore, value in _flat(points):
        largest[semaphore] = max(value, largest.get(semaphore, value))
    return tuple(largest.items())


def wait_all(points: Points, timeout: float | None = None) -> None:
    """Blocks until every point is reached; the first failure ends it. See `Semaphore.wait`."""
    flat = points_of(points)
    if flat:
        _one_device(flat).drive(lambda: _all(flat), flat, timeout)


def wait_any(points: Points, timeout: float | None = None) -> int:
    """Blocks until a point is reached; which, as an index into `points`, -1 for none at all.

    A failure ends it unless another point is reached already. See `Semaphore.wait`.
    """
    flat = _flat(points)
    if flat:
        _one_device(flat).drive(lambda: _any(flat) >= 0, flat, timeout)
    return _any(flat)


async def all_reached(points: Points, timeout: float | None = None) -> None:
    """As `wait_all`, with the event loop left free."""
    flat = points_of(points)
    if flat:
        await _one_device(flat).driven(lambda: _all(flat), flat, timeout)


async def any_reached(points: Points, timeout: float | None = None) -> int:
    """As `wait_any`, with the event loop left free."""
    flat = _flat(points)
    if flat:
        await _one_device(flat).driven(lambda: _any(flat) >= 0, flat, timeout)
    return _any(flat)


def _flat(points: Points) -> tuple[Point, ...]:
    if points is None:
        return ()
    if isinstance(points, Fence):
        return points.points
    if isinstance(points, tuple) and len(points) == 2 and isinstance(points[0], Semaphore):
        return (_checked(points),)
    flat: list[Point] = []
    for item in points:
        flat += item.points if isinstance(item, Fence) else (_checked(item),)
    return tuple(flat)


def _checked(point: object) -> Point:
    if isinstance(point, tuple) and len(point) == 2:
        semaphore, value = point
        if isinstance(semaphore, Semaphore) and isinstance(value, int) and value >= 0:
            return semaphore, value
    raise InvalidArgument(
        f"{point!r} is no point to wait for or to signal; that is (semaphore, value) with a whole "
        "number from 0 up, a Fence, or a sequence of these"
    )


def _one_device(points: Sequence[Point]) -> Driving:
    driving = points[0][0].driving
    if any(semaphore.driving is not driving for semaphore, _ in points):
        raise InvalidArgument("these semaphores are of several devices; wait for one after another")
    return driving


def _all(points: Sequence[Point]) -> bool:
    for semaphore, _ in points:
        if semaphore.failed is not None:
            raise semaphore.failed
    return all(semaphore.reading >= value for semaphore, value in points)


def _any(points: Sequence[Point]) -> int:
    failure = None
    for index, (semaphore, value) in enumerate(points):
        if semaphore.failed is not None:
            failure = failure or semaphore.failed
        elif semaphore.reading >= value:
            return index
    if failure is not None:
        raise failure
    return -1
