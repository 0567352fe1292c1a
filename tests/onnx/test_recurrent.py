"""RNN, GRU and LSTM against onnxruntime: directions, lengths, states, functions, clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework

pytestmark = pytest.mark.onnx

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, FEATURES = 5, 3, 4


def model(
    kind: str,
    ways: int,
    hidden: int,
    given: set[str],
    attrs: Mapping[str, Any],
    seed: int,
    steps: int = STEPS,
) -> tuple[bytes, dict[str, Any]]:
    """A layer with constant weights, and what it is fed."""
    draw = np.random.default_rng(seed)

    def some(*shape: int) -> Any:
        return draw.normal(size=shape).astype(np.float32) / 2

    gates = GATES[kind]
    first = (BATCH, ways) if attrs.get("layout") else (ways, BATCH)
    x_shape = (BATCH, steps) if attrs.get("layout") else (steps, BATCH)
    arrays = {
        "x": some(*x_shape, FEATURES),
        "w": some(ways, gates * hidden, FEATURES),
        "r": some(ways, gates * hidden, hidden),
        "b": some(ways, 2 * gates * hidden),
        "lens": np.array([STEPS, 2, 4], np.int32),
        "h": some(*first, hidden),
        "c": some(*first, hidden),
        "p": some(ways, 3 * hidden),
    }
    names = ["x", "w", "r", "b", "lens", "h", *(["c", "p"] if kind == "LSTM" else [])]
    inputs = [name if name in "xwr" or name in given else "" for name in names]
    outputs = ["y", "last_h", *(["last_c"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, inputs, outputs, hidden_size=hidden, **attrs)
    fed = [name for name in ("x", "lens", "h", "c") if name in inputs]
    graph = helper.make_graph(
        [node],
        kind,
        [
            helper.make_tensor_value_info(
                name,
                TensorProto.INT32 if name == "lens" else TensorProto.FLOAT,
                arrays[name].shape,
            )
            for name in fed
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(arrays[name], name) for name in "wrbp" if name in inputs],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return made.SerializeToString(), {name: arrays[name] for name in fed}


ROWS: list[tuple[str, int, set[str], dict[str, Any]]] = [
    (kind, hidden, given, attrs)
    for kind in GATES
    for hidden, given, attrs in (
        (3, set[str](), {}),
        (16, {"b"}, {}),
        (37, {"b", "h"}, {"direction": "reverse"}),
        (8, {"b", "h", "lens"}, {"direction": "bidirectional"}),
        (5, {"b", "lens"}, {"direction": "reverse"}),
        (6, {"b"}, {"clip": 0.3}),
    )
]
ROWS += [
    ("GRU", 20, {"b", "h"}, {"linear_before_reset": 1}),
    ("GRU", 4, {"b", "h", "lens"}, {"linear_before_reset": 1, "direction": "bidirectional"}),
    ("GRU", 4, {"b"}, {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.3]}),
    ("LSTM", 18, {"b", "h", "c", "p"}, {}),
    ("LSTM", 4, {"b", "h", "c", "p", "lens"}, {"direction": "bidirectional"}),
    ("LSTM", 4, {"b"}, {"activations": ["HardSigmoid", "Relu", "Softsign"]}),
    ("LSTM", 4, {"b", "h"}, {"input_forget": 1}),
    ("RNN", 4, {"b"}, {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
    ("RNN", 4, {"b"}, {"activations": ["Affine"], "activation_alpha": [0.5],
                       "activation_beta": [0.1]}),
    (
        "RNN",
        4,
        {"b"},
        {"activations": ["Elu", "ThresholdedRelu"], "activation_alpha": [0.5, 0.1],
         "direction": "bidirectional"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "hidden", "given", "attrs"),
    ROWS,
    ids=[f"{k} {n} {'-'.join(sorted(g))} {a}" for k, n, g, a in ROWS],
)
def test_layer(kind: str, hidden: int, given: set[str], attrs: dict[str, Any]) -> None:
    ways = 2 if attrs.get("direction") == "bidirectional" else 1
    content, feeds = model(kind, ways, hidden, given, attrs, seed=hidden)
    wanted = onnxruntime.InferenceSession(content).run(None, feeds)
    with tilework.InferenceSession(content) as session:
        found = session.run(None, feeds)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert session.where() == "kernel"


def test_what_has_no_kernel_runs_by_its_reference() -> None:
    content, feeds = model("LSTM", 1, 6, {"b", "h", "c"}, {}, seed=2, steps=0)
    with tilework.InferenceSession(content) as session:
        y, h, c = session.run(None, feeds)
        assert session.where() in ("host", "mixed")
    assert y.shape == (0, 1, BATCH, 6)
    np.testing.assert_array_equal(h, feeds["h"])
    np.testing.assert_array_equal(c, feeds["c"])


def test_batch_first_is_the_same_layer_turned() -> None:
    content, feeds = model("LSTM", 1, 6, {"b"}, {}, seed=1)
    turned, _ = model("LSTM", 1, 6, {"b"}, {"layout": 1}, seed=1)
    with tilework.InferenceSession(content) as session:
        y, h, c = session.run(None, feeds)
    with tilework.InferenceSession(turned) as session:
        found = session.run(None, {"x": feeds["x"].transpose(1, 0, 2).copy()})
    for one, other in zip(found, (y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in (h, c))),
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_an_activation_cannot_be_is_said() -> None:
    content, _ = model("RNN", 1, 4, {"b"}, {"activations": ["Gelu"]}, seed=1)
    with pytest.raises(tilework.InvalidGraph, match="activation 'gelu' is none of relu"):
        tilework.InferenceSession(content)


@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_of_bytes(way: str, per_channel: bool) -> None:
    """DynamicQuantizeLSTM as its definition says; one sequence, for onnxruntime makes bytes of each
    thread's sequences by a range of their own."""
    draw = np.random.default_rng(3)
    ways, features, hidden = (2 if way == "bidirectional" else 1), 6, 12
    sizes = {"w": (ways, features, 4 * hidden), "r": (ways, hidden, 4 * hidden)}
    stored: dict[str, Any] = {
        name: draw.integers(-127, 128, shape).astype(np.int8) for name, shape in sizes.items()
    }
    for name in "wr":
        each = (ways, 4 * hidden) if per_channel else (ways,)
        stored[f"{name}_scale"] = draw.uniform(0.002, 0.008, each).astype(np.float32)
        stored[f"{name}_zero"] = np.zeros(each, np.int8)
    stored["b"] = draw.normal(size=(ways, 8 * hidden)).astype(np.float32) / 4
    x = draw.normal(size=(7, 1, features)).astype(np.float32)
    feeds = {"x": x, "h": draw.normal(size=(ways, 1, hidden)).astype(np.float32)}
    inputs = ["x", "w", "r", "b", "", "h", "", "", "w_scale", "w_zero", "r_scale", "r_zero"]
    outputs = ["y", "last_h", "last_c"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", inputs, outputs, domain="com.microsoft", hidden_size=hidden,
        direction=way,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "bytes",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    wanted = onnxruntime.InferenceSession(content).run(None, feeds)
    with tilework.InferenceSession(content) as session:
        found = session.run(None, feeds)
        assert session.where() == "kernel"
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
