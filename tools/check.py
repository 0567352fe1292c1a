"""Runs the static checks: ruff, mypy, tsc and the tests that hold the tree's shape.

Owns which checker looks at which files; the settings are in pyproject.toml and web/tsconfig*.json.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.dependencies import node
from tools.fetch import TYPESCRIPT
from tools.project import ROOT, WEB
from tools.steps import Line

PYTHON = ("build.py", "pyapp", "tools", "tests")
TREE = ROOT / "tests" / "unit" / "test_tree.py"


def run_checks() -> int:
    """Every check, also after one has failed; returns 0 when all are clean."""
    tsc = TYPESCRIPT.folder / "bin" / "tsc"
    checks: list[tuple[str, list[str | Path]]] = [
        ("ruff check", [sys.executable, "-m", "ruff", "check", *PYTHON]),
        ("mypy --strict", [sys.executable, "-m", "mypy", *PYTHON]),
        ("tree and imports", [sys.executable, "-m", "pytest", "-q", "--no-header", TREE]),
    ]
    for configuration in sorted(WEB.glob("tsconfig*.json")):
        checks.append((f"tsc {configuration.stem}", [node(), tsc, "-p", configuration]))
    failed = [name for name, command in checks if not _passes(name, command)]
    if failed:
        print(f"  not clean: {', '.join(failed)}")
    return 1 if failed else 0


def _passes(name: str, command: Sequence[str | Path]) -> bool:
    line = Line(name)
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    line.end(f"{line.seconds():6.1f} s  {'clean' if done.returncode == 0 else 'failed'}")
    if done.returncode:
        print((done.stdout + done.stderr).rstrip(), flush=True)
    return done.returncode == 0
