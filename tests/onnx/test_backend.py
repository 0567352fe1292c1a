"""ONNX's backend protocol, by onnx's own test runner and by hand."""

from __future__ import annotations

import unittest
from typing import Any, cast

import numpy as np
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

import tilework
from tilework.onnx import backend

pytestmark = pytest.mark.onnx

PATTERNS = ("test_add_", "test_matmul_2d", "test_relu", "test_gather_0", "test_split_equal_parts")


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


def test_onnx_s_own_runner_takes_it() -> None:
    runner = onnx.backend.test.BackendTest(cast(Any, backend), __name__)
    for pattern in PATTERNS:
        runner.include(pattern)
    result = unittest.TestResult()
    loader = unittest.defaultTestLoader
    for case in runner.test_cases.values():
        loader.loadTestsFromTestCase(case).run(result)
    assert result.wasSuccessful(), [text for _, text in result.errors + result.failures]
    passed = result.testsRun - len(result.skipped)
    assert passed >= len(PATTERNS)


def model(operator: str = "Sub") -> Any:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "abc"]
    node = helper.make_node(operator, ["a", "b"], ["c"])
    opsets = [helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_runs_models() -> None:
    a, b = f32(5, 6), f32(1, 2)
    prepared = backend.prepare(model())
    for inputs in ([a, b], (a, b), {"b": b, "a": a}):
        outputs = prepared.run(inputs)
        assert isinstance(outputs, tuple) and len(outputs) == 1
        np.testing.assert_array_equal(outputs[0], a - b)
        np.testing.assert_array_equal(outputs["c"], a - b)
    np.testing.assert_array_equal(backend.run_model(model(), [a, b])[0], a - b)
    with pytest.raises(tilework.InvalidArgument, match="3 inputs"):
        prepared.run([a, b, a])


def test_runs_nodes() -> None:
    x = np.arange(6).reshape(2, 3)
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    np.testing.assert_array_equal(backend.run_node(node, [x, np.array([1])])[0], x.sum(1))
    old = helper.make_node("ReduceSum", ["x"], ["y"], axes=[0], keepdims=0)
    (y,) = backend.run_node(old, x, outputs_info=[(np.int64, (3,))], opset_version=11)
    np.testing.assert_array_equal(y, x.sum(0))
    pool = helper.make_node("MaxPool", ["x"], ["y", "z"], kernel_shape=[2])
    values, places = backend.run_node(pool, [f32([[1, 3, 2]])])
    assert (values.tolist(), places.tolist()) == ([[[3, 3]]], [[[1, 1]]])
    gelu = helper.make_node("BiasGelu", ["x", "b"], ["y"], domain="com.microsoft")
    (y,) = backend.run_node(gelu, {"x": f32(0, 9), "b": f32(0, 0)})
    np.testing.assert_allclose(y, [0, 9])
    with pytest.raises(tilework.InvalidArgument, match="1 inputs"):
        backend.run_node(node, [x])


def test_says_what_it_can() -> None:
    assert [backend.supports_device(d) for d in ("CPU", "CPU:0", "CUDA", "CUDA:1")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert backend.is_compatible(model())
    assert not backend.is_compatible(model("NoSuchOperator"))
    with pytest.raises(tilework.InvalidArgument, match="CUDA"):
        backend.prepare(model(), "CUDA")
