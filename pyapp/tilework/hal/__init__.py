"""The hardware abstraction layer: executables, buffers, command buffers and submissions over
WebAssembly kernels that share one memory. NumPy-free; knows nothing of graphs or operators.
"""

from tilework.hal.buffer import Buffer
from tilework.hal.command_buffer import CommandBuffer, Slot
from tilework.hal.device import Device, open_device
from tilework.hal.kernel import Kernel
from tilework.hal.program import Program

__all__ = ["Buffer", "CommandBuffer", "Device", "Kernel", "Program", "Slot", "open_device"]
