"""The device's one allocator: buffers out of the slabs that the driver reserves.

Best fit over a sorted free list with coalescing. Python is its only caller, so it has no lock; it
never touches the memory it hands out, and memory that was handed out before is not cleared.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tilework.core.config import SLAB
from tilework.core.errors import OutOfMemory
from tilework.hal._abi import TW_ALIGNMENT


@dataclass(frozen=True, slots=True)
class Statistics:
    """Bytes handed out, bytes held, the most ever handed out at once, spans handed out; imported.

    `allocated`, `freed`, `copied_in` (host to device) and `copied_out` are totals in bytes since
    the device was opened. Two are equal when they hold the same, whatever has happened.
    """

    in_use: int
    reserved: int
    peak: int = field(default=0, compare=False)
    spans: int = 0
    imported: int = 0
    allocated: int = field(default=0, compare=False)
    freed: int = field(default=0, compare=False)
    copied_in: int = field(default=0, compare=False)
    copied_out: int = field(default=0, compare=False)


class Allocator:
    """Spans of device memory, aligned to TW_ALIGNMENT bytes.

    `limit` is the most that may be handed out, bytes. `on_release` is called when something came
    back; it may be in a finaliser, so it must do no more than take a note. `fail_at` is for tests:
    so many allocations succeed, the next one does not.
    """

    def __init__(
        self,
        reserve: Callable[[int], tuple[int, int]],
        slab: int = SLAB,
        limit: int | None = None,
    ) -> None:
        self.limit = limit
        self.on_release: Callable[[], None] | None = None
        self.fail_at: int | None = None
        self._reserve = reserve
        self._slab = slab
        self._free: list[tuple[int, int]] = []  # (bytes, address), sorted
        self._starts: dict[int, int] = {}  # address of a free span -> its bytes
        self._ends: dict[int, int] = {}  # end of a free span -> its address
        self._used: dict[int, int] = {}  # address -> bytes
        self._in_use = self._reserved = self._peak = self._allocated = self._freed = 0
        # A finaliser may run, and release, at any point of the methods below: it only leaves the
        # address here while they work on the lists.
        self._returned: deque[int] = deque()
        self._busy = False

    @property
    def statistics(self) -> Statistics:
        if not self._busy:
            self._settle()
        return Statistics(
            self._in_use, self._reserved, self._peak, len(self._used),
            allocated=self._allocated, freed=self._freed,
        )  # fmt: skip

    @property
    def largest_free(self) -> int:
        """Bytes of the largest span that can be had without a new slab."""
        return self._free[-1][0] if self._free else 0

    def allocate(self, nbytes: int, label: str = "") -> int:
        """The address of `nbytes` bytes. OutOfMemory says what was asked, free and largest."""
        size = max(TW_ALIGNMENT, -(-nbytes // TW_ALIGNMENT) * TW_ALIGNMENT)
        self._settle()
        self._busy = True
        try:
            if self.fail_at is not None:
                self.fail_at -= 1
                if self.fail_at < 0:
                    raise self._refusal(size, label, "a test has it fail here")
            return self._allocate(size, label)
        finally:
            self._settle()

    def within_limit(self, nbytes: int) -> bool:
        """Whether so much could be handed out if all else had come back."""
        return self.limit is None or nbytes <= self.limit

    def release(self, address: int) -> None:
        """Gives a span back, at the latest when the allocator is next called."""
        self._returned.append(address)
        if not self._busy:
            self._settle()

    def _settle(self) -> None:
        self._busy = True
        came_back = bool(self._returned)
        while self._returned:
            address = self._returned.popleft()
            size = self._used.pop(address)
            self._in_use -= size
            self._freed += size
            self._give(address, size)
        self._busy = False
        if came_back and self.on_release is not None:
            self.on_release()

    def _allocate(self, size: int, label: str) -> int:
        if self.limit is not None and self._in_use + size > self.limit:
            raise self._refusal(size, label, f"the limit is {self.limit:,}")
        if self.largest_free < size:
            self._grow(size, label)
        found = bisect_left(self._free, (size, 0))
        length, address = self._free[found]
        self._take(length, address)
        if length > size:
            self._give(address + size, length - size)
        self._used[address] = size
        self._in_use += size
        self._allocated += size
        self._peak = max(self._peak, self._in_use)
        return address

    def _grow(self, size: int, label: str) -> None:
        generous = max(size, self._slab)
        if self.limit is not None:
            # What lies in pieces may make it more; the limit is on what is handed out.
            generous = max(size, min(generous, self.limit - self._reserved))
        try:
            try:
                address, length = self._reserve(generous)
            except OutOfMemory:
                address, length = self._reserve(size)
        except OutOfMemory as error:
            raise self._refusal(size, label, str(error)) from None
        start = -(-address // TW_ALIGNMENT) * TW_ALIGNMENT
        length = (address + length - start) // TW_ALIGNMENT * TW_ALIGNMENT
        self._reserved += length
        self._give(start, length)

    def _refusal(self, size: int, label: str, why: str) -> OutOfMemory:
        free, largest = self._reserved - self._in_use, self.largest_free
        if self.limit is not None:
            free = min(free, max(0, self.limit - self._in_use))
            largest = min(free, largest)
        return OutOfMemory(
            f"{label or 'a buffer'} needs {size:,} bytes of device memory; {free:,} are free, "
            f"the largest piece is {largest:,}, and {why}"
        )

    def _take(self, length: int, address: int) -> None:
        del self._free[bisect_left(self._free, (length, address))]
        del self._starts[address]
        del self._ends[address + length]

    def _give(self, address: int, length: int) -> None:
        following = self._starts.get(address + length)
        if following is not None:
            self._take(following, address + length)
            length += following
        before = self._ends.get(address)
        if before is not None:
            self._take(address - before, before)
            length += address - before
            address = before
        insort(self._free, (length, address))
        self._starts[address] = length
        self._ends[address + length] = address
