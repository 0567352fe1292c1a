"""Convolution, pooling and normalisation of channels: plans against references, in every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32
from tests.unit.test_plan_lowerings import kernels, on_device
from tilework.core.dtypes import BOOL, FLOAT64, INT8, INT64, UINT8, DType

pytestmark = pytest.mark.kernels

X = (2, 6, 9, 8)

# operation, other operands' shapes, attributes
ROWS: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("conv", [(5, 6, 3, 3)], {"pads": (1, 1, 1, 1)}),
    ("conv", [(5, 6, 3, 3), (5,)], {"strides": (2, 1), "dilations": (1, 2)}),
    ("conv", [(12, 2, 1, 1), (12,)], {"group": 3}),
    ("conv", [(6, 1, 3, 2)], {"group": 6, "auto_pad": "SAME_LOWER"}),
    ("conv", [(12, 1, 3, 2)], {"group": 6}),
    ("conv_transpose", [(6, 4, 3, 3), (4,)], {"strides": (2, 2), "pads": (1, 0, 1, 1)}),
    ("conv_transpose", [(6, 2, 2, 3)], {"group": 3, "strides": (1, 3), "dilations": (2, 1)}),
    ("max_pool", [], {"kernel_shape": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 1)}),
    ("average_pool", [], {"kernel_shape": (3, 3), "pads": (1,) * 4, "count_include_pad": 1}),
    ("average_pool", [], {"kernel_shape": (2, 3), "strides": (2, 2), "ceil_mode": 1}),
    ("lp_pool", [], {"kernel_shape": (2, 2), "p": 1}),
    ("lp_pool", [], {"kernel_shape": (2, 2), "p": 2}),
    ("global_average_pool", [], {}),
    ("global_max_pool", [], {}),
    ("global_lp_pool", [], {"p": 2}),
    ("channel_affine", [(6,), (6,)], {"activation": "relu"}),
    ("instance_normalization", [(6,), (6,)], {"epsilon": 1e-3}),
    ("group_normalization", [(6,), (6,)], {"groups": 3}),
    ("resize", [], {"shape": (2, 6, 18, 12), "mode": "nearest", "transform": "asymmetric",
                    "scales": (1.0, 1.0, 2.0, 1.5), "nearest": "floor"}),
    ("resize", [], {"shape": (2, 6, 4, 20), "mode": "linear", "transform": "half_pixel",
                    "scales": (1.0, 1.0, 0.5, 2.5), "antialias": 1}),
    ("resize", [], {"shape": (2, 9, 9, 8), "mode": "cubic", "transform": "align_corners",
                    "scales": (1.0, 1.5, 1.0, 1.0)}),
    *(("pad", [], {"pads": (0, 0, 1, 2, 0, 1, 2, 0), "mode": mode, "value": 0.5})
      for mode in ("constant", "reflect", "edge", "wrap")),
    ("pad", [], {"pads": (1, 0, -2, 3, 0, -1, 1, -4), "value": 2.0}),
    ("lrn", [], {"size": 3, "alpha": 0.1, "beta": 0.75, "bias": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "others", "attrs"), ROWS, ids=lambda v: v if type(v) is str else "")
@pytest.mark.parametrize("constant", [False, True])
def test_in_every_layout(
    op: str, others: list[tuple[int, ...]], attrs: dict[str, Any], constant: bool
) -> None:
    """Row-major, channels last from a convolution, and some channels of a wider tensor."""
    m = Maker()
    x = m.input("x", X)
    feeds = {"x": f32(*X)}
    names = []
    for i, shape in enumerate(others):
        array = f32(*shape, seed=i + 3)
        if not constant:
            feeds[f"o{i}"] = array
        names.append(m.constant(array) if constant else m.input(f"o{i}", shape))
    pixels = m.op("conv", x, m.constant(f32(10, 6, 1, 1)))
    part = m.op("slice", pixels, starts=(2,), ends=(8,), axes=(1,), steps=(1,))
    last = m.op("conv", x, m.constant(f32(6, 6, 1, 1, seed=2)))
    graph = m.graph(*(m.op(op, given, *names, **attrs) for given in (x, part, last)))
    assert on_device(check(graph, feeds, rtol=1e-4, atol=2e-5))


@pytest.mark.parametrize(("shape", "filters", "kernel"), [
    ((1, 16, 14, 15), 24, "f32_winograd"), ((3, 32, 11, 12), 17, "f32_winograd"),
    ((1, 16, 7, 7), 24, "f32_conv"), ((1, 18, 14, 14), 24, "f32_conv"),
    ((1, 16, 14, 14), 8, "f32_conv"), ((1, 260, 13, 13), 16, "f32_conv"),
])  # fmt: skip
def test_squares_where_they_pay(
    shape: tuple[int, ...], filters: int, kernel: str
) -> None:
    m = Maker()
    w, bias = m.constant(f32(filters, shape[1], 3, 3)), m.constant(f32(filters))
    y = m.op("conv", m.input("x", ("n", *shape[1:])), w, bias, pads=(1, 1, 1, 1))
    y = m.op("relu", m.op("add", y, m.op("conv", "x", m.constant(f32(filters, shape[1], 1, 1)))))
    draft = check(m.graph(y), {"x": f32(*shape)}, rtol=1e-3, atol=2e-4)
    assert (kernel == "f32_winograd") == ("f32_winograd" in kernels(draft))


def test_computed_filters_are_not_transformed_at_every_run() -> None:
    m = Maker()
    y = m.op("conv", m.input("x", (1, 16, 14, 14)), m.input("w", (16, 16, 3, 3)))
    draft = check(m.graph(y), {"x": f32(1, 16, 14, 14), "w": f32(16, 16, 3, 3)}, rtol=1e-4)
    assert kernels(draft).count("f32_conv_pack") == 1 and "f32_winograd" not in kernels(draft)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op", ["conv", "conv_transpose", "max_pool", "global_average_pool"])
def test_other_ranks(op: str, rank: int) -> None:
    m = Maker()
    x = m.input("x", (2, 4, *(5, 6, 4)[:rank]))
    kernel = (2, 3, 2)[:rank]
    others = [m.constant(f32(4, 4, *kernel))] if op.startswith("conv") else []
    attrs: dict[str, Any] = {"kernel_shape": kernel} if op == "max_pool" else {}
    graph = m.graph(m.op(op, x, *others, **attrs))
    assert on_device(check(graph, {"x": f32(2, 4, *(5, 6, 4)[:rank])}, rtol=1e-4))


@pytest.mark.parametrize("dtype", [UINT8, INT8], ids=str)
@pytest.mark.parametrize("op", ["max_pool", "global_max_pool"])
def test_the_largest_of_bytes(op: str, dtype: DType) -> None:
    m = Maker()
    attrs: dict[str, Any] = {"kernel_shape": (3, 2), "pads": (1, 0, 1, 1), "strides": (2, 1)}
    y = m.op(op, m.input("x", (2, 19, 7, 6), dtype), **(attrs if op == "max_pool" else {}))
    x = np.random.default_rng(3).integers(0, 256, (2, 19, 7, 6)).astype(np.uint8).view(dtype.numpy)
    assert on_device(check(m.graph(y), {"x": x}))


def test_batches_of_nothing_and_four_axes_run_on_the_host() -> None:
    m = Maker()
    graph = m.graph(m.op("conv", m.input("x", (0, 2, 3)), m.constant(f32(4, 2, 2))))
    assert not on_device(check(graph, {"x": f32(0, 2, 3)}))
    m = Maker()
    x = m.input("x", (1, 1, 2, 2, 2, 2))
    graph = m.graph(m.op("conv", x, m.constant(f32(1, 1, 1, 1, 1, 1))))
    assert not on_device(check(graph, {"x": f32(1, 1, 2, 2, 2, 2)}))


@pytest.mark.parametrize("swap", [False, True])
def test_sums_and_activations_stay_channels_last(swap: bool) -> None:
    """Nothing is turned between two convolutions, whatever is computed in between."""
    m = Maker()
    x = m.input("x", (1, 8, 6, 5))
    a = m.op("conv", x, m.constant(f32(8, 8, 3, 3)), pads=(1, 1, 1, 1))
    c = m.op("exp", m.op("tanh", a))
    total = m.op("mul", *((a, c) if swap else (c, a)))
    scaled = m.op("add", total, m.constant(f32(1, 8, 1, 1)))
    joined = m.op("concat", scaled, a, axis=1)
    graph = m.graph(m.op("conv", joined, m.constant(f32(4, 16, 1, 1))))
    draft = check(graph, {"x": f32(1, 8, 6, 5)}, rtol=1e-4, atol=1e-4)
    # One copy of the input, one of the output, two into the joined tensor.
    assert kernels(draft).count("strided_copy") == 4


def test_a_residual_is_written_over_where_nobody_needs_it() -> None:
    m = Maker()
    x = m.input("x", (1, 8, 6, 5))
    a = m.op("conv", x, m.constant(f32(8, 8, 1, 1)))
    c = m.op("conv", a, m.constant(f32(8, 8, 3, 3)), pads=(1, 1, 1, 1))
    y = m.op("relu", m.op("add", c, m.op("tanh", a)))
    draft = check(m.graph(y), {"x": f32(1, 8, 6, 5)}, rtol=1e-4, atol=1e-4)
    assert kernels(draft).count("f32_conv") == 2 and "f32_binary" not in kernels(draft)
    last = next(s for s in reversed(draft.steps) if s.kernel.name == "f32_conv")
    assert last.bindings[3].storage is last.bindings[4].storage


def test_a_convolution_of_its_own_residual_is_not_in_place() -> None:
    m = Maker()
    a = m.op("tanh", m.op("conv", m.input("x", (1, 8, 6, 5)), m.constant(f32(8, 8, 1, 1))))
    c = m.op("conv", a, m.constant(f32(8, 8, 3, 3)), pads=(1, 1, 1, 1))
    check(m.graph(m.op("add", c, a)), {"x": f32(1, 8, 6, 5)}, rtol=1e-4, atol=1e-4)


def test_filters_are_packed_once_a_session() -> None:
    m = Maker()
    w = m.op("constant_of_shape", shape=(64, 16, 3, 3), value=0.25, dtype="float32")
    graph = m.graph(m.op("conv", m.input("x", ("n", 16, 4, 4)), w))
    draft = check(graph, {"x": f32(2, 16, 4, 4)}, rtol=1e-4)
    assert "f32_conv_pack" not in kernels(draft) and on_device(draft)
    assert [step.label for step in draft.prologue]


def test_large_windows_of_a_pool_sum_in_pieces() -> None:
    m = Maker()
    graph = m.graph(m.op("global_average_pool", m.input("x", (1, 3, 300, 300))))
    x = np.full((1, 3, 300, 300), 0.1, np.float32)
    check(graph, {"x": x}, rtol=1e-6)


@pytest.mark.parametrize("dtype", [INT8, UINT8, BOOL, INT64, FLOAT64])
@pytest.mark.parametrize("shape", [(2, 6, 18, 12), (2, 6, 5, 16)])
def test_nearest_elements_of_any_dtype(dtype: DType, shape: tuple[int, ...]) -> None:
    """A quantised network grows its maps as bytes."""
    m = Maker()
    y = m.op(
        "resize", m.input("x", X, dtype), shape=shape, mode="nearest", transform="asymmetric",
        nearest="floor", aspect="stretch",
        scales=tuple(a / b for a, b in zip(shape, X, strict=True)),
    )  # fmt: skip
    draft = check(m.graph(y), {"x": (f32(*X) * 50).astype(dtype.numpy)}, rtol=0, atol=0)
    assert on_device(draft)
