"""Which pytest `build.py test` runs: all tests in several processes, named ones in one."""

from __future__ import annotations

import pytest

from tools import pipeline

pytestmark = pytest.mark.unit

SEVERAL = ["-n", "2", "--dist", "loadfile"]
SUITE = "tests/hal"
IN_PAGES = [pipeline.PAGES, "--suite", "hal"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], SEVERAL),
        (["-x"], [*SEVERAL, "-x"]),
        (["tests/unit"], ["tests/unit"]),
        ([SUITE, "-q"], [SUITE, "-q", *IN_PAGES]),
    ],
    ids=["all", "all until one fails", "a folder", "a suite"],
)
def test_what_is_run(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> int:
        asked.append(command)
        return 3

    monkeypatch.setattr(pipeline, "_ready_for_browser", lambda: None)
    monkeypatch.setattr(pipeline, "_ready_for_tests", lambda pages: None)
    monkeypatch.setattr(pipeline, "_pytest", run)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert pipeline.test(arguments) == 3
    assert asked == [expected]
