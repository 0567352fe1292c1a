"""The drivers: `desktop` under CPython (wasmtime), `browser` under Pyodide."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilework.hal.driver import Driver


def open_driver(threads: int | None, mode: str) -> Driver:
    """The driver for where this Python runs."""
    if sys.platform == "emscripten":
        from tilework.hal.drivers.browser import open_browser

        return open_browser(threads, mode)
    from tilework.hal.drivers.desktop import DesktopDriver

    return DesktopDriver(threads, mode)
