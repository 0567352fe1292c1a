"""Families: tilework's own kernels, a module for each family, loaded when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilework.core.errors import InvalidArgument
from tilework.hal.executable import Entry, Executable, Executables
from tilework.hal.library import BUILDS, kernel_module

if TYPE_CHECKING:
    from tilework.hal.driver import Driver
    from tilework.hal.kernel import Kernel


class Families:
    """What commands name on one device. `build` is one of BUILDS, or "auto"."""

    def __init__(self, executables: Executables, driver: Driver, build: str) -> None:
        self.executables = executables
        self._loaded: dict[str, Executable] = {}
        binary = kernel_module("processor", "simd")
        self._loaded["processor"] = executables.load("processor", binary, processor=True)
        self.build = _choose(build, driver)

    def entry(self, kernel: Kernel | Entry) -> Entry:
        """The loaded entry point; loads a kernel's family when it is the first of it.

        DeviceLost for an entry that was freed, InvalidArgument for another device's.
        """
        if isinstance(kernel, Entry):
            kernel.executable.check_alive()
            if kernel.executable.owner is not self.executables:
                raise InvalidArgument(f"{kernel.executable!r} is another device's")
            return kernel
        executable = self._loaded.get(kernel.family)
        if executable is None:
            binary = kernel_module(kernel.family, self.build)
            executable = self.executables.load(kernel.family, binary)
            self._loaded[kernel.family] = executable
        return executable[kernel.name]


def _choose(build: str, driver: Driver) -> str:
    if build in BUILDS:
        return build
    if build != "auto":
        raise InvalidArgument(f"build is {build!r}; it is auto, relaxed or simd")
    # One relaxed opcode makes an engine that lacks it refuse the whole module.
    return "relaxed" if driver.accepts(kernel_module("gemm", "relaxed")) else "simd"
