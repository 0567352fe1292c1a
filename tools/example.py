"""The model of the landing page's example: the probabilities of three classes, as an ONNX file."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

NAME = "example.onnx"
WEIGHT = np.eye(3, dtype=np.float32) + np.arange(3, dtype=np.float32)


def example() -> bytes:
    """`probabilities` = softmax(`input` @ WEIGHT), float32, for any number of rows of three."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["product"]),
        helper.make_node("Softmax", ["product"], ["probabilities"], axis=-1),
    ]
    float32 = TensorProto.FLOAT
    shape: list[str | int | None] = ["rows", 3]
    graph = helper.make_graph(
        nodes,
        "example",
        [helper.make_tensor_value_info("input", float32, shape)],
        [helper.make_tensor_value_info("probabilities", float32, shape)],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))
