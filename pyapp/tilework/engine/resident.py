"""Resident: a tensor that stays in device memory between runs.

Fed to a run it is read where it lies, given as a target it is written there; nothing of it passes
through the host unless somebody reads it. Owns its memory; knows no session, no plan, no format.

One that a run has grown by rows (a key-value cache) lies in a `Shelf`, memory with rows to spare,
which it shares with those that it was grown from: each has the first so many rows of it, and what
one has is never written again. So the next run writes one row, whoever still holds the last cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tilework.core.dtypes import DType, from_numpy
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count, with_extent
from tilework.hal import Buffer, Device
from tilework.ir.narrow import plain
from tilework.ir.opdefs.registry import Array
from tilework.plan.caches import lying


@dataclass(slots=True, eq=False)
class Shelf:
    """Memory with room for `rows` along `axis`; `taken` of them belong to some tensor."""

    axis: int
    rows: int
    taken: int


@dataclass(slots=True, eq=False, weakref_slot=True)
class Resident:
    """A dense row-major tensor at the beginning of `buffer`, which is the tensor's own; on a
    `shelf`, as many rows as its shape says of what the buffer has room for, whose elements lie as
    `plan.caches.lying` says. `shared`: an output is
    the input that was fed, so one Resident is two values."""

    dtype: DType
    shape: tuple[int, ...]
    buffer: Buffer
    shelf: Shelf | None = None
    shared: bool = False

    @staticmethod
    def make(device: Device, dtype: DType, shape: Sequence[int], label: str = "") -> Resident:
        """A new one, contents undefined. OutOfMemory; InvalidArgument for a negative extent."""
        shape = tuple(int(extent) for extent in shape)
        if any(extent < 0 for extent in shape):
            raise InvalidArgument(f"{label or 'a tensor'}: its shape {list(shape)} has negatives")
        buffer = device.allocate(max(count(shape) * dtype.size, 1), label or "a resident tensor")
        return Resident(dtype, shape, buffer)

    @staticmethod
    def of(device: Device, array: Array, label: str = "") -> Resident:
        """A copy of an array. OutOfMemory."""
        made = Resident.make(device, from_numpy(array.dtype), array.shape, label)
        made.write(array)
        return made

    @staticmethod
    def on_shelf(
        device: Device, dtype: DType, shape: Sequence[int], axis: int, rows: int, label: str = ""
    ) -> Resident:
        """A new one with room for `rows` along `axis`, contents undefined. OutOfMemory."""
        buffer = device.allocate(count(with_extent(shape, axis, rows)) * lying(dtype).size, label)
        return Resident(dtype, tuple(shape), buffer, Shelf(axis, rows, shape[axis]))

    def apart(self) -> Resident:
        """The tensor dense, in memory of its own: itself, unless it is on a shelf or shared.

        OutOfMemory.
        """
        if self.shelf is None and not self.shared:
            return self
        heap, label = self.buffer.heap, self.buffer.label
        made = Resident(self.dtype, self.shape, Buffer.allocate(heap, max(self.nbytes, 1), label))
        made.write(self.read())
        return made

    def row(self, index: int) -> Resident:
        """The elements at `index` of the first axis, in this one's memory; not on a shelf."""
        shape = self.shape[1:]
        nbytes = count(shape) * self.dtype.size
        return Resident(self.dtype, shape, self.buffer.subspan(index * nbytes, nbytes))

    def lies_on(self, device: Device) -> bool:
        """Whether it is in the memory of this device."""
        return self.buffer.heap is device.heap

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return count(self.shape) * self.dtype.size

    def read(self) -> Array:
        """A copy on the host."""
        shelf = self.shelf
        if shelf is None:
            result = np.empty(self.shape, self.dtype.numpy)
            if result.size:
                self.buffer.read_into(plain(result))
            return result
        if not count(self.shape):
            return np.empty(self.shape, self.dtype.numpy)
        kept = lying(self.dtype)
        whole = np.empty(with_extent(self.shape, shelf.axis, shelf.rows), kept.numpy)
        self.buffer.read_into(plain(whole))
        rows = whole.take(range(self.shape[shelf.axis]), shelf.axis)
        return rows if kept is self.dtype else rows.astype(self.dtype.numpy)

    def write(self, array: Array) -> None:
        """Replaces all elements; of one that is not on a shelf, where others may have them too.

        InvalidArgument unless dtype and shape are its own.
        """
        assert self.shelf is None  # whoever writes has it `apart`
        if array.shape != self.shape or array.dtype != np.dtype(self.dtype.numpy):
            raise InvalidArgument(
                f"{self.buffer.label}: {array.dtype}{list(array.shape)} was given for a tensor of "
                f"{self.dtype}{list(self.shape)}"
            )
        if array.size:
            self.buffer.write(plain(np.ascontiguousarray(array)))

    def free(self) -> None:
        """Gives the memory back; also happens when the last reference is gone."""
        self.buffer.free()


Fed: TypeAlias = "Array | Resident"


def copy_on_device(device: Device, pairs: Sequence[tuple[Buffer, Buffer]]) -> None:
    """Copies each first to its second, of equal length; what is in place already stays."""
    moved = [(source, target) for source, target in pairs if source.address != target.address]
    if not moved:
        return
    commands = device.command_buffer("copying tensors")
    for source, target in moved:
        commands.copy(source, target)
    program = commands.finish()
    try:
        device.submit(program)
    finally:
        program.free()


def host_array(fed: Fed) -> Array:
    """The elements on the host."""
    return fed.read() if isinstance(fed, Resident) else fed
