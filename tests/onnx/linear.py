"""A model that tests of sessions share: one product, one bias, one activation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name: str, dtype: int, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], stored: Any = ()) -> Any:
    graph = helper.make_graph(nodes, "made", inputs, outputs, list(stored))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test"
    )


def linear() -> Any:
    """y = relu(x w + b), x (batch, 3)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    stored = [
        numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4) - 5, "w"),
        numpy_helper.from_array(np.arange(4, dtype=np.float32), "b"),
    ]
    return model(nodes, [info("x", FLOAT, ["batch", 3])], [info("y", FLOAT, ["batch", 4])], stored)


def expected(x: Any) -> Any:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    return np.maximum(x @ weight + np.arange(4, dtype=np.float32), 0)


X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def external(folder: Path) -> Path:
    """The linear model with its weight in a file of its own, behind some other bytes."""
    made = linear()
    (weight,) = (tensor for tensor in made.graph.initializer if tensor.name == "w")
    (folder / "model.onnx.data").write_bytes(bytes(64) + weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "model.onnx.data"), ("offset", "64"), ("length", "48")):
        weight.external_data.add(key=key, value=text)
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    onnx.checker.check_model(str(path))
    return path
