"""Places: where everything of a plan lies.

The arena belongs to the session and is slot 0 of every program, so it may grow between runs without
anything being recorded again. Where the device sees the host's memory, or where tensors stay on the
device between runs, inputs and outputs have slots of their own behind it, which a run may bind
elsewhere (`binding.py`). Owns the constants that came from the plan's shapes. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tilework.core.growing import Growth, at_hand
from tilework.engine.constants import ConstantStore, contiguous
from tilework.engine.slots import ARENA, over, slots_of
from tilework.hal import Buffer, Device, Slot
from tilework.plan.arena import ALIGNMENT
from tilework.plan.plan import Draft
from tilework.plan.settle import Ends, fix_sizes
from tilework.plan.step import Span
from tilework.plan.tensor import Kind, Storage, Tensor


class Places:
    """Of one draft on one device. `fed`, `given` and `inputs` are for the length at hand."""

    def __init__(self, device: Device, draft: Draft, store: ConstantStore, slots: bool) -> None:
        self.device = device
        self.draft = draft
        self.slots = slots_of(draft) if slots else {}
        self.spans: dict[Storage, Buffer] = {}  # of those with slots, in the arena
        self.arena: Buffer | None = None
        self.fed: Mapping[str, Tensor] = {}
        self.given: Mapping[str, Tensor] = {}
        self.inputs: list[tuple[str, Tensor]] = []  # those with elements that are read
        # Outputs that may have the memory of an input, and the shapes of those inputs.
        self.over = over(draft) if slots else {}
        self.shapes: dict[Storage, tuple[int, ...]] = {}
        self._store = store
        self._ends = Ends(draft.inputs), Ends(draft.outputs)
        self._value: Callable[[int], int] = at_hand
        self._settled = False
        self._local: Buffer | None = None
        self._local_offsets: dict[Storage, int] = {}
        self._growing: list[Storage] = []  # of the locals
        self._homes: dict[int, Buffer] = {}  # of inputs and outputs in the arena, by their id
        self._write_locals()

    def _write_locals(self) -> None:
        total = 0
        for storage in self.draft.locals:
            self._local_offsets[storage] = total
            total += -(-storage.nbytes // ALIGNMENT) * ALIGNMENT
        if not total:
            return
        self._local = self.device.allocate(total, f"constants of a plan of {self.draft.name}")
        for storage, array in self.draft.locals.items():
            if array.dtype == object:
                self._growing.append(storage)
            elif array.size:
                self._local.write(contiguous(array), self._local_offsets[storage])

    def resolve(self, span: Span) -> Buffer | Slot:
        """What a program is recorded with for an operand."""
        storage = span.storage
        if storage in self.slots:
            return Slot(self.slots[storage], span.offset, span.nbytes)
        if storage.kind is Kind.TRANSIENT:
            return Slot(ARENA, storage.offset + span.offset, span.nbytes)
        return self.home(storage).subspan(span.offset, span.nbytes)

    # -- for the run at hand ------------------------------------------------------------

    def settle(self, value: Callable[[int], int], growth: Growth | None = None) -> None:
        """Numbers that grow are as `value` says from now on; `growth` the first time, if any do."""
        if growth is not None:
            fix_sizes(self.draft)
        self._value = value
        self._settled = False
        self._homes.clear()
        for storage in self._growing:
            numbers = self.draft.locals[storage]
            words = np.array(list(map(value, numbers.flat)), f"i{storage.nbytes // numbers.size}")
            assert self._local is not None  # there is room for them
            self._local.write(words, self._local_offsets[storage])

    def look(self) -> None:
        """Sees which inputs and outputs there are at the length at hand."""
        if self._settled:
            return
        self._settled = True
        self.fed, self.given = (ends.at(self._value) for ends in self._ends)
        self.inputs = [
            (name, tensor)
            for name, tensor in self.fed.items()
            if (tensor.size and not tensor.storage.idle) or tensor.storage.kind is Kind.RESIDENT
        ]
        fed = {tensor.storage: tensor.shape for tensor in self.fed.values()} if self.over else {}
        self.shapes = {past: fed[past] for past in self.over.values()}

    def attach(self, arena: Buffer | None) -> None:
        """Finds inputs and outputs in a new arena."""
        self.arena = arena
        self._homes.clear()
        self.spans = {
            storage: self.home(storage)
            for storage in self.slots
            if storage.kind is not Kind.RESIDENT
        }

    def home(self, storage: Storage) -> Buffer:
        """Where a storage lies that is bound nowhere else."""
        if storage.kind is Kind.TRANSIENT:
            assert self.arena is not None  # whoever runs the plan has attached one
            return self.arena.subspan(storage.offset, storage.nbytes)
        if storage.kind is Kind.LOCAL:
            assert self._local is not None  # there is one, so there is room for it
            return self._local.subspan(self._local_offsets[storage], storage.nbytes)
        return self._store.buffer(storage)

    def at_home(self, tensor: Tensor) -> Buffer:
        """The same of an input or output, kept at hand."""
        found = self._homes.get(id(tensor))
        if found is None:
            found = self.home(tensor.storage).subspan(*tensor.span())
            self._homes[id(tensor)] = found
        return found

    def free(self) -> None:
        """Gives back what it holds on the device."""
        if self._local is not None:
            self._local.free()
        self.arena = None
        self.spans = {}
        self._homes.clear()
