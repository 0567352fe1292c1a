"""The suite's rule of comparison, against onnx's own and against what it must refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.backend.test.runner import Runner

from tests.conformance.compare import FORMATS, decoded, difference
from tests.conformance.values import read_value

pytestmark = pytest.mark.onnx

TYPES = {
    "float8e4m3fn": onnx.TensorProto.FLOAT8E4M3FN,
    "float8e4m3fnuz": onnx.TensorProto.FLOAT8E4M3FNUZ,
    "float8e5m2": onnx.TensorProto.FLOAT8E5M2,
    "float8e5m2fnuz": onnx.TensorProto.FLOAT8E5M2FNUZ,
    "float8e8m0": onnx.TensorProto.FLOAT8E8M0,
    "float4e2m1": onnx.TensorProto.FLOAT4E2M1,
}
ONE = np.array([1.0, 2.0], np.float32)
PAIRS: list[tuple[Any, Any]] = [
    (ONE, ONE),
    (ONE, ONE + np.float32(5e-4)),
    (ONE, ONE + np.float32(5e-3)),
    (ONE, ONE.astype(np.float64)),
    (ONE, ONE[:1]),
    (ONE, ONE.reshape(1, 2)),
    (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])),
    (np.array([np.nan]), np.array([1.0])),
    (np.array([0.0]), np.array([1e-8])),
    (np.array([0.0]), np.array([1e-6])),
    (np.array(["a"], object), np.array(["a"], object)),
    (np.array(["a"], object), np.array(["b"], object)),
    (np.array([True]), np.array([False])),
    ([ONE], [ONE]),
    ([ONE], [ONE + 1]),
]


@pytest.mark.parametrize("name", FORMATS)
def test_patterns_are_the_numbers_that_onnx_says(name: str) -> None:
    values = decoded(name)
    dtype = helper.tensor_dtype_to_np_dtype(TYPES[name])
    theirs = np.arange(len(values), dtype=np.uint8).view(dtype).astype(np.float64)
    np.testing.assert_array_equal(values, theirs)


@pytest.mark.parametrize(("wanted", "found"), PAIRS)
def test_it_agrees_with_the_suites_runner(wanted: Any, found: Any) -> None:
    try:
        Runner.assert_similar_outputs([wanted], [found], 1e-3, 1e-7)
        right = True
    except AssertionError:
        right = False
    assert (difference(wanted, found, 1e-3, 1e-7) == "") is right


def test_a_sequence_has_its_length() -> None:
    """The suite's runner looks at as many elements as came out; ours at as many as it wants."""
    assert difference([ONE], [], 1e-3, 1e-7)
    assert difference([ONE], [ONE, ONE], 1e-3, 1e-7)
    assert difference([ONE], ONE, 1e-3, 1e-7)


def test_random_numbers_are_compared_by_dtype_and_shape() -> None:
    assert difference(ONE, ONE + 1, 1e-3, 1e-7, random=True) == ""
    assert difference(ONE, ONE[:1], 1e-3, 1e-7, random=True)
    assert difference(ONE, ONE.astype(np.float64), 1e-3, 1e-7, random=True)


def test_bfloat16_may_differ_by_two_of_its_last_places() -> None:
    dtype = np.dtype([("bfloat16", "<u2")])
    one, near, far = (np.array([bits], np.uint16).view(dtype) for bits in (0x3F80, 0x3F82, 0x3F84))
    assert difference(one, near, 1e-3, 1e-7) == ""
    assert "not equal to tolerance" in difference(one, far, 1e-3, 1e-7).lower()


@pytest.mark.parametrize("wanted", [ONE, np.array([], np.int64)])
def test_messages_are_read_as_onnx_wrote_them(wanted: Any) -> None:
    tensor = numpy_helper.from_array(wanted).SerializeToString()
    np.testing.assert_array_equal(read_value("tensor", memoryview(tensor), "x"), wanted)
    many = numpy_helper.from_list([wanted, wanted]).SerializeToString()
    assert len(read_value("sequence", memoryview(many), "x")) == 2
    some = numpy_helper.from_optional(wanted).SerializeToString()
    np.testing.assert_array_equal(read_value("optional", memoryview(some), "x"), wanted)


def test_an_empty_optional_is_none() -> None:
    empty = numpy_helper.from_optional(None).SerializeToString()
    assert read_value("optional", memoryview(empty), "x") is None
