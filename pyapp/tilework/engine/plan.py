"""Plan: a draft turned into programs, ready to be replayed by submission.

Owns its programs and the constants that came from its shapes. The arena belongs to the session and
is slot 0 of every program, so it may grow between runs without anything being recorded again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilework.core.errors import InvalidArgument, RuntimeException
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
        if storage.kind is Kind.TRANSIENT:
            return Slot(ARENA, storage.offset + span.offset, span.nbytes)
        return self._lies(storage).subspan(span.offset, span.nbytes)

    def _lies(self, storage: Storage) -> Buffer:
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
        for name, buffer in self._inputs:
            buffer.write(feeds[name])
        for segment in self._segments:
            if isinstance(segment, HostStep):
                self._on_host(segment)
            else:
                self._device.submit(segment, (arena,) if segment.slot_extents and arena else ())
        results: list[Array] = []
        for name in names:
            buffer, dtype, shape = self._outputs[name]
            result = np.empty(shape, dtype)
            if result.size:
                buffer.read_into(result)
            results.append(result)
        return results

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
