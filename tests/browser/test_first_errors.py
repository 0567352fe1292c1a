"""What a person meets first in a page that is not set up: errors say what, where, what to do."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tests.onnx.linear import FLOAT, info, linear, model
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

RUN = """
import base64, json
import numpy as np
import tilework

linear, unheard = (base64.b64decode(content) for content in task)
session = tilework.InferenceSession(linear)
x = np.ones((2, 3), np.float32)
tries = {
    "a file of the site": lambda: tilework.InferenceSession("model.onnx"),
    "an address of nothing": lambda: tilework.InferenceSession(f"{site}/model.onnx"),
    "a page": lambda: tilework.InferenceSession(f"{site}/index.html"),
    "a custom operator": lambda: tilework.InferenceSession(unheard),
    "a name": lambda: session.run(None, {"input": x}),
    "a dtype": lambda: session.run(None, {"x": x.astype(float)}),
    "a rank": lambda: session.run(None, {"x": x[0]}),
    "no input": lambda: session.run(None, {}),
}
from js import location
site = location.origin
found = {"the device": str(tilework.device())}
for name, attempt in tries.items():
    try:
        attempt()
    except tilework.TileworkError as error:
        found[name] = f"{type(error).__name__}: {error}"
json.dumps(found)
"""
SAID = {
    "the device": r"1 thread.* not cross-origin isolated.* serve it with the headers .* every core",
    "a file of the site": r"NoSuchFile: .*'model.onnx' is not there, seen from /.* whole URL",
    "an address of nothing": r"NoSuchFile: http.*/model.onnx: HTTP status 404.*check the address",
    "a page": r"InvalidProtobuf: model http.*/index.html is a web page.*check the address",
    "a custom operator": r"NotImplemented: .*my.own.Unheard \(opset 3, node 'the node'\)\. Add",
    "a name": r"InvalidArgument: invalid input name 'input'; the model's inputs: 'x'",
    "a dtype": r"InvalidArgument: .*'x': actual float64, expected float32 .*\.astype\(numpy",
    "a rank": r"InvalidArgument: .*'x': got 1 \[3\], expected 2 \[batch, 3\]; reshape it",
    "no input": r"InvalidArgument: required inputs \['x'\] are missing .*; feed an array for each",
}


def custom() -> Any:
    node = helper.make_node("Unheard", ["x"], ["y"], "the node", domain="my.own")
    made = model([node], [info("x", FLOAT, [1])], [info("y", FLOAT, [1])])
    made.opset_import.append(helper.make_opsetid("my.own", 3))
    return made


def test_errors_say_what_where_and_what_to_do(dist: Path, browser: object) -> None:
    del browser
    task = [base64.b64encode(made.SerializeToString()).decode() for made in (linear(), custom())]
    with ENGINES["chromium"].open(host(dist, MODES["inline"].isolated)) as page:
        ended = run(page, RUN, task, registered=True, seconds=120)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    found = json.loads(ended.value)
    assert found.keys() == SAID.keys()
    for name, words in SAID.items():
        assert re.search(words, found[name], re.DOTALL), f"{name}: {found[name]}"
