"""Twins: for what is stored in two bytes, the same numbers in float32, while both are there.

Kernels compute in float32. Where one's result is rounded to be stored and another reads it, that
one may as well read what was rounded: a conversion less on either side, and as onnxruntime does on
CPUs. What is then read by nobody is not stored. Few elements have none where weights are few as
well: their conversions cost next to nothing, and each operation's result is then exactly its
definition's. A network's token is computed as its prompt is. Knows storages, no operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tilework.core.dtypes import FLOAT32
from tilework.plan.step import Step
from tilework.plan.tensor import Kind, Storage, Tensor

FEW = 4096
NETWORK = 1 << 20  # bytes of weights from which on few elements have twins too
NEVER = 1 << 30  # readings still to come of what nothing may go over


class Twins:
    """Those of one plan, while it is made."""

    def __init__(self, weights: int = 0) -> None:
        """`weights`: bytes of all constants."""
        self._few = 0 if weights >= NETWORK else FEW
        self._wide: dict[Storage, Tensor] = {}
        self.used = True  # an operation may ask for each of its steps to be rounded
        self._stored: set[Storage] = set()  # by a step that may go if nobody reads them

    def remember(
        self, narrow: Tensor, wide: Tensor, live: dict[Storage, int], stored: bool
    ) -> None:
        """`narrow` is all of its storage, `wide` a run of as many. `stored`: it was made of it."""
        if not self.used or narrow.storage.kind is not Kind.TRANSIENT:
            return
        if wide.storage.kind is not Kind.TRANSIENT or wide.size < self._few:
            return
        self._wide[narrow.storage] = wide
        live[wide.storage] = NEVER
        if stored:
            self._stored.add(narrow.storage)

    def recall(self, narrow: Tensor) -> Tensor | None:
        """A view of the twin that is as `narrow` is of its storage."""
        wide = self._wide.get(narrow.storage)
        if wide is None or not self.used:
            return None
        return replace(
            narrow, storage=wide.storage, dtype=FLOAT32, offset=wide.offset + narrow.offset
        )

    def forget(self, step: Step) -> None:
        """What the step writes is what it was no longer."""
        if not self._wide:
            return
        written = set(step.writes())
        self._stored -= written
        for narrow, wide in list(self._wide.items()):
            if narrow in written or wide.storage in written:
                del self._wide[narrow]

    def needed(self, steps: Sequence[Step], outputs: Iterable[Storage]) -> list[Step]:
        """The steps without those that store what nobody reads."""
        if not self._stored:
            return list(steps)
        read = {storage for step in steps for storage in step.reads()} | set(outputs)
        idle = self._stored - read
        return [step for step in steps if not step.writes() or not idle.issuperset(step.writes())]
