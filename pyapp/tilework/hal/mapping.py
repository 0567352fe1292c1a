"""Mapping: a range of a buffer as host memory, the same in every mode.

Where the host sees device memory it is that memory; else a copy that is read before, unless it is
to be overwritten, and written back by `flush` and at the end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tilework.core.errors import DeviceLost, InvalidArgument, TileworkError
from tilework.core.scoped import Scoped
from tilework.hal.usage import Access

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer


class Mapping(Scoped):
    """`data` is a memoryview of bytes until `unmap`; made by `Buffer.map`, use it with `with`."""

    def __init__(
        self, buffer: Buffer, access: Access, offset: int, nbytes: int, *, discard: bool
    ) -> None:
        self._buffer: Buffer | None = None  # held
        self._part = part = buffer.subspan(offset, nbytes)
        self._access = access
        view = part.view()
        self._copied = view is None
        if view is None:
            copy = bytearray(nbytes)
            if Access.READ in access and not discard:
                part.read_into(copy)
            view = memoryview(copy)
        self._memory = view
        self.data = view if Access.WRITE in access else view.toreadonly()
        buffer.hold()
        self._buffer = buffer

    def flush(self) -> None:
        """What was written so far is in the buffer after this. DeviceLost after `unmap`."""
        if self._buffer is None:
            raise DeviceLost(f"a mapping of {self._part!r} was used after it was unmapped")
        if self._copied and Access.WRITE in self._access:
            self._part.put(self._memory)

    def unmap(self) -> None:
        """Flushes and ends the mapping; a second call does nothing.

        InvalidArgument while an array still stands on `data`; a slice of it is not noticed, and
        must not be used any more.
        """
        buffer = self._buffer
        if buffer is None:
            return
        self.flush()
        try:
            self.data.release()
            self._memory.release()
        except BufferError:
            raise InvalidArgument(
                f"an array or a view still stands on the mapping of {self._part!r}; "
                "drop it, then unmap"
            ) from None
        self._buffer = None
        buffer.let_go()

    def _leave(self) -> None:
        self.unmap()

    def __del__(self) -> None:
        # The device may be closed, and the interpreter on its way out.
        with suppress(TileworkError):
            self.unmap()
