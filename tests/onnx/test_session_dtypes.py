"""Sessions fed with, and giving, dtypes that NumPy does not have."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from tilework.core.dtypes import BFLOAT16, BY_NAME, FLOAT16, FLOAT32, DType
from tilework.core.errors import InvalidArgument
from tilework.ir.narrow import adopt, convert, narrow, widen
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


def session(op: str, dtype: DType, shape: list[int], **attributes: Any) -> InferenceSession:
    """A model of one node from x to y, both of `dtype`."""
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", dtype.onnx, shape)
    y = helper.make_tensor_value_info("y", dtype.onnx, None)
    graph = helper.make_graph([node], "one", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=12)
    return InferenceSession(model.SerializeToString())


@pytest.mark.parametrize("name", ["bfloat16", "float8e5m2", "int4", "float4e2m1", "complex128"])
def test_what_moves_elements_runs_on_the_device(name: str) -> None:
    dtype = BY_NAME[name]
    numbers = np.arange(-6, 6).reshape(3, 4)
    x = narrow(numbers, dtype) if dtype.wide else numbers.astype(dtype.numpy)
    with session("Transpose", dtype, [3, 4], perm=[1, 0]) as one:
        [y] = one.run(None, {"x": x})
        assert ", 0 host steps" in one.explain({"x": (3, 4)})
    assert y.dtype == np.dtype(dtype.numpy)
    np.testing.assert_array_equal(widen(y), widen(x).T)


def test_large_arrays_of_ml_dtypes_are_fed_as_they_are() -> None:
    x = np.linspace(-3, 3, 100_000, dtype=np.float32).astype(ml_dtypes.bfloat16)
    with session("Abs", BFLOAT16, [100_000]) as one:
        [y] = one.run(None, {"x": x})
    np.testing.assert_array_equal(widen(y), np.abs(widen(adopt(x))))


def test_another_dtype_is_refused_with_what_to_do() -> None:
    one = session("Abs", BFLOAT16, [2])
    with one, pytest.raises(InvalidArgument, match=r"expected bfloat16 .*array of ml_dtypes"):
        one.run(None, {"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_a_layer_in_floats_of_two_bytes_needs_no_host(dtype: DType) -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((32, 48)) / 6, "b": random.standard_normal(48),
        "half": np.array(0.5), "scale": np.ones(48), "shift": np.zeros(48),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Gelu", ["c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["e"]),
        helper.make_node("LayerNormalization", ["e", "scale", "shift"], ["f"]),
        helper.make_node("ReduceMean", ["f"], ["g"], keepdims=1),
        helper.make_node("Greater", ["f", "g"], ["h"]),
        helper.make_node("Where", ["h", "f", "e"], ["i"]),
        helper.make_node("Cast", ["i"], ["y"], to=1),
    ]

    def layer(of: DType) -> InferenceSession:
        arrays = [
            helper.make_tensor(name, of.onnx, value.shape, np.float32(value).ravel())
            for name, value in weights.items()
        ]
        x = helper.make_tensor_value_info("x", of.onnx, [None, 32])
        y = helper.make_tensor_value_info("y", 1, None)
        graph = helper.make_graph(nodes, "layer", [x], [y], arrays)
        opset = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        return InferenceSession(model.SerializeToString())

    x = random.standard_normal((20, 32)).astype(np.float32)
    given = convert(x, dtype)
    with layer(dtype) as narrow_one, layer(FLOAT32) as wide_one:
        [y] = narrow_one.run(None, {"x": given})
        [wanted] = wide_one.run(None, {"x": widen(given).astype(np.float32)})
        assert ", 0 host steps" in narrow_one.explain({"x": (20, 32)})
    near = np.abs(y - wanted) < (0.02 if dtype is FLOAT16 else 0.12)
    assert near.mean() > 0.98  # where chooses otherwise beside its border
