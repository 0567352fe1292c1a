"""The next Pyodide, 314.0.7: all of the HAL's suite, which needs no NumPy, inside it.

No package registry has a NumPy for it, so the layers above are not tried.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.in_page.outside import NEXT_PYODIDE, host, run_tests
from tests.browser.in_page.pages import MODES
from tools.engines import ENGINES
from tools.project import ROOT

pytestmark = pytest.mark.browser

PATIENCE = 300  # seconds
# What imports NumPy is the layers' above, and driver_cases.py's.
FILES = tuple(
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests" / "hal").glob("test_*.py"))
)


@pytest.mark.parametrize(("mode", "threads"), [("heap", (1, 2)), ("inline", (1,))])
def test_the_hal_in_the_next_pyodide(
    dist: Path, browser: object, mode: str, threads: tuple[int, ...]
) -> None:
    del browser
    with ENGINES["chromium"].open(host(dist, MODES[mode].isolated)) as page:
        ended = run_tests(
            page,
            FILES,
            threads,
            registered=True,
            seconds=PATIENCE,
            memory=MODES[mode].memory,
            pyodide=NEXT_PYODIDE,
        )
        assert not ended.fault, "\n".join([ended.fault, *ended.printed[-20:], *page.console[-20:]])
    assert [(d["mode"], d["threads"]) for d in ended.devices] == [(mode, n) for n in threads]
    assert {test.file for test in ended.tests} == set(FILES)
    assert not [f"{t.id}: {t.words}" for t in ended.tests if t.outcome == "failed"]
