"""What is published of a run of ONNX's backend suite: a table in docs/, the data of a page.

    docs/onnx.md                       per suite and per operator: how many pass, and where they run
    static/conformance/results.json    every case; static/conformance/index.html shows it

Both are made from the rows of one run over all cases and are committed, so that they can be read
without running anything; `build.py conformance --suite onnx --publish` makes them anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tools.dependencies import pin
from tools.project import ROOT, BuildError, replace_file

TABLE = ROOT / "docs" / "onnx.md"
RESULTS = ROOT / "static" / "conformance" / "results.json"
_WORDS = 120  # of a reason
PLACES = ("kernel", "mixed", "host")

Row = Mapping[str, str]


def publish(rows: Sequence[Row], index: Sequence[Mapping[str, Any]], engine: str) -> None:
    """Writes both; BuildError when some cases did not run."""
    if len(rows) != len(index):
        raise BuildError(f"{len(rows)} of {len(index)} cases ran; publish all of them, or none")
    replace_file(TABLE, table(rows, index, engine).encode())
    replace_file(RESULTS, results(rows, index, engine).encode())
    for path in (TABLE, RESULTS):
        print(f"  wrote {path.relative_to(ROOT)}")


def table(rows: Sequence[Row], index: Sequence[Mapping[str, Any]], engine: str) -> str:
    """docs/onnx.md."""
    passed = sum(row["status"] == "passed" for row in rows)
    lines = [
        "# ONNX's backend suite",
        "",
        f"All {len(rows)} cases of onnx {pin('onnx')}, {engine}, through `InferenceSession`,",
        "at the suite's own tolerances. Written by `python3 build.py conformance --suite onnx",
        "--publish`; the site's page `conformance/` lists every case.",
        "",
        f"**{passed} of {len(rows)} pass.** *kernel*: compiled kernels compute; *host*: NumPy",
        "references do; *mixed*: both. What is prepared once, before the first run, is left out.",
        "Cases that draw random numbers (Bernoulli, Dropout while training) are compared by dtype",
        "and shape: the suite has one implementation's numbers.",
        "",
        "| suite | cases | passed | kernel | mixed | host |",
        "|---|---|---|---|---|---|",
    ]
    lines += _counted(rows, [row["suite"] for row in rows])
    lines += [
        "",
        "## Node cases by operator",
        "",
        "| operator | cases | passed | kernel | mixed | host |",
        "|---|---|---|---|---|---|",
    ]
    operators = [case["operator"] for case in index]
    lines += _counted(rows, operators)
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        lines += ["", "## What fails", "", "| suite | case | reason |", "|---|---|---|"]
        lines += [f"| {r['suite']} | {r['case']} | {_cell(r['reason'])} |" for r in failed]
    return "\n".join(lines) + "\n"


def _counted(rows: Sequence[Row], groups: Sequence[str]) -> list[str]:
    """A line for each group's name that is not empty, in the order of the alphabet or of suites."""
    cases: dict[str, Counter[str]] = {}
    for row, group in zip(rows, groups, strict=True):
        if group:
            counter = cases.setdefault(group, Counter())
            counter["cases"] += 1
            counter[row["where"] if row["status"] == "passed" else "failed"] += 1
    return [
        f"| {group} | {c['cases']} | {c['cases'] - c['failed']} | "
        + " | ".join(str(c[place]) for place in PLACES)
        + " |"
        for group, c in (sorted(cases.items()) if "node" not in cases else cases.items())
    ]


def _cell(reason: str) -> str:
    words = " ".join(reason.replace("|", "/").replace("`", "'").split())
    return words if len(words) <= _WORDS else f"{words[: _WORDS - 1]}…"


def results(rows: Sequence[Row], index: Sequence[Mapping[str, Any]], engine: str) -> str:
    """The page's data: every case as [suite, case, operator, status, where, reason]."""
    listed = [
        json.dumps(
            [r["suite"], r["case"], case["operator"], r["status"], r["where"], _cell(r["reason"])],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for r, case in zip(rows, index, strict=True)
    ]
    head = json.dumps({"onnx": pin("onnx"), "engine": engine})[1:-1]
    return "{" + head + ', "cases": [\n' + ",\n".join(listed) + "\n]}\n"
