"""Heap: the one memory of a device: who has which span of it, and how much went in and out.

Its allocator decides where spans lie, its driver moves the bytes. It knows no buffers: whoever
takes a span gives it back.
"""

from __future__ import annotations

from collections.abc import Callable

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfMemory
from tilework.hal.allocator import Allocator
from tilework.hal.driver import Driver
from tilework.hal.usage import MemoryType


class Heap:
    """Made by the device; everything that lives in its memory refers to it.

    `limit` is the most that may be handed out, bytes. `kind` is what all of the memory is.
    """

    def __init__(self, driver: Driver, limit: int | None = None) -> None:
        self.driver = driver
        self.allocator = Allocator(driver.reserve, limit=limit)
        visible = driver.view(0, 0) is not None
        self.kind = MemoryType.DEVICE | (MemoryType.HOST_VISIBLE if visible else MemoryType(0))
        self.copied_in = self.copied_out = 0  # bytes between the host's memory and this
        self.imported = 0  # bytes of outside memory that buffers stand on
        self.closed = False
        # Asked when there is no memory left: gives back what waits for somebody; whether it did.
        self.spare: Callable[[], bool] = lambda: False

    def check_open(self) -> None:
        """DeviceLost once the device is closed."""
        if self.closed:
            raise DeviceLost("the device is closed; open a new one")

    def check_request(self, nbytes: int, label: str) -> None:
        """DeviceLost once the device is closed; InvalidArgument for less than no bytes."""
        self.check_open()
        if nbytes < 0:
            raise InvalidArgument(f"{label or 'a buffer'}: {nbytes} bytes were asked for")

    def take(self, nbytes: int, label: str) -> int:
        """The address of a new span. OutOfMemory says how much was asked for and what is free."""
        self.check_request(nbytes, label)
        try:
            return self.allocator.allocate(nbytes, label)
        except OutOfMemory:
            if not self.spare():
                raise
            return self.allocator.allocate(nbytes, label)

    def release(self, address: int) -> None:
        """Gives a span back; of a closed device nothing is left."""
        if not self.closed:
            self.allocator.release(address)
