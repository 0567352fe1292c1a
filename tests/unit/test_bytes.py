"""Networks in bytes: what passes/bytes.py fuses, and what it must leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker as Graphs
from tests.graphs import check, f32
from tests.unit.test_passes import ops, rewritten
from tests.unit.test_plan_lowerings import kernels, on_device
from tilework.core.dtypes import INT8, UINT8, DType

pytestmark = pytest.mark.kernels



class Maker(Graphs):
    """Operations of one result."""

    def op(self, op: str, *inputs: str, **attrs: Any) -> str:
        return str(super().op(op, *inputs, **attrs))


SHAPE = (2, 8, 6, 7)


def numbers(dtype: DType, *shape: int, seed: int = 0) -> Any:
    info = np.iinfo(dtype.numpy)
    rng = np.random.default_rng(seed + sum(shape))
    return rng.integers(info.min, int(info.max) + 1, shape).astype(dtype.numpy)


def scaled(m: Maker, scale: float, zero: int, dtype: DType = UINT8) -> tuple[str, str]:
    return m.constant(np.float32(scale)), m.constant(np.array(zero, dtype.numpy))


def opened(
    m: Maker, name: str, scale: float, zero: int, shape: Any = SHAPE, dtype: DType = UINT8
) -> str:
    """An input of bytes, as numbers."""
    return m.op("dequantize_linear", m.input(name, shape, dtype), *scaled(m, scale, zero, dtype),
                to="float32")  # fmt: skip


def closed(m: Maker, y: str, scale: float, zero: int, dtype: DType = UINT8) -> str:
    return m.op("quantize_linear", y, *scaled(m, scale, zero, dtype), to=dtype.name)


def convolved(m: Maker, x: str, x_scale: float, bias: bool = True, unit: float = 0.0) -> str:
    scales = np.linspace(0.01, 0.02, 5, dtype=np.float32)
    w = m.op("dequantize_linear", m.constant(numbers(INT8, 5, 8, 3, 3)), m.constant(scales),
             m.constant(np.zeros(5, np.int8)), axis=0, to="float32")  # fmt: skip
    more = []
    if bias:
        units = np.float32(unit or x_scale) * scales
        ints = m.constant(np.arange(-200, 300, 100, dtype=np.int32))
        more = [m.op("dequantize_linear", ints, m.constant(units), axis=0, to="float32")]
    return m.op("conv", x, w, *more, pads=(1, 1, 1, 1))


Build = Callable[[Maker], str]


def conv(m: Maker) -> str:
    return closed(m, convolved(m, opened(m, "x", 0.02, 100), 0.02), 0.9, 120)


def conv_relu(m: Maker) -> str:
    y = m.op("relu", convolved(m, opened(m, "x", 0.02, 100), 0.02))
    return closed(m, y, 0.9, 20)


def conv_clip(m: Maker) -> str:
    y = m.op("clip", convolved(m, opened(m, "x", 0.02, 100), 0.02), min=-3.0, max=40.0)
    return closed(m, y, 0.9, 20)


def deep(m: Maker) -> str:
    x = opened(m, "x", 0.02, -3, dtype=INT8)
    w = m.op("dequantize_linear", m.constant(numbers(UINT8, 8, 1, 3, 3)),
             *scaled(m, 0.01, 128), to="float32")  # fmt: skip
    return closed(m, m.op("conv", x, w, group=8, strides=(2, 2)), 0.1, 5, INT8)


def pair(op: str) -> Build:
    def build(m: Maker) -> str:
        y = m.op(op, opened(m, "x", 0.02, 100), opened(m, "z", 0.03, 0, dtype=INT8))
        return closed(m, m.op("relu", y), 0.03, 10)

    return build


def table(m: Maker) -> str:
    y = m.op("sigmoid", m.op("leaky_relu", opened(m, "x", 0.02, 100), alpha=0.1))
    return closed(m, y, 1 / 256, 0)


def again(m: Maker) -> str:
    return closed(m, opened(m, "x", 0.02, 100), 0.02, 100)


def otherwise(m: Maker) -> str:
    return closed(m, opened(m, "x", 0.02, 100), 0.03, 10, INT8)


def average(m: Maker) -> str:
    return closed(m, m.op("global_average_pool", opened(m, "x", 0.02, 100)), 0.01, 90)


def pooled(m: Maker) -> str:
    x = opened(m, "x", 0.02, 100)
    y = m.op("average_pool", x, kernel_shape=(3, 2), pads=(1, 0, 1, 1), count_include_pad=1)
    return closed(m, y, 0.01, 90)


def joined(m: Maker) -> str:
    sides = opened(m, "x", 0.02, 100), opened(m, "z", 0.03, 0, dtype=INT8)
    return closed(m, m.op("concat", *sides, axis=1), 0.02, 100)


def moved(m: Maker) -> str:
    x = opened(m, "x", 0.02, 100)
    y = m.op("max_pool", m.op("transpose", x, perm=(0, 1, 3, 2)), kernel_shape=(2, 2))
    return closed(m, y, 0.02, 100)


def product(m: Maker) -> str:
    x = opened(m, "x", 0.02, 100, (6, 20))
    w = m.op("dequantize_linear", m.constant(numbers(INT8, 9, 20)), *scaled(m, 0.01, 0, INT8),
             to="float32")  # fmt: skip
    ints = m.constant(np.arange(-400, 500, 100, dtype=np.int32))
    bias = m.op("dequantize_linear", ints, m.constant(np.float32(0.02) * np.float32(0.01)),
                to="float32")  # fmt: skip
    return closed(m, m.op("gemm", x, w, bias, transpose_b=1), 0.2, 7)


CASES: dict[str, tuple[Build, list[str]]] = {
    "conv": (conv, ["qlinear_conv"]),
    "conv and relu": (conv_relu, ["qlinear_conv"]),
    "conv and clip": (conv_clip, ["qlinear_conv"]),
    "depthwise": (deep, ["qlinear_conv"]),
    "sum": (pair("add"), ["qlinear_add"]),
    "product of tensors": (pair("mul"), ["qlinear_mul"]),
    "table": (table, ["byte_map"]),
    "another scale": (otherwise, ["byte_map"]),
    "average": (average, ["qlinear_conv"]),
    "pooled": (pooled, ["qlinear_conv"]),
    "joined": (joined, ["byte_map", "concat"]),
    "moved": (moved, ["transpose", "max_pool", "identity"]),
    "product": (product, ["qlinear_matmul"]),
}


def fed(m: Maker) -> dict[str, Any]:
    return {v.name: numbers(v.dtype, *v.shape) for v in m.inputs}  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_bytes_stay_bytes(name: str) -> None:
    build, wanted = CASES[name]
    m = Maker()
    graph = m.graph(build(m))
    found, _ = rewritten(graph, fed(m))
    assert ops(found) == wanted
    # Once rounded instead of twice, so that the reference on floats may be one off.
    draft = check(graph, fed(m), rtol=0, atol=1)
    assert on_device(draft)
    assert not any(kernel.startswith("f32") for kernel in kernels(draft))


def test_the_same_scale_again_is_nothing() -> None:
    m = Maker()
    y = again(m)
    found, _ = rewritten(m.graph(m.op("max_pool", y, kernel_shape=(2, 2))), fed(m))
    assert ops(found) == ["max_pool"]


def test_a_result_in_floats() -> None:
    m = Maker()
    y = m.op("relu", convolved(m, opened(m, "x", 0.02, 100), 0.02))
    found, _ = rewritten(m.graph(y), fed(m))
    assert "quantized_conv" in ops(found) and "relu" not in ops(found)
    assert on_device(check(m.graph(y), fed(m), rtol=1e-4, atol=1e-4))


def other_bias(m: Maker) -> str:
    return closed(m, convolved(m, opened(m, "x", 0.02, 100), 0.02, unit=0.3), 0.9, 120)


def read_twice(m: Maker) -> str:
    y = convolved(m, opened(m, "x", 0.02, 100), 0.02)
    return m.op("add", m.op("dequantize_linear", closed(m, y, 0.9, 120),
                            *scaled(m, 0.9, 120), to="float32"), y)  # fmt: skip


def broadcast(m: Maker) -> str:
    y = m.op("mul", opened(m, "x", 0.02, 100), opened(m, "z", 0.03, 9, (2, 8, 1, 1)))
    return closed(m, y, 0.03, 10)


def padded(m: Maker) -> str:
    x = opened(m, "x", 0.02, 100)
    y = m.op("average_pool", x, kernel_shape=(3, 2), pads=(1, 0, 1, 1))
    return closed(m, y, 0.01, 90)


def fed_scale(m: Maker) -> str:
    scale = m.input("s", ())
    return m.op("quantize_linear", opened(m, "x", 0.02, 100), scale, to="uint8")


@pytest.mark.parametrize("build", [other_bias, read_twice, broadcast, padded, fed_scale])
def test_what_does_not_fit_is_computed_in_floats(build: Build) -> None:
    m = Maker()
    graph = m.graph(build(m))
    feeds = {n: np.asarray(np.float32(0.04)) if n == "s" else x for n, x in fed_but(m).items()}
    found, _ = rewritten(graph, feeds)
    assert not {"qlinear_conv", "qlinear_mul", "byte_map"} & set(ops(found))
    assert on_device(check(graph, feeds, rtol=1e-4, atol=1))


def fed_but(m: Maker) -> dict[str, Any]:
    return {
        v.name: numbers(v.dtype, *v.shape) if v.dtype in (UINT8, INT8) else f32(1)  # type: ignore[misc]
        for v in m.inputs
    }
