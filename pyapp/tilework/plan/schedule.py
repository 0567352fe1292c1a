"""When each step runs: levels by real dependencies.

Steps of one level have nothing to do with each other and share a region between two barriers. A
host step has a level of its own. Lifetimes of transients are counted in levels, so that reuse of
memory can never contradict the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilework.plan.step import HostStep, Step
from tilework.plan.tensor import Kind, Storage

BEFORE = 0  # the level at which inputs are written


def assign_levels(steps: Sequence[Step]) -> int:
    """Sets each step's `level`, as early as its operands allow; gives the last level."""
    written: dict[Storage, int] = {}
    read: dict[Storage, int] = {}
    floor = BEFORE + 1
    last = BEFORE
    for step in steps:
        reads, writes = step.reads(), step.writes()
        level = floor
        for storage in reads:
            level = max(level, written.get(storage, BEFORE) + 1)
        for storage in writes:
            # Parts of one storage may be written side by side; in place means after all readers.
            level = max(level, read.get(storage, BEFORE) + 1)
        if isinstance(step, HostStep):
            level = max(level, last + 1)
            floor = level + 1
        step.level = level
        last = max(last, level)
        for storage in reads:
            read[storage] = max(read.get(storage, BEFORE), level)
        for storage in writes:
            written[storage] = max(written.get(storage, BEFORE), level)
    return last


def set_lifetimes(
    steps: Sequence[Step], inputs: Sequence[Storage], outputs: Sequence[Storage]
) -> list[Storage]:
    """Sets `first` and `last` of the transients that steps touch or that are outputs. An input that
    is neither stays `idle`."""
    transients: dict[Storage, None] = {}
    used = {storage for step in steps for storage in (*step.reads(), *step.writes())}
    used.update(outputs)
    final = max((step.level for step in steps), default=BEFORE) + 1

    def touch(storage: Storage, level: int) -> None:
        if storage.kind is not Kind.TRANSIENT:
            return
        if storage not in transients:
            transients[storage] = None
            storage.first = storage.last = level
        storage.first = min(storage.first, level)
        storage.last = max(storage.last, level)

    for storage in inputs:
        if storage in used:
            touch(storage, BEFORE)
    for step in steps:
        for storage in (*step.reads(), *step.writes()):
            touch(storage, step.level)
    for storage in outputs:
        touch(storage, final)
    return list(transients)
