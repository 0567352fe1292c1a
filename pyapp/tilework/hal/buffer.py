"""Buffer: a span of device memory, and the copies between it and the host.

A buffer owns its span; a subspan keeps its root alive and owns nothing. The heap decides where it
lies, the heap's driver moves the bytes. Programs and submissions hold buffers: `free()`
ends the use by name, the span goes back with the last holder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tilework.core.errors import DeviceLost, InvalidArgument, NotReady, OutOfRange
from tilework.core.scoped import Scoped
from tilework.hal.driver import Data, nbytes_of
from tilework.hal.usage import Access, MemoryType, Usage, names, word_of

if TYPE_CHECKING:
    from tilework.hal.heap import Heap
    from tilework.hal.mapping import Mapping


_FILL_PIECE = 1 << 16  # bytes that a host fill writes at once


class Imported(NamedTuple):
    """Outside memory behind a buffer: kept, and its owner told when it is no longer needed."""

    data: memoryview
    release: Callable[[], None] | None


class Port(NamedTuple):
    """Copies between the host and all of a buffer, at hand for whoever does it again and again.

    What is copied has as many bytes as the buffer and is C-contiguous; nothing is checked.
    """

    write: Callable[[Data], object]
    read_into: Callable[[Data], object]


def check_pattern(pattern: bytes, nbytes: int) -> None:
    """InvalidArgument unless `nbytes` can be filled with `pattern`."""
    if len(pattern) not in (1, 2, 4):
        raise InvalidArgument(f"fill: a pattern has 1, 2 or 4 bytes, not {len(pattern)}")
    if nbytes % len(pattern):
        raise InvalidArgument(
            f"fill: {nbytes:,} bytes are no multiple of the pattern's {len(pattern)}"
        )


def refuse_use(where: str, buffer: Buffer, access: Access, usage: Usage) -> None:
    """Raises InvalidArgument for a buffer that lacks `access` or `usage`."""
    if access & ~buffer.access:
        raise InvalidArgument(
            f"{where} needs access {names(access)}; {buffer!r} was made for {names(buffer.access)}"
        )
    raise InvalidArgument(
        f"{where} needs usage {names(usage)}; {buffer!r} was made for {names(buffer.usage)}"
    )


class Buffer(Scoped):
    """`nbytes` bytes of device memory. Freed by `free()`, `with`, or its last use.

    `usage` and `access` say what it may be used for, `memory` what it is. A `transient` one is a
    Transient, or a subspan of one.
    """

    __slots__ = (
        "__weakref__", "_address", "_freed", "_given_back", "_holds", "_offset", "_ready", "_root",
        "access", "allows", "heap", "imported", "label", "memory", "nbytes", "transient", "usage",
    )  # fmt: skip

    def __init__(
        self,
        heap: Heap,
        address: int | None,
        nbytes: int,
        label: str,
        *,
        usage: Usage = Usage.ALL,
        access: Access = Access.ALL,
        memory: MemoryType | None = None,
        root: Buffer | None = None,
        offset: int = 0,
    ) -> None:
        """A span that the heap has given, or outside memory; see `allocate`.

        No `address` makes a transient; a subspan lies at `offset` of its `root`.
        """
        self._freed = self._given_back = False
        self._root = root
        self._offset = offset
        self._address = address
        self._holds = 0
        self._ready = address is not None
        self.transient: bool = address is None if root is None else root.transient
        self.heap = heap
        self.nbytes = nbytes
        self.label = label
        self.usage = usage
        self.access = access or Access.ALL
        self.allows: int = word_of(self.access, usage) if root is None else root.allows
        self.memory = heap.kind if memory is None else memory
        self.imported: Imported | None = None

    @classmethod
    def allocate(
        cls,
        heap: Heap,
        nbytes: int,
        label: str,
        *,
        usage: Usage = Usage.ALL,
        access: Access = Access.ALL,
    ) -> Buffer:
        """A buffer on a span of its own, contents undefined. OutOfMemory."""
        return cls(heap, heap.take(nbytes, label), nbytes, label, usage=usage, access=access)

    def __repr__(self) -> str:
        root = self._root or self
        what = "Buffer" if self._root is None else "Subspan"
        state = ", freed" if self._freed or root._freed else ""
        if root._address is None:
            where = f"{self.nbytes:,} bytes without memory"
        else:
            where = f"{self.nbytes:,} bytes at {root._address + self._offset:#x}"
        return f"<{what} {self.label or 'unnamed'}: {where}{state}>"

    # -- where it lies -------------------------------------------------------------------------

    @property
    def root(self) -> Buffer:
        """The buffer that owns the span: itself, or the one it was cut from."""
        return self._root or self

    @property
    def offset(self) -> int:
        """Where it begins in its root, bytes."""
        return self._offset

    @property
    def address(self) -> int:
        """Where it lies in device memory. DeviceLost when freed, NotReady without memory."""
        self.check_alive()
        return self.placed()

    @property
    def ready(self) -> bool:
        """Whether the host may use its bytes: a transient's alloca has happened."""
        return (self._root or self)._ready

    def placed(self) -> int:
        """The address for a holder, for whom `free()` by name means nothing yet."""
        root = self._root or self
        if root._address is None:
            if root._given_back:
                raise DeviceLost(f"{self!r} was used after its memory was given back")
            raise NotReady(f"{self!r} has no memory yet; wait for its alloca")
        return root._address + self._offset

    def overlaps(self, other: Buffer) -> bool:
        """Whether the two have a byte in common, known also before they have memory."""
        a, b = self._root or self, other._root or other
        if a is b:
            mine, its = self._offset, other._offset
        elif a._address is None or b._address is None:
            return False  # memory is handed out once
        else:
            # Outside memory may have been imported twice.
            mine, its = a._address + self._offset, b._address + other._offset
        return mine < its + other.nbytes and its < mine + self.nbytes

    # -- checks --------------------------------------------------------------------------------

    def check_alive(self) -> None:
        """DeviceLost when this buffer, or the one it was cut from, was freed."""
        if self._freed or (self._root is not None and self._root._freed):
            raise DeviceLost(f"{self!r} was used after it was freed")

    def check_range(self, offset: int, nbytes: int) -> None:
        """OutOfRange unless `nbytes` bytes at `offset` lie inside a live buffer."""
        self.check_alive()
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(
                f"{nbytes:,} bytes at offset {offset:,} leave {self!r}"
            )

    def _host_address(self) -> int:
        if not (self._root or self)._ready:
            raise NotReady(f"{self!r} has no memory for the host yet; wait for its alloca")
        return self.placed()

    # -- bytes ---------------------------------------------------------------------------------

    def subspan(self, offset: int, nbytes: int | None = None, label: str = "") -> Buffer:
        """The `nbytes` (default: all the rest) at `offset`, sharing this buffer's memory."""
        nbytes = self.nbytes - offset if nbytes is None else nbytes
        self.check_range(offset, nbytes)
        return Buffer(
            self.heap, None, nbytes, label or self.label,
            usage=self.usage, access=self.access, memory=self.memory,
            root=self._root or self, offset=self._offset + offset,
        )  # fmt: skip

    def write(self, data: Data, offset: int = 0) -> None:
        """Copies C-contiguous host bytes into the buffer at `offset`."""
        self.check_range(offset, nbytes_of(data))
        self.put(data, offset)

    def put(self, data: Data, offset: int = 0) -> None:
        """`write` for a holder, whose range was checked."""
        self.heap.driver.write(self._host_address() + offset, data)
        self.heap.copied_in += nbytes_of(data)

    def read_into(self, out: Data, offset: int = 0) -> None:
        """Fills the writable C-contiguous host buffer `out` from `offset` on."""
        nbytes = nbytes_of(out)
        self.check_range(offset, nbytes)
        self.heap.driver.read_into(self._host_address() + offset, out)
        self.heap.copied_out += nbytes

    def read(self, offset: int = 0, nbytes: int | None = None) -> bytes:
        """A copy of `nbytes` (default: all the rest) at `offset`."""
        out = bytearray(self.nbytes - offset if nbytes is None else nbytes)
        self.read_into(out, offset)
        return bytes(out)

    def peek(self, offset: int, nbytes: int) -> bytes:
        """`read` of the HAL's own words, which is no copy that anybody asked for: not counted."""
        self.check_range(offset, nbytes)
        out = bytearray(nbytes)
        self.heap.driver.read_into(self._host_address() + offset, out)
        return bytes(out)

    def port(self) -> Port:
        """`write` and `read_into` of all of it, for as long as the buffer lives; not counted."""
        self.check_alive()
        return Port(*self.heap.driver.port(self._host_address(), self.nbytes))

    def view(self) -> memoryview | None:
        """The memory itself, writable, where the host can see it; else None (browser `arena`)."""
        self.check_alive()
        return self.heap.driver.view(self._host_address(), self.nbytes)

    def map(
        self,
        access: Access = Access.ALL,
        offset: int = 0,
        nbytes: int | None = None,
        *,
        discard: bool = False,
    ) -> Mapping:
        """The `nbytes` (default: all the rest) at `offset` as host memory, until it is unmapped.

        `discard`: what is there need not be brought. InvalidArgument when the buffer was not made
        for it; the span stays while it is mapped.
        """
        nbytes = self.nbytes - offset if nbytes is None else nbytes
        self.check_range(offset, nbytes)
        access = access or Access.ALL
        if access & ~self.access or Usage.MAP not in self.usage:
            refuse_use("map", self, access, Usage.MAP)
        from tilework.hal.mapping import Mapping

        return Mapping(self, access, offset, nbytes, discard=discard)

    def fill(self, pattern: bytes, offset: int = 0, nbytes: int | None = None) -> None:
        """Fills `nbytes` (default: all the rest) at `offset` from the host, now.

        `pattern` has 1, 2 or 4 bytes and goes into `nbytes` without a rest.
        """
        nbytes = self.nbytes - offset if nbytes is None else nbytes
        check_pattern(pattern, nbytes)
        self.check_range(offset, nbytes)
        if not any(pattern):
            self.heap.driver.clear(self._host_address() + offset, nbytes)
            return
        piece = pattern * (_FILL_PIECE // len(pattern))
        for start in range(0, nbytes, _FILL_PIECE):
            self.put(memoryview(piece)[: nbytes - start], offset + start)

    # -- life ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keeps the span, whatever `free()` says, until `let_go`; keep the object itself too."""
        self.check_alive()
        (self._root or self)._holds += 1

    def lend(self, heap: Heap, nbytes: int, needed: int) -> bool:
        """`hold` for a submission, if it lives, is the heap's, and has and allows as much."""
        root = self._root or self
        if self._freed or root._freed or self.heap is not heap:
            return False
        if self.nbytes < nbytes or needed & ~self.allows:
            return False
        root._holds += 1
        return True

    def let_go(self) -> None:
        """Undoes one `hold`; the last one of a freed buffer gives the span back."""
        root = self._root or self
        root._holds -= 1
        if root._freed and not root._holds:
            root._give_back()

    def free(self) -> None:
        """Gives the memory back once nobody holds it. A second call, or a subspan's, frees nothing.

        The buffer cannot be used by name after this; programs that recorded it still run.
        """
        self._freed = True
        if self._root is None and not self._holds:
            self._give_back()

    def _give_back(self) -> None:
        if self._given_back:
            return
        self._given_back = True
        imported, self.imported = self.imported, None
        if self._address is not None:
            if imported is None:
                self.heap.release(self._address)
            self._address = None
        if imported is not None:
            self.heap.imported -= self.nbytes
            imported.data.release()
            if imported.release is not None:
                imported.release()

    def _leave(self) -> None:
        self.free()

    def __del__(self) -> None:
        # Who holds it also refers to it: nobody holds it any more.
        self._freed = True
        if self._root is None:
            self._give_back()
