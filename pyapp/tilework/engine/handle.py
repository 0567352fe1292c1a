"""DeviceHandle: what `tilework.device()` gives a person: the device, in words."""

from __future__ import annotations

from tilework.hal import Buffer, Device
from tilework.hal.allocator import Statistics


class DeviceHandle:
    """A device, to look at and to allocate on. Print it."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        self.device = device

    @property
    def mode(self) -> str:
        """The memory mode: "heap", "arena" or "inline"."""
        return self.device.mode

    @property
    def threads(self) -> int:
        """Threads that compute, the calling one included."""
        return self.device.threads

    @property
    def reason(self) -> str:
        """Why this mode and this many threads."""
        return self.device.reason

    @property
    def relaxed(self) -> bool:
        """Whether the kernels use relaxed SIMD."""
        return self.device.relaxed

    @property
    def memory(self) -> Statistics:
        """Bytes of device memory in use, reserved and at the peak."""
        return self.device.statistics

    def allocate(self, nbytes: int, label: str = "") -> Buffer:
        """A buffer in device memory, e.g. for a model's external data. OutOfMemory."""
        return self.device.allocate(nbytes, label)

    def __repr__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        kernels = "relaxed SIMD" if self.relaxed else "SIMD"
        used = self.memory.in_use
        return (
            f"tilework device: {self.mode} memory, {threads}, {kernels} kernels, "
            f"{used / 1e6:.1f} MB in use. {self.reason}"
        )
