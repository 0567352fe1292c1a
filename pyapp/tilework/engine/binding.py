"""Binding: one run's own places: large arrays of the caller's, and what is resident.

Made for a run and thrown away after it. Whatever cannot be bound is copied from or to its home.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy as np

from tilework.core.config import IN_PLACE
from tilework.core.dtypes import FLOAT16
from tilework.core.errors import InvalidArgument, Unsupported
from tilework.engine.constants import contiguous
from tilework.engine.places import Places
from tilework.engine.resident import Fed, Resident, copy_on_device
from tilework.hal import Buffer
from tilework.ir.narrow import plain
from tilework.ir.opdefs.registry import Array
from tilework.plan.caches import WIDE_HALF
from tilework.plan.tensor import Storage, Tensor


class Binding:
    """`with Binding(places, feeds, names, kept) as bound`: inputs are bound or written, outputs
    bound; `finish` gives them. `kept` as `Plan.run` has it."""

    def __init__(
        self,
        places: Places,
        feeds: Mapping[str, Fed],
        names: Sequence[str],
        kept: Mapping[str, Resident | None],
    ) -> None:
        self._places = places
        self._feeds = feeds
        self._names = names
        self._kept = kept
        self._bound = dict(places.spans)
        self._borrowed: list[Buffer] = []
        self._residents: list[Buffer] = []
        self._fed: dict[Storage, Resident] = {}
        self._results: dict[str, Fed] = {}
        self._shelved: dict[str, Resident] = {}
        self._copied: list[str] = []  # outputs that are brought to where they belong

    def __enter__(self) -> Binding:
        try:
            self._shelve()
            self._bind_inputs()
            self._bind_outputs()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()

    def slots(self) -> tuple[Buffer, ...]:
        """The buffers of the programs' slots."""
        arena = self._places.arena
        return (arena, *(self._bound[storage] for storage in self._places.slots)) if arena else ()

    def lies(self, storage: Storage) -> Buffer:
        """Where a storage lies during this run."""
        return self._bound.get(storage) or self._places.home(storage)

    def finish(self) -> list[Fed]:
        """The outputs of a run that has ended, in the order of the names."""
        self._bring()
        for one in self._shelved.values():
            assert one.shelf is not None
            one.shelf.taken = one.shape[one.shelf.axis]
        return [self._results[name] for name in self._names]

    def _shelve(self) -> None:
        """The outputs that have rows to spare: those of the input that they grow from, or new."""
        places = self._places
        for name, (axis, rows, source) in places.draft.shelved.items():
            tensor = places.given[name]
            if source:
                past = self._feeds[source]
                assert isinstance(past, Resident)  # the plan was made for its shelf
                one = Resident(past.dtype, tensor.shape, past.buffer, past.shelf)
            else:
                dtype = FLOAT16 if tensor.dtype is WIDE_HALF else tensor.dtype
                one = Resident.on_shelf(places.device, dtype, tensor.shape, axis, rows, name)
                self._bound[tensor.storage] = one.buffer
            self._shelved[name] = self._results[name] = one

    def _bind_inputs(self) -> None:
        for name, tensor in self._places.inputs:
            fed, storage = self._feeds[name], tensor.storage
            if isinstance(fed, Resident):
                self._bound[storage] = fed.buffer
                self._fed[storage] = fed
                self._residents.append(fed.buffer)
            elif not self._borrow(fed, storage):
                self._places.at_home(tensor).write(contiguous(fed))

    def _bind_outputs(self) -> None:
        spans, slots = self._places.spans, self._places.slots
        for name in self._names:
            if name in self._shelved:
                continue
            tensor = self._places.given[name]
            storage = tensor.storage
            # An input that is returned as it is, or two outputs that are one.
            free = not storage.fixed and self._bound.get(storage) is spans.get(storage)
            if name not in self._kept:
                array = self._results[name] = np.empty(tensor.shape, tensor.dtype.numpy)
                if array.size and not (free and self._borrow(array, storage)):
                    self._copied.append(name)
                continue
            given = self._kept[name]
            passed = self._fed.get(storage)
            if given is None and passed is not None and _all_of(tensor, passed):
                passed.shared = True
                self._results[name] = passed
                continue
            result = self._results[name] = self._target(name, given)
            met = [one for one in self._residents if given and given.buffer.overlaps(one)]
            apart = not met or self._takes_over(storage, met, result)
            self._residents.append(result.buffer)
            if tensor.size and free and apart and storage in slots:
                self._bound[storage] = result.buffer
            elif tensor.size:
                self._copied.append(name)

    def _takes_over(self, storage: Storage, met: Sequence[Buffer], result: Resident) -> bool:
        """Whether the output may be computed in the one input whose memory it is to have."""
        past = self._places.over.get(storage)
        if past is None or met != [self._bound.get(past)] or met[0] is not result.buffer:
            return False
        return self._places.shapes[past] == result.shape

    def _target(self, name: str, given: Resident | None) -> Resident:
        tensor = self._places.given[name]
        if given is None:
            return Resident.make(self._places.device, tensor.dtype, tensor.shape, name)
        if given.dtype is not tensor.dtype or given.shape != tensor.shape:
            raise InvalidArgument(
                f"output '{name}' is {tensor}, and is to be written to a tensor of "
                f"{given.dtype}{list(given.shape)}"
            )
        return given

    def _span(self, tensor: Tensor) -> Buffer:
        return self.lies(tensor.storage).subspan(*tensor.span())

    def _bring(self) -> None:
        """Copies outputs to where they belong that were not computed there."""
        pairs = []
        for name in self._copied:
            span, result = self._span(self._places.given[name]), self._results[name]
            if isinstance(result, Resident):
                pairs.append((span, result.buffer.subspan(0, span.nbytes)))
            else:
                span.read_into(plain(result))
        copy_on_device(self._places.device, pairs)

    def _borrow(self, array: Array, storage: Storage) -> bool:
        """Binds the storage to the array for this run; False when it is better, or has to be,
        copied."""
        slots = self._places.slots
        if array.nbytes < IN_PLACE or storage not in slots or not array.flags.c_contiguous:
            return False
        try:
            buffer = self._places.device.import_memory(plain(array), storage.label)
        except (InvalidArgument, Unsupported):  # not aligned, or not in the memory that kernels see
            return False
        self._borrowed.append(buffer)
        self._bound[storage] = buffer
        return True

    def _give_back(self) -> None:
        for buffer in self._borrowed:
            buffer.free()
        self._borrowed.clear()


def _all_of(tensor: Tensor, fed: Resident) -> bool:
    """Whether a view of what was fed is just that."""
    return tensor.dense and (tensor.dtype, tensor.shape) == (fed.dtype, fed.shape)
