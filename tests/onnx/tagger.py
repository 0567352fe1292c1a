"""Recurrent taggers as PyTorch exports them: two layers of both directions and a linear one.

Batch first, so that the ends are transposed; initial states are zeros of a shape that comes from
the input's, cut apart for each layer. Random weights, seeded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LAYERS, TAGS = 2, 17


def tagger(kind: str, features: int, hidden: int, words: int = 0) -> bytes:
    """(batch, steps, features), or numbers of `words` words, → (batch, steps, TAGS)."""
    draw = np.random.default_rng(hidden)
    nodes: list[Any] = []
    stored: list[Any] = []

    def op(kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        names = [f"{kind.lower()}_{len(nodes)}_{n}" for n in range(outputs)]
        nodes.append(helper.make_node(kind, inputs, names, f"/{kind}_{len(nodes)}", **attrs))
        return names[0] if outputs == 1 else names

    def keep(array: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(array), f"w{len(stored)}"))
        return f"w{len(stored) - 1}"

    def weight(*shape: int) -> str:
        bound = hidden**-0.5  # as PyTorch's layers begin
        return keep(draw.uniform(-bound, bound, shape).astype(np.float32))

    x = (
        op("Gather", keep(draw.standard_normal((words, features), np.float32)), "x")
        if words
        else "x"
    )
    batch = op("Gather", op("Shape", x), keep(np.array(0)), axis=0)
    x = op("Transpose", x, perm=[1, 0, 2])
    extents = [keep(np.array([2 * LAYERS])), op("Unsqueeze", batch, keep(np.array([0])))]
    zeros = op("ConstantOfShape", op("Concat", *extents, keep(np.array([hidden])), axis=0))
    for layer in range(LAYERS):
        ends = (keep(np.array([2 * layer])), keep(np.array([2 * layer + 2])))
        first = op("Slice", zeros, *ends, keep(np.array([0])))
        gates = GATES[kind] * hidden
        weights = [
            weight(2, gates, 2 * hidden if layer else features), weight(2, gates, hidden),
            weight(2, 2 * gates),
        ]  # fmt: skip
        states = [first, first] if kind == "LSTM" else [first]
        attrs = {"linear_before_reset": 1} if kind == "GRU" else {}
        y = op(kind, x, *weights, "", *states, outputs=1 + len(states), hidden_size=hidden,
               direction="bidirectional", **attrs)[0]  # fmt: skip
        y = op("Transpose", y, perm=[0, 2, 1, 3])
        x = op("Reshape", y, keep(np.array([0, 0, -1])))
    x = op("Transpose", x, perm=[1, 0, 2])
    y = op("Add", weight(TAGS), op("MatMul", x, weight(2 * hidden, TAGS)))
    fed: list[str | int] = ["batch", "steps"]
    fed += [] if words else [features]
    element = TensorProto.INT64 if words else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        f"{kind.lower()}_tagger",
        [helper.make_tensor_value_info("x", element, fed)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch", "steps", TAGS])],
        stored,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())
