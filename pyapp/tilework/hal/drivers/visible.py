"""Device memory that the host sees: copies are slices of a view.

What the desktop driver and the browser's `inline` and `heap` modes have in common.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from tilework.core.errors import InvalidArgument

if TYPE_CHECKING:
    from tilework.hal.driver import Data


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer: where an object's bytes lie, also when they may not be written."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )  # fmt: skip


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


def host_address(data: Data) -> int:
    """Where the bytes of a C-contiguous buffer lie in this process; InvalidArgument if it is none.

    Valid while `data` lives and is not resized.
    """
    found = _PyBuffer()
    try:
        _get_buffer(data, found, 0)  # PyBUF_SIMPLE: contiguous in C's order
    except (TypeError, BufferError, ValueError) as error:
        raise InvalidArgument(f"{type(data).__name__} is no C-contiguous buffer: {error}") from None
    address = found.buf or 0
    _release_buffer(found)
    return address


class VisibleMemory:
    """Reads and writes through the host's own addresses. `base` is where device address 0 lies."""

    base = 0

    def view(self, address: int, nbytes: int) -> memoryview:
        """See `Driver.view`; never None here."""
        array = (ctypes.c_ubyte * nbytes).from_address(self.base + address)
        return memoryview(array).cast("B")

    def address_of(self, data: Data) -> int:
        """See `Driver.address_of`."""
        return host_address(data) - self.base

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

    def port(
        self, address: int, nbytes: int
    ) -> tuple[Callable[[Data], object], Callable[[Data], object]]:
        """See `Driver.port`."""
        memory = self.view(address, nbytes)

        def write(data: Data) -> None:
            memory[:] = memoryview(data).cast("B")  # type: ignore[arg-type]

        def read_into(out: Data) -> None:
            memoryview(out).cast("B")[:] = memory  # type: ignore[arg-type]

        return write, read_into

    def clear(self, address: int, nbytes: int) -> None:
        """See `Driver.clear`."""
        ctypes.memset(self.base + address, 0, nbytes)
