"""Casts from and to dtypes that NumPy lacks, on the desktop device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, f32, run_device
from tilework.core.dtypes import BY_NAME, FLOAT16, FLOAT32, FLOAT64, INT64, UINT8, DType
from tilework.ir.narrow import bits_of, convert, of_bits
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels

INTEGERS = [BY_NAME[name] for name in ("int4", "uint4", "int2", "uint2")]
FLOATS = [BY_NAME[name] for name in (
    "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1",
)]  # fmt: skip


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


def cast(array: Any, source: DType, target: DType) -> tuple[Any, list[str]]:
    m = Maker()
    y = m.op("cast", m.input("x", list(array.shape), source), to=target.name)
    (found,), draft = run_device(m.graph(y), {"x": array})
    return found, reasons(draft)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("target", [FLOAT32, FLOAT16, UINT8], ids=str)
def test_from_every_code(dtype: DType, target: DType) -> None:
    codes: Any = np.arange(1 << (dtype.bits or 8), dtype=np.uint8)
    numbers = of_bits(codes, dtype)
    if dtype.kind == "i":
        numbers = convert(codes.astype(np.int8), dtype)
    numbers = np.stack([numbers, numbers[::-1]])
    if target is UINT8 and dtype.kind == "f":  # what is beyond a byte is nobody's business
        return
    found, why = cast(numbers, dtype, target)
    assert not why
    np.testing.assert_array_equal(found, convert(numbers, target))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("source", [FLOAT32, FLOAT16, INT64], ids=str)
def test_to_few_bits(dtype: DType, source: DType) -> None:
    x = np.concatenate([f32(200) * 9, np.arange(-40, 40)]).astype(source.numpy)
    found, why = cast(x, source, dtype)
    assert not why
    assert bits_of(found).tolist() == bits_of(convert(x, dtype)).tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
def test_to_floats_of_a_byte(dtype: DType, saturate: int, rounding: str) -> None:
    values = convert(of_bits(np.arange(16 if dtype.bits else 256, dtype=np.uint8), dtype), FLOAT32)
    values = np.sort(np.abs(values[np.isfinite(values)]))
    near = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    with np.errstate(over="ignore"):
        x = np.concatenate([
            near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf)),
            np.array([0, np.nan, np.inf, 1e-45, 3e38, 450, 464, 465, 61440, 61441, 7, 6]),
            f32(500, scale=100),
        ]).astype(np.float32)  # fmt: skip
    x = np.concatenate([x, -x])
    m = Maker()
    y = m.op("cast", m.input("x", [x.size]), to=dtype.name, saturate=saturate, rounding=rounding)
    (found,), draft = run_device(m.graph(y), {"x": x})
    assert not reasons(draft)
    wanted = convert(x, dtype, bool(saturate), rounding)
    assert bits_of(found).tolist() == bits_of(wanted).tolist()


def test_from_doubles_stays_on_the_host() -> None:
    x = f32(20).astype(np.float64)
    found, why = cast(x, FLOAT64, FLOATS[0])
    assert why == ["no kernel to cast float64 to float8e4m3fn"]
    assert bits_of(found).tolist() == bits_of(convert(x, FLOATS[0])).tolist()
