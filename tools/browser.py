"""Headless Chromium showing a folder as http://localhost/, without any server.

Owns finding the browser, its flags, and answering every request from disk through Playwright:
localhost is a secure context, so the three isolation headers make a page cross-origin isolated,
and leaving them out gives the page of an ordinary static host. Used by the tests, the demo and
the benchmark. A request is answered only while Playwright waits for something, so wait with its
own methods (`page.wait_for_function`), never with time.sleep.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Playwright, Route, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tools.project import BuildError, run
from tools.web_host import Answer, Host, static_host

ORIGIN = "http://localhost"
# A fulfilled body travels as base64 through one pipe; one of 90 MB ends the page, 16 MB pass.
LARGEST_BODY = 16 * 1024 * 1024

_ARGUMENTS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")

# -- the browser's program -------------------------------------------------------------------


def find_browser() -> Path:
    """The browser to drive; installs one when the machine has none.

    Playwright's own, else the system's, else `playwright install`, else apt-get when root.
    Raises BuildError when all of that fails.
    """
    found = installed_browser()
    if found:
        return found
    print("  there is no Chromium here; installing one", flush=True)
    failures = []
    for what, commands in _installers():
        try:
            for command in commands:
                run(command, what=what)
        except BuildError as error:
            failures.append(str(error))
            continue
        found = installed_browser()
        if found:
            return found
    raise BuildError(
        "There is no browser to run in; install Chromium or Google Chrome so that `chromium` or "
        f"`google-chrome` is on the PATH. Tried: {' '.join(failures)}"
    )


def installed_browser() -> Path | None:
    """Playwright's own browser, else the system's, else None."""
    if _shared.playwright is not None:
        return _present(Path(_shared.playwright.chromium.executable_path))
    with sync_playwright() as playwright:
        return _present(Path(playwright.chromium.executable_path))


def _present(own: Path) -> Path | None:
    if own.is_file():
        return own
    return next((Path(p) for p in map(shutil.which, _PROGRAMS) if p), None)


def _installers() -> list[tuple[str, list[list[str]]]]:
    install = [sys.executable, "-m", "playwright", "install", "chromium"]
    found = [("playwright install chromium", [install])]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        update = ["apt-get", "update", "-qq"]
        apt = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        found.append(("apt-get install chromium", [update, apt]))
    return found


# -- a running browser -----------------------------------------------------------------------


class _Shared(threading.local):
    """Playwright allows one instance a thread; whoever opens a second time shares the first."""

    users: int = 0
    playwright: Playwright | None = None
    browser: Browser | None = None


_shared = _Shared()


@contextmanager
def launch() -> Iterator[Browser]:
    """A running headless browser, the same one for nested uses."""
    if _shared.users == 0:
        _start()
    _shared.users += 1
    try:
        assert _shared.browser is not None
        yield _shared.browser
    finally:
        _shared.users -= 1
        if _shared.users == 0:
            _stop()


def _start() -> None:
    playwright = sync_playwright().start()
    _shared.playwright = playwright
    program = _present(Path(playwright.chromium.executable_path))
    try:
        if program is None:
            raise BuildError("There is no browser; `python3 build.py test` installs one.")
        _shared.browser = playwright.chromium.launch(
            executable_path=program, args=_ARGUMENTS, timeout=60_000
        )
    except PlaywrightError as error:
        _stop()
        raise BuildError(
            f"{program} does not start. Run it by hand with --headless to see what it lacks; on "
            "Debian, apt-get install chromium brings all that it needs.",
            error.message.strip(),
        ) from None
    except BuildError:
        _stop()
        raise


def _stop() -> None:
    browser, playwright = _shared.browser, _shared.playwright
    _shared.browser = _shared.playwright = None
    if browser is not None:
        browser.close()
    if playwright is not None:
        playwright.stop()


# -- a page ----------------------------------------------------------------------------------


@contextmanager
def open_site(
    root: Path, isolated: bool = True, service_workers: Literal["allow", "block"] = "block"
) -> Iterator[Page]:
    """A page whose requests to http://localhost/ are answered from `root`.

    `isolated` sends the headers that make it cross-origin isolated.
    """
    with open_host(static_host(root, isolated), service_workers) as page:
        yield page


@contextmanager
def open_host(
    host: Host, service_workers: Literal["allow", "block"] = "block", origin: str = ORIGIN
) -> Iterator[Page]:
    """A page whose requests to http://localhost/ are answered by `host`.

    With another `origin` those go to the server that is there. Requests to any other origin are
    refused. An exception that leaves the block carries what the page's console said.
    """
    with launch() as browser:
        context = browser.new_context(service_workers=service_workers)
        log: list[str] = []
        answers = _Answers(host, origin, log)
        # A function of its own, as Playwright writes an attribute into a bound method's object.
        context.route("**/*", lambda route: answers.give(route))
        page = context.new_page()
        page.on("console", lambda m: log.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: log.append(f"page error: {e}"))
        page.on("crash", lambda _: log.append("the page crashed"))
        _logs[page] = log
        try:
            yield page
        except BaseException as error:
            if log:
                error.add_note("The page said:\n  " + "\n  ".join(log[-60:]))
            raise
        finally:
            del _logs[page]
            context.close()


_logs: dict[Page, list[str]] = {}


def console_of(page: Page) -> list[str]:
    """What the page has said so far: console messages, errors, refused requests."""
    return _logs[page]


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers requests as `host` would. What a redirect leads to is not shown to Playwright, nor
    is what a worker's own workers ask for: neither can be answered here."""

    host: Host
    origin: str
    log: list[str]

    def give(self, route: Route) -> None:
        """Fulfil one request."""
        url = urlsplit(route.request.url)
        if f"{url.scheme}://{url.netloc}" != self.origin:
            self.log.append(f"refused, not same-origin: {route.request.url}")
            route.abort("blockedbyclient")
            return
        if self.origin != ORIGIN:
            route.continue_()
            return
        answer = self.host.answer(url.path)
        if answer.status != 200:
            self.log.append(f"{answer.status}: {url.path}")
        if len(answer.body) > LARGEST_BODY:
            size = len(answer.body)
            message = f"{url.path} has {size} bytes; only {LARGEST_BODY} fit into one answer"
            self.log.append(f"413: {message}: cut it into pieces")
            headers = {**answer.headers, "Content-Type": "text/plain"}
            answer = Answer(413, headers, message.encode())
        route.fulfill(status=answer.status, headers=dict(answer.headers), body=answer.body)
