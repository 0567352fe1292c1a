"""Ring: submissions that run in order, as Python sees them.

What lies in shared memory is `tw_queue` and its `tw_submission`s (abi.h); Python pushes programs
that are ready to run in that order and looks at how many have ended.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Outcome(NamedTuple):
    """How a submission ended: a tw_status and, if a kernel failed, where."""

    status: int  # Status.ENDED is success
    command: int  # number of the command in its program
    tile: tuple[int, int, int]
    worker: int  # the thread, 0 is the submitting one


class Submissions(Protocol):
    """What `device.ring` offers to the queue. Numbers count up from 0 and never wrap."""

    @property
    def free(self) -> int:
        """Slots that a push may use now: TW_RING less what was pushed and not yet retired."""

    @property
    def pushed(self) -> int:
        """How many were pushed; the next number."""

    @property
    def halted(self) -> bool:
        """Whether a failure or a cancel waits to be looked at; `ended - 1` is its number."""

    def push(self, program: int, state: int, slots: int) -> int:
        """Appends a program by its addresses; its number. The caller has looked at `free`."""

    def look(self) -> int:
        """How many have ended; computes nothing."""

    def wait(self, target: int, seconds: float | None = None, tiles: int = 0) -> int:
        """Computes until `target` have ended, the ring halts or the time is over; how many have.

        A thread that does not come back from a kernel is found here: the threads are started anew
        and the ring halts with status STUCK for what was open.
        """

    async def ended(self, target: int, seconds: float | None = None) -> int:
        """As `wait`, with the event loop left free."""

    def cancel(self, number: int, status: int) -> bool:
        """Whether the submission was ended with `status` (CANCELLED, SKIPPED) instead."""

    def outcome(self, number: int) -> Outcome:
        """Of a submission that has ended and was not retired."""

    def retire(self, ended: int) -> None:
        """The outcomes below `ended` have been read: their slots may be used again."""

    def go_on(self) -> None:
        """After a halt: opens what follows."""
