"""The wheel's index of chapters: complete, and a model imports no chapter that it does not name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tilework.core.chapters import Chapters
from tilework.core.errors import InvalidArgument
from tilework.ir.opdefs import OPS
from tilework.onnx.ops import OPERATORS
from tilework.plan.lowerings import LOWERINGS
from tools.project import BUILD, PACKAGE, ROOT

pytestmark = pytest.mark.unit

TABLES = """
from tilework.ir.opdefs import OPS
from tilework.onnx.ops import OPERATORS
from tilework.plan.lowerings import LOWERINGS
"""
MODEL = """
import sys
import numpy as np
from onnx import TensorProto, helper
from tilework.onnx.session import InferenceSession

node = helper.make_node("Relu", ["x"], ["y"])
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
opset = helper.make_opsetid("", 17)
graph = helper.make_graph([node], "g", [x], [y])
model = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
with InferenceSession(model) as session:
    (result,) = session.run(None, {"x": np.arange(-5, 6, dtype=np.float32)})
assert result.tolist() == [0] * 6 + [1, 2, 3, 4, 5]
print(*sorted(name for name in sys.modules if name.startswith("tilework.")))
"""
# Each costs a page a few milliseconds, whoever imports it.
NOT_OF_RELU = (
    "engine.control", "engine.recorder", "engine.view", "hal.far", "hal.kernels.gemm",
    "hal.queue", "hal.scheduler", "ir.images.png", "ir.opdefs.control", "ir.opdefs.conv",
    "ir.opdefs.quant", "onnx.binding", "onnx.ops.trees", "onnx.profile", "passes.bytes",
    "passes.conv", "passes.quant", "plan.lowerings.matmul",
)  # fmt: skip


def run(folder: Path, code: str) -> str:
    """What `code` prints in a Python of its own that has the package of `folder`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def index() -> str:
    made = "import json; from tools.chapters import index; print(json.dumps(index()))"
    return run(PACKAGE.parent, made)


@pytest.fixture(scope="module")
def indexed(index: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a copy of the package with its index, as in the wheel."""
    folder = tmp_path_factory.mktemp("wheel") / "pyapp"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
    (folder.parent / BUILD.name).symlink_to(BUILD)  # the kernels
    (folder / PACKAGE.name / "chapters.json").write_text(index, encoding="utf-8")
    return folder


def test_the_index_has_every_key_of_the_tables(index: str) -> None:
    told = json.loads(index)
    assert sorted(told) == sorted(table.package for table in (OPS, OPERATORS, LOWERINGS))
    tables: tuple[Chapters[Any, Any], ...] = OPS, OPERATORS, LOWERINGS
    for table in tables:
        listed = [key for keys in told[table.package].values() for key in keys.split()]
        assert sorted(listed) == sorted(map(table.spell, table.keys()))


def test_every_key_is_found_in_its_chapter(indexed: Path) -> None:
    code = """
for table in (OPS, OPERATORS, LOWERINGS):
    for chapter, keys in told[table.package].items():
        for key in keys.split():
            key = tuple(key.rsplit(".", 1)) if table is OPERATORS else key
            assert key in table and table.get(key) is table[key], key
    assert dict.__len__(table) == len(table) == len(list(table)) == len(table.items())
print("all")
"""
    reading = "import json\nfrom tilework.core.chapters import INDEX\n"
    reading += "told = json.loads(INDEX.read_text())"
    assert run(indexed, f"{reading}{TABLES}{code}").strip() == "all"


def test_a_model_imports_what_it_names(indexed: Path) -> None:
    imported = set(run(indexed, MODEL).split())
    assert {"tilework.onnx.ops.math", "tilework.plan.lowerings.elementwise"} <= imported
    for module in NOT_OF_RELU:
        assert (PACKAGE / f"{module.replace('.', '/')}.py").is_file()
        assert f"tilework.{module}" not in imported


def test_what_no_chapter_has_is_missing(indexed: Path) -> None:
    code = """
for table, key in ((OPS, "nil"), (OPERATORS, ("", "Nil")), (LOWERINGS, "nil")):
    assert key not in table and table.get(key) is None and table.get(key, 1) == 1
    try:
        table[key]
    except KeyError as error:
        assert error.args == (key,)
    else:
        raise AssertionError(key)
try:
    OPS.enter("dft", None)  # of a chapter that is not imported
except Exception as error:
    print(type(error).__name__, error)
"""
    assert run(indexed, TABLES + code).strip() == (
        "InvalidArgument 'dft' is defined twice in tilework.ir.opdefs"
    )


def test_a_key_is_entered_once() -> None:
    with pytest.raises(InvalidArgument, match=r"'\.Relu' is defined twice in tilework\.onnx\.ops"):
        OPERATORS.enter(("", "Relu"), OPERATORS["", "Relu"])
