"""The suites of the HAL and the kernels, run by pytest inside Pyodide, in every engine there is.

The test files are the desktop's own (tests/hal, tests/kernels); in_page/ has what carries them
there, and in_page/pages.py says which pages there are. Pages run side by side as far as there are
cores. One page runs all of its files; here each of them is a test, and the totals of each page are
a line behind the tests. `--suite` chooses one of the suites.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.browser.in_page.outside import (
    NEXT_PYODIDE,
    PYODIDE,
    Outcome,
    host,
    packages,
    project,
    run_tests,
)
from tests.browser.in_page.pages import MODES, Case, cases, suite
from tests.browser.in_page.side_by_side import side_by_side
from tests.conftest import TALLY
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

CASES = cases()
PATIENCE = 600  # seconds for all of a page's tests


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each page, and each page with each of its files, as far as `--suite` asks for them."""
    pages = pages_of(metafunc.config)
    if "file" in metafunc.fixturenames:
        pairs = [(name, file) for name, files in pages.items() for file in files]
        metafunc.parametrize(("name", "file"), pairs)
    elif "name" in metafunc.fixturenames:
        metafunc.parametrize("name", pages)


def files_of(case: Case, config: pytest.Config) -> tuple[str, ...]:
    """The files that a page runs."""
    suites = config.getoption("suite") or case.suites
    wanted = tuple(file for name in suites if name in case.suites for file in suite(name))
    return tuple(f for f in case.files if f in wanted) if case.files else wanted


def pages_of(config: pytest.Config) -> dict[str, tuple[str, ...]]:
    """The pages that have something to run, and what."""
    files = {name: files_of(case, config) for name, case in CASES.items()}
    return {name: wanted for name, wanted in files.items() if wanted}


@pytest.fixture(scope="module")
def outcome_of(request: pytest.FixtureRequest, dist: Path) -> Callable[[str], Outcome]:
    """What the page of a case has done. All pages begin when the first is asked for."""
    tally = request.config.stash[TALLY]
    names: dict[str, None] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path:
            names[str(item.callspec.params["name"])] = None
    absent = {name: ENGINES[name].absent() for name in {CASES[n].engine for n in names}}
    files = {name: files_of(CASES[name], request.config) for name in names}
    packages(), project()  # made once, before there are threads

    def run(name: str) -> Outcome:
        case = CASES[name]
        with ENGINES[case.engine].open(host(dist, case.isolated)) as page:
            ended = run_tests(
                page,
                files[name],
                case.threads,
                registered=case.registered,
                seconds=PATIENCE,
                memory=MODES[case.mode].memory,
                pyodide=NEXT_PYODIDE if case.next_pyodide else PYODIDE,
            )
            if ended.fault:
                ended.printed += page.console[-20:]
        return ended

    cores = {name: max(CASES[name].threads) for name in names if not absent[CASES[name].engine]}
    pages = side_by_side(cores, os.cpu_count() or 1, run)

    @cache
    def told(name: str) -> Outcome:
        case, ended = CASES[name], pages[name].result()
        if case.counted:
            for test in ended.tests:
                tally.add(case.engine, case.mode, test.id, test.outcome, case.threads)
            if ended.fault:
                tally.add(case.engine, case.mode, "", "failed")
        tally.pages.append(f"{name}: {ended.line}")
        return ended

    def ask(name: str) -> Outcome:
        engine = CASES[name].engine
        if absent[engine]:
            tally.absent[engine] = absent[engine]
            pytest.skip(f"{engine}: {absent[engine]}")
        return told(name)

    return ask


def test_every_file_ran(
    outcome_of: Callable[[str], Outcome], name: str, pytestconfig: pytest.Config
) -> None:
    ended = outcome_of(name)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed[-40:]])
    case = CASES[name]
    assert {test.file for test in ended.tests} == set(files_of(case, pytestconfig))
    expected = [(case.mode, count) for count in case.threads]
    assert [(d["mode"], d["threads"]) for d in ended.devices] == expected


def test_inside(
    outcome_of: Callable[[str], Outcome], name: str, file: str, subtests: pytest.Subtests
) -> None:
    """One file's tests: what did not pass becomes a subtest, -rP shows the rest as well."""
    ended = outcome_of(name)
    tests = [test for test in ended.tests if test.file == file]
    assert tests, ended.fault
    for test in tests:
        print(f"{test.outcome} in {test.seconds:.2f} s: {test.id}")
        if test.outcome == "passed":
            continue
        with subtests.test(msg=test.id):
            if test.outcome == "skipped":
                pytest.skip(test.words)
            pytest.fail(test.words, pytrace=False)
