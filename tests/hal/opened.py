"""What the tests and the runner in the page share: open devices, and tests that are put off.

OPENED is empty on the desktop. In a browser a worker can only start once Python has gone back to
the event loop, which synchronous tests never do: there the runner (tests/browser/in_page) opens the
devices, waits for their threads, puts them here and closes them in the end.

An `async def` test cannot run while pytest does, for the same reason: conftest.py puts it into
PUT_OFF with its arguments, and the runner awaits it once pytest has returned. By then the test's
fixtures have been torn down, so such tests take no fixture but `device`, and parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tilework.hal import Device

OPENED: dict[int, Device] = {}
PUT_OFF: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}  # by node id
