"""What the tests of every layer share: the built site, pages that show it, what is absent.

A test that needs a part which is not there fails and says which command makes it; nothing is
skipped for want of a part, because `python3 build.py test` builds them all.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from tools.project import BUILD, DIST

BUILD_FIRST = "run: python3 build.py build"


class OpenPage(Protocol):
    """Opens a blank page of the site; see tools.browser.open_site."""

    def __call__(
        self, isolated: bool = True, service_workers: Literal["allow", "block"] = "block"
    ) -> Any: ...


def pytest_report_header() -> list[str]:
    """In words, which engines the tests below will not find."""
    present = [
        (BUILD / "kernels" / "simd" / "processor.wasm").is_file(),
        importlib.util.find_spec("wasmtime") is not None,
        importlib.util.find_spec("onnxruntime") is not None,
        importlib.util.find_spec("playwright") is not None and _browser() is not None,
        (DIST / "site.json").is_file(),
    ]
    names = [
        "compiled kernels (build/kernels)",
        "the desktop engine (wasmtime)",
        "the reference (onnxruntime)",
        "a browser (Chromium)",
        "the site (dist)",
    ]
    absent = [name for name, there in zip(names, present, strict=True) if not there]
    return [f"absent: {', '.join(absent)}; {BUILD_FIRST}" if absent else "all engines are present"]


def _browser() -> Path | None:
    from tools.browser import installed_browser

    return installed_browser()


@pytest.fixture(scope="session")
def dist() -> Path:
    """The built site."""
    if not (DIST / "site.json").is_file():
        pytest.fail(f"there is no site in {DIST}; {BUILD_FIRST}")
    return DIST


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A running browser for one file of tests; Playwright's event loop ends with it."""
    from tools.browser import launch

    with launch() as running:
        yield running


_PAGES = pytest.StashKey[list[Any]]()


@pytest.fixture
def browser_page(dist: Path, browser: object, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """`browser_page(isolated=True)` gives a Playwright page that sees dist/ as http://localhost/.

    What the pages' consoles said is part of a failed test's report.
    """
    del browser
    from tools.browser import open_site

    pages = request.node.stash.setdefault(_PAGES, [])
    with ExitStack() as stack:

        def open_page(
            isolated: bool = True, service_workers: Literal["allow", "block"] = "block"
        ) -> Any:
            page = stack.enter_context(open_site(dist, isolated, service_workers))
            pages.append(page)
            return page

        yield open_page
        pages.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the pages' consoles to the report of a test that failed."""
    report = yield
    if report.when == "call" and report.failed:
        for page in item.stash.get(_PAGES, []):
            from tools.browser import console_of

            report.sections.append((f"console of {page.url}", "\n".join(console_of(page)[-80:])))
    return report
