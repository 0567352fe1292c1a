"""Sessions fed with, and giving, dtypes that NumPy does not have."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from tilework.core.dtypes import BFLOAT16, BY_NAME, DType
from tilework.core.errors import InvalidArgument
from tilework.ir.narrow import adopt, narrow, widen
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
