"""The open devices, one for each number of threads, shared by all sessions.

Opened on first use and closed when Python ends. Opening costs tens of milliseconds, so nothing is
opened by importing.
"""

from __future__ import annotations

import atexit
import threading
import weakref

from tilework.core.errors import InvalidArgument
from tilework.hal import Buffer, Device, open_device

__all__ = ["Buffer", "Device", "close_devices", "get_device", "open_devices", "turn_of"]

_devices: dict[int, Device] = {}
_lock = threading.Lock()
_turns: weakref.WeakKeyDictionary[Device, threading.RLock] = weakref.WeakKeyDictionary()


def get_device(threads: int | None = None) -> Device:
    """The device with `threads` threads; 0: one for each core; None: the one opened first.

    InvalidArgument for a negative number or one that is no integer.
    """
    if threads is None:
        with _lock:
            first = next(iter(_devices.values()), None)
        if first is not None:
            return first
        threads = 0
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 0:
        raise InvalidArgument(f"threads is {threads!r}; use a positive number, or 0 for all cores")
    with _lock:
        device = _devices.get(threads)
        if device is None:
            device = next((d for d in _devices.values() if d.threads == threads), None)
            device = device or open_device(threads=threads or None)
            _devices[threads] = device
        return device


def open_devices() -> list[Device]:
    """Those that are open, without repetition."""
    with _lock:
        return list({id(device): device for device in _devices.values()}.values())


def turn_of(device: Device) -> threading.RLock:
    """What a thread of Python holds while it works on a device: one submission at a time.

    It can be taken again by its holder, as the end of a session may come in the middle of anything.
    """
    with _lock:
        return _turns.setdefault(device, threading.RLock())


def close_devices() -> None:
    """Closes all; sessions on them can no longer run. The next use opens anew."""
    devices = open_devices()
    with _lock:
        _devices.clear()
    for device in devices:
        device.close()


atexit.register(close_devices)
