"""Maps as onnxruntime gives and takes them: ZipMap, DictVectorizer, CastMap; types and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, TypeProto, helper

import tilework
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx

ML = "ai.onnx.ml"
SCORES = np.array([[0.25, 0.5, 0.1], [1.5, -2.0, 0.0]], np.float32)


def mapped(key: int, value: int) -> TypeProto:
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, None))


def model(op: str, x: TypeProto, y: TypeProto, before: str = "", **attrs: Any) -> bytes:
    """One operator of ai.onnx.ml, with a unary one of ai.onnx before it."""
    nodes = [helper.make_node(before, ["x"], ["z"])] if before else []
    nodes.append(helper.make_node(op, ["z" if before else "x"], ["y"], domain=ML, **attrs))
    graph = helper.make_graph(
        nodes, op, [helper.make_value_info("x", x)], [helper.make_value_info("y", y)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(made.SerializeToString())


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, 3])
NAMED = mapped(TensorProto.STRING, TensorProto.FLOAT)
COUNTED = mapped(TensorProto.INT64, TensorProto.FLOAT)


def zipped(key: int, **classes: Any) -> bytes:
    y = helper.make_sequence_type_proto(mapped(key, TensorProto.FLOAT))
    return model("ZipMap", FLOATS, y, "Neg", **classes)


@pytest.mark.parametrize(
    "content",
    [
        zipped(TensorProto.INT64, classlabels_int64s=[7, -1, 3]),
        zipped(TensorProto.STRING, classlabels_strings=["cat", "dog", "ä"]),
    ],
    ids=["int64", "string"],
)
def test_zip_map_gives_a_dict_a_row(content: bytes) -> None:
    reference = onnxruntime.InferenceSession(content)
    with tilework.InferenceSession(content) as session:
        assert session.get_outputs()[0].type == reference.get_outputs()[0].type
        assert session.get_outputs()[0].shape == reference.get_outputs()[0].shape
        for rows in (SCORES, SCORES[:1]):
            (wanted,) = reference.run(None, {"x": rows})
            (found,) = session.run(None, {"x": rows})
            assert found == wanted
            for one, other in zip(found, wanted, strict=True):
                assert list(map(type, one)) == list(map(type, other))
        (value,) = session.run_with_ort_values(None, {"x": OrtValue.ortvalue_from_numpy(SCORES)})
        assert value.data_type() == session.get_outputs()[0].type


def test_scores_that_are_not_the_classes_are_refused() -> None:
    content = zipped(TensorProto.INT64, classlabels_int64s=[1, 2])
    with (
        tilework.InferenceSession(content) as session,
        pytest.raises(tilework.RuntimeException, match="3 scores for 2 classes"),
    ):
        session.run(None, {"x": SCORES})


VECTORS = [
    (
        model(
            "DictVectorizer", NAMED, helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 3]),
            string_vocabulary=["a", "b", "c"],
        ),
        {"c": 2.5, "a": -1.0, "unknown": 9.0},
    ),
    (
        model(
            "DictVectorizer", mapped(TensorProto.INT64, TensorProto.FLOAT),
            helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 3]), int64_vocabulary=[5, 1, 9],
        ),
        {1: 2.0},
    ),
    (
        model(
            "CastMap", COUNTED, helper.make_tensor_type_proto(TensorProto.FLOAT, None),
            cast_to="TO_FLOAT", map_form="DENSE",
        ),
        {4: 1.5, 2: 3.0},
    ),
    (
        model(
            "CastMap", COUNTED, helper.make_tensor_type_proto(TensorProto.INT64, None),
            cast_to="TO_INT64", map_form="SPARSE", max_map=4,
        ),
        {3: 12.0, 0: -4.0},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "fed"), VECTORS, ids=["names", "numbers", "dense", "sparse"])
def test_a_map_becomes_a_row(content: bytes, fed: dict[Any, Any]) -> None:
    reference = onnxruntime.InferenceSession(content)
    (wanted,) = reference.run(None, {"x": fed})
    with tilework.InferenceSession(content) as session:
        assert session.get_inputs()[0].type == reference.get_inputs()[0].type
        (found,) = session.run(None, {"x": fed})
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("fed", "words"),
    [
        ([1.0], "expected a dict"),
        ({1: 2.0}, "the dict has 1: 2.0"),
        ({"a": "b"}, "the dict has 'a': 'b'"),
        ({"a": None}, "the dict has 'a': None"),
    ],
)
def test_what_is_no_such_map_is_refused(fed: Any, words: str) -> None:
    with (
        tilework.InferenceSession(VECTORS[0][0]) as session,
        pytest.raises(tilework.InvalidArgument, match=words),
    ):
        session.run(None, {"x": fed})
