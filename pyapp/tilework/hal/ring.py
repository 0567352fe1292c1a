"""Ring: submissions that run in the order in which they were pushed, as Python sees them.

What lies in shared memory is a `tw_queue` and its `tw_submission`s (abi.h). Python pushes programs
that are ready to run in that order, looks at how many have ended and reads how. Numbers count up
from 0 and never wrap here; shared memory has them modulo 2**32. A submission that fails or is
cancelled **halts** the ring: nothing further is opened until `go_on`.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from tilework.core.config import SLICE, SLICE_TILES, WATCHDOG
from tilework.core.errors import InvalidArgument
from tilework.hal._abi import (
    QUEUE_CLAIM,
    QUEUE_DONE,
    QUEUE_ENDED,
    QUEUE_HALTED,
    QUEUE_PUSHED,
    QUEUE_RING,
    QUEUE_RUNNING,
    QUEUE_SHARES,
    QUEUE_SIZE,
    QUEUE_THREAD_COUNT,
    SHARE_SIZE,
    SUBMISSION_FAILED_COMMAND,
    SUBMISSION_SIZE,
    SUBMISSION_STATUS,
    TW_CLOSED,
    TW_PATIENCE,
    TW_RING,
    Status,
)
from tilework.hal.threads import RING_BYTES

if TYPE_CHECKING:
    from tilework.hal.driver import Driver
    from tilework.hal.threads import Threads

_MODULUS = 1 << 32
_ENDED = int(Status.ENDED)  # comparing with a member takes longer


class Outcome(NamedTuple):
    """How a submission ended: a tw_status and, if a kernel failed, where."""

    status: int  # Status.ENDED is success
    command: int  # number of the command in its program
    tile: tuple[int, int, int]
    worker: int  # the thread, 0 is the submitting one


class Ring:
    """`device.ring`; one for each device, on its Threads.

    It is also the watchdog. A tile that takes longer than `patience` seconds, or a worker that was
    ended within one, leaves its region unfinished for ever; whoever waits notices. The open
    submission then ends with status STUCK, the workers are started anew and the ring halts as after
    any failure; memory and what was pushed behind stay. The submitting thread has no watchdog: a
    kernel that loops for ever there loops for ever.
    """

    def __init__(self, driver: Driver, pool: Threads) -> None:
        self._driver = driver
        self._pool = pool
        self._submit = driver.submit
        self._pushed = 0
        self._ended = 0  # as far as was seen
        self._retired = 0
        self._entries: dict[int, tuple[int, int, int]] = {}  # not retired: program, state, slots
        self.patience = WATCHDOG  # seconds that one tile may take
        self._seen = (b"", 0.0)  # progress, and since when it is the same
        self._next_look = 0.0
        self._take(pool)

    def _take(self, pool: Threads) -> None:
        """Begins on the pool's queue, with the numbers as they are."""
        self._memory = pool.queue
        self._queue = pool.queue.address
        self._threads = tuple(pool.addresses)
        self._first = self._queue + QUEUE_SIZE
        self._memory.write(struct.pack("<Q", TW_CLOSED), QUEUE_CLAIM)
        self._memory.write(struct.pack("<I", self._first), QUEUE_RING)
        self._memory.write(struct.pack("<I", self._first + RING_BYTES), QUEUE_SHARES)
        self._memory.write(struct.pack("<I", len(self._threads)), QUEUE_THREAD_COUNT)
        ended = self._ended % _MODULUS
        self._memory.write(struct.pack("<I", ended), QUEUE_PUSHED)
        self._memory.write(struct.pack("<I", ended), QUEUE_ENDED)

    # -- state ---------------------------------------------------------------------------------

    @property
    def pushed(self) -> int:
        """How many were pushed; the next one's number."""
        return self._pushed

    @property
    def retired(self) -> int:
        """How many outcomes are no longer needed; equal to `pushed`: nothing is in flight."""
        return self._retired

    @property
    def free(self) -> int:
        """Slots that a push may use now: TW_RING less what was pushed and is not yet retired."""
        return TW_RING - (self._pushed - self._retired)

    @property
    def halted(self) -> bool:
        """Whether a failure or cancel waits to be looked at; `look() - 1` is its number."""
        return self._memory.peek(QUEUE_HALTED, 4) != bytes(4)

    def outcome(self, number: int) -> Outcome:
        """Of a submission that has ended and is not retired."""
        if not self._retired <= number < self._pushed:
            raise InvalidArgument(f"submission {number} is not in the ring")
        status, command, x, y, z, worker = struct.unpack(
            "<6I", self._memory.peek(self._slot(number) - self._queue + SUBMISSION_STATUS, 24)
        )
        return Outcome(status, command, (x, y, z), worker)

    # -- pushing -------------------------------------------------------------------------------

    def submit(self, program: int, state: int, slots: int) -> Outcome | None:
        """Push, wait, retire in one crossing; None is success. Only when nothing is in flight."""
        self._pushed += 1
        status = self._submit(self._threads[0], program, state, slots)
        if status == _ENDED:
            self._retired = self._pushed
            return None
        return self._settle()

    def _settle(self) -> Outcome | None:
        number = self._pushed - 1
        self.wait(number + 1)
        outcome = self.outcome(number)
        self.retire(number + 1)
        if outcome.status == Status.ENDED:
            return None
        self.go_on()
        return outcome

    def push(self, program: int, state: int, slots: int) -> int:
        """Appends a program by its addresses; its number. The caller has looked at `free`.

        `slots` 0: the state holds these bindings already, by a submission that was pushed before.
        """
        if not self.free:
            raise InvalidArgument(f"all {TW_RING} slots of the ring are taken; retire some")
        self._driver.push(self._queue, program, state, slots)
        self._entries[self._pushed] = program, state, slots
        self._pushed += 1
        return self._pushed - 1

    def cancel(self, number: int, status: Status = Status.CANCELLED) -> bool:
        """Ends a submission with `status` unless it has ended; whether it did.

        One that runs ends when its running tiles do. SKIPPED does not halt the ring.
        """
        if not self._retired <= number < self._pushed:
            return False
        return self._driver.cancel(self._slot(number), status)

    def retire(self, ended: int) -> None:
        """The outcomes below `ended` have been read; their slots may be used again."""
        while self._retired < ended:
            self._entries.pop(self._retired, None)
            self._retired += 1

    def go_on(self) -> None:
        """After a halt: opens what follows."""
        self._driver.go_on(self._queue)

    # -- waiting -------------------------------------------------------------------------------

    def look(self) -> int:
        """How many have ended; computes nothing."""
        return self._saw(self._driver.wait(self._threads[0], self._ended % _MODULUS, 1, 0))

    def wait(self, target: int, seconds: float | None = None, tiles: int = 0) -> int:
        """Computes until `target` have ended; how many have.

        Comes back before that when the ring has halted, when `seconds` have passed or this thread
        has run `tiles` tiles (0: no limit). No seconds are a look.
        """
        if seconds is None:
            while self._pass(target, tiles, TW_PATIENCE) < target and not (tiles or self.halted):
                self._watch()
            return self.look()  # what has halted may have ended after the last count
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return self.look()
            microseconds = min(int(left * 1e6) + 1, TW_PATIENCE)
            if self._pass(target, tiles or SLICE_TILES, microseconds) >= target:
                return self._ended
            self._watch()
            if tiles or self.halted:
                return self.look()

    async def ended(self, target: int, seconds: float | None = None) -> int:
        """As `wait`, with the event loop left free.

        Where workers compute this thread does not; where none does, it computes a few
        milliseconds at a time.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.look() < target and not self.halted:
            left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
            if left <= 0:
                break
            before = self._progress()
            if any(map(self._driver.is_ready, self._threads[1:])):
                self._saw(await self._driver.ended(self._queue, target % _MODULUS, left))
            if self._progress() == before:
                self._pass(target, SLICE_TILES, 0)
                self._watch()
                await self._driver.rest()
        return self.look()  # what has halted may have ended after the last count

    # -- the watchdog --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Gives up on the workers when nothing has happened for `patience` seconds."""
        now = time.monotonic()
        if now < self._next_look or len(self._threads) == 1:
            return
        self._next_look = now + self.patience / 8
        progress = self._progress()
        if progress != self._seen[0]:
            self._seen = progress, now
        elif now - self._seen[1] >= self.patience:
            self._seen = b"", now
            self._renew()

    def _renew(self) -> None:
        number, old = self.look(), self._memory
        if number == self._pushed or self.halted:
            return
        stuck = self._pool.stuck()
        # From here on a stale worker finds that its submission has failed, and then a closed shop.
        won = self._driver.cancel(self._slot(number), Status.STUCK if stuck else Status.LOST)
        if not won and self.look() > number:
            return  # it has come back after all
        slots = old.read(QUEUE_SIZE, RING_BYTES)
        self._pool.renew()
        self._ended = number + 1
        self._take(self._pool)
        self._memory.write(slots, QUEUE_SIZE)
        if stuck and won:
            worker, command, tile = stuck
            record = struct.pack("<5I", command, *tile, worker)
            self._memory.write(record, self._slot(number) - self._queue + SUBMISSION_FAILED_COMMAND)
        self._memory.write(struct.pack("<I", 1), QUEUE_HALTED)
        for behind in range(number + 1, self._pushed):
            at = behind % TW_RING * SUBMISSION_SIZE + SUBMISSION_STATUS
            status = struct.unpack_from("<I", slots, at)[0]
            self._driver.push(self._queue, *self._entries[behind])
            if status:
                self._driver.cancel(self._slot(behind), status)
        self._pool.start_workers()

    # -- inside --------------------------------------------------------------------------------

    def _slot(self, number: int) -> int:
        return self._first + number % TW_RING * SUBMISSION_SIZE

    def _saw(self, ended: int) -> int:
        # An await may bring a count that others have seen pass meanwhile: a step back is none.
        forward = (ended - self._ended) % _MODULUS
        if forward < _MODULUS // 2:
            self._ended += forward
        return self._ended

    def _pass(self, target: int, tiles: int, microseconds: int) -> int:
        return self._saw(
            self._driver.wait(self._threads[0], target % _MODULUS, tiles, microseconds)
        )

    def _progress(self) -> bytes:
        """Different whenever a tile was claimed or finished, or a submission has ended."""
        words = self._memory.peek(0, QUEUE_RUNNING)
        at = (QUEUE_CLAIM, QUEUE_CLAIM + 4, QUEUE_DONE, QUEUE_ENDED)
        shares = self._memory.peek(QUEUE_SIZE + RING_BYTES, len(self._threads) * SHARE_SIZE)
        return b"".join((*(words[i : i + 4] for i in at), shares))
