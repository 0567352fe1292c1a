"""The tree's rules: who may import whom, how long a file may be, what is not committed."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tools.project import KERNELS, PACKAGE, ROOT

pytestmark = pytest.mark.unit

LONGEST = 500  # lines
# Layer -> layers it may import; a layer may always import itself.
MAY_IMPORT = {
    "core": set[str](),
    "hal": {"core"},
    "ir": {"core"},
    "passes": {"core", "ir"},
    "plan": {"core", "hal", "ir", "passes"},
    "engine": {"core", "hal", "ir", "passes", "plan"},
    "onnx": {"core", "ir", "engine"},
    "onnxruntime": {"core", "onnx"},
}
# The package's front door may use everything that it offers.
FRONT_DOOR = {"__init__"}
NO_NUMPY = {"core", "hal"}
BROWSER_MODULES = {"js", "pyodide", "pyodide_js", "tilework_bridge"}
BROWSER_FILE = PACKAGE / "hal" / "drivers" / "browser.py"
GENERATED = (
    "pyapp/tilework/hal/_abi.py",
    "pyapp/tilework/hal/kernels",
    "web/abi.js",
    "kernels/generated",
)
SOURCES = {".py", ".js", ".mjs", ".c", ".h", ".wit", ".html", ".css", ".sh"}


@cache
def tracked() -> list[Path]:
    """Committed files, and new ones that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in said.split("\0") if name and (ROOT / name).is_file()]


def layer(path: Path) -> str:
    """The layer of a file of the library, or the name of a file at its top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def library() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "tilework":
                found += [(node.lineno, f"tilework.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_layers_import_only_what_the_table_allows() -> None:
    wrong = []
    for path in library():
        own = layer(path)
        for line, name in imported(path):
            package, _, rest = name.partition(".")
            if package != "tilework" or own in FRONT_DOOR:
                continue
            target = rest.partition(".")[0]
            if target != own and target not in MAY_IMPORT.get(own, set()):
                wrong.append(f"{where(path, line)}: {own} imports {target or 'tilework'}")
    assert not wrong, "\n".join(wrong)


def test_every_layer_is_in_the_table() -> None:
    layers = {layer(p) for p in library() if p.parent != PACKAGE}
    assert layers <= MAY_IMPORT.keys()


def test_the_browser_is_reached_in_one_file() -> None:
    wrong = [
        f"{where(path, line)}: {name}"
        for path in sorted((ROOT / "pyapp").rglob("*.py"))
        if path != BROWSER_FILE
        for line, name in imported(path)
        if name.partition(".")[0] in BROWSER_MODULES
    ]
    assert not wrong, "\n".join(wrong)


def test_core_and_hal_do_without_numpy() -> None:
    wrong = [
        f"{where(path, line)}: {name}"
        for path in library()
        if layer(path) in NO_NUMPY
        for line, name in imported(path)
        if name.partition(".")[0] == "numpy"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_library_does_not_need_its_tools_or_its_pages() -> None:
    wrong = [
        f"{where(path, line)}: {name}"
        for path in library()
        for line, name in imported(path)
        if name.partition(".")[0] in {"tools", "tests", "search", "onnx", "onnxruntime"}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in tracked()
        if path.suffix in SOURCES
    }
    assert lengths, "git lists no source at all"
    assert not {name: n for name, n in lengths.items() if n > LONGEST}


@pytest.mark.parametrize("folder", ["hal", "plan"])
def test_a_readme_that_lists_files_lists_all(folder: str) -> None:
    said = (PACKAGE / folder / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b\w+\.py\b", said))
    there = {p.name for p in library() if p.parent.name == folder and p.name[0] != "_"}
    assert there <= named, f"{sorted(there - named)} are not in {folder}/README.md"


def test_the_kernels_readme_lists_every_kernel() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", (KERNELS / "README.md").read_text("utf-8"), re.M)
    said = {family: set(names.split(", ")) for family, names in rows}
    for path in KERNELS.glob("*/*.wit"):
        names = re.findall(r"^  ([\w-]+): func", path.read_text(encoding="utf-8"), re.M)
        kernels = {name.replace("-", "_") for name in names}
        if path.parent.name not in ("probe", "processor"):  # no model uses these
            assert kernels == said.get(path.parent.name, set()), path


@pytest.mark.parametrize("page", sorted(KERNELS.glob("*/README.md")), ids=lambda p: p.parent.name)
def test_a_family_s_readme_names_its_files(page: Path) -> None:
    said = page.read_text(encoding="utf-8")
    there = {path.name for path in page.parent.glob("*.[ch]")}
    assert not {name for name in there if name not in said}


def test_generated_files_are_not_committed() -> None:
    command = ["git", "ls-files", "--", *GENERATED, "build", "dist", ".cache", ".venv"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == ""


@pytest.mark.parametrize("name", [*GENERATED[:1], "web/abi.js", "kernels/generated/gemm.h"])
def test_generated_files_are_ignored(name: str) -> None:
    done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
    assert done.returncode == 0, f".gitignore does not cover {name}"
