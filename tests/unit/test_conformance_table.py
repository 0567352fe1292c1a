"""tests/hal/README.md: every case of the list has a test that exists, and the counts are right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from tools.project import ROOT

pytestmark = pytest.mark.unit

HAL = ROOT / "tests" / "hal"
TABLE = (HAL / "README.md").read_text(encoding="utf-8")
CASES, SUITES = 207, 30  # of the list, at the commit that the table names
REFERENCE = re.compile(r"`([\w./]+\.py)::(\w+)(?:\[([^`]*)\])?`")
KINDS = ("ours", "does not apply", "open")


def rows() -> list[tuple[str, str, str]]:
    """Suite, case and what the table says of it."""
    found = []
    suite = ""
    for line in TABLE.splitlines():
        heading = re.fullmatch(r"### `[\w/]+\.cc` · (\w+)", line)
        suite = heading[1] if heading else suite
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if suite and line.startswith("|") and cells[0] not in ("case", "---|---|---"):
            assert len(cells) == 3, line
            found.append((suite, cells[0], cells[2]))
    return found


def kind(said: str) -> str:
    if said == "open" or said.startswith("does not apply: "):
        return said.partition(":")[0]
    assert not REFERENCE.sub("", said).strip(", "), f"neither a test nor a reason: {said}"
    return "ours"


@cache
def collected() -> frozenset[str]:
    """The suite's tests by id, from this folder on; ids are as pytest shows them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", str(HAL)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    prefix = "tests/hal/"
    return frozenset(x.removeprefix(prefix) for x in said.splitlines() if x.startswith(prefix))


def exists(file: str, name: str, part: str) -> bool:
    if file.startswith("../"):
        # What is not collected on the desktop: the function is all that can be asked for.
        tree = ast.parse((HAL / file).read_text(encoding="utf-8"))
        return any(isinstance(n, ast.FunctionDef) and n.name == name for n in tree.body)
    for test in collected():
        function, _, parameters = test.partition("[")
        if function == f"{file}::{name}" and (
            not part or f"-{part}-" in f"-{parameters.removesuffix(']')}-"
        ):
            return True
    return False


def test_the_list_is_whole() -> None:
    names = [(suite, case) for suite, case, _ in rows()]
    assert len(names) == len(set(names)) == CASES
    assert len({suite for suite, _ in names}) == SUITES


def test_every_test_that_is_named_is_collected() -> None:
    missing = []
    for suite, case, said in rows():
        kind(said)
        for file, name, part in REFERENCE.findall(said):
            if not exists(file, name, part):
                missing.append(f"{suite}.{case}: {file}::{name}[{part}]")
    assert not missing, "\n".join(missing)


def test_a_name_that_is_nobodys_is_seen() -> None:
    assert exists("test_transfers.py", "test_fill", "1 of 1")
    assert not exists("test_transfers.py", "test_fill", "1 of")
    assert not exists("test_transfers.py", "test_filled", "")
    assert not exists("../browser/in_page/driver_cases.py", "test_nothing", "")


def test_the_counts_are_the_tables() -> None:
    counts: dict[str, Counter[str]] = {}
    for suite, _, said in rows():
        counts.setdefault(suite, Counter())[kind(said)] += 1
    for suite, counter in counts.items():
        numbers = [counter.total(), *(counter[k] for k in KINDS)]
        line = f"| {suite} | {' | '.join(map(str, numbers))} |"
        assert line in TABLE, f"{suite} has {line}"
    total = sum(counts.values(), Counter[str]())
    numbers = [total.total(), *(total[k] for k in KINDS)]
    assert f"| **all** | {SUITES} suites | {' | '.join(map(str, numbers))} |" in TABLE
