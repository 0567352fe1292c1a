"""The processor by simulation: what its protocol makes of tiles on any number of threads.

Deterministic, and no clock: times come in as numbers. It is `kernels/processor/processor.c` event
by event: a thread claims a tile of its own range of the open region with one swap of its share,
then of the others' ranges, and runs it; where a range has no more it adds what it ran to `done`;
who makes that complete opens the next region and announces it; who finds nothing to claim spins,
then sleeps. What a machine does beside that, caches and memory that threads share,
other programs, slower clocks under load, is not in it: it is what the protocol and the cut of the
tiles allow at most.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Costs:
    """What the protocol costs, nanoseconds.

    `tile`: claiming a tile, finding its command, calling its kernel and counting it, where no other
    thread is in the way. `transfer`: what an atomic operation takes longer on a word that another
    thread wrote last; one thread at a time has a word. `open`: opening a region. `begin`: from the
    host's call until the first tiles can be claimed, and from the last one's end back to the host.
    `notice`: until a spinning thread sees what was announced. `wake`: until one that sleeps does,
    and `notify` what that costs who wakes it. A thread sleeps once it has spun for `patience`.
    """

    tile: float = 0.0
    transfer: float = 0.0
    open: float = 0.0
    begin: float = 0.0
    notice: float = 0.0
    wake: float = 0.0
    notify: float = 0.0
    patience: float = 60_000.0


@dataclass(frozen=True, slots=True)
class Work:
    """One dispatch: `tiles` that take `each` nanoseconds."""

    tiles: int
    each: float


Region: TypeAlias = tuple[Work, ...]  # what may overlap, up to the next barrier


@dataclass(frozen=True, slots=True)
class Ran:
    """One tile of a region, and when which thread ran its kernel."""

    region: int
    tile: int
    thread: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """A submission that was run; `ended` in nanoseconds after it was begun."""

    ended: float
    tiles: tuple[Ran, ...]


def total_work(regions: Sequence[Region]) -> float:
    """Nanoseconds of all tiles: no number n of threads is faster than an n-th of it."""
    return sum(work.tiles * work.each for region in regions for work in region)


def critical_path(regions: Sequence[Region]) -> float:
    """Nanoseconds of each region's longest tile: nothing is faster, whatever the threads."""
    return sum(max((w.each for w in region if w.tiles), default=0.0) for region in regions)


class _Word:
    """A word of the queue: one atomic operation at a time."""

    def __init__(self, transfer: float, owner: int = 0) -> None:
        self._transfer = transfer
        self._free = 0.0
        self._owner = owner

    def operate(self, thread: int, now: float) -> float:
        """When the operation that the thread begins now is over."""
        self._free = max(self._free, now)
        if self._owner != thread:
            self._free += self._transfer
            self._owner = thread
        return self._free


class _Ranges:
    """The tiles of the open region: which range each thread takes from, what it has not counted."""

    def __init__(self, tiles: int, threads: int) -> None:
        each, longer = divmod(tiles, threads)
        bounds = [thread * each + min(thread, longer) for thread in range(threads + 1)]
        self._next, self._ends = bounds[:-1], bounds[1:]
        self._passed = [0] * threads
        self.uncounted = [0] * threads

    def whose(self, thread: int) -> int | None:
        """The range that it takes from now; None when there is no tile left."""
        threads = len(self._next)
        while self._passed[thread] < threads:
            owner = (thread + self._passed[thread]) % threads
            if self._next[owner] < self._ends[owner]:
                return owner
            self._passed[thread] += 1
        return None

    def leaves(self, thread: int) -> bool:
        """Whether it has run tiles of a range that has no more."""
        owner = (thread + self._passed[thread]) % len(self._next)
        return self.uncounted[thread] > 0 and self._next[owner] == self._ends[owner]

    def take(self, owner: int) -> int:
        """The number of the range's next tile, which is taken."""
        self._next[owner] += 1
        return self._next[owner] - 1


def simulate(regions: Sequence[Region], threads: int, costs: Costs) -> Simulated:
    """One submission, begun by thread 0 at 0, when the others spin."""
    lengths = [[work.each for work in region for _ in range(work.tiles)] for region in regions]
    filled = [index for index, tiles in enumerate(lengths) if tiles]
    if not filled:
        return Simulated(costs.begin, ())
    ran: list[Ran] = []
    shares = [_Word(costs.transfer, thread) for thread in range(threads)]
    done = _Word(costs.transfer)
    order = iter(filled)
    current, opened = next(order), costs.begin
    ranges, finished = _Ranges(len(lengths[current]), threads), 0
    idle = dict.fromkeys(range(1, threads), costs.begin)  # since when
    # (when, thread, the tile that it finishes then; -1: it looks for one)
    events: list[tuple[float, int, int]] = []

    def announce(now: float) -> float:
        """All that are idle will look; when the announcing thread goes on."""
        asleep = {thread for thread, since in idle.items() if now - since > costs.patience}
        for thread in idle:
            late = costs.wake if thread in asleep else costs.notice
            heapq.heappush(events, (now + late, thread, -1))
        idle.clear()
        return now + costs.notify if asleep else now

    heapq.heappush(events, (announce(opened), 0, -1))
    while True:
        now, thread, tile = heapq.heappop(events)
        if tile >= 0:
            ranges.uncounted[thread] += 1
        elif now < opened:  # it has come between two regions: it sees the second one announced
            heapq.heappush(events, (opened + costs.notice, thread, -1))
            continue
        if ranges.leaves(thread):
            now = done.operate(thread, now)
            finished += ranges.uncounted[thread]
            ranges.uncounted[thread] = 0
            if finished == len(lengths[current]):
                following = next(order, None)
                if following is None:
                    return Simulated(now, tuple(ran))
                current, opened = following, now + costs.open
                ranges, finished = _Ranges(len(lengths[current]), threads), 0
                now = announce(opened)
            heapq.heappush(events, (now, thread, -1))
            continue
        owner = ranges.whose(thread)
        if owner is None:
            idle[thread] = now
            continue
        claimed = ranges.take(owner)
        began = shares[owner].operate(thread, now) + costs.tile
        ended = began + lengths[current][claimed]
        ran.append(Ran(current, claimed, thread, began, ended))
        heapq.heappush(events, (ended, thread, claimed))
