"""docs/operators.md applied to a copy of the package: the operator runs; files are counted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.project import BUILD, PACKAGE, ROOT

pytestmark = pytest.mark.unit

MOST = 3  # files that an added operator touches
PAGE = ROOT / "docs" / "operators.md"
TRY = """
import numpy as np
from onnx import TensorProto, helper
from tilework.ir.reference import run_reference
from tilework.onnx.model import load_graph
from tilework.onnx.session import InferenceSession

node = helper.make_node("Square", ["x"], ["y"], domain="com.example")
value = helper.make_tensor_value_info
for dtype, where in (("float32", "kernel"), ("float16", "kernel"), ("int8", "kernel")):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph([node], "g", [value("x", kind, ["n"])], [value("y", kind, ["n"])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    x = np.arange(-5, 6).astype(dtype)
    wanted = x * x
    assert (run_reference(load_graph(model).graph, {"x": x})["y"] == wanted).all()
    with InferenceSession(model) as session:
        (y,) = session.run(None, {"x": x})
        assert y.dtype == wanted.dtype and (y == wanted).all()
        assert session.where() == where, (dtype, session.where())
print("it runs")
"""


def additions() -> list[tuple[str, str]]:
    """(file, what is added to it) of each piece of code on the page."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"```python (\S+)\n(.*?)```", text, re.DOTALL)


def attempt(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", TRY]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_an_operator_is_added_as_the_page_says(tmp_path: Path) -> None:
    checkout = tmp_path / "pyapp"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, checkout / PACKAGE.name, ignore=ignored)
    (tmp_path / BUILD.name).symlink_to(BUILD)  # the kernels
    before = attempt(checkout)
    assert "operators that are not implemented: com.example.Square" in before.stderr
    touched = set()
    for file, code in additions():
        path = checkout / file
        assert path.is_file(), f"{file} is a file that there is"
        path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{code}", encoding="utf-8")
        touched.add(file)
    assert touched
    assert len(touched) <= MOST
    done = attempt(checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "it runs"


def test_the_readme_shows_the_way() -> None:
    assert "docs/operators.md" in (ROOT / "README.md").read_text(encoding="utf-8")
