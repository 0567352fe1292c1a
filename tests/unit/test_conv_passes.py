"""What joins a convolution: where it does, that the numbers stay, and where it must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, f32
from tests.unit.test_passes import ops, rewritten

pytestmark = pytest.mark.unit

X = (1, 4, 5, 6)


def start(constant: bool = True) -> tuple[Maker, str]:
    m = Maker()
    x = m.input("x", X)
    w = m.constant(f32(3, 4, 3, 3)) if constant else m.input("w", (3, 4, 3, 3))
    return m, m.op("conv", x, w, pads=(1, 1, 1, 1))


def vector(m: Maker, seed: int = 0, *ones: int) -> str:
    return m.constant(np.abs(f32(3, seed=seed)).reshape(3, *ones) + np.float32(0.5))


def normed(m: Maker, x: str) -> str:
    return str(m.op("batch_normalization", x, *(vector(m, i) for i in range(4)), epsilon=1e-3))


def test_batch_normalisation_scale_bias_and_activation_join() -> None:
    m, y = start()
    y = m.op("mul", normed(m, y), vector(m, 7, 1, 1))
    y = m.op("add", m.constant(f32(1, 3, 1, 1)), y)
    graph, _ = rewritten(m.graph(m.op("relu", y)), {"x": f32(*X)})
    assert ops(graph) == ["fused_conv"]
    assert graph.nodes[0].attrs["activation"] == "relu"


ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}), ("leaky_relu", {"alpha": 0.1}), ("clip", {"min": 0.0, "max": 0.5}),
    ("clip", {"max": 0.5}), ("sigmoid", {}), ("silu", {}), ("hard_swish", {}), ("tanh", {}),
    ("hard_sigmoid", {"alpha": 0.3, "beta": 0.4}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attrs"), ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_activations_join_after_a_residual(op: str, attrs: dict[str, Any], residual: bool) -> None:
    m, y = start()
    feeds = {"x": f32(*X)}
    if residual:
        feeds["r"] = f32(1, 3, 5, 6)
        y = m.op("add", y, m.input("r", (1, 3, 5, 6)))
    graph, _ = rewritten(m.graph(m.op(op, y, **attrs)), feeds)
    assert ops(graph) == ["fused_conv"]


def hard_swish(m: Maker, x: str, form: str, top: float = 6.0) -> str:
    """x clip(x + 3, 0, 6) / 6 as exporters write it."""
    if form == "sigmoid":
        return str(m.op("mul", x, m.op("hard_sigmoid", x, alpha=0.16666667, beta=0.5)))
    op, number = ("mul", 1 / 6) if form.endswith("times") else ("div", 6.0)
    gate = m.op("clip", m.op("add", x, m.constant(3.0)), min=0.0, max=top)
    if form.startswith("gate"):
        return str(m.op("mul", m.op(op, gate, m.constant(number)), x))
    return str(m.op(op, m.op("mul", x, gate), m.constant(number)))


@pytest.mark.parametrize("form", ["whole", "whole times", "gate", "gate times", "sigmoid"])
def test_hard_swish_in_any_spelling_joins(form: str) -> None:
    m, y = start()
    graph, fired = rewritten(m.graph(hard_swish(m, normed(m, y), form)), {"x": f32(*X) * 4})
    assert ops(graph) == ["fused_conv"] and fired["hard swish"] == 1
    assert graph.nodes[0].attrs["activation"] == "hard_swish"


def test_what_is_clipped_elsewhere_is_no_hard_swish() -> None:
    m, y = start()
    _, fired = rewritten(m.graph(hard_swish(m, y, "whole", 5.0)), {"x": f32(*X) * 4})
    assert fired["hard swish"] == 0


@pytest.mark.parametrize(
    ("op", "attrs", "name"),
    [("gelu", {"approximate": "none"}, "gelu"), ("gelu", {"approximate": "tanh"}, "gelu_tanh"),
     ("silu", {"alpha": 1.702}, "quick_gelu"), ("silu", {"alpha": 1.5}, "")],
)  # fmt: skip
def test_functions_that_go_by_another_name(op: str, attrs: dict[str, Any], name: str) -> None:
    m = Maker()
    x = m.op("conv", m.input("x", [1, 3, 5, 5]), m.constant(f32(4, 3, 3, 3)))
    graph, _ = rewritten(m.graph(m.op(op, x, **attrs)), {"x": f32(1, 3, 5, 5)})
    assert graph.nodes[0].attrs.get("activation", "") == name
    assert len(graph.nodes) == (1 if name else 2)


def test_x_times_its_sigmoid_is_silu() -> None:
    m, y = start()
    graph, fired = rewritten(m.graph(m.op("mul", y, m.op("sigmoid", y))), {"x": f32(*X)})
    assert ops(graph) == ["fused_conv"] and fired["silu"] == 1


def test_of_two_convolutions_the_later_takes_the_other() -> None:
    m, y = start()
    z = m.op("conv", "x", m.constant(f32(3, 4, 1, 1)))
    graph, _ = rewritten(m.graph(m.op("relu", m.op("add", y, z))), {"x": f32(*X)})
    assert ops(graph) == ["conv", "fused_conv"]


def test_a_normalisation_before_the_convolution_stays_one_step() -> None:
    m = Maker()
    x = m.op("batch_normalization", m.input("x", (1, 3, 5, 6)), *(vector(m, i) for i in range(4)))
    x = m.op("add", m.op("mul", x, vector(m, 8, 1, 1)), vector(m, 9, 1, 1))
    y = m.op("conv", m.op("relu", x), m.constant(f32(2, 3, 1, 1)))
    graph, _ = rewritten(m.graph(y), {"x": f32(1, 3, 5, 6)})
    assert ops(graph) == ["channel_affine", "conv"]


def test_the_rank_is_told_by_what_a_value_is_computed_from() -> None:
    """Nothing is declared of the values between two layers, as exporters leave them."""
    m, y = start()
    pooled = m.op("max_pool", y, kernel_shape=(3, 3), pads=(1,) * 4)
    y = m.op("concat", pooled, m.op("relu", y), axis=1)
    six = [m.constant(np.abs(f32(6)) + 0.5) for _ in range(4)]
    y = m.op("batch_normalization", y, *six)
    y = m.op("mul", y, m.constant(f32(6, 1, 1)))
    graph, _ = rewritten(m.graph(m.op("relu", y)), {"x": f32(*X)})
    assert ops(graph)[-1] == "channel_affine" and "mul" not in ops(graph)


def test_computed_statistics_do_not_join() -> None:
    m, y = start()
    s = m.input("s", (3,))
    y = m.op("batch_normalization", y, s, vector(m), vector(m), vector(m))
    graph, _ = rewritten(m.graph(y), {"x": f32(*X), "s": f32(3)})
    assert "fused_conv" not in ops(graph) and ops(graph)[-1] == "channel_affine"


def test_training_stays_what_it_is() -> None:
    m, y = start()
    y = m.op("batch_normalization", y, *(vector(m, i) for i in range(4)), training=1)
    graph, _ = rewritten(m.graph(y), {"x": f32(*X)})
    assert ops(graph) == ["conv", "batch_normalization"]


@pytest.mark.parametrize("case", ["other axis", "read twice", "after an activation", "no shape"])
def test_what_must_not_join(case: str) -> None:
    m, y = start()
    feeds: dict[str, Any] = {"x": f32(*X)}
    extra: tuple[str, ...] = ()
    if case == "other axis":
        y = m.op("mul", y, m.constant(f32(1, 1, 5, 1)))
    elif case == "read twice":
        extra = (y,)
        y = m.op("mul", y, vector(m, 0, 1, 1))
    elif case == "after an activation":
        y = m.op("mul", m.op("tanh", y), vector(m, 0, 1, 1))
    else:
        feeds["r"] = f32(3, 1, 6)
        y = m.op("add", y, m.input("r", (3, 1, 6)))
    graph, _ = rewritten(m.graph(y, *extra), feeds)
    assert ops(graph)[-1] in ("mul", "add")


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_a_mean_of_all_pixels_is_pooling(axes: tuple[int, ...], keepdims: int) -> None:
    """As torch.export writes AdaptiveAvgPool2d(1)."""
    m, y = start()
    y = m.op("reduce_mean", m.op("relu", y), axes=axes, keepdims=keepdims)
    graph, fired = rewritten(m.graph(y), {"x": f32(*X)})
    assert fired["mean as pooling"] == 1
    assert "reduce_mean" not in ops(graph)


@pytest.mark.parametrize("axes", [(1,), (3,), (1, 2, 3)])
def test_other_means_are_no_pooling(axes: tuple[int, ...]) -> None:
    m, y = start()
    graph, _ = rewritten(m.graph(m.op("reduce_mean", y, axes=axes, keepdims=1)), {"x": f32(*X)})
    assert ops(graph) == ["fused_conv", "reduce_mean"] or ops(graph) == ["conv", "reduce_mean"]


def padded(m: Maker, pads: tuple[int, ...], **attrs: Any) -> str:
    return str(m.op("pad", m.input("x", X), pads=pads, axes=None, **attrs))


@pytest.mark.parametrize("own", [{}, {"pads": (1, 0, 0, 2)}, {"auto_pad": "VALID"}])
def test_zeros_around_the_pixels_are_the_convolutions(own: dict[str, Any]) -> None:
    """The padding on one side that TensorFlow's "same" comes to."""
    m = Maker()
    x = padded(m, (0, 0, 0, 1, 0, 0, 2, 1), mode="constant", value=0)
    y = m.op("conv", x, m.constant(f32(3, 4, 3, 3)), strides=(2, 2), **own)
    graph, fired = rewritten(m.graph(y), {"x": f32(*X)})
    assert fired["padding + convolution"] == 1
    assert ops(graph) == ["conv"]


@pytest.mark.parametrize(
    "case",
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), {"value": 1.0}, {}),
        ((0, 0, 1, 1, 0, 0, 1, 1), {"mode": "edge"}, {}),
        ((0, 0, 1, 1, 0, 0, -1, 1), {}, {}),
        ((0, 0, 1, 1, 0, 0, 1, 1), {}, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_other_padding_stays(case: tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]) -> None:
    pads, attrs, own = case
    m = Maker()
    y = m.op("conv", padded(m, pads, **attrs), m.constant(f32(3, 4, 3, 3)), **own)
    graph, _ = rewritten(m.graph(y), {"x": f32(*X)})
    assert ops(graph) == ["pad", "conv"]


def test_padding_of_channels_stays() -> None:
    m = Maker()
    x = padded(m, (0, 1, 0, 0, 0, 1, 0, 0), value=0)
    graph, _ = rewritten(m.graph(m.op("conv", x, m.constant(f32(3, 6, 3, 3)))), {"x": f32(*X)})
    assert ops(graph) == ["pad", "conv"]
