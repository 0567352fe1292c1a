"""What scikit-learn's converters write beside ai.onnx.ml's usual operators, against onnxruntime:
cdist as a Scan or as CDist, Tokenizer, encoders that refuse, branches that name what the caller
named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

import tilework

pytestmark = pytest.mark.onnx

ML, MICROSOFT = "ai.onnx.ml", "com.microsoft"
DRAW = np.random.default_rng(8)
TRAINED = (100 + DRAW.normal(size=(37, 5))).astype(np.float32)
ROWS = (100 + DRAW.normal(size=(6, 5))).astype(np.float32)
FLOAT, DOUBLE, STRING, INT64 = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64,
)  # fmt: skip


def model(
    nodes: Sequence[NodeProto], kind: int, shape: Sequence[Any], result: int,
    constants: Any = (), functions: Sequence[FunctionProto] = (),
) -> bytes:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "converted",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", result, None)],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )
    versions = {"": 17, ML: 1, MICROSOFT: 1, "own": 1}
    opsets = [helper.make_opsetid(*one) for one in versions.items()]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)
    return bytes(made.SerializeToString())


def scanned(terms: Sequence[NodeProto], dtype: Any = np.float32, power: float = 0) -> bytes:
    """cdist as skl2onnx writes it; `terms` lead from `less`, state - row, to `apart`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = [numpy_helper.from_array(np.array([1], np.int64), "axes")]
    constants.append(numpy_helper.from_array(np.array([power], dtype), "power"))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["state"], ["kept"]),
            helper.make_node("Sub", ["state", "row"], ["less"]),
            *terms,
            helper.make_node("Identity", ["apart"], ["out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("state", kind, ["n", 5]),
            helper.make_tensor_value_info("row", kind, [5]),
        ],
        [helper.make_tensor_value_info(name, kind, None) for name in ("kept", "out")],
        constants,
    )
    nodes = [
        helper.make_node("Scan", ["x", "t"], ["last", "z"], body=body, num_scan_inputs=1),
        helper.make_node("Transpose", ["z"], ["y"], perm=[1, 0]),
    ]
    return model(nodes, kind, ["n", 5], kind, [("t", TRAINED.astype(dtype))])


def node(op: str, *names: str, **attrs: Any) -> NodeProto:
    return helper.make_node(op, names[:-1], names[-1:], **attrs)


SUM = {"keepdims": 0}
SCANS = {
    "squares": ([node("ReduceSumSquare", "less", "apart", axes=[1], **SUM)], 0),
    "products": (
        [node("Mul", "less", "less", "term"), node("ReduceSum", "term", "axes", "apart", **SUM)], 0,
    ),
    "power": (
        [node("Pow", "less", "power", "term"), node("ReduceSum", "term", "axes", "apart", **SUM)],
        2,
    ),
    "sizes": ([node("Abs", "less", "term"), node("ReduceSum", "term", "axes", "apart", **SUM)], 0),
    "cubes": (
        [
            node("Abs", "less", "size"), node("Pow", "size", "power", "term"),
            node("ReduceSum", "term", "axes", "apart", **SUM),
        ],
        3,
    ),
    "norms": ([node("ReduceL1", "less", "apart", axes=[1], **SUM)], 0),
}  # fmt: skip


@pytest.mark.parametrize("terms", SCANS.values(), ids=SCANS)
def test_a_scan_of_distances_is_one_kernel(terms: tuple[Sequence[NodeProto], float]) -> None:
    content = scanned(terms[0], power=terms[1])
    reference = onnxruntime.InferenceSession(content)
    with tilework.InferenceSession(content) as session:
        for rows in (ROWS, ROWS[:1]):
            (wanted,) = reference.run(None, {"x": rows})
            (found,) = session.run(None, {"x": rows})
            # The rows are near each other and far from 0: products of theirs would lose 5 digits.
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert "f32_distance" in str(session.plan())
        assert session.where() == "kernel"


def test_distances_of_doubles_are_one_step_of_the_host() -> None:
    content = scanned(SCANS["squares"][0], np.float64)
    rows = ROWS.astype(np.float64)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": rows})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": rows})
        assert "Scan" in str(session.plan())
        assert "body" not in str(session.plan())
    np.testing.assert_allclose(found, wanted, rtol=1e-14)


KEPT = [
    [node("ReduceSumSquare", "less", "apart", axes=[0], **SUM)],
    [node("ReduceSumSquare", "less", "apart", axes=[1], keepdims=1)],
    [node("Mul", "less", "row", "term"), node("ReduceSum", "term", "axes", "apart", **SUM)],
]


