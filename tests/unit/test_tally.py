"""Counts of several processes are those of one."""

from __future__ import annotations

import json

import pytest

from tests.tally import Tally

pytestmark = pytest.mark.unit

TESTS = [
    ("chromium", "arena", "tests/hal/test_a.py::test[2-threads]", "passed"),
    ("chromium", "arena", "tests/hal/test_a.py::test[1-threads]", "failed"),
    ("desktop", "arena", "tests/hal/test_b.py::test", "skipped"),
    ("desktop", "arena", "tests/hal/test_b.py::test_more", "passed"),
]


def test_what_other_processes_have_counted_adds_up() -> None:
    one, reporting = Tally(), Tally()
    for test in TESTS:
        one.add(*test)
        counting = Tally(absent={"firefox": "not here"}, pages=[f"{test[0]}: a line"])
        counting.add(*test)
        dump = counting.dump()
        json.dumps(dump)  # it travels
        reporting.include(dump)
    assert reporting.rows() == one.rows()
    assert {row["passed"] for row in one.rows()} == {0, 1}
    assert reporting.absent == {"firefox": "not here"}
    assert reporting.pages == ["chromium: a line"] * 2 + ["desktop: a line"] * 2
    assert reporting.lines()[:4] == reporting.pages
