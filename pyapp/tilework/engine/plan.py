"""Plan: a draft turned into programs, ready to be replayed by submission.

Owns its programs and the constants that came from its shapes. The arena belongs to the session and
is slot 0 of every program, so it may grow between runs without anything being recorded again. Where
the device sees the host's memory, inputs and outputs have slots of their own behind it: a large one
is bound to the caller's array, a small one to its place in the arena.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilework.core.config import IN_PLACE
from tilework.core.errors import InvalidArgument, RuntimeException, Unsupported
from tilework.engine.constants import ConstantStore, contiguous, run_on_host
from tilework.hal import Buffer, Device, Program, Slot
from tilework.ir.opdefs.registry import Array
from tilework.plan.arena import ALIGNMENT
from tilework.plan.plan import Draft
from tilework.plan.record import record
from tilework.plan.step import Dispatch, HostStep, Span
from tilework.plan.tensor import Kind, Storage, Tensor

ARENA = 0  # the slot


class Plan:
    """Made by the session for one set of shapes; `run` replays it."""

    def __init__(self, device: Device, draft: Draft, store: ConstantStore) -> None:
        self.draft = draft
        self._device = device
        self._store = store
        self._local: Buffer | None = None
        self._local_offsets: dict[Storage, int] = {}
        self._segments: list[Program | HostStep] = []
        self._arena: Buffer | None = None
        self._inputs: list[tuple[str, Buffer]] = []
        self._outputs: dict[str, tuple[Buffer, np.dtype[np.generic], tuple[int, ...]]] = {}
        self._constants: list[Storage] = []
        self._slots = _slots(draft) if device.imports else {}
        self._spans: dict[Storage, Buffer] = {}  # of those in the arena
        self._bound: dict[Storage, Buffer] = {}  # while a run lasts
        try:
            needed = draft.constants()
            store.retain(needed, draft.prologue)
            self._constants = needed
            self._write_locals()
            for part in draft.segments():
                if isinstance(part[0], HostStep):
                    self._segments.append(part[0])
                    continue
                steps = [step for step in part if isinstance(step, Dispatch)]
                self._segments.append(record(device, steps, self._resolve, draft.name))
        except BaseException:
            self.free()
            raise

    def __str__(self) -> str:
        return str(self.draft)

    @property
    def arena_bytes(self) -> int:
        """What the arena must have, bytes."""
        return self.draft.arena_bytes

    def _write_locals(self) -> None:
        total = 0
        for storage in self.draft.locals:
            self._local_offsets[storage] = total
            total += -(-storage.nbytes // ALIGNMENT) * ALIGNMENT
        if not total:
            return
        self._local = self._device.allocate(total, f"constants of a plan of {self.draft.name}")
        for storage, array in self.draft.locals.items():
            if array.size:
                self._local.write(contiguous(array), self._local_offsets[storage])

    def _resolve(self, span: Span) -> Buffer | Slot:
        storage = span.storage
        if storage in self._slots:
            return Slot(self._slots[storage], span.offset, span.nbytes)
        if storage.kind is Kind.TRANSIENT:
            return Slot(ARENA, storage.offset + span.offset, span.nbytes)
        return self._lies(storage).subspan(span.offset, span.nbytes)

    def _lies(self, storage: Storage) -> Buffer:
        if storage in self._bound:
            return self._bound[storage]
        if storage.kind is Kind.TRANSIENT:
            assert self._arena is not None  # set by run
            return self._arena.subspan(storage.offset, storage.nbytes)
        if storage.kind is Kind.LOCAL:
            assert self._local is not None  # there is one, so there is room for it
            return self._local.subspan(self._local_offsets[storage], storage.nbytes)
        return self._store.buffer(storage)

    def _attach(self, arena: Buffer | None) -> None:
        """Finds inputs and outputs in a new arena."""
        self._arena = arena
        self._spans = {storage: self._lies(storage) for storage in self._slots}
        self._inputs = [
            (name, self._span(tensor)) for name, tensor in self.draft.inputs.items() if tensor.size
        ]
        self._outputs = {
            name: (self._span(tensor), np.dtype(tensor.dtype.numpy), tensor.shape)
            for name, tensor in self.draft.outputs.items()
        }

    def _span(self, tensor: Tensor) -> Buffer:
        return self._lies(tensor.storage).subspan(*tensor.span())

    def run(
        self, feeds: dict[str, Array], names: Sequence[str], arena: Buffer | None
    ) -> list[Array]:
        """Writes `feeds` (contiguous, of the planned shapes), runs, reads the outputs `names`.

        KernelFailure or RuntimeException names what failed; the plan may be run again.
        """
        if arena is not self._arena or not self._outputs:
            self._attach(arena)
        if self._slots and arena:
            return self._run_in_place(feeds, names, arena)
        for name, buffer in self._inputs:
            buffer.write(feeds[name])
        self._submit((arena,) if arena else ())
        results: list[Array] = []
        for name in names:
            buffer, dtype, shape = self._outputs[name]
            result = np.empty(shape, dtype)
            if result.size:
                buffer.read_into(result)
            results.append(result)
        return results

    def _submit(self, slots: tuple[Buffer, ...]) -> None:
        for segment in self._segments:
            if isinstance(segment, HostStep):
                self._on_host(segment)
            else:
                self._device.submit(segment, slots[: len(segment.slot_extents)])

    def _run_in_place(
        self, feeds: dict[str, Array], names: Sequence[str], arena: Buffer
    ) -> list[Array]:
        """`run`, with what is large in the caller's own arrays."""
        bound = self._bound = dict(self._spans)
        borrowed: list[Buffer] = []
        results: dict[str, Array] = {}
        copied: list[str] = []
        try:
            for name, span in self._inputs:
                array, storage = feeds[name], self.draft.inputs[name].storage
                if not self._borrow(array, storage, borrowed):
                    span.write(array)
            for name in names:
                _, dtype, shape = self._outputs[name]
                result = results[name] = np.empty(shape, dtype)
                storage = self.draft.outputs[name].storage
                # An input that is returned as it is, or two outputs that are one.
                taken = storage.fixed or bound.get(storage) is not self._spans.get(storage)
                if result.size and (taken or not self._borrow(result, storage, borrowed)):
                    copied.append(name)
            self._submit((arena, *(bound[storage] for storage in self._slots)))
            for name in copied:
                self._span(self.draft.outputs[name]).read_into(results[name])
            return [results[name] for name in names]
        finally:
            self._bound = {}
            for buffer in borrowed:
                buffer.free()

    def _borrow(self, array: Array, storage: Storage, borrowed: list[Buffer]) -> bool:
        """Binds the storage to the array for this run; False when it is better, or has to be,
        copied."""
        if array.nbytes < IN_PLACE or storage not in self._slots:
            return False
        try:
            buffer = self._device.import_memory(array, storage.label)
        except (InvalidArgument, Unsupported):  # not aligned, or not in the memory that kernels see
            return False
        borrowed.append(buffer)
        self._bound[storage] = buffer
        return True

    def _on_host(self, step: HostStep) -> None:
        try:
            run_on_host(step, self._lies)
        except (InvalidArgument, ValueError, IndexError) as error:
            raise RuntimeException(f"{step.label}: {error}") from error

    def free(self) -> None:
        """Gives back what the plan holds on the device."""
        for segment in self._segments:
            if isinstance(segment, Program):
                segment.free()
        self._segments.clear()
        if self._local is not None:
            self._local.free()
        self._store.release(self._constants)
        self._constants = []
        self._inputs, self._outputs, self._arena = [], {}, None
        self._spans = {}


def _slots(draft: Draft) -> dict[Storage, int]:
    """The slots of what may lie in the caller's arrays: inputs, and outputs that are all of their
    storage."""
    found: dict[Storage, int] = {}
    for tensor in (*draft.inputs.values(), *draft.outputs.values()):
        storage = tensor.storage
        whole = tensor.offset == 0 and tensor.nbytes == storage.nbytes
        if tensor.size and whole and storage.kind is Kind.TRANSIENT:
            found.setdefault(storage, ARENA + 1 + len(found))
    return found
