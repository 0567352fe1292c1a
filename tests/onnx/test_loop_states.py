"""States that a loop hands on unchanged, as tf2onnx writes weights: constants of the body, or read
from outside; what changes stays a state."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tilework.ir.graph import Graph
from tilework.onnx.model import load_graph
from tilework.passes.pipeline import LOAD, run

pytestmark = pytest.mark.onnx

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
W = (np.random.default_rng(3).normal(size=(4, 4)) / 2).astype(np.float32)
B = np.array([0.1, -0.2, 0.3, 0.0], np.float32)


def content(returned: str = "") -> bytes:
    """h = tanh(h w + b) n times; w and b are states, b is fed. `returned`: a final state too."""

    def info(name: str, kind: int = FLOAT, shape: Any = None) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["q"]),
            helper.make_node("Tanh", ["q"], ["h2"]),
            helper.make_node("Identity", ["w"], ["w1"]),
            helper.make_node("Identity", ["w1"], ["w2"]),
            helper.make_node("Identity", ["b"], ["b2"]),
            helper.make_node("Identity", ["go"], ["go2"]),
            helper.make_node("Identity", ["h2"], ["row"]),
        ],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("h"), info("w"), info("b")],
        [info("go2", BOOL, []), info("h2"), info("w2"), info("b2"), info("row")],
    )
    names = ["last", "w_last", "b_last", "rows"]
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x", "w0", "b0"], names, body=body)],
        "loop",
        [info("n", INT64, []), info("x", FLOAT, ["batch", 4]), info("b0", FLOAT, [4])],
        [info(name) for name in ("last", "rows", *filter(None, [returned]))],
        [numpy_helper.from_array(W, "w0")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_weights_become_constants_of_the_body() -> None:
    graph, fired = run(load_graph(content()).graph, LOAD)
    (loop,) = (node for node in graph.nodes if node.op == "loop")
    body = loop.attrs["body"]
    assert isinstance(body, Graph)
    assert fired["loop's unchanged states"] == 1
    assert loop.attrs["carried"] == 1
    assert [value.name for value in body.inputs] == ["i", "go", "h", "b"]
    assert any(constant.array is not None and constant.shape == W.shape
               for constant in body.constants.values())  # fmt: skip
    assert loop.inputs == ("n", "", "x", "b0")


@pytest.mark.parametrize("returned", ["", "w_last", "b_last"])
@pytest.mark.parametrize("turns", [0, 1, 5])
def test_as_onnxruntime(turns: int, returned: str) -> None:
    x = np.random.default_rng(turns).normal(size=(3, 4)).astype(np.float32)
    feeds = {"n": np.array(turns), "x": x, "b0": B}
    model = content(returned)
    wanted = onnxruntime.InferenceSession(model).run(None, feeds)
    with tilework.InferenceSession(model) as session:
        found = session.run(None, feeds)
    for one, other in zip(found, wanted, strict=True):
        if one.size or other.size:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
