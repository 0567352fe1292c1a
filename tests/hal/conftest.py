"""The devices on which the HAL's suite runs.

The same files run under ordinary CPython and, in tests/browser/test_in_page.py, inside Pyodide in
each memory mode. Nothing here imports NumPy.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
from collections.abc import Iterator
from functools import partial
from weakref import WeakKeyDictionary

import pytest

from tests.hal.opened import OPENED, PUT_OFF
from tilework.hal import Device, open_device

THREADS = (1, 2, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder is the HAL's."""
    for item in items:
        if "hal" in item.path.parts:
            item.add_marker("hal")


def pytest_collection_finish() -> None:
    """What lives as long as the run is not looked through again by each test's `gc.collect()`."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def` test: here in an event loop of its own; in the page see opened.py."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = [n for n in inspect.signature(pyfuncitem.obj).parameters if n in pyfuncitem.funcargs]
    test = partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    if sys.platform == "emscripten":
        PUT_OFF[pyfuncitem.nodeid] = test
    else:
        asyncio.run(asyncio.wait_for(test(), ASYNC_PATIENCE))
    return True


ASYNC_PATIENCE = 120.0  # seconds; what hangs should fail


@pytest.fixture(scope="session", params=tuple(OPENED) or THREADS, ids=lambda n: f"{n}-threads")
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device that outlives its tests: each must leave it working."""
    if request.param in OPENED:
        yield OPENED[request.param]
        return
    opened = open_device(threads=request.param)
    yield opened
    opened.close()


def spans(device: Device) -> int:
    """Spans that are taken once the workers have let go of modules that were freed."""
    deadline = time.monotonic() + 60
    while device.executables.leaving and time.monotonic() < deadline:
        time.sleep(0.001)
    return device.statistics.spans


@pytest.fixture(autouse=True)
def memory_is_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test of the HAL may leave a span behind."""
    if "device" not in request.fixturenames:
        yield
        return
    device: Device = request.getfixturevalue("device")
    before = _CLEAN.get(device)
    if before is None:
        before = _collected(device)
    yield
    # Most tests leave nothing to collect, and to look for it takes longer than most of them.
    after = spans(device)
    if after > before:
        after = _collected(device)
    assert after <= before + len(FAMILIES), "a test kept device memory"
    _CLEAN[device] = after


def _collected(device: Device) -> int:
    gc.collect()
    return spans(device)


# Spans of each device that no garbage held when the test before had ended.
_CLEAN: WeakKeyDictionary[Device, int] = WeakKeyDictionary()
# Loading a family's module for the first time keeps its data region for good.
FAMILIES = ("probe",)
