"""Kernel modules that are nobody's family: the README's, in C, and `triple`, in Zig.

Built as `build.py kernel` builds them, by whoever first asks outside a browser; a page is given
what was built.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "pyapp" / "tilework" / "hal" / "README.md"
BUILT = ROOT / "build" / "tests" / "own"
HEADING = "## A kernel of your own"
OWN = ("scale", "triple")


def example(language: str) -> str:
    """The one block of `language` in the README's section about kernels of one's own."""
    section = README.read_text("utf-8").partition(HEADING)[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
    assert len(found) == 1, f"{README} has {len(found)} blocks of {language} below {HEADING}"
    return str(found[0])


@cache
def module(name: str) -> bytes:
    """The bytes of <name>.wasm."""
    if sys.platform != "emscripten":
        build(name)
    return (BUILT / f"{name}.wasm").read_bytes()


@cache
def build(name: str) -> Path:
    """Compiles a module of OWN; where it lies."""
    from tools.own_kernel import build_kernel
    from tools.steps import building

    folder = Path(__file__).resolve().parent / name
    with building():  # tests in other processes want it too
        if name == "scale":
            folder = BUILT / name
            write_example(folder)
        return build_kernel(folder, BUILT / f"{name}.wasm")


def write_example(folder: Path) -> None:
    """The README's kernel as files in `folder`, which is called `scale`."""
    folder.mkdir(parents=True, exist_ok=True)
    for language in ("wit", "c"):
        (folder / f"scale.{language}").write_text(example(language), "utf-8")
