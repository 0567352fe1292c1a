"""Sessions on the caller's own arrays, in the modes where kernels see NumPy's memory."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

# Three outputs: over the input if it could be overwritten, made of two steps, and the input itself.
RUN = """
import base64, json
import numpy as np
import tilework

session = tilework.InferenceSession(base64.b64decode(task["model"]))
await tilework.ready()
device = tilework.device()
found = {"mode": device.mode, "copied": {}}

def check(name, x):
    session.run(None, {"x": x})  # plans
    session.run(None, {"x": x})  # what follows may be repeated
    before, kept = device.memory, x.copy()
    more, product, same = session.run(None, {"x": x})
    after = device.memory
    assert (x == kept).all(), f"{name}: the input was overwritten"
    assert (more == kept + 1).all() and (same == kept).all(), name
    assert np.allclose(product, np.maximum(kept, 0) @ np.ones((256, 256), np.float32)), name
    for output in (more, product, same):
        assert not np.shares_memory(output, x), f"{name}: an output is the input"
        output[:] = -1  # it is the caller's now
    found["copied"][name] = [
        after.copied_in - before.copied_in, after.copied_out - before.copied_out, x.nbytes
    ]
    assert (after.in_use, after.imported) == (before.in_use, before.imported), name

values = np.random.default_rng(1).integers(-9, 9, 1024 * 256 + 1).astype(np.float32)
for again in range(3):
    for rows in (1024, 512, 1):
        check(f"{rows} rows", values[: rows * 256].reshape(rows, 256))
fixed = values[: 1024 * 256].reshape(1024, 256).copy()
fixed.flags.writeable = False
check("read-only", fixed)
check("not aligned", values[1:].reshape(1024, 256))
session.close()
json.dumps(found)
"""


def model() -> bytes:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["product"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["x", "one"], ["more"]),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [256, 256], [1.0] * 256 * 256)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 256])
        for name in ("x", "more", "product", "same")
    ]
    graph = helper.make_graph(nodes, "in place", values[:1], values[1:], [one, weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("mode", ["heap", "inline", "arena"])
def test_a_session_computes_in_the_caller_s_arrays(dist: Path, browser: object, mode: str) -> None:
    del browser
    task = {"model": base64.b64encode(model()).decode()}
    with ENGINES["chromium"].open(host(dist, MODES[mode].isolated)) as page:
        ended = run(page, RUN, task, registered=True, seconds=120, memory=MODES[mode].memory)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    found = json.loads(ended.value)
    assert found["mode"] == mode
    for name, (into, out, nbytes) in found["copied"].items():
        if mode == "arena" or name == "1 rows":  # small ones are copied sooner than bound
            assert (into, out) == (nbytes, 3 * nbytes), name
        elif name == "not aligned" and into:
            assert (into, out) == (nbytes, nbytes), name
        else:
            # The input that is returned as it is has to be copied once.
            assert (into, out) == (0, nbytes), name
