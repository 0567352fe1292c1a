"""Transient: a buffer of the queue's, which can be named before it has memory.

`Queue.alloca` makes it and `Queue.dealloca` ends it; between the two it is a buffer like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilework.core.errors import InvalidArgument
from tilework.hal.buffer import Buffer
from tilework.hal.usage import Access, Usage

if TYPE_CHECKING:
    from tilework.hal.heap import Heap
    from tilework.hal.operation import Operation


class Transient(Buffer):
    """`nbytes` bytes that have their memory from `stage` on, and for the host from `commit` on."""

    __slots__ = ("leaving", "operation")

    def __init__(
        self,
        heap: Heap,
        nbytes: int,
        label: str = "",
        *,
        usage: Usage = Usage.ALL,
        access: Access = Access.ALL,
    ) -> None:
        heap.check_request(nbytes, label)
        super().__init__(heap, None, nbytes, label, usage=usage, access=access)
        self.operation: Operation | None = None  # its alloca
        self.leaving: Operation | None = None  # its dealloca, once it is enqueued

    def stage(self) -> None:
        """For alloca: takes memory if it has none. OutOfMemory."""
        self.check_alive()
        if self._address is None:
            self._address = self.heap.take(self.nbytes, self.label)

    def commit(self) -> None:
        """For alloca: its waits are reached, the host may use the memory from now on."""
        if self._address is None:
            raise InvalidArgument(f"{self!r} was not staged")
        self._ready = True

    def abandon(self) -> None:
        """For alloca, when it is over: if it has failed, nobody needs the memory."""
        if self.operation is not None and self.operation.error is not None:
            self.free()
