"""ONNX's backend suite through tilework, in Chromium or on the desktop, counted.

    --engine chromium|desktop   where; chromium: the built site, Pyodide, mode arena
    --threads N                 2 by default
    --only PATTERN              cases by name, e.g. 'test_cast*'
    --suite NAME                node, simple, pytorch-converted, pytorch-operator, light
    --json FILE                 a list of {"suite", "case", "status", "where", "reason"}
    --publish                   write the table in docs/ and the data of the site's page
    --failures                  print every case that failed

The exit status is 0 when every case has passed. A case that ends the page, or that keeps it busy
for too long, has failed; the ones after it run in a new page.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools import case_pages
from tools.cases import make_pack, read_index, read_pack
from tools.project import PACKAGE, BuildError
from tools.steps import Line

if str(PACKAGE.parent) not in sys.path:
    sys.path.insert(0, str(PACKAGE.parent))

Row = dict[str, str]
Tell = Callable[[str], None]

PATIENCE = 900  # seconds for a page
_WHERE = {"chromium": "in Chromium", "desktop": "on the desktop engine"}
_SHOWN = 25  # reasons
_ENTRY = """
from tests.conformance.in_page import run
await run(task, post)
"""


def main(arguments: Sequence[str]) -> int:
    """Run, print, write; 1 when a case has failed."""
    parser = argparse.ArgumentParser(
        prog="build.py conformance --suite onnx",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--engine", choices=["chromium", "desktop"], default="chromium")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--suite", action="append", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--failures", action="store_true")
    options = parser.parse_args(arguments)
    make_pack()
    index = read_index()
    suites = [name for name in options.suite if name != "onnx"]
    numbers = [n for n, case in enumerate(index) if _asked(case, options.only, suites)]
    if not numbers:
        raise BuildError(f"no case is called {' or '.join(options.only)}")
    run = _on_the_desktop if options.engine == "desktop" else _in_chromium
    line = Line(f"onnx, {options.engine}")
    try:
        rows = run(index, numbers, options.threads, line.progress)
    except BaseException:
        line.end("failed")
        raise
    line.end(f"{len(rows)} cases in {line.seconds():.0f} s, {options.threads} threads")
    print("\n".join(summary(rows)), flush=True)
    if options.failures:
        for row in rows:
            if row["status"] == "failed":
                print(f"{row['suite']} {row['case']}: {row['reason']}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        from tools.conformance_report import publish

        publish(rows, index, f"{_WHERE[options.engine]}, {options.threads} threads")
    return 0 if all(row["status"] == "passed" for row in rows) else 1


def _asked(case: dict[str, Any], patterns: Sequence[str], suites: Sequence[str]) -> bool:
    if suites and case["suite"] not in suites:
        return False
    return not patterns or any(fnmatch.fnmatch(case["case"], p) for p in patterns)


# -- the engines ---------------------------------------------------------------------------------


def _on_the_desktop(
    index: Sequence[dict[str, Any]], numbers: Sequence[int], threads: int, tell: Tell
) -> list[Row]:
    from dataclasses import asdict

    from tests.conformance.runner import Pack, run_case

    pack = Pack(*read_pack())
    rows = []
    for done, number in enumerate(numbers):
        tell(f"{done} of {len(numbers)}, {index[number]['case']}")
        rows.append(asdict(run_case(pack, index[number], threads)))
    return rows


def _in_chromium(
    index: Sequence[dict[str, Any]], numbers: Sequence[int], threads: int, tell: Tell
) -> list[Row]:
    def task(left: Sequence[int]) -> object:
        return {"numbers": left, "threads": threads}

    found = case_pages.rows(_ENTRY, numbers, task, PATIENCE, tell)
    return [
        _lost(index[number], row) if isinstance(row, str) else row
        for number, row in zip(numbers, found, strict=True)
    ]


def _lost(case: dict[str, Any], reason: str) -> Row:
    names = {"suite": case["suite"], "case": case["case"]}
    return {**names, "status": "failed", "where": "", "reason": reason}


# -- words ---------------------------------------------------------------------------------------


def summary(rows: Sequence[Row]) -> list[str]:
    """Counts per suite, and the commonest reasons of failure."""
    lines = ["suite                 cases  passed  failed  kernel  mixed  host"]
    for suite in [*dict.fromkeys(row["suite"] for row in rows), ""]:
        mine = [row for row in rows if suite in ("", row["suite"])]
        passed = [row for row in mine if row["status"] == "passed"]
        where = Counter(row["where"] for row in passed)
        lines.append(
            f"{suite or 'all':<20}{len(mine):>7}{len(passed):>8}{len(mine) - len(passed):>8}"
            f"{where['kernel']:>8}{where['mixed']:>7}{where['host']:>6}"
        )
    reasons = Counter(kind(row["reason"]) for row in rows if row["status"] == "failed")
    lines += [f"{count:>6}  {words}" for words, count in reasons.most_common(_SHOWN)]
    if len(reasons) > _SHOWN:
        rest = sum(reasons.values()) - sum(n for _, n in reasons.most_common(_SHOWN))
        lines.append(f"{rest:>6}  other reasons, {len(reasons) - _SHOWN} of them")
    return lines


def kind(reason: str) -> str:
    """A reason without what differs from case to case."""
    missing = re.match(r"NotImplemented: operators that are not implemented: (.*)\. Add", reason)
    if missing:
        names = re.findall(r"([\w.]+) \(opset", missing[1])
        return f"not implemented: {', '.join(names)}"
    plain = re.sub(r"'[^']*'", "'…'", reason)
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "n", plain)[:150]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildError as error:
        sys.exit("\n".join(filter(None, [error.details, f"conformance: {error}"])))
