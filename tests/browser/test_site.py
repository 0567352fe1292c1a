"""What build.py put into dist/: the wheel, the lock file, the linked scripts."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.conftest import OpenPage
from tools.browser import LARGEST_BODY
from tools.kernels import targets
from tools.wasm import read_module
from tools.wheel import wheel_name

pytestmark = pytest.mark.browser


@pytest.fixture
def wheel(dist: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(dist / wheel_name())


def test_record_names_every_file_with_its_hash(wheel: zipfile.ZipFile) -> None:
    record = next(n for n in wheel.namelist() if n.endswith(".dist-info/RECORD"))
    rows = list(csv.reader(wheel.read(record).decode().splitlines()))
    assert sorted(row[0] for row in rows) == sorted(wheel.namelist())
    for name, said, size in rows:
        if name != record:
            data = wheel.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (said, int(size)) == (f"sha256={digest}", len(data))


def test_the_wheel_holds_every_kernel_in_both_builds(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"tilework/kernels/{t.build}/{t.family}.wasm" for t in targets()} <= names
    for target in targets():
        module = read_module(wheel.read(f"tilework/kernels/{target.build}/{target.family}.wasm"))
        assert "dylink.0" in module.customs
        assert "name" not in module.customs


def test_the_lock_file_names_what_is_there(dist: Path) -> None:
    lock = json.loads((dist / "pyodide" / "pyodide-lock.json").read_text(encoding="utf-8"))
    assert set(lock["packages"]) == {"numpy", "micropip", "packaging"}
    for package in lock["packages"].values():
        data = (dist / "pyodide" / package["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == package["sha256"]


def test_every_file_can_be_served(dist: Path) -> None:
    large = [p.name for p in dist.rglob("*") if p.is_file() and p.stat().st_size > LARGEST_BODY]
    assert not large


def test_the_linked_bridge_is_the_bridge(wheel: zipfile.ZipFile, browser_page: OpenPage) -> None:
    page = browser_page()
    page.goto("http://localhost/site.json")
    linked = wheel.read("tilework/web/bridge.classic.js").decode()
    names = page.evaluate("text => Object.keys((0, eval)(text)).sort()", linked)
    module = page.evaluate("import('/web/bridge.js').then(m => Object.keys(m).sort())")
    assert names == module


def in_stock_python(page: Page, code: str) -> Any:
    """What Python code says in a page of the site, its wheel installed, the example beside it."""
    page.goto("http://localhost/site.json")
    return page.evaluate(
        """async (code) => {
          const { loadPyodide } = await import("/pyodide/pyodide.mjs");
          const pyodide = await loadPyodide();
          await pyodide.loadPackage(["numpy", "micropip"]);
          const { wheel } = await (await fetch("/site.json")).json();
          await pyodide.pyimport("micropip").install(new URL(wheel, location.href).href);
          const model = await (await fetch("/example.onnx")).arrayBuffer();
          pyodide.FS.writeFile("/example.onnx", new Uint8Array(model));
          return pyodide.runPython(code);
        }""",
        code,
    )


def test_stock_python_installs_the_wheel_by_name(browser_page: OpenPage) -> None:
    code = "import numpy, tilework; tilework.__name__ + numpy.__version__"
    assert in_stock_python(browser_page(isolated=False), code) == "tilework2.2.5"


COMPILED = """
import importlib, pathlib, py_compile, sys
from importlib.util import find_spec
import numpy as np
[root] = find_spec("tilework").submodule_search_locations
for source in sorted(pathlib.Path(root).rglob("*.py")):
    py_compile.compile(str(source), cfile=f"{source}c")
    source.unlink()
importlib.invalidate_caches()
import tilework
session = tilework.InferenceSession("/example.onnx")
[output] = session.run(None, {"input": np.eye(3, dtype=np.float32)})
files = {m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "tilework"}
output.shape == (3, 3) and all(file.endswith(".pyc") for file in files)
"""


def test_the_wheel_may_be_compiled_for_one_python(browser_page: OpenPage) -> None:
    """As `pyodide py-compile` leaves it: compiled code where the sources were."""
    assert in_stock_python(browser_page(isolated=False), COMPILED) is True
