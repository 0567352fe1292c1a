"""kernels/README.md applied to a copy of the tree: its kernel compiles and passes its cases."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.harness import KERNELS

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no compiler"),
]

ROOT = KERNELS.parent
PAGE = KERNELS / "README.md"
BUILD = """
from tests.kernels.bare_host import BUILDS
from tools import wit
from tools.own_kernel import build_kernel
from tools.project import BUILD, KERNELS, ROOT
wit.generate(ROOT)
for build in BUILDS:
    build_kernel(KERNELS / "totals", BUILD / "kernels" / build / "totals.wasm", build)
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": f"{folder}:{folder / 'pyapp'}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_kernel_is_added_as_the_page_says(tmp_path: Path) -> None:
    for name in ("kernels", "pyapp", "tests", "tools", "build/kernels", "pyproject.toml"):
        here, there = ROOT / name, tmp_path / name
        there.parent.mkdir(exist_ok=True)
        if here.is_file():
            shutil.copy(here, there)
        else:
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
    files = re.findall(r"```\w+ (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert [name for name, _ in files] == ["totals/totals.wit", "totals/f32_cumsum.c",
                                           "totals/cases.py"]  # fmt: skip
    (tmp_path / "kernels/totals").mkdir()
    for name, text in files:
        (tmp_path / "kernels" / name).write_text(text, "utf-8")
    built = python(tmp_path, "-c", BUILD)
    assert built.returncode == 0, built.stderr
    asked = ("-k", "cumsum or totals", "-q", "-p", "no:cacheprovider")
    tested = python(tmp_path, "-m", "pytest", "tests/kernels/test_cases.py", *asked)
    assert tested.returncode == 0, tested.stdout
    assert "13 passed" in tested.stdout  # six cases in two builds, and that there are some
