"""Stop: ends the runs that it was given to, from another thread or before they begin."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilework.core.errors import Cancelled
from tilework.hal import Buffer, Device, Program

if TYPE_CHECKING:
    from tilework.hal.operation import Operation


class Stop:
    """`set()` cancels what runs with it now and refuses what begins later, until `clear()`."""

    __slots__ = ("_lock", "_running", "_wanted")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Operation] = set()
        self._wanted = False

    @property
    def wanted(self) -> bool:
        """Whether it is set."""
        return self._wanted

    def set(self) -> None:
        """Cancels; a kernel that runs ends with its tile."""
        with self._lock:
            self._wanted = True
            running = list(self._running)
        for operation in running:
            operation.cancel()

    def clear(self) -> None:
        """Lets later runs run."""
        self._wanted = False

    def check(self) -> None:
        """Raises Cancelled when it is set."""
        if self._wanted:
            raise Cancelled("the run was cancelled by its Stop")

    def submit(self, device: Device, program: Program, slots: Sequence[Buffer]) -> None:
        """`device.submit`, which raises Cancelled when this is set meanwhile."""
        self.check()
        operation = device.queue.execute(program, slots)
        with self._lock:
            self._running.add(operation)
        try:
            if self._wanted:
                operation.cancel()
            operation.wait()
        finally:
            with self._lock:
                self._running.discard(operation)