@pytest.mark.parametrize("terms", KEPT, ids=["other axis", "axis kept", "no distance"])
def test_other_scans_stay_scans(terms: Sequence[NodeProto]) -> None:
    content = scanned(terms)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": ROWS}) if (
        terms is not KEPT[1]
    ) else (None,)  # its result has three axes, which Transpose's perm has not
    with tilework.InferenceSession(content) as session:
        if wanted is None:
            with pytest.raises(tilework.TileworkError):
                session.run(None, {"x": ROWS})
            return
        (found,) = session.run(None, {"x": ROWS})
        assert "f32_distance" not in str(session.plan())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_cdist(metric: str) -> None:
    nodes = [helper.make_node("CDist", ["x", "t"], ["y"], domain=MICROSOFT, metric=metric)]
    content = model(nodes, FLOAT, ["n", 5], FLOAT, [("t", TRAINED - 100)])
    rows = ROWS - 100
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": rows})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": rows})
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


TEXTS = np.array(["Hello, wörld! a bb", "", "x-y z  q", "abc"], object)


@pytest.mark.parametrize("shape", [(4,), (2, 2)])
@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize(
    "attrs",
    [
        {"tokenexp": "[a-z]+", "mincharnum": 1},
        {"tokenexp": r"\w+", "mincharnum": 2},
        {"separators": [""], "mincharnum": 1},
        {"separators": [" ", "-"], "mincharnum": 1},
        {"separators": ["[ ,!]"], "mincharnum": 2},
    ],
)
def test_tokenizer(attrs: dict[str, Any], mark: int, shape: tuple[int, ...]) -> None:
    nodes = [node("Tokenizer", "x", "y", domain=MICROSOFT, pad_value="#", mark=mark, **attrs)]
    content = model(nodes, STRING, [None] * len(shape), STRING)
    texts = TEXTS.reshape(shape)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": texts})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": texts})
    assert found.tolist() == wanted.tolist()


def test_an_encoder_that_knows_all_categories_refuses_others() -> None:
    nodes = [node("OneHotEncoder", "x", "y", domain=ML, cats_int64s=[4, 9], zeros=0)]
    content = model(nodes, INT64, ["n"], FLOAT)
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": np.array([9, 4, 9])})
        assert found.tolist() == [[0, 1], [1, 0], [0, 1]]
        with pytest.raises(tilework.TileworkError, match=r"7 is none of the categories \[4, 9\]"):
            session.run(None, {"x": np.array([9, 7])})


def test_of_two_weights_of_a_leaf_the_first_counts() -> None:
    tree = {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3,
        "nodes_values": [100.0, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "n_targets": 1,
        "target_treeids": [0] * 4, "target_nodeids": [1, 1, 2, 2], "target_ids": [0] * 4,
        "target_weights": [1.0, 5.0, 2.0, 7.0],
    }  # fmt: skip
    nodes = [node("TreeEnsembleRegressor", "x", "y", domain=ML, **tree)]
    content = model(nodes, FLOAT, ["n", 5], FLOAT)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": ROWS})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": ROWS})
    assert set(wanted.ravel()) == {1, 2}
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_one_score_of_two_classes_has_onnxruntimes_sign(transform: str) -> None:
    attrs = {
        "support_vectors": (DRAW.normal(size=15)).tolist(), "kernel_params": [0.4, 0.1, 2.0],
        "coefficients": [0.4, -1.0, 0.8], "vectors_per_class": [2, 1], "rho": [0.1],
        "kernel_type": "RBF", "classlabels_ints": [3, 4], "post_transform": transform,
    }  # fmt: skip
    nodes = [helper.make_node("SVMClassifier", ["x"], ["label", "y"], domain=ML, **attrs)]
    content = model(nodes, FLOAT, ["n", 5], FLOAT)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": ROWS - 100})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": ROWS - 100})
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_branch_in_a_function_may_name_its_result_as_the_caller_names_its_argument() -> None:
    branches = {}
    for name, op in (("then_branch", "Identity"), ("else_branch", "Neg")):
        result = [helper.make_tensor_value_info("x", FLOAT, None)]  # the caller's name for `given`
        branches[name] = helper.make_graph([node(op, "given", "x")], name, [], result)
    function = helper.make_function(
        "own", "turned", ["flag", "given"], ["result"],
        [helper.make_node("If", ["flag"], ["result"], **branches)],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0), node("Less", "sum", "zero", "flag"),
        helper.make_node("turned", ["flag", "x"], ["y"], domain="own"),
    ]  # fmt: skip
    zero = np.array(0, np.float32)
    content = model(nodes, FLOAT, ["n", 5], FLOAT, [("zero", zero)], [function])
    with tilework.InferenceSession(content) as session:
        for rows in (ROWS, -ROWS):
            (found,) = session.run(None, {"x": rows})
            np.testing.assert_array_equal(found, -ROWS)
