"""Networks with weights of their own, so that their results mean something; and in bytes.

The onnx package's light models, and one of the blocks that MobileNetV2 is made of.

The package stores them with weights that are all alike, whose outputs are the same number over and
over. Here every ConstantOfShape becomes an initializer of random numbers, seeded and scaled so that
activations neither vanish nor explode.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
BATCH_NORM = ("x", "scale", "bias", "mean", "variance")


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """`light_<name>.onnx` with random weights."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph = model.graph
    random = np.random.default_rng(seed)
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    roles: dict[str, str] = {}
    kept = []
    made: dict[str, tuple[int, ...]] = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            made[node.output[0]] = tuple(shapes[node.input[0]])
            continue
        kept.append(node)
        if node.op_type == "BatchNormalization":
            roles.update(zip(node.input, BATCH_NORM, strict=True))
    for weight, shape in made.items():
        array: Any
        if len(shape) > 1:
            array = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif roles.get(weight) in ("scale", "variance"):
            array = random.uniform(0.5, 1.0, shape)
        else:
            array = random.standard_normal(shape) * 0.1
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), weight))
    del graph.node[:]
    graph.node.extend(kept)
    return model


def picture(model: onnx.ModelProto, seed: int = 1) -> dict[str, Any]:
    """A feed for the one input that is a picture."""
    fed = {i.name for i in model.graph.initializer}
    (value,) = (v for v in model.graph.input if v.name not in fed)
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return {value.name: array}


# Of MobileNetV2 (Sandler et al., 2018), table 2: expansion, channels, repeats, first stride.
BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


class _Maker:
    """Nodes and initializers of a network that is written down from its input on."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weights(self, shape: tuple[int, ...], scale: float) -> str:
        name = f"w{len(self.initializers)}"
        array = (self._random.standard_normal(shape) * scale).astype(np.float32)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def conv(
        self, x: str, channels: int, filters: int, kernel: int, stride: int = 1, group: int = 1
    ) -> str:
        inner = channels // group * kernel * kernel
        w = self.weights((filters, channels // group, kernel, kernel), (2 / inner) ** 0.5)
        b = self.weights((filters,), 0.1)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.op("Conv", x, w, b, pads=pads, strides=strides, group=group)


def mobilenet(seed: int = 0, side: int = 224) -> onnx.ModelProto:
    """MobileNetV2's blocks with random weights, batch normalisation already in them."""
    m = _Maker(seed)
    bounds = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("zero", 0), ("six", 6))
    ]
    x, channels = m.op("Clip", m.conv("x", 3, 32, 3, 2), "zero", "six"), 32
    for expansion, outputs, repeats, first in BLOCKS:
        for number in range(repeats):
            inner, y, stride = channels * expansion, x, first if number == 0 else 1
            if expansion != 1:
                y = m.op("Clip", m.conv(y, channels, inner, 1), "zero", "six")
            y = m.op("Clip", m.conv(y, inner, inner, 3, stride, inner), "zero", "six")
            y = m.conv(y, inner, outputs, 1)
            x = m.op("Add", x, y) if stride == 1 and channels == outputs else y
            channels = outputs
    x = m.op("Clip", m.conv(x, channels, 1280, 1), "zero", "six")
    x = m.op("Flatten", m.op("GlobalAveragePool", x))
    x = m.op("Gemm", x, m.weights((1000, 1280), 0.03), m.weights((1000,), 0.1), transB=1)
    graph = helper.make_graph(
        m.nodes,
        "mobilenet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 1000])],
        [*m.initializers, *bounds],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def static_int8(
    model: onnx.ModelProto,
    operators: bool = False,
    per_channel: bool = False,
    signed: bool = False,
    signed_weights: bool = True,
) -> bytes:
    """`model` in bytes, as onnxruntime's quantize_static makes it from two random pictures.

    `operators`: in QLinear operators instead of QuantizeLinear and DequantizeLinear; `signed`:
    activations are int8. A softmax at the end is left out: rounded to bytes it says nothing.
    """
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, of: onnx.ModelProto) -> None:
            self._left: Iterator[dict[str, Any]] = iter([picture(of, seed) for seed in (1, 2)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    kinds = {True: QuantType.QInt8, False: QuantType.QUInt8}
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what it recommends has been done
    onnxruntime.set_default_logger_severity(3)  # a warning for each initializer otherwise
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain, prepared, made = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
            onnx.save(_plain(model), plain)
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            source = onnx.load(prepared)
            quantize_static(
                source, made, Pictures(source),
                quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
                per_channel=per_channel, activation_type=kinds[signed],
                weight_type=kinds[signed_weights],
            )  # fmt: skip
            return made.read_bytes()
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """In a version that quantises by channel, without a last softmax, initializers no inputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    made.ir_version = max(made.ir_version, 8)
    stored = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)
    if graph.node[-1].op_type == "Softmax":
        graph.output[0].name = graph.node[-1].input[0]
        del graph.node[-1]
    graph.output[0].type.tensor_type.ClearField("shape")
    if made.opset_import[0].version >= 13:
        return made
    return onnx.version_converter.convert_version(made, 13)
