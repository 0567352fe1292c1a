"""Every operator of the front against onnxruntime: one table, one single-node model a row.

ONNX's own cases (test_node_cases) state the newest opset; the rows here add the older spellings,
dtypes, edge values and com.microsoft's operators.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.onnx.rows import (
    MICROSOFT,
    Row,
    f32,
    flags,
    i32,
    i64,
    infer_row,
    positive,
    run_row,
    scalar,
)
from tests.onnx.test_node_cases import cases, operators, runnable
from tilework.onnx.ops import OPERATORS

pytestmark = pytest.mark.onnx

EDGES = np.array(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-30, 87.0, -87.0, np.inf, -np.inf, np.nan], np.float32
)
UNARY_ALL = [
    "Abs",
    "Neg",
    "Sign",
    "Floor",
    "Ceil",
    "Round",
    "Erf",
    "Exp",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Softplus",
    "Softsign",
]
UNARY_ALL += [
    "Sin",
    "Cos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "LeakyRelu",
    "Elu",
    "Selu",
    "HardSigmoid",
    "HardSwish",
]
UNARY_POSITIVE = ["Sqrt", "Log", "Reciprocal"]
UNARY_UNIT = ["Asin", "Acos", "Atanh", "Tan"]
BINARY = ["Add", "Sub", "Mul", "Div"]
COMPARE = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
REDUCE = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]

FINITE = EDGES[np.isfinite(EDGES)]

ROWS: list[Row] = [
    *(Row(op, (f32(3, 5),)) for op in UNARY_ALL),
    *(Row(op, (np.clip(FINITE, -20, 20),)) for op in UNARY_ALL),
    *(Row(op, (EDGES,)) for op in ("Abs", "Floor", "Ceil", "Round", "Exp", "Erf", "Tanh", "IsNaN")),
    *(Row(op, (positive(3, 5),)) for op in UNARY_POSITIVE),
    *(Row(op, (EDGES,)) for op in UNARY_POSITIVE),
    *(Row(op, (np.clip(f32(3, 5), -0.9, 0.9),)) for op in UNARY_UNIT),
    Row("Acosh", (1 + positive(7),)),
    Row("Celu", (f32(4),), {"alpha": 0.7}),
    Row("ThresholdedRelu", (f32(9),), {"alpha": 0.3}),
    Row("LeakyRelu", (f32(9),), {"alpha": 0.3}),
    Row("PRelu", (f32(3, 4), f32(4, seed=1))),
    Row("IsInf", (EDGES,)),
    Row("IsInf", (EDGES,), {"detect_positive": 0}),
    Row("Gelu", (f32(4, 4),), opset=20),
    Row("Gelu", (f32(4, 4),), {"approximate": "tanh"}, opset=20),
    Row("Abs", (i64(-3, 0, 5),)),
    Row("Neg", (i32(-3, 0, 5),)),
    Row("Sign", (i64(-3, 0, 5),)),
    Row("Erf", (np.linspace(-5, 5, 101).astype(np.float32),)),
    # broadcasting, dtypes, truncation
    *(Row(op, (f32(2, 3, 4), f32(3, 1, seed=1))) for op in BINARY),
    *(Row(op, (i64(-7, 7, -6, 5), i64(2, -2, 3, 5))) for op in BINARY),
    *(Row(op, (i32(-7, 7, -6, 5), scalar(2, np.int32))) for op in BINARY),
    Row("Div", (EDGES, np.flip(EDGES).copy())),
    Row("Add", (f32(0, 3), f32(1, 3))),
    Row("Add", (scalar(2.0), scalar(3.0))),
    Row("Pow", (positive(3, 3), f32(3, seed=1))),
    Row("Pow", (f32(3, 3), scalar(2.0))),
    Row("Pow", (f32(3, 3), scalar(2, np.int64))),
    Row("Pow", (i64(2, 3, 4), scalar(2.0)), opset=15),
    Row("Pow", (i64(2, 3, 4), i64(2, 0, 3)), opset=15),
    Row("Mod", (i64(-7, 7, -6, 5), i64(3, -3, 4, 5))),
    Row("Mod", (f32(6) * 5, f32(6, seed=1)), {"fmod": 1}),
    Row("Mod", (i32(-7, 7), i32(3, -3)), {"fmod": 1}),
    *(
        Row(op, (f32(3, 1), f32(4, seed=1), f32(3, 4, seed=2)))
        for op in ("Min", "Max", "Sum", "Mean")
    ),
    *(Row(op, (f32(3),)) for op in ("Min", "Max", "Sum", "Mean")),
    Row("Max", (EDGES, np.flip(EDGES).copy())),
    Row("Clip", (f32(9),), {"min": -0.5, "max": 0.5}, opset=10),
    Row("Clip", (f32(9),), {"max": 0.5}, opset=10),
    Row("Clip", (f32(9), scalar(-0.5), scalar(0.5))),
    Row("Clip", (f32(9), scalar(-0.5), scalar(0.5)), constants=(1, 2)),
    Row("Clip", (f32(9), None, scalar(0.5)), constants=(2,)),
    Row("Clip", (f32(9), scalar(0.5), scalar(-0.5)), constants=(1, 2)),
    Row("Clip", (f32(9),)),
    Row("Clip", (i64(1, 5, 9), scalar(2, np.int64))),
    # logic
    *(Row(op, (f32(3, 4), f32(4, seed=1))) for op in COMPARE),
    *(Row(op, (i64(1, 2, 3), i64(3, 2, 1))) for op in COMPARE),
    Row("Equal", (flags(5), flags(5, seed=1))),
    *(Row(op, (flags(3, 4), flags(4, seed=1))) for op in ("And", "Or", "Xor")),
    Row("Not", (flags(5),)),
    Row("Where", (flags(3, 1), f32(3, 4), scalar(0.0))),
    Row("Where", (flags(3), i64(1, 2, 3), i64(4, 5, 6))),
    *(
        Row(op, (i32(6, 5), i32(3, 9)), opset=18)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    Row("BitwiseNot", (i32(6, 5),), opset=18),
    # reductions
    *(Row(f"Reduce{op}", (positive(2, 3, 4),), {"axes": [-1], "keepdims": 0}, 11) for op in REDUCE),
    *(Row(f"Reduce{op}", (positive(2, 3, 4),), opset=11) for op in REDUCE),
    *(Row(f"Reduce{op}", (positive(2, 3, 4), i64(0, -1)), opset=18) for op in REDUCE),
    *(Row(f"Reduce{op}", (positive(2, 3, 4), i64(1)), opset=18, constants=(1,)) for op in REDUCE),
    Row("ReduceSum", (f32(2, 3),), {"noop_with_empty_axes": 1}, 13),
    Row("ReduceSum", (f32(2, 3), i64(1)), {"keepdims": 0}, 13, constants=(1,)),
    Row("ReduceMean", (i64(7, 8, -2),), opset=11),
    Row("ReduceMax", (i32(7, 8, -2),), opset=11),
    *(Row(op, (f32(3, 4),), {"axis": -1}) for op in ("ArgMax", "ArgMin")),
    Row("ArgMax", (i32([1, 3, 3], [2, 2, 1]),), {"axis": 1, "select_last_index": 1, "keepdims": 0}),
    Row("CumSum", (f32(3, 4), scalar(1, np.int64))),
    Row("CumSum", (f32(3, 4), scalar(-2, np.int64)), {"exclusive": 1, "reverse": 1}),
    # layout
    Row("Reshape", (f32(2, 3, 4), i64(0, -1))),
    Row("Reshape", (f32(2, 3, 4), i64(4, 3, 2)), constants=(1,)),
    Row("Reshape", (f32(0, 3), i64(3, 0)), {"allowzero": 1}),
    *(Row("Flatten", (f32(2, 3, 4),), {"axis": axis}) for axis in (0, 1, 3, -1)),
    Row("Transpose", (f32(2, 3, 4),)),
    Row("Transpose", (f32(2, 3, 4),), {"perm": [1, 2, 0]}),
    Row("Unsqueeze", (f32(2, 3),), {"axes": [0, 3]}, 11),
    Row("Unsqueeze", (f32(2, 3), i64(-1, 0)), constants=(1,)),
    Row("Unsqueeze", (f32(2, 3), i64(1))),
    Row("Squeeze", (f32(1, 3, 1),)),
    Row("Squeeze", (f32(1, 3, 1),), {"axes": [-1]}, 11),
    Row("Squeeze", (f32(1, 3, 1), i64(0))),
    Row("Concat", (f32(2, 3), f32(2, 1)), {"axis": -1}),
    Row("Concat", (i64(1, 2), i64(3)), {"axis": 0}),
    Row("Split", (f32(6, 2),), {"axis": 0}, 11, outputs=3),
    Row("Split", (f32(6, 2),), {"axis": 0, "split": [1, 5]}, 11, outputs=2),
    Row("Split", (f32(2, 6), i64(2, 4)), {"axis": -1}, 13, outputs=2),
    Row("Split", (f32(7, 2),), {"num_outputs": 3}, 18, outputs=3),
    Row("Slice", (f32(5, 6),), {"starts": [1, -3], "ends": [99, -1], "axes": [1, 0]}, 9),
    Row("Slice", (f32(5, 6), i64(1, 0), i64(4, 5))),
    Row("Slice", (f32(5, 6), i64(-1), i64(-99), i64(0), i64(-2))),
    Row("Slice", (f32(5, 6), i64(4), i64(1), i64(-1)), constants=(1, 2, 3)),
    Row("Slice", (f32(5, 6), i64(-2), i64(2**62), i64(1), i64(1)), constants=(1, 3)),
    Row("Slice", (f32(5, 6), i32(3), i32(1))),
    Row("Expand", (f32(3, 1), i64(2, 1, 4))),
    Row("Expand", (f32(3, 1), i64(1)), constants=(1,)),
    Row("Tile", (f32(2, 3), i64(2, 1)), constants=(1,)),
    Row("Pad", (f32(2, 3),), {"pads": [0, 1, 2, 0], "value": 1.5}, 10),
    Row("Pad", (f32(2, 3), i64(0, 1, 2, 0), scalar(1.5)), constants=(1,)),
    Row("Pad", (f32(4, 5), i64(1, 1, 2, 0)), {"mode": "reflect"}),
    Row("Pad", (f32(4, 5), i64(1, -1, 2, 0)), {"mode": "edge"}),
    Row("Pad", (f32(4, 5), i64(1, 2), None, i64(-1)), opset=18),
    Row("Trilu", (f32(3, 4),)),
    Row("Trilu", (f32(2, 3, 4), scalar(-1, np.int64)), {"upper": 0}),
    Row("Identity", (f32(3),)),
    *(Row("Cast", (FINITE,), {"to": to}) for to in (TensorProto.INT32, TensorProto.BOOL)),
    *(Row("Cast", (i64(-1, 0, 300),), {"to": to}) for to in (TensorProto.FLOAT, TensorProto.UINT8)),
    Row("Cast", (f32(3),), {"to": TensorProto.FLOAT16}),
    Row("Cast", (flags(5),), {"to": TensorProto.INT64}),
    Row("CastLike", (f32(3), i64(1)), opset=15),
    # index and create
    Row("Gather", (f32(4, 3), i64([0, -1], [2, 2]))),
    Row("Gather", (f32(4, 3), scalar(1, np.int32)), {"axis": -1}),
    Row("GatherElements", (f32(3, 3), i64([0, -1, 1])), {"axis": 0}),
    Row("GatherND", (f32(2, 3, 4), i64([0, 1], [1, -1]))),
    Row("GatherND", (f32(2, 3, 4), i64([1], [0])), {"batch_dims": 1}),
    Row("Shape", (f32(2, 0, 4),)),
    Row("Shape", (f32(2, 3, 4),), {"start": -2, "end": 99}),
    Row("Size", (f32(2, 3),)),
    Row("ConstantOfShape", (i64(2, 3),)),
    Row(
        "ConstantOfShape", (i64(0),), {"value": helper.make_tensor("", TensorProto.INT64, [1], [5])}
    ),
    Row("Range", (scalar(1, np.int64), scalar(10, np.int64), scalar(4, np.int64))),
    Row(
        "Range", (scalar(5, np.int64), scalar(-3, np.int64), scalar(-3, np.int64)), constants=(0, 1)
    ),
    Row("Range", (scalar(0.5), scalar(2.1), scalar(0.4))),
    Row("EyeLike", (f32(3, 4),), {"k": 1, "dtype": TensorProto.INT32}),
    Row("Constant", (), {"value": helper.make_tensor("", TensorProto.FLOAT, [2], [5.0, 6.0])}),
    Row("Constant", (), {"value_ints": [5, 6]}),
    Row("Constant", (), {"value_float": 2.5}),
    # nn
    Row("MatMul", (f32(2, 3, 4), f32(4, 5, seed=1))),
    Row("MatMul", (f32(2, 1, 3, 4), f32(5, 4, 2, seed=1))),
    Row("MatMul", (f32(4), f32(4, 5, seed=1))),
    Row("MatMul", (f32(3, 4), f32(4, seed=1))),
    Row("MatMul", (f32(4), f32(4, seed=1))),
    Row("MatMul", (f32(3, 0), f32(0, 2))),
    Row("Gemm", (f32(3, 4), f32(4, 5, seed=1), f32(5, seed=2))),
    Row("Gemm", (f32(4, 3), f32(5, 4, seed=1)), {"transA": 1, "transB": 1, "alpha": 0.5}),
    Row("Gemm", (f32(3, 4), f32(4, 5, seed=1), f32(3, 1, seed=2)), {"beta": 2.0}),
    *(
        Row(op, (f32(2, 3, 4),), {"axis": 1}, opset)
        for op in ("Softmax", "LogSoftmax")
        for opset in (11, 13)
    ),
    *(
        Row(op, (f32(2, 3, 4),), {}, opset)
        for op in ("Softmax", "LogSoftmax")
        for opset in (11, 13)
    ),
    Row("Softmax", (f32(3, 4) * 200,)),
    Row("LayerNormalization", (f32(2, 3, 4), f32(4, seed=1), f32(4, seed=2))),
    Row("LayerNormalization", (f32(2, 3, 4), f32(3, 4, seed=1)), {"axis": 1, "epsilon": 1e-3}),
    Row("LayerNormalization", (f32(2, 4), f32(4, seed=1), f32(4, seed=2)), outputs=3),
    Row("Dropout", (f32(3, 4),), opset=11, outputs=2),
    Row("Dropout", (f32(3, 4), scalar(0.5), scalar(False, np.bool_)), constants=(2,)),
    Row("MeanVarianceNormalization", (f32(2, 3, 2, 2),), opset=13),
    # com.microsoft
    Row("Gelu", (f32(4, 4),), {}, 17, MICROSOFT),
    Row("QuickGelu", (f32(4, 4),), {"alpha": 1.5}, 17, MICROSOFT),
    Row("FastGelu", (f32(4, 4), f32(4, seed=1)), {}, 17, MICROSOFT),
    Row("BiasGelu", (f32(4, 4), f32(4, seed=1)), {}, 17, MICROSOFT),
    Row(
        "SkipLayerNormalization",
        (f32(2, 3, 4), f32(2, 3, 4, seed=1), f32(4, seed=2), f32(4, seed=3), f32(4, seed=4)),
        {"epsilon": 1e-5},
        17,
        MICROSOFT,
    ),
    Row(
        "FusedMatMul",
        (f32(2, 4, 3), f32(2, 5, 4)),
        {"transA": 1, "transB": 1, "alpha": 0.5},
        17,
        MICROSOFT,
    ),
]

BYTES = np.random.default_rng(3).integers(0, 256, (2, 3, 6, 6)).astype(np.uint8)
SCALE, ZERO = scalar(0.05), scalar(120, np.uint8)
TO, AT = scalar(0.03), scalar(8, np.uint8)  # even: halves are rounded before or after it is added
ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 0.125, 1e30, np.nan], np.float32)
FILTERS = np.random.default_rng(4).integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
ROWS += [
    Row("QuantizeLinear", (f32(4, 5), SCALE, ZERO), {}, 17, MICROSOFT),
    Row("DequantizeLinear", (BYTES, SCALE, ZERO), {}, 17, MICROSOFT),
    Row("QLinearSigmoid", (BYTES, SCALE, ZERO, TO, AT), {}, 17, MICROSOFT),
    Row("QLinearLeakyRelu", (BYTES, SCALE, ZERO, TO, AT), {"alpha": 0.25}, 17, MICROSOFT),
    Row("QLinearConv", (BYTES, SCALE, ZERO, FILTERS, SCALE, ZERO, scalar(2.0), AT),
        {"pads": [1, 1, 1, 1]}, 17, MICROSOFT, constants=(1, 2, 3, 4, 5, 6, 7)),
    Row("QLinearAveragePool", (BYTES, scalar(1 / 16), ZERO, scalar(1 / 8), AT),
        {"kernel_shape": [2, 2]}, 17, MICROSOFT),
    Row("QLinearGlobalAveragePool", (BYTES, SCALE, ZERO, TO, AT), {}, 17, MICROSOFT),
    Row("QLinearSoftmax", (BYTES, SCALE, ZERO, scalar(1 / 256), scalar(0, np.uint8)),
        {"axis": -1, "opset": 13}, 17, MICROSOFT, constants=(1, 2, 3, 4)),
    *(Row("QLinearSoftmax", (BYTES, SCALE, ZERO, scalar(1 / 256), scalar(0, np.uint8)),
          {"opset": 12, **axis}, 17, MICROSOFT, constants=(1, 2, 3, 4))
      for axis in ({}, {"axis": 2}, {"axis": 3})),
    *(Row(op, (BYTES, SCALE, None, TO, AT), {}, 17, MICROSOFT)
      for op in ("QLinearSigmoid", "QLinearLeakyRelu")),
    *(Row("QuantizeLinear", (ODD, SCALE, scalar(5, dtype)), opset=21)
      for dtype in (np.uint8, np.int8, np.uint16, np.int16)),
    Row("QLinearConcat", (TO, AT, BYTES, SCALE, ZERO, BYTES, TO, AT), {"axis": 1}, 17, MICROSOFT,
        constants=(0, 1, 3, 4, 6, 7)),
    Row("QGemm", (BYTES[0, 0], SCALE, ZERO, BYTES[1, 0, :4], SCALE, ZERO,
                  i32(3, 1, 4, 1), scalar(0.5), AT), {"transB": 1}, 17, MICROSOFT,
        constants=(1, 2, 3, 4, 5, 6, 7, 8)),
    Row("QGemm", (BYTES[0, 0], SCALE, ZERO, BYTES[0, 1], SCALE, ZERO, i32(3, 1, 4, 1, 5, 9)),
        {"alpha": 0.5}, 17, MICROSOFT, constants=(1, 2, 3, 4, 5, 6)),
    Row("CategoryMapper", (np.array(["b", "c", "unknown", "a"], object),),
        {"cats_int64s": [1, 2, 3], "cats_strings": ["a", "b", "c"], "default_int64": 7}, 17,
        "ai.onnx.ml"),
    Row("FeatureVectorizer", (f32(3, 2), f32(3, 1, seed=1)), {"inputdimensions": [2, 1]}, 17,
        "ai.onnx.ml"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row: Row) -> None:
    run_row(row)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_inference_agrees_with_the_reference(row: Row) -> None:
    infer_row(row)


def test_every_operator_is_run() -> None:
    """By a row here, by ONNX's own node cases, or by a test of this folder that names it."""
    run = {(row.domain, row.op) for row in ROWS}
    for name in runnable():
        run |= operators(cases()[name].model)
    files = [path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__)]
    named = {word for path in files for word in re.findall(r"\w+", path.read_text("utf-8"))}
    left = sorted(key for key in OPERATORS.keys() - run if key[1] not in named)
    assert not left, f"no test runs {left}: give each a row in ROWS, against onnxruntime"
