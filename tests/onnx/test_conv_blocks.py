"""Blocks of convolution networks as exporters write them, against onnxruntime, all on kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.rows import peer

pytestmark = pytest.mark.onnx


class Net:
    """Nodes one after the other; each method gives the name of what it has added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(5)

    def weight(self, *shape: int, low: float | None = None) -> str:
        array = self._random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        if low is not None:
            array = self._random.uniform(low, low + 1, shape)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def constant(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attrs))
        return name

    def conv(self, x: str, channels: int, filters: int, kernel: int, **attrs: Any) -> str:
        w = self.weight(filters, channels // attrs.get("group", 1), kernel, kernel)
        attrs = {"pads": [kernel // 2] * 4, **attrs}
        return self.op("Conv", x, w, self.weight(filters), **attrs)

    def normed(self, x: str, channels: int) -> str:
        vectors = (self.weight(channels, low=0.5 if i in (0, 3) else -0.5) for i in range(4))
        return self.op("BatchNormalization", x, *vectors)

    def model(self, result: str, dims: tuple[Any, ...]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "block",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
            self.weights,
        )
        opset = [helper.make_opsetid("", 18)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return bytes(made.SerializeToString())


def inverted(net: Net, x: str) -> str:
    """MobileNetV2: wider, depthwise, narrower, and the input again."""
    y = net.normed(net.conv(x, 8, 48, 1), 48)
    limits = net.constant(np.float32(0)), net.constant(np.float32(6))
    y = net.op("Clip", y, *limits)
    y = net.op("Clip", net.normed(net.conv(y, 48, 48, 3, group=48), 48), *limits)
    return net.op("Add", x, net.normed(net.conv(y, 48, 8, 1), 8))


def squeezed(net: Net, x: str) -> str:
    """EfficientNet: channels weighed by what their means say."""
    y = net.conv(x, 8, 24, 3, group=1, strides=[2, 2])
    y = net.op("Mul", y, net.op("Sigmoid", y))
    means = net.op("GlobalAveragePool", y)
    z = net.op("Relu", net.conv(means, 24, 6, 1))
    y = net.op("Mul", y, net.op("Sigmoid", net.conv(z, 6, 24, 1)))
    return net.normed(net.conv(y, 24, 10, 1), 10)


def hourglass(net: Net, x: str) -> str:
    """U-Net: down, up by a transposed convolution and by resizing, side by side."""
    a = net.op("Relu", net.conv(x, 8, 16, 3))
    b = net.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = net.op("LeakyRelu", net.normed(net.conv(b, 16, 32, 3), 32), alpha=0.1)
    w = net.weight(32, 16, 2, 2)
    c = net.op("ConvTranspose", b, w, net.weight(16), strides=[2, 2])
    sizes = net.constant(np.array([1, 1, 2, 2], np.float32))
    d = net.op("Resize", b, "", sizes, mode="linear")
    return net.conv(net.op("Concat", c, a, d, axis=1), 64, 5, 1)


def styled(net: Net, x: str) -> str:
    """Reflected edges and instance normalisation."""
    pads = net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    y = net.conv(net.op("Pad", x, pads, mode="reflect"), 8, 16, 3, pads=[0] * 4)
    y = net.op("InstanceNormalization", y, net.weight(16), net.weight(16))
    return net.op("Tanh", net.conv(net.op("Relu", y), 16, 3, 3))


def preactivated(net: Net, x: str) -> str:
    """ResNet v2: normalisations and activations before the convolutions."""
    y = net.op("Relu", net.normed(x, 8))
    z = net.conv(y, 8, 16, 1, strides=[2, 2])
    y = net.op("Relu", net.normed(net.conv(y, 8, 16, 3, strides=[2, 2]), 16))
    y = net.op("Add", net.conv(y, 16, 16, 3), z)
    y = net.op("Relu", net.normed(y, 16))
    return net.op("Flatten", net.op("GlobalAveragePool", y))


def shuffled(net: Net, x: str) -> str:
    """ShuffleNet v2: halves, of which one is convolved, interleaved."""
    halves = [f"half{i}" for i in range(2)]
    sizes = net.constant(np.array([4, 4], np.int64))
    net.nodes.append(helper.make_node("Split", [x, sizes], halves, axis=1))
    y = net.op("Relu", net.normed(net.conv(halves[0], 4, 4, 1), 4))
    y = net.normed(net.conv(y, 4, 4, 3, group=4), 4)
    y = net.op("Concat", net.op("Relu", y), halves[1], axis=1)
    y = net.op("Reshape", y, net.constant(np.array([0, 2, 4, 12, 16], np.int64)))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", y, net.constant(np.array([0, 8, 12, 16], np.int64)))


BLOCKS = [inverted, squeezed, hourglass, styled, preactivated, shuffled]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
@pytest.mark.parametrize("batch", [1, 3])
def test_block(block: Callable[[Net, str], str], batch: int) -> None:
    net = Net()
    data = net.model(block(net, "x"), ("n", 8, 12, 16))
    feeds = {"x": np.random.default_rng(2).standard_normal((batch, 8, 12, 16)).astype(np.float32)}
    session = tilework.InferenceSession(data)
    wanted: Any
    found: Any
    (wanted,) = peer(data).run(None, feeds)
    (found,) = session.run(None, feeds)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)
    assert session.where() == "kernel"
