"""The page of ONNX's backend suite shows what results.json says."""

from __future__ import annotations

import json

import pytest

from tests.conftest import OpenPage
from tools.conformance_report import RESULTS

pytestmark = pytest.mark.browser


def test_the_page_counts_and_searches(browser_page: OpenPage) -> None:
    cases = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    passed = [case for case in cases if case[3] == "passed"]
    page = browser_page()
    page.goto("http://localhost/conformance/")
    page.wait_for_selector("body[data-state=ready]")
    assert page.inner_text("#status") == f"{len(passed)} of {len(cases)} cases pass"
    last = page.inner_text("#suites tr:last-child").split()
    assert last[:3] == ["all", str(len(cases)), str(len(passed))]
    page.fill("#query", "test_lstm")
    found = [case for case in cases if "test_lstm" in case[1]]
    assert page.inner_text("#count") == f"{len(found)} cases"
    assert page.locator("#cases tr").count() == len(found) > 0
    page.check("#failed")
    page.fill("#query", "")
    assert page.inner_text("#count").startswith(f"{len(cases) - len(passed)} cases")
