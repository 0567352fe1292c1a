"""What onnxruntime's transformer optimiser writes around its operators, beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.graphs import f32
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx
WIDTH, HEADS = 8, 2


def embedded_attention(kind: Any) -> bytes:
    """EmbedLayerNormalization without a mask hands Attention one of zeros, whose rank no file
    declares."""
    weights = {
        "words": f32(9, WIDTH), "places": f32(7, WIDTH, seed=1), "gamma": f32(WIDTH, seed=2),
        "beta": f32(WIDTH, seed=3), "w": f32(WIDTH, 3 * WIDTH, seed=4), "b": f32(3 * WIDTH, seed=5),
    }  # fmt: skip
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization", ["ids", "", "words", "places", "", "gamma", "beta"],
            ["x", "dummy"], domain="com.microsoft", epsilon=1e-6,
        ),
        helper.make_node(
            "Attention", ["x", "w", "b", "dummy"], ["y"], domain="com.microsoft", num_heads=HEADS
        ),
        helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT),
    ]  # fmt: skip
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        nodes,
        "optimised",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "s"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(dtype), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return data


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_embedding_whose_mask_is_a_dummy(kind: Any) -> None:
    feeds = {"ids": np.array([[1, 2, 8, 0], [3, 3, 3, 5]], np.int32)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    exact = embedded_attention(TensorProto.FLOAT)  # onnxruntime has it in float16 on GPUs only
    theirs = onnxruntime.InferenceSession(exact, options, providers=["CPUExecutionProvider"])
    [wanted] = theirs.run(None, feeds)
    with InferenceSession(embedded_attention(kind)) as session:
        [found] = session.run(None, feeds)
        assert session.where() == "kernel"
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 2e-2
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
