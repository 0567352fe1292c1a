"""ai.onnx.ml and the training operators against onnxruntime, or against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tilework

pytestmark = pytest.mark.onnx

ML = "ai.onnx.ml"
DRAW = np.random.default_rng(5)
X = DRAW.normal(size=(7, 4)).astype(np.float32)
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def model(op: str, x: Any, outputs: int, version: int = 3, **attrs: Any) -> bytes:
    """One operator of ai.onnx.ml; the outputs' types are left to whoever loads it."""
    names = [f"y{n}" for n in range(outputs)]
    node = helper.make_node(op, ["x"], names, domain=ML, **attrs)
    kind = TYPES[x.dtype]
    labels = op.endswith("Classifier")
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info("x", kind, [None, *x.shape[1:]])],
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if labels and n == 0 else TensorProto.FLOAT, None
            )
            for n, name in enumerate(names)
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, version)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(made.SerializeToString())


def trees(votes: str, ids: list[int], weights: list[float]) -> dict[str, Any]:
    """Two trees: x0 <= 0 ? leaf : (x1 < 0.2 ? leaf : leaf), and x2 > -0.1 ? leaf : leaf."""
    return {
        "nodes_treeids": [0] * 5 + [1] * 3,
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 0, 1, 0, 0, 2, 0, 0],
        "nodes_values": [0.0, 0, 0.2, 0, 0, -0.1, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LT", "LEAF", "LEAF", "BRANCH_GT"]
        + ["LEAF"] * 2,
        "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 0, 0, 0],
        f"{votes}_treeids": [0, 0, 0, 1, 1],
        f"{votes}_nodeids": [1, 3, 4, 1, 2],
        f"{votes}_ids": ids,
        f"{votes}_weights": weights,
    }


