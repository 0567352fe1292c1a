"""The device's one allocator: buffers out of the slabs that the driver reserves.

Best fit over a sorted free list with coalescing. Python is its only caller, so it has no lock; it
never touches the memory it hands out, and memory that was handed out before is not cleared.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tilework.core.config import SLAB
from tilework.core.errors import OutOfMemory
from tilework.hal._abi import TW_ALIGNMENT


@dataclass(frozen=True, slots=True)
class Statistics:
    """Bytes handed out, bytes held, the most ever handed out at once, and spans handed out."""

    in_use: int
    reserved: int
    peak: int
    spans: int


class Allocator:
    """Spans of device memory, aligned to TW_ALIGNMENT bytes."""

    def __init__(self, reserve: Callable[[int], tuple[int, int]], slab: int = SLAB) -> None:
        self._reserve = reserve
        self._slab = slab
        self._free: list[tuple[int, int]] = []  # (bytes, address), sorted
        self._starts: dict[int, int] = {}  # address of a free span -> its bytes
        self._ends: dict[int, int] = {}  # end of a free span -> its address
        self._used: dict[int, int] = {}  # address -> bytes
        self._in_use = self._reserved = self._peak = 0
        # A finaliser may run, and release, at any point of the methods below: it only leaves the
        # address here while they work on the lists.
        self._returned: deque[int] = deque()
        self._busy = False

    @property
    def statistics(self) -> Statistics:
        if not self._busy:
            self._settle()
        return Statistics(self._in_use, self._reserved, self._peak, len(self._used))

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
            return self._allocate(size, label)
        finally:
            self._settle()

    def release(self, address: int) -> None:
        """Gives a span back, at the latest when the allocator is next called."""
        self._returned.append(address)
        if not self._busy:
            self._settle()

    def _settle(self) -> None:
        self._busy = True
        while self._returned:
            address = self._returned.popleft()
            size = self._used.pop(address)
            self._in_use -= size
            self._give(address, size)
        self._busy = False

    def _allocate(self, size: int, label: str) -> int:
        if self.largest_free < size:
            self._grow(size, label)
        found = bisect_left(self._free, (size, 0))
        length, address = self._free[found]
        self._take(length, address)
        if length > size:
            self._give(address + size, length - size)
        self._used[address] = size
        self._in_use += size
        self._peak = max(self._peak, self._in_use)
        return address

    def _grow(self, size: int, label: str) -> None:
        try:
            try:
                address, length = self._reserve(max(size, self._slab))
            except OutOfMemory:
                address, length = self._reserve(size)
        except OutOfMemory as error:
            free = self._reserved - self._in_use
            raise OutOfMemory(
                f"{label or 'a buffer'} needs {size:,} bytes of device memory; {free:,} are free, "
                f"the largest piece is {self.largest_free:,}, and {error}"
            ) from None
        start = -(-address // TW_ALIGNMENT) * TW_ALIGNMENT
        length = (address + length - start) // TW_ALIGNMENT * TW_ALIGNMENT
        self._reserved += length
        self._give(start, length)

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
