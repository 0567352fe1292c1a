"""Chromium, through Playwright; see tools/browser.py for how requests are answered from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tools.browser import ORIGIN, console_of, installed_browser, open_host
from tools.engines.engine import EngineError, EnginePage
from tools.web_host import Host


class Chromium:
    """See `Engine`."""

    name = "chromium"

    def absent(self) -> str:
        return "" if installed_browser() else "there is no Chromium or Google Chrome"

    def packages(self) -> tuple[str, ...]:
        return ("chromium",)

    @contextmanager
    def open(self, host: Host) -> Iterator[EnginePage]:
        with open_host(host) as page:
            yield _Page(page)


class _Page:
    def __init__(self, page: Page) -> None:
        self._page = page
        self.console = console_of(page)

    def goto(self, path: str) -> None:
        self._page.goto(ORIGIN + path)

    def evaluate(self, function: str, argument: object = None) -> Any:
        try:
            return self._page.evaluate(function, argument)
        except PlaywrightError as error:
            raise EngineError(f"the page ended: {error.message}") from None

    def wait_for(self, function: str, seconds: float) -> None:
        try:
            self._page.wait_for_function(function, timeout=seconds * 1000)
        except PlaywrightTimeout:
            raise TimeoutError(f"{function} was not true within {seconds:.0f} s") from None
        except PlaywrightError as error:
            raise EngineError(f"the page ended: {error.message}") from None
