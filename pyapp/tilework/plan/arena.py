"""Offsets of transients in one arena, by lifetime: largest first, each in the tightest gap.

Two storages may share bytes when the spans of steps that touch them do not meet. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.growing import most
from tilework.plan.tensor import Storage

ALIGNMENT = 64  # bytes; TW_ALIGNMENT, a cache line


def place(storages: Sequence[Storage]) -> int:
    """Sets `offset` of every storage from its `first`, `last` and `nbytes`; the arena's bytes."""
    placed: list[tuple[int, int, int, int]] = []  # offset and end in bytes, first, last
    total = 0
    for storage in sorted(storages, key=lambda one: (-most(one.nbytes), one.first)):
        nbytes = -(-max(most(storage.nbytes), 1) // ALIGNMENT) * ALIGNMENT
        begins, ends = storage.first, storage.last
        busy = [
            (offset, behind)
            for offset, behind, first, last in placed
            if first <= ends and begins <= last
        ]
        busy.sort()
        best, tightest, end = -1, 0, 0
        for start, stop in busy:
            gap = start - end
            if gap >= nbytes and (best < 0 or gap < tightest):
                best, tightest = end, gap
            end = max(end, stop)
        storage.offset = end if best < 0 else best
        total = max(total, storage.offset + nbytes)
        placed.append((storage.offset, storage.offset + nbytes, begins, ends))
    return total
