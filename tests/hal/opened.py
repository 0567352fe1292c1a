"""Devices that were opened before the tests began, by their number of threads.

Empty on the desktop. In a browser a worker can only start once Python has gone back to the event
loop, which synchronous tests never do: there the runner (tests/browser/in_page) opens the devices,
waits for their threads, puts them here and closes them in the end.
"""

from __future__ import annotations

from tilework.hal import Device

OPENED: dict[int, Device] = {}
