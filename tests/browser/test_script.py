"""The script for onnxruntime of tests/onnx/scripts, unchanged, in a page."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tests.onnx.test_script import SCRIPT, model, under_onnxruntime
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

RUN = """
import base64, contextlib, io, os, runpy, tempfile
import tilework
from tilework import onnxruntime

tilework.device(2)
await tilework.ready()
onnxruntime.install()
os.chdir(tempfile.mkdtemp())
for name in ("model.onnx", "script.py"):
    with open(name, "wb") as file:
        file.write(base64.b64decode(task[name]))
with contextlib.redirect_stdout(io.StringIO()) as said:
    runpy.run_path("script.py")
said.getvalue()
"""


@pytest.mark.parametrize("mode", ["arena", "heap"])
def test_a_script_prints_the_same_as_under_onnxruntime_on_the_desktop(
    dist: Path, browser: object, tmp_path: Path, mode: str
) -> None:
    del browser
    files = {"model.onnx": model(), "script.py": SCRIPT.read_bytes()}
    task = {name: base64.b64encode(data).decode() for name, data in files.items()}
    with ENGINES["chromium"].open(host(dist, MODES[mode].isolated)) as page:
        ended = run(page, RUN, task, registered=True, seconds=120, memory=MODES[mode].memory)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    assert ended.value.splitlines() == under_onnxruntime(tmp_path / "theirs")
