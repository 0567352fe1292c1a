"""The hardware abstraction layer: executables, buffers, command buffers and submissions over
WebAssembly kernels that share one memory. NumPy-free; knows nothing of graphs or operators.
"""

from tilework.hal.buffer import Buffer
from tilework.hal.command_buffer import CommandBuffer
from tilework.hal.device import Device, open_device
from tilework.hal.far import Far
from tilework.hal.kernel import Kernel
from tilework.hal.operation import Deferred, Operation
from tilework.hal.program import Program, Slot
from tilework.hal.queue import Queue
from tilework.hal.semaphore import (
    Fence,
    Semaphore,
    all_reached,
    any_reached,
    wait_all,
    wait_any,
)
from tilework.hal.usage import Access, MemoryType, Usage

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
