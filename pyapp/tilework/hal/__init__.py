"""The hardware abstraction layer: executables, buffers, command buffers and submissions over
WebAssembly kernels that share one memory. NumPy-free; knows nothing of graphs or operators.
"""

from tilework.hal.buffer import Buffer
from tilework.hal.command_buffer import CommandBuffer
from tilework.hal.device import Device, open_device
from tilework.hal.kernel import Kernel
from tilework.hal.program import Program, Slot
from tilework.hal.usage import Access, MemoryType, Usage

__all__ = [
    "Access",
    "Buffer",
    "CommandBuffer",
    "Device",
    "Kernel",
    "MemoryType",
    "Program",
    "Slot",
    "Usage",
    "open_device",
]