WEIGHTS = [0.3, 0.1, 0.7, 0.2, 0.5]
SVM = {
    "support_vectors": DRAW.normal(size=20).tolist(),
    "kernel_params": [0.4, 0.1, 2.0],
}
ROWS: list[tuple[str, Any, int, dict[str, Any]]] = [
    ("Scaler", X, 1, {"offset": [0.1, 0.2, 0.3, 0.4], "scale": [1.0, 2, 3, 4]}),
    ("Scaler", X, 1, {"offset": [0.5], "scale": [2.0]}),
    *(("Normalizer", X, 1, {"norm": norm}) for norm in ("L1", "L2")),
    ("Normalizer", np.abs(X), 1, {"norm": "MAX"}),
    ("Binarizer", X, 1, {"threshold": 0.2}),
    (
        "Imputer",
        np.where(X > 1, np.nan, X).astype(np.float32),
        1,
        {"imputed_value_floats": [1.0, 2, 3, 4], "replaced_value_float": float("nan")},
    ),
    ("OneHotEncoder", np.array([[1], [3], [9]], np.int64), 1, {"cats_int64s": [1, 2, 3]}),
    ("LabelEncoder", np.array([1, 3, 9], np.int64), 1,
     {"keys_int64s": [1, 3], "values_floats": [0.5, 1.5], "default_float": 7.0}),
    ("LinearRegressor", X, 1, {"coefficients": DRAW.normal(size=4).tolist(), "intercepts": [0.3]}),
    ("LinearRegressor", X, 1,
     {"coefficients": DRAW.normal(size=8).tolist(), "intercepts": [0.3, 1.0], "targets": 2}),
    *(
        ("LinearClassifier", X, 2,
         {"coefficients": DRAW.normal(size=12).tolist(), "intercepts": [0.1, 0.2, 0.3],
          "classlabels_ints": [4, 5, 6], "post_transform": post})
        for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
    ),
    *(
        ("LinearClassifier", X, 2,
         {"coefficients": DRAW.normal(size=4).tolist(), "intercepts": [0.1],
          "classlabels_ints": [4, 5], "post_transform": post})
        for post in ("NONE", "LOGISTIC", "SOFTMAX")
    ),
    *(
        ("TreeEnsembleRegressor", X, 1,
         {**trees("target", [0, 1, 0, 1, 0], WEIGHTS), "n_targets": 2,
          "aggregate_function": how})
        for how in ("SUM", "AVERAGE")
    ),
    *(
        ("TreeEnsembleRegressor", X, 1,
         {**trees("target", [0] * 5, WEIGHTS), "aggregate_function": how, "n_targets": 1,
          "base_values": [0.5]})
        for how in ("SUM", "MIN", "MAX")
    ),
    ("TreeEnsembleRegressor", np.where(X < -0.5, np.nan, X).astype(np.float32), 1,
     {**trees("target", [0] * 5, WEIGHTS), "n_targets": 1}),
    *(
        ("TreeEnsembleClassifier", X, 2,
         {**trees("class", [0, 1, 2, 1, 0], WEIGHTS), "classlabels_int64s": [7, 8, 9],
          "post_transform": post})
        for post in ("NONE", "SOFTMAX", "LOGISTIC")
    ),
    *(
        ("TreeEnsembleClassifier", X, 2,
         {**trees("class", [0] * 5, [w - less for w in WEIGHTS]), "classlabels_int64s": [7, 8],
          "post_transform": post})
        for post in ("NONE", "LOGISTIC", "SOFTMAX")
        for less in (0.0, 0.4)
    ),
    *(
        ("SVMRegressor", X, 1,
         {**SVM, "coefficients": DRAW.normal(size=5).tolist(), "n_supports": 5, "rho": [0.2],
          "kernel_type": kind})
        for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")
    ),
    ("SVMRegressor", X, 1,
     {"coefficients": DRAW.normal(size=4).tolist(), "n_supports": 0, "rho": [0.2],
      "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "support_vectors": [0.0]}),
    *(
        ("SVMClassifier", X, 2,
         {**SVM, "coefficients": DRAW.normal(size=10).tolist(), "vectors_per_class": [2, 1, 2],
          "rho": [0.1, -0.2, 0.3], "kernel_type": "RBF", "classlabels_ints": [3, 4, 5], **more})
        for more in ({}, {"prob_a": [-1.0, -0.8, -1.2], "prob_b": [0.1, 0.0, -0.1]})
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "x", "outputs", "attrs"), ROWS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ROWS)]
)
def test_operator(op: str, x: Any, outputs: int, attrs: dict[str, Any]) -> None:
    content = model(op, x, outputs, 2 if op == "LabelEncoder" else 1, **attrs)
    wanted = onnxruntime.InferenceSession(content).run(None, {"x": x})
    with tilework.InferenceSession(content) as session:
        found = session.run(None, {"x": x})
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_tree_that_does_not_end_is_refused() -> None:
    attrs = trees("target", [0] * 5, WEIGHTS)
    attrs["nodes_truenodeids"][2] = 0
    with pytest.raises(tilework.InvalidGraph, match="its own ancestor"):
        tilework.InferenceSession(model("TreeEnsembleRegressor", X, 1, **attrs))


def test_a_derivative_of_what_was_broadcast_is_summed() -> None:
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node(
            "Gradient", ["a", "b"], ["da", "db"], domain="ai.onnx.preview.training",
            xs=["a", "b"], y="d",
        ),
    ]  # fmt: skip
    a, b = DRAW.normal(size=(3, 4)).astype(np.float32), DRAW.normal(size=4).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "gradient",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in zip("ab", (a, b),
                                                                                      strict=True)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("da", "db")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.preview.training", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    with tilework.InferenceSession(made.SerializeToString()) as session:
        da, db = session.run(None, {"a": a, "b": b})
    slope = 1 - np.tanh(a * b) ** 2
    np.testing.assert_allclose(da, slope * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(db, (slope * a).sum(0), rtol=1e-5, atol=1e-6)
