"""Buffer: a span of device memory, and the copies between it and the host.

A buffer owns its span; a subspan keeps its parent alive and owns nothing. The device's allocator
decides where it lies, the driver moves the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilework.core.errors import DeviceLost, OutOfRange

if TYPE_CHECKING:
    from types import TracebackType

    from tilework.hal.device import Device
    from tilework.hal.driver import Data


def _nbytes(data: Data) -> int:
    # A JS typed array (browser driver) has no buffer protocol but says its length.
    length = getattr(data, "byteLength", None)
    return int(length) if length is not None else memoryview(data).nbytes  # type: ignore[arg-type]


class Buffer:
    """`nbytes` bytes of device memory at `address`. Freed by `free()`, `with`, or its last use."""

    __slots__ = ("__weakref__", "_device", "_parent", "address", "label", "nbytes")

    def __init__(
        self, device: Device, address: int, nbytes: int, label: str, parent: Buffer | None = None
    ) -> None:
        self._device: Device | None = device
        self._parent = parent
        self.address = address
        self.nbytes = nbytes
        self.label = label

    def __repr__(self) -> str:
        what = "Buffer" if self._parent is None else "Subspan"
        state = "" if self._device else ", freed"
        where = f"{self.nbytes:,} bytes at {self.address:#x}"
        return f"<{what} {self.label or 'unnamed'}: {where}{state}>"

    def _alive(self) -> Device:
        root = self
        while root._parent is not None:
            root = root._parent
        if root._device is None or self._device is None:
            raise DeviceLost(f"{self!r} was used after it was freed")
        return self._device

    def check_range(self, offset: int, nbytes: int) -> None:
        """OutOfRange unless `nbytes` bytes at `offset` lie inside a live buffer."""
        self._alive()
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(
                f"{nbytes:,} bytes at offset {offset:,} leave {self!r}"
            )

    def subspan(self, offset: int, nbytes: int | None = None, label: str = "") -> Buffer:
        """The `nbytes` (default: all the rest) at `offset`, sharing this buffer's memory."""
        nbytes = self.nbytes - offset if nbytes is None else nbytes
        self.check_range(offset, nbytes)
        device = self._alive()
        return Buffer(device, self.address + offset, nbytes, label or self.label, self)

    def write(self, data: Data, offset: int = 0) -> None:
        """Copies C-contiguous host bytes into the buffer at `offset`."""
        self.check_range(offset, _nbytes(data))
        self._alive().driver.write(self.address + offset, data)

    def read_into(self, out: Data, offset: int = 0) -> None:
        """Fills the writable C-contiguous host buffer `out` from `offset` on."""
        self.check_range(offset, _nbytes(out))
        self._alive().driver.read_into(self.address + offset, out)

    def read(self, offset: int = 0, nbytes: int | None = None) -> bytes:
        """A copy of `nbytes` (default: all the rest) at `offset`."""
        out = bytearray(self.nbytes - offset if nbytes is None else nbytes)
        self.read_into(out, offset)
        return bytes(out)

    def view(self) -> memoryview | None:
        """The memory itself, writable, where the host can see it; else None (browser `arena`)."""
        return self._alive().driver.view(self.address, self.nbytes)

    def free(self) -> None:
        """Gives the memory back. A second call does nothing; a subspan's frees nothing."""
        device, self._device = self._device, None
        if device is not None and self._parent is None:
            device.release(self.address)

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.free()

    def __del__(self) -> None:
        self.free()
