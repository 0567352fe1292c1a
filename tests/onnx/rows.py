"""Models of one node, a row each, and what onnxruntime and the references say to them.

The tables are in the tests; `answered` is where all of them ask onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from tilework.ir.opdefs import infer_node
from tilework.ir.opdefs.registry import info_of
from tilework.ir.reference import run_reference
from tilework.onnx.model import load_graph

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Row:
    """Inputs in `constants` (by position) become initializers, the others are fed."""

    op: str
    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    domain: str = ""
    outputs: int = 1
    constants: tuple[int, ...] = ()
    rtol: float = 1e-5

    def __str__(self) -> str:
        shapes = "-".join("none" if x is None else f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}-{self.opset}-{shapes}-{attrs}"


def f32(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Any:
    return np.abs(f32(*shape)) + np.float32(0.1)


def i64(*values: Any) -> Any:
    return np.array(values, dtype=np.int64)


def i32(*values: Any) -> Any:
    return np.array(values, dtype=np.int32)


def scalar(value: Any, dtype: Any = np.float32) -> Any:
    return np.array(value, dtype=dtype)


def flags(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(shape) < 0.5


def build(row: Row) -> Any:
    """The single-node model: shapes are left symbolic where a row does not fix them."""
    fed, stored, names = [], [], []
    for index, array in enumerate(row.inputs):
        if array is None:
            names.append("")
            continue
        names.append(f"x{index}")
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if index in row.constants:
            stored.append(
                helper.make_tensor(names[-1], kind, array.shape, array.tobytes(), raw=True)
            )
        else:
            dims = [f"d{index}_{axis}" for axis in range(array.ndim)]
            fed.append(helper.make_tensor_value_info(names[-1], kind, dims))
    results = [f"y{index}" for index in range(row.outputs)]
    node = helper.make_node(row.op, names, results, "the node", domain=row.domain, **row.attrs)
    graph = helper.make_graph(
        [node],
        "single",
        fed,
        [helper.make_empty_tensor_value_info(name) for name in results],
        stored,
    )
    opsets = [helper.make_opsetid("", row.opset)]
    if row.domain:
        opsets.append(helper.make_opsetid(row.domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def peer(content: bytes) -> Any:
    """An onnxruntime session of the model, which logs errors only."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def answered(row: Row) -> tuple[Any, dict[str, Any], list[Any]]:
    """The row's model with the types of its outputs, its feeds, and onnxruntime's outputs."""
    model = build(row)
    feeds = {
        f"x{index}": array
        for index, array in enumerate(row.inputs)
        if array is not None and index not in row.constants
    }
    wanted = peer(model.SerializeToString()).run(None, feeds)
    # onnxruntime has told the outputs' types, which a file must state.
    for value, right in zip(model.graph.output, wanted, strict=True):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(right.dtype)
    return model, feeds, wanted


def run_row(row: Row, atol: float = 1e-6) -> None:
    """The row by reference and by onnxruntime."""
    model, feeds, wanted = answered(row)
    loaded = load_graph(model.SerializeToString())
    results = run_reference(loaded.graph, feeds)
    for value, right in zip(loaded.graph.outputs, wanted, strict=True):
        result = results[value.name]
        assert (result.dtype, result.shape) == (right.dtype, right.shape)
        np.testing.assert_allclose(result, right, rtol=row.rtol, atol=atol)


def infer_row(row: Row) -> None:
    """Shapes and dtypes that infer tells are those that reference gives, node by node."""
    model = build(row)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = load_graph(model.SerializeToString()).graph
    feeds = {f"x{i}": x for i, x in enumerate(row.inputs) if x is not None}
    names = [name for node in graph.nodes for name in node.outputs]
    arrays = run_reference(graph, feeds, keep=[*names, *(v.name for v in graph.inputs)])
    for name, constant in graph.constants.items():
        arrays[name] = np.asarray(constant.array)
    for node in graph.nodes:
        infos = [info_of(arrays[name]) if name else None for name in node.inputs]
        _, told = infer_node(node, infos)
        for name, info in zip(node.outputs, told, strict=True):
            assert (info.shape, info.dtype.numpy) == (arrays[name].shape, arrays[name].dtype.name)
