"""The processor by simulation: what its protocol makes of tiles on any number of threads.

Deterministic, and no clock: times come in as numbers. It is `kernels/processor/processor.c` event
by event: a thread claims the next tile of the open region with one swap of `claim`, runs it, adds
one to `done`; who finishes the last tile opens the next region and announces it; who finds nothing
to claim spins, then sleeps. What a machine does beside that, caches and memory that threads share,
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

    def __init__(self, transfer: float) -> None:
        self._transfer = transfer
        self._free = 0.0
        self._owner = 0

    def operate(self, thread: int, now: float) -> float:
        """When the operation that the thread begins now is over."""
        self._free = max(self._free, now)
        if self._owner != thread:
            self._free += self._transfer
            self._owner = thread
        return self._free


def simulate(regions: Sequence[Region], threads: int, costs: Costs) -> Simulated:
    """One submission, begun by thread 0 at 0, when the others spin."""
    lengths = [[work.each for work in region for _ in range(work.tiles)] for region in regions]
    filled = [index for index, tiles in enumerate(lengths) if tiles]
    if not filled:
        return Simulated(costs.begin, ())
    ran: list[Ran] = []
    claim, done = _Word(costs.transfer), _Word(costs.transfer)
    order = iter(filled)
    current, opened = next(order), costs.begin
    claimed = finished = 0
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
            now = done.operate(thread, now)
            finished += 1
            if finished == len(lengths[current]):
                following = next(order, None)
                if following is None:
                    return Simulated(now, tuple(ran))
                current, opened = following, now + costs.open
                claimed = finished = 0
                now = announce(opened)
            heapq.heappush(events, (now, thread, -1))
        elif now < opened:  # it has come between two regions: it sees the second one announced
            heapq.heappush(events, (opened + costs.notice, thread, -1))
        elif claimed == len(lengths[current]):
            idle[thread] = now
        else:
            began = claim.operate(thread, now) + costs.tile
            ended = began + lengths[current][claimed]
            ran.append(Ran(current, claimed, thread, began, ended))
            heapq.heappush(events, (ended, thread, claimed))
            claimed += 1
