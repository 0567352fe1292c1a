"""The suites of the HAL and the kernels, run by pytest inside Pyodide inside headless Chromium.

The test files are the desktop's own (tests/hal, tests/kernels); in_page/ has what carries them
there. One page for each mode runs all of them; here each of their files is a test, and a line with
the totals of each mode is printed as its page ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.browser.in_page.outside import Outcome, run_tests
from tools.browser import console_of, open_site
from tools.project import ROOT

pytestmark = pytest.mark.browser

DRIVER = "tests/browser/in_page/driver_cases.py"
SHARED = tuple(
    path.relative_to(ROOT).as_posix()
    for folder in ("hal", "kernels")
    for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))
)
# Whether the page is isolated, whether Python is given the bridge (as a site of our own does, or
# has to evaluate the wheel's, as in a notebook), numbers of threads, files. Pyodide runs on a
# shared heap where the name begins with it.
CASES = {
    "arena": (True, True, (1, 2, 4), (DRIVER, *SHARED)),
    "heap": (True, True, (1, 2), (DRIVER, *SHARED)),
    "inline": (False, True, (1,), (DRIVER, *SHARED)),
    "arena in a notebook": (True, False, (2,), (DRIVER, "tests/hal/test_threads.py")),
    "heap in a notebook": (True, False, (2,), (DRIVER, "tests/hal/test_threads.py")),
    "inline in a notebook": (False, False, (1,), (DRIVER, "tests/hal/test_failures.py")),
}
PATIENCE = 600  # seconds for all of a page's tests


@pytest.fixture(scope="module")
def outcome_of(
    request: pytest.FixtureRequest, dist: Path, browser: object
) -> Callable[[str], Outcome]:
    """What the page of a case has done: run when first asked for, and closed by then."""
    del browser
    capture = request.config.pluginmanager.getplugin("capturemanager")

    @cache
    def run(name: str) -> Outcome:
        isolated, registered, threads, files = CASES[name]
        with open_site(dist, isolated) as page:
            ended = run_tests(
                page,
                files,
                threads,
                registered=registered,
                seconds=PATIENCE,
                memory="heap" if name.startswith("heap") else "own",
            )
            if ended.fault:
                ended.printed += console_of(page)[-20:]
        with capture.global_and_fixture_disabled():
            print(f"\ninside the page, {name}: {ended.line}", flush=True)
        return ended

    return run


@pytest.mark.parametrize("name", CASES)
def test_every_file_ran(outcome_of: Callable[[str], Outcome], name: str) -> None:
    ended = outcome_of(name)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed[-40:]])
    _, _, threads, files = CASES[name]
    assert {test.file for test in ended.tests} == set(files)
    expected = [(name.split()[0], count) for count in threads]
    assert [(d["mode"], d["threads"]) for d in ended.devices] == expected


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, (*_, files) in CASES.items() for file in files]
)
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
