"""What the runners in a page begin with: the pack, fetched, and a device with all its threads."""

from __future__ import annotations

from typing import Any

from pyodide.http import pyfetch  # Pyodide only

import tilework
from tests.conformance.runner import Pack


async def fetch_pack() -> Pack:
    """The pack that the page's host has in /conformance/."""
    index = await (await pyfetch("/conformance/index.json")).json()
    pieces = 1 + max(entry["model"][0] for entry in index)
    contents = [await (await pyfetch(f"/conformance/{n}.bin")).bytes() for n in range(pieces)]
    return Pack(index, contents)


async def open_device(threads: int) -> Any:
    """tilework's device; AssertionError, in words, when threads lack."""
    device = tilework.device(threads)
    assert await tilework.ready(), f"not all threads have started: {device}"
    return device
