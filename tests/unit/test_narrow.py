"""Narrow dtypes: every code, and numbers of every size, against ml_dtypes; files; errors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilework.core.dtypes import ALL, BFLOAT16, BY_NAME, FLOAT8E8M0, FOREIGN, DType, from_numpy
from tilework.core.errors import InvalidArgument
from tilework.ir.narrow import adopt, bits_of, convert, narrow, of_bits, widen
from tilework.onnx.proto import TensorProto as Wire
from tilework.onnx.proto import parse
from tilework.onnx.tensors import read_tensor

pytestmark = pytest.mark.unit

NARROW = [pytest.param(name, dtype, id=dtype.name) for name, dtype in FOREIGN.items()]
ROUNDED = [p for p in NARROW if p.values[1] is not FLOAT8E8M0]


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def codes_of(dtype: DType) -> Any:
    """All bit patterns of the dtype."""
    if dtype.size == 2:
        return np.arange(1 << 16, dtype=np.uint16)
    return np.arange(1 << (dtype.bits or 8), dtype=np.uint8)


def numbers() -> Any:
    """Numbers of all magnitudes, ties between neighbours, and what is none."""
    rng = np.random.default_rng(3)
    spread = rng.standard_normal(20_000) * 10.0 ** rng.integers(-9, 9, 20_000)
    ties = np.arange(-600, 600) / 16
    return np.concatenate([spread, ties, [464, 465, 240, 248, np.nan, np.inf, -np.inf, -0.0]])


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_numpy_dtypes_and_ours_are_the_same_in_both_directions(dtype: DType) -> None:
    assert from_numpy(np.dtype(dtype.numpy)) is dtype
    assert np.dtype(dtype.numpy).itemsize == dtype.size


@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_every_code_has_its_value(name: str, dtype: DType) -> None:
    codes = codes_of(dtype)
    with np.errstate(all="ignore"):
        wanted = codes.view(getattr(ml_dtypes, name)).astype(dtype.wide)
    held = adopt(codes.view(getattr(ml_dtypes, name)))
    np.testing.assert_array_equal(widen(held), wanted)
    if dtype.kind == "f" and dtype is not FLOAT8E8M0:
        real = ~np.isnan(wanted)
        again = narrow(wanted, dtype, saturate=False)
        np.testing.assert_array_equal(bits_of(again)[real], codes[real])


@pytest.mark.parametrize("source", [np.float16, np.float32])
@pytest.mark.parametrize(("name", "dtype"), ROUNDED)
def test_numbers_round_as_in_ml_dtypes(name: str, dtype: DType, source: Any) -> None:
    with np.errstate(all="ignore"):
        given = numbers().astype(source)
        wanted = given.astype(getattr(ml_dtypes, name)).astype(dtype.wide)
    np.testing.assert_array_equal(widen(narrow(given, dtype, saturate=False)), wanted)


def test_float64_is_rounded_once() -> None:
    just_above = np.array([1 + 2**-8 + 2**-40, -(1 + 2**-8 + 2**-40), 1 + 2**-8])
    np.testing.assert_array_equal(
        widen(narrow(just_above, BFLOAT16)), f32(1 + 2**-7, -(1 + 2**-7), 1)
    )


@pytest.mark.parametrize(
    ("name", "largest", "beyond"),
    [
        ("float8e4m3fn", 448, np.nan),
        ("float8e4m3fnuz", 240, np.nan),
        ("float8e5m2", 57344, np.inf),
        ("float8e5m2fnuz", 57344, np.nan),
        ("float6e2m3", 7.5, 7.5),
        ("float6e3m2", 28, 28),
        ("float4e2m1", 6, 6),
    ],
)
def test_saturation(name: str, largest: float, beyond: float) -> None:
    big = f32(1e6, np.inf, -1e6, -np.inf)
    signs = f32(1, 1, -1, -1)
    np.testing.assert_array_equal(widen(narrow(big, BY_NAME[name])), signs * largest)
    np.testing.assert_array_equal(
        widen(narrow(big, BY_NAME[name], saturate=False)), signs * np.float32(beyond)
    )


@pytest.mark.parametrize(
    ("rounding", "wanted"), [("up", [4, 4, 2]), ("down", [2, 2, 2]), ("nearest", [4, 2, 2])]
)
def test_powers_of_two(rounding: str, wanted: list[int]) -> None:
    given = f32(3, 2.5, 2)
    np.testing.assert_array_equal(widen(narrow(given, FLOAT8E8M0, rounding=rounding)), wanted)


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'sideways' is not one of up, down, nearest"):
        narrow(f32(1), FLOAT8E8M0, rounding="sideways")


def test_arrays_of_ml_dtypes_are_no_dtype_of_ours_until_adopted() -> None:
    foreign = np.zeros(2, ml_dtypes.bfloat16)
    with pytest.raises(InvalidArgument, match="has no counterpart"):
        from_numpy(foreign.dtype)
    assert from_numpy(adopt(foreign).dtype) is BFLOAT16


def test_moving_elements_keeps_the_dtype() -> None:
    x = of_bits(np.arange(6, dtype=np.uint16).reshape(2, 3), BFLOAT16)
    for moved in (x.T, np.concatenate([x, x]), np.take(x, [0], 1), x.reshape(3, 2)[::-1]):
        assert from_numpy(moved.dtype) is BFLOAT16


@pytest.mark.parametrize("elements", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_tensors_of_files_are_read(name: str, dtype: DType, elements: int) -> None:
    codes = codes_of(dtype)
    given = np.resize(codes[:120][::-1], elements).view(getattr(ml_dtypes, name))
    wanted = adopt(given)
    raw = numpy_helper.from_array(given, "w")
    typed = helper.make_tensor("w", dtype.onnx, [elements], vals=given.astype(np.float32))
    for tensor in [raw, typed] if dtype.bits != 6 else [raw]:
        assert isinstance(tensor, TensorProto)
        stored = read_tensor(parse(Wire, tensor.SerializeToString()), "w").constant
        assert stored.dtype is dtype
        assert stored.array is not None
        np.testing.assert_array_equal(widen(stored.array), widen(wanted))


def test_strings_and_numbers() -> None:
    texts = np.array(["1.5", "NaN", "-INF", "1e3"], object)
    numbers = convert(texts, BY_NAME["float32"])
    np.testing.assert_array_equal(numbers, f32(1.5, np.nan, -np.inf, 1000))
    back = convert(numbers, BY_NAME["string"])
    assert back.tolist() == ["1.5", "NaN", "-INF", "1000"]
    assert convert(np.array(["7", "-2"], object), BY_NAME["int64"]).tolist() == [7, -2]
    assert convert(np.array([True, False]), BY_NAME["string"]).tolist() == ["1", "0"]
