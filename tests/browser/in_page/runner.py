"""Runs test files inside Pyodide and tells the page about every test as it ends.

Opens all devices first and waits for their threads: tests are synchronous, and a worker only
starts while Python is in its event loop.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.hal.opened import OPENED, PUT_OFF
from tilework.hal import open_device

_PATIENCE = 120.0  # seconds for a test that is awaited
_OPTIONS = ("-p", "no:cacheprovider", "-p", "no:faulthandler", "--capture=sys", "-q", "-rN")


class Reporter:
    """Posts the start and the outcome of each test; the outcome of a test is its worst phase's."""

    def __init__(self, post: Callable[[str], None]) -> None:
        self._post = post
        self._began = 0.0
        self._worst: pytest.TestReport | None = None

    def _say(self, **message: Any) -> None:
        self._post(json.dumps(message))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            words = report.longreprtext
            self._say(kind="test", id=report.nodeid, outcome="failed", words=words, seconds=0)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._began, self._worst = time.perf_counter(), None
        self._say(kind="start", id=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._worst is None or self._worst.passed:
            self._worst = report

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        report = self._worst
        assert report is not None
        if report.skipped and isinstance(report.longrepr, tuple):
            words = report.longrepr[2]
        else:
            words = report.longreprtext
        if nodeid in PUT_OFF and report.passed:
            return  # its end comes from `put_off`
        seconds = time.perf_counter() - self._began
        self._say(kind="test", id=nodeid, outcome=report.outcome, words=words, seconds=seconds)

    async def put_off(self) -> bool:
        """Awaits the tests that pytest could not, and says how each ended; whether all did well."""
        failures = 0
        for nodeid, test in PUT_OFF.items():
            self.pytest_runtest_logstart(nodeid)
            outcome, words = "passed", ""
            try:
                await asyncio.wait_for(test(), _PATIENCE)
            except pytest.skip.Exception as skipped:
                outcome, words = "skipped", str(skipped)
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - posted
                outcome, words = "failed", traceback.format_exc()
                failures += 1
            seconds = time.perf_counter() - self._began
            self._say(kind="test", id=nodeid, outcome=outcome, words=words, seconds=seconds)
        return not failures


async def run(arguments: Sequence[str], threads: Sequence[int], post: Callable[[str], None]) -> int:
    """Opens a device for each number of threads, runs pytest, returns its exit status."""
    for count in threads:
        device = OPENED[count] = open_device(count)
        assert await device.ready(), f"{device.ready_threads} of {device.threads} threads started"
        words = {"mode": device.mode, "threads": device.threads, "reason": device.reason}
        post(json.dumps({"kind": "device", **words}))
    if any(argument.startswith("tests/kernels/") for argument in arguments):
        from tests.browser.in_page.bare_host import open_hosts  # needs NumPy

        # Whether a result depends on the number of threads, the fewest and the most show.
        await open_hosts(sorted({min(threads), max(threads)}))
    reporter = Reporter(post)
    status = int(pytest.main([*_OPTIONS, *arguments], plugins=[reporter]))
    if not await reporter.put_off():
        status = status or 1
    for device in OPENED.values():
        device.close()
    return status
