"""Constants of one session on the device: given ones and prepared ones, by key.

A given constant is uploaded when a plan reads it, or is a span of the external data. A prepared one
(packed, joined, transposed weights) is computed on the device the first time a plan needs it; what
only served to compute it is freed again. All plans of the session share what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from tilework.core.errors import InvalidArgument, RuntimeException
from tilework.engine.sound import sound
from tilework.hal import Buffer, Device
from tilework.ir.graph import Constant
from tilework.ir.opdefs.registry import Array, apply
from tilework.plan.record import record
from tilework.plan.step import Dispatch, HostStep, Span, Step
from tilework.plan.tensor import Kind, Storage, Tensor


def contiguous(array: Array) -> memoryview:
    """The bytes of an array in row-major order, without a copy where they lie so already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def view_of(data: bytearray | memoryview | Array, tensor: Tensor, start: int) -> Array:
    """The elements of `tensor` in `data`, which holds the storage's bytes from `start` on."""
    dtype = np.dtype(tensor.dtype.numpy)
    size = dtype.itemsize
    return np.ndarray(
        tensor.shape,
        dtype,
        buffer=data,
        offset=tensor.offset * size - start,
        strides=tuple(stride * size for stride in tensor.strides),
    )


class ConstantStore:
    """What is on the device; `external` is the buffer that external constants lie in."""

    def __init__(
        self, device: Device, constants: Mapping[str, Constant], external: Buffer | None
    ) -> None:
        self._device = device
        self._constants = constants
        self._external = external
        self._buffers: dict[str, Buffer] = {}
        self._plans: dict[str, int] = {}  # how many plans read each

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the constants take, without the external data."""
        return sum(buffer.nbytes for key, buffer in self._buffers.items() if not self._spans(key))

    def _spans(self, key: str) -> bool:
        constant = self._constants.get(key)
        return constant is not None and constant.external is not None

    @property
    def ready(self) -> Collection[str]:
        """The keys of all that is there."""
        return self._buffers.keys()

    def buffer(self, storage: Storage) -> Buffer:
        """Where a constant lies; it must have been ensured."""
        return self._buffers[storage.key]

    def host_array(self, constant: Constant) -> Array:
        """A constant's elements on the host."""
        if constant.array is not None:
            return constant.array
        if self._external is None or constant.external is None:
            raise InvalidArgument("a constant is external data, and the session was given none")
        data = self._external.read(*constant.external)
        return np.frombuffer(data, constant.dtype.numpy).reshape(constant.shape)

    def retain(self, needed: Sequence[Storage], prologue: Sequence[Step]) -> None:
        """For a plan: brings all of `needed` to the device, and keeps it until `release`.

        Runs those steps of `prologue` that it takes; on an error nothing is kept.
        """
        self._ensure(needed, prologue)
        for storage in needed:
            self._plans[storage.key] = self._plans.get(storage.key, 0) + 1

    def release(self, needed: Sequence[Storage]) -> None:
        """Undoes one `retain`: what no plan reads any more is freed."""
        for storage in needed:
            left = self._plans[storage.key] - 1
            if left:
                self._plans[storage.key] = left
                continue
            del self._plans[storage.key]
            buffer = self._buffers.pop(storage.key)
            if not self._spans(storage.key):
                buffer.free()

    def _ensure(self, needed: Sequence[Storage], prologue: Sequence[Step]) -> None:
        missing = {s.key for s in needed if s.key not in self._buffers}
        if not missing:
            return
        wanted = set(missing)
        steps: list[Step] = []
        for step in reversed(prologue):
            if any(storage.key in wanted for storage in step.writes()):
                steps.append(step)
                wanted.update(
                    storage.key
                    for storage in step.reads()
                    if storage.kind is not Kind.TRANSIENT and storage.key not in self._buffers
                )
        steps.sort(key=lambda step: step.level)
        fresh: dict[str, Buffer] = {}
        try:
            storages = {s.key: s for s in needed}
            storages.update((s.key, s) for step in steps for s in (*step.reads(), *step.writes()))
            for key in wanted:
                fresh[key] = self._bring(storages[key])
            self._run(steps, fresh)
        except BaseException:
            for key, buffer in fresh.items():
                if not self._spans(key):
                    buffer.free()
            raise
        for key, buffer in fresh.items():
            if key in missing:
                self._buffers[key] = buffer
            elif not self._spans(key):
                buffer.free()

    def _bring(self, storage: Storage) -> Buffer:
        if storage.kind is Kind.PREPARED:
            return self._device.allocate(storage.nbytes, storage.label)
        constant = self._constants[storage.key]
        if constant.external is not None:
            if self._external is None:
                raise InvalidArgument(
                    f"constant '{storage.key}' is external data, and the session was given none"
                )
            return self._external.subspan(*constant.external)
        assert constant.array is not None  # a constant has one or the other
        buffer = self._device.allocate(storage.nbytes, storage.key)
        if constant.array.size:
            buffer.write(contiguous(constant.array))
        return buffer

    def _run(self, steps: Sequence[Step], fresh: Mapping[str, Buffer]) -> None:
        """Runs dispatches in programs of one submission each, host steps between them."""

        def lies(storage: Storage) -> Buffer:
            return fresh.get(storage.key) or self._buffers[storage.key]

        def resolve(span: Span) -> Buffer:
            return lies(span.storage).subspan(span.offset, span.nbytes)

        pending: list[Dispatch] = []

        def flush() -> None:
            if pending:
                program = record(self._device, pending, resolve, "preparing constants")
                try:
                    self._device.submit(program)
                finally:
                    program.free()
                pending.clear()

        for step in steps:
            if isinstance(step, Dispatch):
                pending.append(step)
                continue
            flush()
            run_on_host(step, lies)
        flush()


def run_on_host(step: HostStep, find: Callable[[Storage], Buffer]) -> None:
    """Reads the operands, calls the operation's reference, writes the results.

    RuntimeException when the reference refuses the operands, OutOfMemory when NumPy has none.
    """
    arrays: list[Array | None] = []
    for tensor in step.inputs:
        if tensor is None:
            arrays.append(None)
            continue
        start, nbytes = tensor.span()
        data = bytearray(nbytes)
        if nbytes:
            find(tensor.storage).read_into(data, start)
        arrays.append(view_of(data, tensor, start))
    try:
        with sound(step.label, RuntimeException):
            results = apply(step.node, arrays, [tensor.dtype for tensor in step.outputs])
    except InvalidArgument as error:
        raise RuntimeException(f"{step.label}: {error}") from error
    for tensor, result in zip(step.outputs, results, strict=False):
        if result.shape != tensor.shape:
            raise RuntimeException(
                f"{step.label}: its result is {list(result.shape)}, planned was "
                f"{list(tensor.shape)}"
            )
        if result.size:
            start, _ = tensor.span()
            find(tensor.storage).write(contiguous(result), start)
