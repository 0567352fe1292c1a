"""Moving, picking, ordering, resampling and drawing: against onnxruntime, also in older opsets.

Rows as in test_operators.py: what that table and ONNX's node cases leave out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.onnx.rows import Row, answered, f32, flags, i64, scalar
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


def ints(values: list[list[int]]) -> Any:
    return np.array(values)


F16 = f32(5, 7, seed=3).astype(np.float16)
BYTES = np.array([1, 200, 7, 3, 0], np.uint8)
ROIS = np.array([[0, 0, 0, 3, 3], [1, 1, 2, 5, 4], [0, 4, 4, 20, 9]], np.float32)
CORNERS = np.array([[0.5, 1, 4.5, 5], [2, 0, 7.5, 3.5]], np.float32)
GRID = np.random.default_rng(5).uniform(-1.4, 1.4, (2, 4, 3, 2)).astype(np.float32)
ROWS = [
    Row("TopK", (f32(3, 50), i64(7)), {"axis": -1}, 11, outputs=2, constants=(1,)),
    Row("TopK", (f32(9, 4, 3), i64(5)), {"axis": 0, "largest": 0}, 11, outputs=2, constants=(1,)),
    Row("TopK", (np.round(f32(4, 40)), i64(40)), {}, 11, outputs=2, constants=(1,)),
    Row("TopK", (i64(3, 1, 3, 2, 1), i64(3)), {}, 11, outputs=2, constants=(1,)),
    Row("CumSum", (f32(5, 300), scalar(1, np.int32)), {"reverse": 1}, 14, constants=(1,)),
    Row("CumSum", (f32(30, 5, 4), scalar(0, np.int32)), {"exclusive": 1}, 14, constants=(1,)),
    Row("CumSum", (i64(*range(40)), scalar(0, np.int32)), {}, 14, constants=(1,)),
    Row("GatherElements", (f32(4, 6), ints([[0, -1], [5, 2], [1, 1], [3, 0]])), {"axis": 1}, 13),
    Row("GatherND", (f32(4, 6, 3), ints([[0, 5], [3, -1]])), {}, 13),
    Row("GatherND", (f32(2, 6, 3), ints([[1], [5]])), {"batch_dims": 1}, 13),
    *(
        Row(
            "ScatterElements",
            (f32(4, 6), ints([[0, 3, 0], [5, -2, 1]]), f32(2, 3, seed=1)),
            {"axis": 1} if reduction == "none" else {"axis": 1, "reduction": reduction},
            18,
        )
        for reduction in ("none", "add", "mul", "max", "min")
    ),
    *(
        Row(
            "ScatterND",
            (f32(4, 6, 2), ints([[0, 3], [3, 1], [0, 3]]), f32(3, 2, seed=1)),
            {"reduction": reduction},
            18,
        )
        for reduction in ("add", "mul", "max", "min")
    ),
    Row("ScatterND", (f32(40, 6), ints([[3], [11], [-1]]), f32(3, 6, seed=1)), {}, 13),
    Row("Scatter", (f32(3, 3), ints([[1, 0, 2]]), f32(1, 3, seed=1)), {"axis": 0}, 9),
    Row("OneHot", (i64(1, -1, 7), i64(5)[0], f32(2)), {"axis": 0}, 11, constants=(1,)),
    Row("ReverseSequence", (f32(4, 3, 2), i64(4, 1, 2)), {}, 10),
    Row("Einsum", (f32(2, 3, 4), f32(2, 4, 5)), {"equation": "bij, bjk -> bik"}, 12),
    Row("Einsum", (f32(3, 4), f32(3, 4, seed=1)), {"equation": "ij,ij"}, 12),
    Row("Einsum", (f32(2, 3, 4),), {"equation": "...ij->...ji"}, 12),
    Row("Hardmax", (f32(3, 4, 5),), {"axis": 1}, 11),
    Row("Hardmax", (f32(3, 4, 5),), {"axis": 1}, 13),
    Row("LpNormalization", (f32(3, 4),), {"p": 1, "axis": 0}, 12),
    Row("Shrink", (f32(20),), {"lambd": 0.3, "bias": 0.1}, 9),
    Row("DepthToSpace", (f32(1, 8, 2, 3),), {"blocksize": 2}, 11),
    Row("SpaceToDepth", (f32(1, 2, 4, 6),), {"blocksize": 2}, 13),
    Row("Upsample", (f32(1, 2, 3, 3),), {"scales": [1.0, 1.0, 2.0, 2.0]}, 7),
    Row("Upsample", (f32(1, 2, 3, 3), scalar([1, 1, 2, 3])), {"mode": "linear"}, 9),
    Row("Resize", (f32(1, 2, 5, 5), scalar([1, 1, 0.5, 2])), {}, 10),
    Row("Resize", (f32(1, 2, 4, 4), scalar([1, 1, 2, 2])), {"mode": "linear"}, 10),
    *(
        Row(
            "Resize",
            (f32(1, 2, 5, 6), None, scalar([1, 1, 1.7, 0.8])),
            {"mode": mode, "coordinate_transformation_mode": transform},
            13,
            constants=(2,),
        )
        for mode in ("nearest", "linear", "cubic")
        for transform in ("half_pixel", "asymmetric", "pytorch_half_pixel")
    ),
    Row("MaxRoiPool", (f32(2, 3, 8, 9), ROIS), {"pooled_shape": [2, 3]}, 12),
    *(
        Row(
            "RoiAlign",
            (f32(2, 3, 8, 9), CORNERS, i64(1, 0)),
            {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "mode": mode},
            opset,
        )
        for ratio, mode, opset in ((2, "avg", 16), (0, "avg", 16), (2, "max", 16), (2, "avg", 10))
    ),
    *(
        Row(
            "GridSample",
            (f32(2, 3, 5, 6), GRID),
            {"mode": mode, "padding_mode": padding, "align_corners": corners},
            16,
        )
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    ),
    Row("DFT", (f32(2, 10, 1),), {"axis": 1, "onesided": 1}, 17),
    Row("DFT", (f32(2, 10, 2),), {"axis": 1, "inverse": 1}, 17),
    Row("STFT", (f32(1, 40, 1), i64(8)[0], f32(16)), {"onesided": 1}, 17, constants=(1,)),
    Row("HannWindow", (i64(10)[0],), {"periodic": 0}, 17, constants=(0,)),
    Row("BitShift", (BYTES, BYTES[::-1].copy()), {"direction": "LEFT"}, 11),
    Row("CastLike", (f32(3, 4), F16), {}, 15),
    *(
        Row(op, (F16,), {"axis": axis}, 13)
        for op in ("Softmax", "LogSoftmax")
        for axis in (0, -1)
    ),
    *(Row(op, (F16,), {"axes": [1]}, 13, rtol=2e-3) for op in ("ReduceMean", "ReduceMax")),
    *(Row(op, (i64(*range(24)).reshape(4, 6),), {"axes": [0]}, 13)
      for op in ("ReduceMax", "ReduceProd", "ReduceMean")),
    Row("Where", (flags(5, 7), F16, F16[::-1].copy()), {}, 9),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row: Row) -> None:
    model, feeds, wanted = answered(row)
    with InferenceSession(model) as session:
        results = session.run(None, feeds)
    for result, right in zip(results, wanted, strict=True):
        assert (result.dtype, result.shape) == (right.dtype, right.shape)
        tolerance = max(row.rtol, 2e-3 if right.dtype == np.float16 else 2e-5)
        np.testing.assert_allclose(result, right, rtol=tolerance, atol=max(2e-6, tolerance / 2))


def drawn(op: str, *shape: int, **attributes: Any) -> InferenceSession:
    """A model of one random node, whose shape is an attribute or that of its input."""
    like = op.endswith("Like") or op == "Multinomial"
    if not like:
        attributes["shape"] = shape
    x = helper.make_tensor_value_info("x", 1, shape)
    y = helper.make_tensor_value_info("y", attributes.get("dtype", 1), None)
    nodes = [helper.make_node(op, ["x"] if like else [], ["y"], **attributes)]
    graph = helper.make_graph(nodes, "one", [x] if like else [], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return InferenceSession(model.SerializeToString())


@pytest.mark.parametrize("op", ["RandomNormal", "RandomNormalLike"])
def test_normal_numbers(op: str) -> None:
    feeds = {"x": np.zeros((100, 200), np.float32)} if op.endswith("Like") else {}
    with drawn(op, 100, 200, mean=3.0, scale=2.0) as session:
        [first], [second] = session.run(None, feeds), session.run(None, feeds)
    assert (str(first.dtype), first.shape) == ("float32", (100, 200))
    assert (first != second).any()
    np.testing.assert_allclose([first.mean(), first.std()], [3, 2], atol=0.1)


@pytest.mark.parametrize("op", ["RandomUniform", "RandomUniformLike"])
def test_uniform_numbers_of_a_seed_come_again(op: str) -> None:
    feeds = {"x": np.zeros((100, 200), np.float32)} if op.endswith("Like") else {}
    with drawn(op, 100, 200, low=-1.0, high=3.0, seed=0.5) as session:
        [first], [second] = session.run(None, feeds), session.run(None, feeds)
    np.testing.assert_array_equal(first, second)
    assert -1 <= first.min() < -0.9 < 2.9 < first.max() < 3
    with drawn(op, 100, 200, low=-1.0, high=3.0, seed=0.25) as session:
        [other] = session.run(None, feeds)
    assert (first != other).any()


def test_classes_are_drawn_by_their_weights() -> None:
    weights = np.log(scalar([[0.5, 0.25, 0.25], [0, 1, 0]]) + 1e-12)
    with drawn("Multinomial", 2, 3, sample_size=4000, dtype=7) as session:
        [y] = session.run(None, {"x": weights})
    assert (str(y.dtype), y.shape) == ("int64", (2, 4000))
    np.testing.assert_allclose(np.bincount(y[0], minlength=3) / 4000, [0.5, 0.25, 0.25], atol=0.05)
    assert (y[1] == 1).all()
