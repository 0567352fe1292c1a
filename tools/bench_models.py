"""Makes the one-operator ONNX models that the benchmark measures."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def matmul_model(n: int, constant: bool) -> bytes:
    """y = a b of float32 (n, n); `constant` makes b an initializer, else it is an input."""
    shape = [n, n]
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)]
    initializers = []
    if constant:
        values = np.random.default_rng(n).standard_normal(shape, dtype=np.float32)
        initializers.append(numpy_helper.from_array(values, "b"))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"], name="product")],
        f"matmul_{n}",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def matmul_integer_model(n: int) -> bytes:
    """y = (a - 131) b of uint8 a (n, n) and int8 b, an initializer.

    b is what a quantiser makes of normal numbers: the largest becomes 127.
    """
    shape = [n, n]
    values = np.random.default_rng(n).standard_normal(shape, dtype=np.float32)
    weights = np.rint(values * (127 / np.abs(values).max())).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["y"], name="product")],
        f"matmul_integer_{n}",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, shape)],
        [
            numpy_helper.from_array(weights, "b"),
            numpy_helper.from_array(np.array(131, np.uint8), "zero"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())
