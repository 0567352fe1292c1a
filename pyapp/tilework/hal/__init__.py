"""The hardware abstraction layer: executables, buffers, command buffers and submissions over
WebAssembly kernels that share one memory. NumPy-free; knows nothing of graphs or operators.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tilework.hal.buffer import Buffer
from tilework.hal.command_buffer import CommandBuffer
from tilework.hal.device import Device, open_device
from tilework.hal.kernel import Kernel
from tilework.hal.program import Program, Slot
from tilework.hal.usage import Access, MemoryType, Usage

if TYPE_CHECKING:
    from tilework.hal.far import Far
    from tilework.hal.operation import Deferred, Operation
    from tilework.hal.queue import Queue
    from tilework.hal.semaphore import (
        Fence,
        Semaphore,
        all_reached,
        any_reached,
        wait_all,
        wait_any,
    )

# Imported when they are first used: a session does without them.
_LATER = {
    "far": ("Far",),
    "operation": ("Deferred", "Operation"),
    "queue": ("Queue",),
    "semaphore": (
        "Fence", "Semaphore", "all_reached", "any_reached", "wait_all", "wait_any",
    ),
}  # fmt: skip

__all__ = [
    "Access",
    "Buffer",
    "CommandBuffer",
    "Deferred",
    "Device",
    "Far",
    "Fence",
    "Kernel",
    "MemoryType",
    "Operation",
    "Program",
    "Queue",
    "Semaphore",
    "Slot",
    "Usage",
    "all_reached",
    "any_reached",
    "open_device",
    "wait_all",
    "wait_any",
]


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
