"""Device memory that the host sees: copies are slices of a view.

What the desktop driver and the browser's `inline` mode have in common.
"""

from __future__ import annotations

import ctypes

from tilework.hal.driver import Data


class VisibleMemory:
    """Reads and writes through the host's own addresses. `base` is where device address 0 lies."""

    base = 0

    def view(self, address: int, nbytes: int) -> memoryview:
        """See `Driver.view`; never None here."""
        array = (ctypes.c_ubyte * nbytes).from_address(self.base + address)
        return memoryview(array).cast("B")

    def write(self, address: int, data: Data) -> None:
        """See `Driver.write`."""
        source = memoryview(data)  # type: ignore[arg-type]
        if source.nbytes:
            self.view(address, source.nbytes)[:] = source.cast("B")

    def read_into(self, address: int, out: Data) -> None:
        """See `Driver.read_into`."""
        target = memoryview(out)  # type: ignore[arg-type]
        if target.nbytes:
            target.cast("B")[:] = self.view(address, target.nbytes)

    def clear(self, address: int, nbytes: int) -> None:
        """See `Driver.clear`."""
        ctypes.memset(self.base + address, 0, nbytes)
