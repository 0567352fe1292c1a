"""Networks that onnxruntime's quantize_static has made: in bytes from first to last.

Results are onnxruntime's to the last bit: sums of products are exact, the scales are multiplied in
the same order and a half goes the same way. So it is for sums and products of two tensors, which
are no operators of the standard, where the CPU has fused multiplications and the relaxed build uses
them. What either side computes in floats is rounded otherwise where a half is near, and a byte that
is one off moves what is behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.rows import peer
from tests.onnx.test_session_bert import plan_of
from tilework.plan.step import Dispatch
from tools.networks import light_model, mobilenet, picture, static_int8

pytestmark = pytest.mark.onnx

STEPS = 3  # of the output's scale, where either side computes something in floats
FORMS: dict[str, dict[str, bool]] = {
    "QDQ": {},
    "QDQ by channel": {"per_channel": True},
    "QDQ of int8": {"signed": True},
    "QDQ of uint8 weights": {"signed_weights": False},
    "operators": {"operators": True},
    "operators by channel": {"operators": True, "per_channel": True},
    "operators of int8": {"operators": True, "signed": True},
}
# The only kernels of floats that may be left: at the two ends.
ENDS = {"f32_quantize", "f32_dequantize"}


def steps_of(data: bytes) -> float:
    """The scale of the last DequantizeLinear."""
    graph = onnx.load_from_string(data).graph
    scale = next(n for n in reversed(graph.node) if n.op_type == "DequantizeLinear").input[1]
    return float(next(numpy_helper.to_array(t) for t in graph.initializer if t.name == scale))


def ran(model: onnx.ModelProto, data: bytes) -> tuple[Any, Any, set[str]]:
    """(ours, onnxruntime's, the kernels that ran)."""
    feeds = picture(model, 7)
    (wanted,) = peer(data).run(None, feeds)
    with tilework.InferenceSession(data) as session:
        for _ in range(2):
            (found,) = session.run(None, feeds)
        assert session.where() == "kernel"
        plan, _ = plan_of(session, feeds)
    assert wanted.std() > 0
    names = {step.kernel.name for step in plan.draft.steps if isinstance(step, Dispatch)}
    return found, wanted, names


@pytest.mark.parametrize("form", FORMS)
def test_mobilenet(form: str) -> None:
    model = mobilenet(side=32)
    data = static_int8(model, **FORMS[form])
    found, wanted, names = ran(model, data)
    np.testing.assert_array_equal(found, wanted)
    assert {name for name in names if name.startswith("f32")} == ENDS
    assert {"i8_conv", "i8_depthwise", "i8_pair", "i8_gemm"} <= names


@pytest.mark.parametrize("form", ["QDQ", "QDQ by channel", "operators", "operators by channel"])
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_network(name: str, form: str) -> None:
    model = light_model(name)
    data = static_int8(model, **FORMS[form])
    found, wanted, names = ran(model, data)
    if name == "shufflenet" and "QDQ" in form:  # onnxruntime adds up a Sum in floats, we in bytes
        np.testing.assert_allclose(found, wanted, rtol=0, atol=STEPS * steps_of(data))
    else:
        np.testing.assert_array_equal(found, wanted)
    if name == "squeezenet":  # ShuffleNet's average pools do not count their padding
        assert {one for one in names if one.startswith("f32")} == ENDS


def small(nodes: list[Any], weights: dict[str, Any]) -> onnx.ModelProto:
    """A model of a picture of 8 channels, 12 x 12."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8, 12, 12])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def blocks() -> onnx.ModelProto:
    """What light networks lack: tables, a product of tensors, a gate by channel."""
    rng = np.random.default_rng(3)
    weights = {
        name: (rng.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in {"w": (16, 4, 3, 3), "b": (16,), "v": (8, 16, 1, 1)}.items()
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["a"], group=2, pads=[1] * 4, strides=[2, 2]),
        node("LeakyRelu", ["a"], ["c"], alpha=0.2),
        node("Sigmoid", ["c"], ["d"]),
        node("Mul", ["c", "d"], ["e"]),
        node("Conv", ["e", "v"], ["f"]),
        node("Conv", ["c", "v"], ["g"]),
        node("Concat", ["f", "g"], ["h"], axis=1),
        node("GlobalAveragePool", ["h"], ["i"]),
        node("Mul", ["h", "i"], ["j"]),
        node("AveragePool", ["j"], ["k"], kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxPool", ["k"], ["l"], kernel_shape=[2, 2]),
    ]
    return small(nodes, weights)


def attention() -> onnx.ModelProto:
    """Eight heads of twelve rows, causal; the mask is finite, for -inf has no scale."""
    rng = np.random.default_rng(5)
    weights = {n: (rng.standard_normal((12, 12)) * 0.3).astype(np.float32) for n in "qkvw"}
    weights["mask"] = np.triu(np.full((12, 12), -100, np.float32), 1)
    weights["part"] = np.array(12**-0.5, np.float32)
    node = helper.make_node
    nodes = [
        *(node("MatMul", ["x", n], [n + n]) for n in "qkv"),
        node("Transpose", ["kk"], ["turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["qq", "turned"], ["scores"]),
        node("Mul", ["scores", "part"], ["scaled"]),
        node("Add", ["scaled", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["chances"], axis=-1),
        node("MatMul", ["chances", "vv"], ["seen"]),
        node("MatMul", ["seen", "w"], ["mixed"]),
        node("Add", ["x", "mixed"], ["y"]),
    ]
    return small(nodes, weights)


@pytest.mark.parametrize("form", FORMS)
def test_attention(form: str) -> None:
    """onnxruntime leaves operations in QDQ apart here: the QLinearSoftmax that it would make of
    them cuts 1 / scale, 254.99998 of 1 / 255, to 254, and all behind that is other bytes.
    """
    model = attention()
    data = static_int8(model, **FORMS[form])
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    feeds = picture(model, 7)
    (wanted,) = onnxruntime.InferenceSession(data, options).run(None, feeds)
    with tilework.InferenceSession(data) as session:
        (found,) = session.run(None, feeds)
    assert wanted.std() > 0
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", FORMS)
def test_blocks(form: str) -> None:
    model = blocks()
    data = static_int8(model, **FORMS[form])
    found, wanted, _ = ran(model, data)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=STEPS * steps_of(data))
