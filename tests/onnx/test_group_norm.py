"""Group normalisation between convolutions, and com.microsoft's, against what they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import tilework

pytestmark = pytest.mark.onnx
Array = NDArray[Any]
CHANNELS, GROUPS, SIDE = 24, 4, 9


def some(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(nodes: list[Any], stored: dict[str, Array], shape: tuple[int, ...], opset: int) -> bytes:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    arrays = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "norms", [x], [y], arrays)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["group", "instance", "torch"])
def test_between_convolutions(kind: str, batch: int, threads: int) -> None:
    """The norm reads channels where they lie, and takes SiLU along."""
    shape = (batch, CHANNELS, SIDE, SIDE)
    stored = {"w": some(CHANNELS, CHANNELS, 3, 3, seed=1) / 15, "b": some(CHANNELS, seed=2)}
    node, pads = helper.make_node, [1, 1, 1, 1]
    nodes = [node("Conv", ["x", "w", "b"], ["c"], pads=pads)]
    if kind == "torch":
        stored |= {"s": some(CHANNELS, 1, 1, seed=3), "m": some(CHANNELS, 1, 1, seed=4)}
        stored |= {"one": np.ones(GROUPS, np.float32), "zero": np.zeros(GROUPS, np.float32)}
        stored |= {"view": np.array([0, GROUPS, -1]), "whole": np.array(shape)}
        nodes += [
            node("Reshape", ["c", "view"], ["r"]),
            node("InstanceNormalization", ["r", "one", "zero"], ["i"]),
            node("Reshape", ["i", "whole"], ["u"]),
            node("Mul", ["u", "s"], ["v"]),
            node("Add", ["v", "m"], ["n"]),
        ]
    else:
        stored |= {"s": some(CHANNELS, seed=3), "m": some(CHANNELS, seed=4)}
        op = "GroupNormalization" if kind == "group" else "InstanceNormalization"
        attrs: dict[str, Any] = {"num_groups": GROUPS} if kind == "group" else {}
        nodes.append(node(op, ["c", "s", "m"], ["n"], **attrs))
    nodes += [node("Sigmoid", ["n"], ["g"]), node("Mul", ["n", "g"], ["a"])]
    nodes.append(node("Conv", ["a", "w", "b"], ["y"], pads=pads))
    content = model(nodes, stored, shape, 21)
    x = some(*shape, seed=5)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    options = tilework.SessionOptions(intra_op_num_threads=threads)
    with tilework.InferenceSession(content, options) as session:
        (found,) = session.run(None, {"x": x})
        text = str(session.plan())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)
    assert text.count("f32_group_norm ") == 1
    assert "f32_unary" not in text and "f32_affine" not in text


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_the_operator_of_diffusion_models(last: int, activation: int) -> None:
    x = some(2, 5, 7, CHANNELS, seed=1) if last else some(2, CHANNELS, 5, 7, seed=1)
    scale, bias = some(CHANNELS, seed=2), some(CHANNELS, seed=3)
    node = helper.make_node(
        "GroupNorm", ["x", "s", "m"], ["y"], domain="com.microsoft",
        groups=GROUPS, channels_last=last, activation=activation, epsilon=1e-4,
    )  # fmt: skip
    content = model([node], {"s": scale, "m": bias}, x.shape, 17)
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": x})
    first = (x.transpose(0, 3, 1, 2) if last else x).astype(np.float64)
    flat = first.reshape(2, GROUPS, -1)
    flat = flat - flat.mean(2, keepdims=True)
    flat = flat / np.sqrt((flat * flat).mean(2, keepdims=True) + 1e-4)
    y = flat.reshape(first.shape) * scale[:, None, None] + bias[:, None, None]
    if activation:
        y = y / (1 + np.exp(-y))
    wanted = y.transpose(0, 2, 3, 1) if last else y
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
