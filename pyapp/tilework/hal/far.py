"""Far: memory beside a device's four gigabytes, for weights that programs bring near as they go.

A second WebAssembly memory that only one small module of its own imports, beside the device's. Its
kernel copies from there into device memory, so a copy is a dispatch like any other: on all threads,
ordered by barriers, at no cost to whoever has no far memory. The host writes it; no kernel of
anybody else's sees it. Needs an engine with several memories to a module; asked for in words.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tilework.core.errors import InvalidArgument, OutOfRange, Unsupported
from tilework.core.scoped import Scoped
from tilework.hal._abi import TW_MOVE_TILE
from tilework.hal.driver import Data, nbytes_of
from tilework.hal.far_module import KERNEL, far_module
from tilework.hal.module import read_module, unshared

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer
    from tilework.hal.command_buffer import CommandBuffer
    from tilework.hal.executable import Executables
    from tilework.hal.heap import Heap
    from tilework.hal.program import Slot

LARGEST = 1 << 32  # bytes; a device may have several
_numbers = itertools.count()  # two modules with the same bytes would be one executable


class Far(Scoped):
    """Made by `Device.far`. `free`, or the end of a `with`, gives it back."""

    def __init__(self, heap: Heap, executables: Executables, nbytes: int, label: str) -> None:
        self.nbytes = nbytes
        self.label = label or "far memory"
        if not 0 < nbytes <= LARGEST:
            raise InvalidArgument(
                f"{self.label}: {nbytes:,} bytes; one has 1 to {LARGEST:,}, take several for more"
            )
        binary = far_module(next(_numbers))
        driver = heap.driver
        seen = binary if driver.shared else unshared(binary, read_module(binary, "far", far=True))
        if not driver.accepts(seen):
            raise Unsupported(
                f"{self.label}: this engine takes no module with two memories, so there is no "
                "memory beside the device's; keep to what `Device.allocate` gives"
            )
        self._heap = heap
        self._memory = driver.far(nbytes)
        try:
            self._executable = executables.load(self.label, binary, far=self._memory)
        except BaseException:
            self._memory.drop()
            raise

    def __repr__(self) -> str:
        return f"<Far {self.label}: {self.nbytes:,} bytes>"

    def write(self, data: Data, offset: int = 0) -> None:
        """Copies `data`, anything with C-contiguous bytes, to `offset`. OutOfRange."""
        self._executable.check_alive()
        nbytes = nbytes_of(data)
        self._check(offset, nbytes)
        self._memory.write(offset, data)
        self._heap.copied_in += nbytes

    def copy_to(
        self, commands: CommandBuffer, target: Buffer | Slot, offset: int = 0, label: str = ""
    ) -> None:
        """Records: the bytes from `offset` on become `target`'s, as many as it has.

        A program that names this far memory keeps it. OutOfRange past its end.
        """
        entry = self._executable[KERNEL]
        self._check(offset, target.nbytes)
        tiles = -(-target.nbytes // TW_MOVE_TILE)
        params = entry.params(offset=offset, tile=TW_MOVE_TILE)
        commands.dispatch(entry, (tiles, 1, 1), params, [target], label=label or self.label)

    def free(self) -> None:
        """InvalidArgument while programs name it; a second call does nothing.

        An engine gives the memory back when the last thread has let go of its module.
        """
        if self._executable.owner is not None:
            self._executable.free()
            self._memory.drop()

    def _leave(self) -> None:
        self.free()

    def _check(self, offset: int, nbytes: int) -> None:
        if offset < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(
                f"{self.label}: bytes {offset:,} to {offset + nbytes:,} of {self.nbytes:,}"
            )
