"""A script for onnxruntime, unchanged, prints the same under tilework.onnxruntime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tools.project import ROOT

pytestmark = pytest.mark.onnx

SCRIPT = ROOT / "tests" / "onnx" / "scripts" / "example.py"
UNDER_TILEWORK = """
import runpy, sys
from tilework import onnxruntime
onnxruntime.install()
runpy.run_path(sys.argv[1])
"""


def model() -> bytes:
    """probabilities = softmax(scale · (x @ w + b)), present = past and the probabilities."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Add", ["product", "b"], ["sum"], name="sum"),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"], name="scaling"),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=-1, name="softmax"),
        helper.make_node("Concat", ["past", "probabilities"], ["present"], axis=0, name="joined"),
    ]
    numbers = [((7 * i) % 12 - 6) / 6 for i in range(12)]
    constants = [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 3], numbers),
        helper.make_tensor("b", TensorProto.FLOAT, [3], [0.5, -0.5, 0.25]),
        helper.make_tensor("scale", TensorProto.FLOAT, [1], [1.0]),
    ]
    shapes: dict[str, list[int | str]] = {
        "x": ["batch", 4], "past": ["rows", 3], "scale": [1],
        "probabilities": ["batch", 3], "present": ["all", 3],
    }  # fmt: skip
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        nodes, "classifier", [values[name] for name in ("x", "past", "scale")],
        [values[name] for name in ("probabilities", "present")], constants,
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="a test",
        doc_string="four numbers in, three out", domain="example", model_version=3,
    )  # fmt: skip
    helper.set_model_props(made, {"author": "nobody", "classes": "a,b,c"})
    made.ir_version = 8
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def run(folder: Path, *arguments: str) -> list[str]:
    """What Python prints in a folder with the model."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model())
    path = os.pathsep.join([str(ROOT / "pyapp"), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def under_onnxruntime(folder: Path) -> list[str]:
    """What the script prints under onnxruntime itself."""
    return run(folder, str(SCRIPT))


def test_a_script_prints_the_same_as_under_onnxruntime(tmp_path: Path) -> None:
    theirs = under_onnxruntime(tmp_path / "theirs")
    ours = run(tmp_path / "ours", "-c", UNDER_TILEWORK, str(SCRIPT))
    assert len(theirs) > 40
    assert ours == theirs


def test_the_readme_s_example(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## onnxruntime's scripts")[2].partition("\n## ")[0]
    code = section.partition("```python\n")[2].partition("```")[0]
    said = run(tmp_path / "readme", "-c", code)
    assert said[0].startswith("[NodeArg(name='x', type='tensor(float)', shape=['batch', 4])")
    assert "[6, 3]" in said[2]
    assert "f32_softmax" in "\n".join(said)
    assert (tmp_path / "readme" / said[-1]).is_file()


def test_its_trace_has_a_track_for_each_thread(tmp_path: Path) -> None:
    run(tmp_path / "ours", "-c", UNDER_TILEWORK, str(SCRIPT))
    (file,) = (tmp_path / "ours").glob("example*.json")
    events = json.loads(file.read_text())
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {0: "calling thread", 1: "worker 1"}
    assert {event["tid"] for event in events} <= {0, 1}
    assert all(event["ts"] >= 0 for event in events)
    assert {event["cat"] for event in events} >= {"Session", "Node", "__metadata"}
