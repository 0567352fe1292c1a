"""`build.py kernel`: the README's command as it stands, and what it says of wrong folders."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hal.own import example, write_example
from tilework.core.errors import InvalidExecutable
from tilework.hal.module import read_module
from tools.own_kernel import build_kernel
from tools.project import ROOT, BuildError

pytestmark = pytest.mark.unit


def test_the_readme_s_command_makes_the_module(tmp_path: Path) -> None:
    write_example(tmp_path / "scale")
    python, script, *rest = shlex.split(example("sh"))
    assert (python, script) == ("python3", "tilework/build.py")
    command = [sys.executable, str(ROOT / "build.py"), *rest]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = read_module((tmp_path / "scale.wasm").read_bytes(), "scale")
    assert made.entries == ("scale",)
    assert [b.access for b in made.kernels["scale"].bindings] == ["input", "output"]


def test_the_example_is_thirty_lines() -> None:
    text = "".join(example(language) for language in ("wit", "c", "sh", "python"))
    assert len([line for line in text.splitlines() if line.strip()]) <= 32


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "scale"
    folder.mkdir()
    with pytest.raises(BuildError, match=r"scale\.wit is missing"):
        build_kernel(folder)
    write_example(folder)
    source = folder / "scale.c"
    source.write_text(source.read_text().replace("scale(const", "other(const"))
    with pytest.raises(BuildError, match=r"scale of its \.wit is not exported"):
        build_kernel(folder)
    source.unlink()
    with pytest.raises(BuildError, match=r"no \.c and no \.zig file"):
        build_kernel(folder)
    (folder / "scale.wit").write_text("nonsense")
    source.write_text("")
    with pytest.raises(BuildError, match=r"scale\.wit:1:1"):
        build_kernel(folder)
    assert not (tmp_path / "scale.wasm").exists()


def test_constructors_are_seen(tmp_path: Path) -> None:
    """They are no error to a compiler; the loader knows them by what the linker exports."""
    folder = tmp_path / "scale"
    write_example(folder)
    source = folder / "scale.c"
    late = "__attribute__((constructor)) static void late(void) { x = 1; }"
    source.write_text(f"{source.read_text()}static volatile int x;\n{late}\n")
    with pytest.raises(InvalidExecutable, match="has constructors"):
        read_module(build_kernel(folder).read_bytes(), "scale")
