"""What is published of ONNX's backend suite: the table in docs/ and the page's data agree."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tools.conformance_report import RESULTS, TABLE, results, table
from tools.project import BuildError

pytestmark = pytest.mark.unit

INDEX = [
    {"suite": "node", "case": "test_a", "operator": "Abs"},
    {"suite": "node", "case": "test_b", "operator": "Add"},
    {"suite": "simple", "case": "test_c", "operator": ""},
]
ROWS = [
    {"suite": "node", "case": "test_a", "status": "passed", "where": "kernel", "reason": ""},
    {"suite": "node", "case": "test_b", "status": "failed", "where": "", "reason": "a | b\nc"},
    {"suite": "simple", "case": "test_c", "status": "passed", "where": "host", "reason": ""},
]


def test_the_table_counts_by_suite_and_operator() -> None:
    text = table(ROWS, INDEX, "in a test")
    assert "**2 of 3 pass.**" in text
    for line in ("| node | 2 | 1 | 1 | 0 | 0 |", "| simple | 1 | 1 | 0 | 0 | 1 |"):
        assert line in text
    assert "| Abs | 1 | 1 | 1 | 0 | 0 |" in text
    assert "| node | test_b | a / b c |" in text


def test_the_page_s_data_has_every_case() -> None:
    found = json.loads(results(ROWS, INDEX, "in a test"))
    assert found["cases"][1] == ["node", "test_b", "Add", "failed", "", "a / b c"]
    assert len(found["cases"]) == 3


def test_a_part_is_not_published() -> None:
    from tools.conformance_report import publish

    with pytest.raises(BuildError, match="2 of 3 cases ran"):
        publish(ROWS[:2], INDEX, "in a test")


def test_what_is_published_is_of_one_run() -> None:
    cases = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    text = TABLE.read_text(encoding="utf-8")
    passed = Counter(case[3] for case in cases)["passed"]
    assert f"**{passed} of {len(cases)} pass.**" in text
    assert len(cases) == 2033
