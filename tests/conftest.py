"""What the tests of every layer share: the built site, pages that show it, what is absent.

A test that needs a part which is not there fails and says which command makes it; nothing is
skipped for want of a part, because `python3 build.py test` builds them all.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from hypothesis import settings

from tests.browser.in_page.pages import SUITES
from tests.tally import DESKTOP, Tally, counted
from tools.project import BUILD, DIST

BUILD_FIRST = "run: python3 build.py build"
TALLY = pytest.StashKey[Tally]()

# An example takes as long as the machine's other work lets it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class OpenPage(Protocol):
    """Opens a blank page of the site; see tools.browser.open_site."""

    def __call__(
        self, isolated: bool = True, service_workers: Literal["allow", "block"] = "block"
    ) -> Any: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `build.py conformance` asks for."""
    group = parser.getgroup("tilework")
    group.addoption(
        "--suite", action="append", choices=SUITES, help="which suites the pages run; all if none"
    )
    group.addoption("--counts", type=Path, help="write the counts per engine and mode as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """The counts of this run. Where pytest-xdist runs the tests in other processes, they count."""
    config.stash[TALLY] = Tally()
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.register(_Desktop(config.stash[TALLY]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What another process of pytest-xdist's hands to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = session.config.stash[TALLY].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what such a process has counted, unless it has crashed."""
    if hasattr(node, "workeroutput"):
        node.config.stash[TALLY].include(node.workeroutput["tally"])


class _Desktop:
    """Counts the suites' tests that run in this very process."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test counts once: by its call, or by the phase that kept it from one.
        if counted(report.nodeid) and (report.when == "call" or not report.passed):
            self._tally.add(*DESKTOP, report.nodeid, report.outcome)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The counts per engine and mode, where some of the suites' tests have run."""
    tally = config.stash[TALLY]
    if tally.counts:
        terminalreporter.section("counts per engine and mode")
        for line in tally.lines():
            terminalreporter.write_line(line)
    file = config.getoption("counts")
    if file:
        file.write_text(json.dumps(tally.rows(), indent=1) + "\n", encoding="utf-8")


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
    said = [f"absent: {', '.join(absent)}; {BUILD_FIRST}"] if absent else []
    said += [f"absent: {name}, so its pages are skipped: {why}" for name, why in _others().items()]
    return said or ["all engines are present"]


def _others() -> dict[str, str]:
    """The browsers beside Chromium that are not here, and what is missing of each."""
    if importlib.util.find_spec("playwright") is None:
        return {}
    from tools.engines import ENGINES

    found = {name: engine.absent() for name, engine in ENGINES.items() if name != "chromium"}
    return {name: why for name, why in found.items() if why}


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
