"""Makes the one-operator ONNX models that the benchmark measures, and finds the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.networks import light_model, mobilenet, static_int8

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = ("resnet50", "squeezenet", "densenet121", "shufflenet", "inception_v2")
LIGHT_FEEDS = {"resnet50": "gpu_0/data_0", "squeezenet": "data_0", "shufflenet": "gpu_0/data_0"}
SIDE = 56  # pixels of the single convolutions


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


@dataclass(frozen=True, slots=True)
class Made:
    """A model of one float32 input, and how its bytes come about."""

    make: Callable[[], bytes]
    feed: str
    dims: tuple[int, ...]


def single_model(
    op: str,
    dims: tuple[int, ...],
    results: tuple[int, ...],
    weights: Mapping[str, tuple[int, ...]],
    **attrs: Any,
) -> bytes:
    """y = op(x, weights...), weights initializers of random numbers of these shapes."""
    random = np.random.default_rng(sum(dims))
    initializers = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *weights], ["y"], name=op.lower(), **attrs)],
        op.lower(),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, results)],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def _conv(channels: int, filters: int, kernel: int, group: int = 1) -> Made:
    x, y = ((1, c, SIDE, SIDE) for c in (channels, filters))
    weights = {"w": (filters, channels // group, kernel, kernel), "b": (filters,)}
    make = partial(
        single_model, "Conv", x, y, weights, group=group, pads=[kernel // 2] * 4
    )
    return Made(make, "x", x)


def _square(op: str, weights: Mapping[str, tuple[int, ...]] | None = None) -> Made:
    dims = (1024, 1024)
    return Made(partial(single_model, op, dims, dims, weights or {}), "x", dims)


def _network(name: str) -> Made:
    path = LIGHT / f"light_{name}.onnx"
    graph = onnx.load(path).graph
    stored = {initializer.name for initializer in graph.initializer}
    (value,) = (v for v in graph.input if v.name not in stored)
    dims = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return Made(path.read_bytes, value.name, dims)


def _in_bytes(model: Callable[[], onnx.ModelProto], **options: bool) -> Made:
    """A network of one picture of 3 x 224 x 224 in bytes."""

    def make() -> bytes:
        made = onnx.load_from_string(static_int8(model(), **options))
        assert [value.name for value in made.graph.input] == [feed]
        return bytes(made.SerializeToString())

    feed = "x" if model is mobilenet else LIGHT_FEEDS[model.args[0]]  # type: ignore[attr-defined]
    return Made(make, feed, (1, 3, 224, 224))


@cache
def made_models() -> Mapping[str, Made]:
    """The models besides the products, by the names of their cases."""
    return {
        "conv_3x3_64": _conv(64, 64, 3),
        "conv_1x1_64_256": _conv(64, 256, 1),
        "conv_depthwise_256": _conv(256, 256, 3, 256),
        "exp_1024": _square("Exp"),
        "erf_1024": _square("Erf"),
        "softmax_1024": _square("Softmax"),
        "layer_norm_1024": _square("LayerNormalization", {"w": (1024,), "b": (1024,)}),
        **{name: _network(name) for name in NETWORKS},
        "mobilenet": Made(lambda: bytes(mobilenet().SerializeToString()), "x", (1, 3, 224, 224)),
        "mobilenet_int8": _in_bytes(mobilenet),
        "mobilenet_int8_channels": _in_bytes(mobilenet, per_channel=True),
        "mobilenet_int8_operators": _in_bytes(mobilenet, operators=True),
        "resnet50_int8": _in_bytes(partial(light_model, "resnet50")),
        "resnet50_int8_channels": _in_bytes(partial(light_model, "resnet50"), per_channel=True),
        "squeezenet_int8": _in_bytes(partial(light_model, "squeezenet")),
        "shufflenet_int8": _in_bytes(partial(light_model, "shufflenet")),
    }
