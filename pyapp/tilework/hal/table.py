"""Table: ranges of function indices, the same on every thread.

Owned by `Executables`; the engines' tables grow to whatever is taken here.
"""

from __future__ import annotations

from bisect import insort


class Table:
    """First fit over sorted free ranges. Index 0 stays empty, so that a zeroed command traps."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []  # (first, slots), sorted, never adjacent
        self._top = 1  # the first index that was never taken, or was given back up to here
        self._taken: dict[int, int] = {}

    @property
    def taken(self) -> int:
        """Slots that are taken now."""
        return sum(self._taken.values())

    @property
    def top(self) -> int:
        """One past the highest index that is taken."""
        return self._top

    def take(self, slots: int) -> int:
        """The first of `slots` consecutive free indices, at least one."""
        slots = max(1, slots)
        for number, (first, length) in enumerate(self._free):
            if length >= slots:
                left = [(first + slots, length - slots)] if length > slots else []
                self._free[number : number + 1] = left
                break
        else:
            first, self._top = self._top, self._top + slots
        self._taken[first] = slots
        return first

    def give(self, first: int) -> None:
        """Gives back what `take` returned; KeyError for anything else."""
        insort(self._free, (first, self._taken.pop(first)))
        joined: list[tuple[int, int]] = []
        for start, length in self._free:
            if joined and sum(joined[-1]) == start:
                start, length = joined[-1][0], joined.pop()[1] + length
            joined.append((start, length))
        if joined and sum(joined[-1]) == self._top:
            self._top = joined.pop()[0]
        self._free = joined
