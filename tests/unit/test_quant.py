"""Quantised operations: rewrites that fuse them, and lowerings against the references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tests.unit.test_passes import ops, rewritten
from tests.unit.test_plan_lowerings import kernels, on_device
from tilework.core.dtypes import FLOAT32, INT8, INT64, UINT8, DType
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def numbers(dtype: DType, *shape: int, seed: int = 0) -> Any:
    info = np.iinfo(dtype.numpy)
    rng = np.random.default_rng(seed + sum(shape))
    return rng.integers(info.min, int(info.max) + 1, shape).astype(dtype.numpy)


# -- rewrites -------------------------------------------------------------------------------------


def product(m: Maker, x: str, rows_of_scale: int = 0) -> tuple[str, str]:
    """(the scaled product as a quantiser writes it, its sums)."""
    y, scale, zero = m.op("dynamic_quantize_linear", x, outputs=3)
    b, b_zero = m.constant(numbers(INT8, 24, 10)), m.constant(np.zeros((), np.int8))
    shape = (rows_of_scale,) if rows_of_scale else ()
    b_scale = m.constant(np.full(shape, 0.02, np.float32))
    sums = m.op("matmul_integer", y, b, zero, b_zero, to="int32")
    scales = m.op("mul", scale, b_scale)
    return m.op("mul", m.op("cast", sums, to="float32"), scales), sums


@pytest.mark.parametrize("columns", [0, 1, 10])
def test_scales_join_the_product(columns: int) -> None:
    m = Maker()
    x = m.input("x", [5, 24])
    scaled, _ = product(m, x, columns)
    graph, fired = rewritten(m.graph(scaled), {"x": f32(5, 24)})
    assert ops(graph) == ["dynamic_quantize_linear", "quantized_matmul"]
    assert fired["matmul of bytes"] == 1


def test_bias_activation_and_residual_follow() -> None:
    m = Maker()
    x, r = m.input("x", [5, 24]), m.input("r", [5, 10])
    scaled, _ = product(m, x)
    y = m.op("relu", m.op("add", m.constant(f32(10)), scaled))
    graph, _ = rewritten(m.graph(m.op("add", r, y)), {"x": f32(5, 24), "r": f32(5, 10)})
    assert ops(graph) == ["dynamic_quantize_linear", "quantized_matmul"]
    assert graph.nodes[-1].attrs["activation"] == "relu"


def test_sums_that_are_read_again_stay() -> None:
    m = Maker()
    scaled, sums = product(m, m.input("x", [5, 24]))
    graph, fired = rewritten(m.graph(scaled, sums), {"x": f32(5, 24)})
    assert "matmul_integer" in ops(graph) and not fired["matmul of bytes"]


def test_a_scale_for_each_row_stays_outside() -> None:
    m = Maker()
    y = m.input("a", [5, 24], UINT8)
    sums = m.op("matmul_integer", y, m.constant(numbers(INT8, 24, 10)), to="int32")
    scales = m.op("mul", m.constant(np.float32(0.1)), m.constant(np.ones((5, 1), np.float32)))
    out = m.op("mul", m.op("cast", sums, to="float32"), scales)
    graph, fired = rewritten(m.graph(out), {"a": numbers(UINT8, 5, 24)})
    assert "matmul_integer" in ops(graph) and not fired["matmul of bytes"]


def test_a_residual_comes_after_the_activation_only() -> None:
    m = Maker()
    x, r = m.input("x", [5, 24]), m.input("r", [5, 10])
    scaled, _ = product(m, x)
    out = m.op("relu", m.op("add", scaled, r))
    graph, _ = rewritten(m.graph(out), {"x": f32(5, 24), "r": f32(5, 10)})
    assert ops(graph) == ["dynamic_quantize_linear", "quantized_matmul", "relu"]


def dequantised(m: Maker, columns: bool, axis: int = 1) -> tuple[str, str]:
    """A product in the notation of QuantizeLinear and DequantizeLinear, and its first operand."""
    scale, zero = m.constant(np.float32(0.03)), m.constant(np.array(121, np.uint8))
    attrs: dict[str, Any] = {"to": "float32", "axis": axis}
    bytes_ = m.op("quantize_linear", m.input("x", [2, 5, 128]), scale, zero, to="uint8")
    a = m.op("dequantize_linear", bytes_, scale, zero, to="float32")
    extent = (80 if axis == 1 else 128,) if columns else ()
    b_scale = m.constant(np.full(extent, 0.02, np.float32))
    b_zero = m.constant(np.zeros(extent, np.int8))
    # larger than what is folded into a constant of floats
    b = m.op("dequantize_linear", m.constant(numbers(INT8, 128, 80)), b_scale, b_zero, **attrs)
    return m.op("matmul", a, b), a


@pytest.mark.parametrize("columns", [False, True])
def test_what_is_dequantised_is_multiplied_as_bytes(columns: bool) -> None:
    m = Maker()
    y, _ = dequantised(m, columns)
    graph = m.graph(m.op("add", y, m.constant(f32(80))))
    result, fired = rewritten(graph, {"x": f32(2, 5, 128)})
    assert ops(result) == ["quantize_linear", "quantized_matmul"]
    assert fired["matmul of bytes"] == fired["matmul of bytes + bias"] == 1
    draft = check(graph, {"x": f32(2, 5, 128)}, rtol=1e-4, atol=1e-4)
    assert kernels(draft)[-1] == "i8_gemm"


def test_a_dequantised_operand_that_is_read_again_stays() -> None:
    m = Maker()
    y, a = dequantised(m, False)
    result, _ = rewritten(m.graph(y, a), {"x": f32(2, 5, 128)})
    assert set(ops(result)) == {"quantize_linear", "dequantize_linear", "quantized_matmul"}


def test_scales_along_the_rows_of_the_weights_stay_outside() -> None:
    m = Maker()
    y, _ = dequantised(m, True, axis=0)
    result, _ = rewritten(m.graph(y), {"x": f32(2, 5, 128)})
    assert "quantized_matmul" not in ops(result)


@pytest.mark.parametrize("images", [1, 2])
def test_scales_bias_and_activation_join_a_convolution(images: int) -> None:
    m = Maker()
    shape = (images, 3, 6, 6)
    x, r = m.input("x", shape), m.input("r", (images, 4, 6, 6))
    y, scale, zero = m.op("dynamic_quantize_linear", x, outputs=3)
    weights, w_zero = m.constant(numbers(UINT8, 4, 3, 3, 3)), m.constant(np.array(128, np.uint8))
    attrs: dict[str, Any] = {"to": "int32", "pads": (1, 1, 1, 1)}
    sums = m.op("cast", m.op("conv_integer", y, weights, zero, w_zero, **attrs), to="float32")
    scaled = m.op("mul", sums, m.op("mul", scale, m.constant(np.float32(0.02))))
    out = m.op("relu", m.op("add", scaled, m.constant(f32(1, 4, 1, 1))))
    made = m.graph(m.op("add", out, r))
    feeds = {"x": f32(*shape), "r": f32(images, 4, 6, 6)}
    graph, fired = rewritten(made, feeds)
    assert ops(graph) == ["dynamic_quantize_linear", "quantized_conv"]
    assert fired["conv of bytes + bias"] == fired["conv of bytes + relu"] == 1
    assert on_device(check(made, feeds, rtol=1e-4, atol=1e-4))


def test_a_bias_along_the_columns_of_a_convolution_stays_outside() -> None:
    m = Maker()
    x = m.input("x", (1, 4, 6, 4), UINT8)
    sums = m.op("conv_integer", x, m.constant(numbers(INT8, 4, 4, 1, 1)), to="int32")
    scales = m.op("mul", m.constant(np.float32(0.1)), m.constant(np.float32(0.2)))
    scaled = m.op("mul", m.op("cast", sums, to="float32"), scales)
    graph = m.graph(m.op("add", scaled, m.constant(f32(4))))
    check(graph, {"x": numbers(UINT8, 1, 4, 6, 4)}, rtol=1e-4, atol=1e-3)
    rewrite, fired = rewritten(graph, {"x": numbers(UINT8, 1, 4, 6, 4)})
    assert not fired["conv of bytes + bias"] and "add" in ops(rewrite)


# -- lowerings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (7, 9), (3, 5, 70), (2, 50000)])
def test_dynamic_quantisation(shape: tuple[int, ...]) -> None:
    m = Maker()
    x = m.input("x", shape)
    graph = m.graph(*m.op("dynamic_quantize_linear", x, outputs=3))
    for array in (f32(*shape), np.abs(f32(*shape)), np.zeros(shape, np.float32)):
        assert on_device(check(graph, {"x": array}, rtol=1e-6, atol=0))


@pytest.mark.parametrize("dtype", [UINT8, INT8], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("zero", [False, True])
def test_static_quantisation(dtype: DType, axis: int | None, zero: bool) -> None:
    m = Maker()
    shape = (3, 4, 50)
    x = m.input("x", shape)
    extent = 1 if axis is None else shape[axis]
    scale = np.linspace(0.01, 0.05, extent, dtype=np.float32)
    zeros = numbers(dtype, extent)
    if axis is None:
        scale, zeros = scale.reshape(()), zeros.reshape(())
    more = [m.constant(zeros)] if zero else []
    attrs = {"axis": 1 if axis is None else axis}
    y = m.op("quantize_linear", x, m.constant(scale), *more, to=dtype.name, **attrs)
    back = m.op("dequantize_linear", y, m.constant(scale), *more, to="float32", **attrs)
    draft = check(m.graph(y, back), {"x": f32(*shape)}, rtol=1e-6)
    assert on_device(draft)


def test_long_lines_are_cut() -> None:
    m = Maker()
    x = m.input("x", [100_003])
    scale = m.constant(np.float32(0.02))
    graph = m.graph(m.op("quantize_linear", x, scale, to="uint8"))
    draft = check(graph, {"x": f32(100_003)})
    assert kernels(draft) == ["f32_quantize"] * 2


def test_blocks_of_scales_stay_on_the_host() -> None:
    m = Maker()
    x = m.input("x", [4, 6])
    scale = m.constant(np.full((4, 2), 0.1, np.float32))
    graph = m.graph(m.op("quantize_linear", x, scale, to="int8", axis=1, block_size=3))
    (step,) = check(graph, {"x": f32(4, 6)}).steps
    assert isinstance(step, HostStep) and step.reason == "blocks of scales"


@pytest.mark.parametrize("a", [UINT8, INT8], ids=str)
@pytest.mark.parametrize("b", [UINT8, INT8], ids=str)
@pytest.mark.parametrize(
    ("left", "right"),
    [((24,), (24, 10)), ((5, 24), (24,)), ((3, 5, 24), (24, 10)), ((2, 3, 5, 24), (3, 24, 10)),
     ((5, 24), (3, 24, 10)), ((2, 1, 4, 17), (1, 3, 17, 9))],
)  # fmt: skip
def test_sums(
    a: DType, b: DType, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    m = Maker()
    x, y = m.input("x", left, a), m.input("y", right, b)
    zeros = (m.constant(np.array(7, a.numpy)), m.constant(np.array(100, b.numpy)))
    graph = m.graph(m.op("matmul_integer", x, y, *zeros, to="int32"))
    draft = check(graph, {"x": numbers(a, *left), "y": numbers(b, *right)}, rtol=0, atol=0)
    assert on_device(draft)


def test_operands_through_strides() -> None:
    m = Maker()
    x, y = m.input("x", [24, 9], UINT8), m.input("y", [10, 24], INT8)
    turned = m.op("transpose", x, perm=(1, 0))
    part = m.op("slice", turned, starts=(1,), ends=(8,), axes=(0,), steps=(2,))
    graph = m.graph(m.op("matmul_integer", part, m.op("transpose", y, perm=(1, 0)), to="int32"))
    feeds = {"x": numbers(UINT8, 24, 9), "y": numbers(INT8, 10, 24)}
    assert on_device(check(graph, feeds, rtol=0, atol=0))


def test_a_zero_for_each_row() -> None:
    m = Maker()
    x, zero = m.input("x", [6, 24], UINT8), m.input("z", [6], UINT8)
    graph = m.graph(m.op("matmul_integer", x, m.constant(numbers(INT8, 24, 9)), zero, to="int32"))
    feeds = {"x": numbers(UINT8, 6, 24), "z": numbers(UINT8, 6)}
    assert on_device(check(graph, feeds, rtol=0, atol=0))


def test_constant_weights_are_packed_once() -> None:
    m = Maker()
    x = m.input("x", ["rows", 24], FLOAT32)
    scaled, _ = product(m, x)
    draft = check(m.graph(scaled), {"x": f32(50, 24)})
    assert kernels(draft) == ["f32_range", "f32_quantize_dynamic", "i8_gemm"]
    assert [step.kernel.name for step in draft.prologue] == ["i8_gemm_pack_b"]


# -- convolutions ---------------------------------------------------------------------------------

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 7, 9), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, 8, 8), (6, 4, 1, 1), {}),
    ((1, 4, 9, 8), (6, 4, 1, 1), {"strides": (2, 2)}),
    ((2, 6, 9, 11), (4, 3, 3, 2), {"group": 2, "strides": (2, 3), "pads": (0, 2, 1, 1)}),
    ((1, 5, 10, 10), (5, 1, 3, 3), {"group": 5, "dilations": (2, 1), "auto_pad": "SAME_UPPER"}),
    ((1, 2, 40), (3, 2, 5), {"pads": (4, 0), "strides": (3,)}),
    ((1, 2, 4, 4), (3, 2, 3, 3), {"pads": (5, 5, 5, 5)}),
    ((1, 3, 4, 20), (8, 3, 4, 20), {}),
]


@pytest.mark.parametrize("x", [UINT8, INT8], ids=str)
@pytest.mark.parametrize("w", [UINT8, INT8], ids=str)
@pytest.mark.parametrize(("image", "weights", "attrs"), CONVOLUTIONS)
def test_convolutions(
    x: DType, w: DType, image: tuple[int, ...], weights: tuple[int, ...], attrs: dict[str, Any]
) -> None:
    m = Maker()
    outputs = weights[0]
    a, zero = m.input("x", image, x), m.constant(np.array(100, x.numpy))
    b, b_zero = m.constant(numbers(w, *weights)), m.constant(np.array(7, w.numpy))
    b_zeros = m.constant(numbers(w, outputs))
    sums = m.op("conv_integer", a, b, zero, b_zero, to="int32", **attrs)
    each = m.op("conv_integer", a, b, zero, b_zeros, to="int32", **attrs)
    bare = m.op("conv_integer", a, b, to="int32", **attrs)
    scale, y_scale = m.constant(np.float32(0.02)), m.constant(np.float32(0.9))
    scales = m.constant(np.linspace(0.01, 0.03, outputs, dtype=np.float32))
    y_zero = m.constant(np.array(3, x.numpy))
    bias = m.constant(np.arange(outputs, dtype=np.int32) * 100)
    operands = (a, scale, zero, b, scales, b_zero, y_scale, y_zero)
    attrs = {**attrs, "to": x.name}
    y = m.op("qlinear_conv", *operands, bias, **attrs)
    graph = m.graph(sums, each, bare, y, m.op("qlinear_conv", *operands, **attrs))
    draft = check(graph, {"x": numbers(x, *image)}, rtol=0, atol=0)
    assert on_device(draft)


def test_three_spatial_axes() -> None:
    m = Maker()
    x = m.input("x", [1, 2, 4, 4, 4], UINT8)
    graph = m.graph(m.op("conv_integer", x, m.constant(numbers(INT8, 3, 2, 2, 2, 2)), to="int32"))
    assert on_device(check(graph, {"x": numbers(UINT8, 1, 2, 4, 4, 4)}, rtol=0, atol=0))


# -- weights of few bits --------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("shape", [(100,), (1, 100), (2, 7, 100)])
def test_weights_of_few_bits(bits: int, zeros: bool, shape: tuple[int, ...]) -> None:
    m = Maker()
    n, k, block = 21, 100, 32
    blocks = -(-k // block)
    x = m.input("x", shape)
    b = m.constant(numbers(UINT8, n, blocks, block * bits // 8))
    scales = m.constant(np.abs(f32(n * blocks)) * 0.02)
    more = [m.constant(numbers(UINT8, n * -(-blocks * bits // 8)))] if zeros else [""]
    attrs = {"n": n, "k": k, "bits": bits, "block_size": block}
    y = m.op("matmul_blocks", x, b, scales, *more, m.constant(f32(n)), **attrs)
    draft = check(m.graph(y), {"x": f32(*shape)}, rtol=1e-4, atol=1e-3)
    assert kernels(draft) == ["f32_gemm_blocks"]
    assert not draft.prologue  # they are read where they lie


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_a_table_of_few_bits(bits: int, zeros: bool) -> None:
    m = Maker()
    rows, k, block = 21, 96, 32
    indices = m.input("i", (2, 3), INT64)
    b = m.constant(numbers(UINT8, rows, k * bits // 8))
    scales = m.constant(np.abs(f32(rows, k // block)) * 0.02)
    more = [m.constant(numbers(UINT8, rows, -(-k // block * bits // 8)))] if zeros else []
    y = m.op("gather_blocks", b, indices, scales, *more, bits=bits, block_size=block)
    places = np.array([[3, 0, -1], [20, -21, 3]], np.int64)
    draft = check(m.graph(y), {"i": places}, rtol=1e-6, atol=0)
    assert kernels(draft) == ["f32_gather_blocks"] and not draft.prologue


def test_blocks_that_no_vector_fits_stay_on_the_host() -> None:
    m = Maker()
    x, b = m.input("x", [3, 24]), m.constant(numbers(UINT8, 5, 3, 4))
    attrs = {"n": 5, "k": 24, "bits": 4, "block_size": 8}
    y = m.op("matmul_blocks", x, b, m.constant(f32(15)), **attrs)
    assert not on_device(check(m.graph(y), {"x": f32(3, 24)}, rtol=1e-4, atol=1e-3))
