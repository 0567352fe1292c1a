"""read_sources on a copy of the package: what is imported is what Python's own finder gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.test_chapters import run
from tools.project import BUILD, PACKAGE

pytestmark = pytest.mark.unit

CODE = """
import sys
sys.dont_write_bytecode = True
import importlib, inspect, pkgutil
import tilework
from tilework.core.sources import read_sources

def listed():
    return sorted(one.name for one in pkgutil.walk_packages(tilework.__path__, "tilework."))

before = listed()
done = read_sources(tilework.__path__)
print(done)
assert listed() == before
for name in before:
    if not name.startswith("tilework.hal.drivers.browser"):
        module = importlib.import_module(name)
        spec = module.__spec__
        assert module.__file__ == spec.origin == spec.loader.get_filename(name)
        assert (spec.submodule_search_locations is not None) == hasattr(module, "__path__")
        assert module.__package__ == (name if hasattr(module, "__path__") else spec.parent)
layout = importlib.import_module("tilework.plan.layout")
assert importlib.reload(layout) is layout
assert (type(layout.__spec__.loader).__name__ == "_Source") == done
assert inspect.getsource(layout).startswith('\"\"\"')
try:
    import tilework.plan.nothing
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize("compiled", [False, True])
def test_modules_are_what_they_were(tmp_path: Path, compiled: bool) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "pyapp" / PACKAGE.name, ignore=ignored)
    (tmp_path / BUILD.name).symlink_to(BUILD)  # the kernels
    if compiled:
        (tmp_path / "pyapp" / PACKAGE.name / "__pycache__").mkdir()
    said = run(tmp_path / "pyapp", CODE)
    assert said.splitlines() == [str(not compiled), "No module named 'tilework.plan.nothing'"]
