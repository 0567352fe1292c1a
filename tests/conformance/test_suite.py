"""The whole suite on the desktop engine; `build.py conformance --suite onnx` runs it in a page."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.conformance.runner import Pack, Row, run_cases
from tools.cases import read_pack
from tools.conformance import kind

pytestmark = pytest.mark.onnx

# What onnx 1.23.2 brings.
CASES = {"node": 1884, "simple": 23, "pytorch-converted": 82, "pytorch-operator": 35, "light": 9}


@cache
def pack() -> Pack:
    return Pack(*read_pack())


@cache
def rows() -> list[Row]:
    return list(run_cases(pack(), range(len(pack().index)), threads=2))


def test_every_case_of_the_package_is_there() -> None:
    names = [(case["suite"], case["case"]) for case in pack().index]
    assert len(set(names)) == len(names)
    assert Counter(suite for suite, _ in names) == CASES


def test_every_case_passes() -> None:
    failed = [row for row in rows() if row.status == "failed"]
    assert not failed, "\n".join(f"{row.suite} {row.case}: {row.reason}" for row in failed)
    assert all(row.where in ("kernel", "host", "mixed") for row in rows())


def test_reasons_are_counted_by_their_kind() -> None:
    words = "NotImplemented: operators that are not implemented: {} (opset 1, node 'y'). Add them"
    assert kind(words.format("ai.onnx.A")) == kind(words.format("ai.onnx.A").replace("1", "2"))
    assert kind(words.format("ai.onnx.A")) != kind(words.format("ai.onnx.B"))
    assert kind("input 'x' has 3") == kind("input 'y' has 14")
