"""Every rewrite: fires where it should, keeps the numbers, and stays away when in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, f32
from tilework.core.dtypes import INT64
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import Info
from tilework.ir.reference import run_reference
from tilework.ir.verifier import verify
from tilework.passes import conv, pipeline, quant
from tilework.passes.pipeline import Fired
from tilework.plan.cut import cut
from tilework.plan.value_inputs import value_inputs

pytestmark = pytest.mark.unit


def rewritten(
    graph: Graph, feeds: dict[str, Any], load: bool = True, atol: float = 1e-5
) -> tuple[Graph, Fired]:
    """Both runs of the passes; the numbers must stay what they were."""
    wanted = run_reference(graph, feeds)
    counts: dict[str, int] = {}
    result = graph
    if load:
        result, fired = pipeline.run(graph, pipeline.LOAD)
        verify(result)
        counts.update(fired.counts)
    parts = cut(result, {v.name: Info(v.dtype, feeds[v.name].shape) for v in result.inputs})
    assert parts.whole
    result, fired = pipeline.run(parts.now, pipeline.SHAPED)
    verify(result)
    for rule, count in fired.counts.items():
        counts[rule] = counts.get(rule, 0) + count
    after = run_reference(result, feeds)
    for value in graph.outputs:
        np.testing.assert_allclose(after[value.name], wanted[value.name], rtol=1e-4, atol=atol)
    return result, Fired(counts)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


# -- GELU ------------------------------------------------------------


def erf_gelu(m: Maker, x: str, order: int, divide: bool, swap: bool) -> str:
    def op(name: str, a: str, b: str) -> str:
        return str(m.op(name, *((b, a) if swap and name != "div" else (a, b))))

    root = math.sqrt(2)
    inner = op("div", x, m.constant(root)) if divide else op("mul", x, m.constant(1 / root))
    gate = op("add", m.op("erf", inner), m.constant(1.0))
    half = m.constant(0.5)
    if order == 0:
        return op("mul", op("mul", x, gate), half)
    if order == 1:
        return op("mul", op("mul", x, half), gate)
    return op("mul", x, op("mul", gate, half))


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_gelu_of_erf_in_any_order(order: int, divide: bool, swap: bool) -> None:
    m = Maker()
    y = erf_gelu(m, m.input("x", ["n"]), order, divide, swap)
    graph, fired = rewritten(m.graph(y), {"x": f32(64)})
    assert ops(graph) == ["gelu"]
    assert fired["gelu"] == 1


def tanh_gelu(m: Maker, x: str, cube: str) -> str:
    share = m.constant(0.044715)
    if cube == "power":
        term = m.op("mul", share, m.op("pow", x, m.constant(3.0)))
    elif cube == "product":
        term = m.op("mul", share, m.op("mul", x, m.op("mul", x, x)))
    else:  # as JAX writes it
        term = m.op("mul", x, m.op("mul", x, m.op("mul", share, x)))
    inner = m.op("add", x, term)
    tanh = m.op("tanh", m.op("mul", m.constant(math.sqrt(2 / math.pi)), inner))
    half = m.op("mul", x, m.constant(0.5))
    return str(m.op("mul", half, m.op("add", m.constant(1.0), tanh)))


@pytest.mark.parametrize("cube", ["power", "product", "turns"])
def test_gelu_of_tanh(cube: str) -> None:
    m = Maker()
    graph, _ = rewritten(m.graph(tanh_gelu(m, m.input("x", ["n"]), cube)), {"x": f32(64)})
    assert ops(graph) == ["gelu"]
    assert graph.nodes[0].attrs["approximate"] == "tanh"


def not_gelu(change: str) -> Graph:
    m = Maker()
    x = m.input("x", ["n"])
    root = math.sqrt(3) if change == "root" else math.sqrt(2)
    erf = m.op("erf", m.op("div", x, m.constant(root)))
    gate = m.op("add", erf, m.constant(2.0 if change == "one" else 1.0))
    other = m.input("z", ["n"]) if change == "x" else x
    y = m.op("mul", m.op("mul", other, gate), m.constant(0.25 if change == "half" else 0.5))
    extra = [m.op("neg", erf)] if change == "inner value is read" else []
    extra += [gate] if change == "inner value is returned" else []
    return m.graph(y, *extra)


@pytest.mark.parametrize(
    "change", ["root", "one", "half", "x", "inner value is read", "inner value is returned"]
)
def test_what_is_not_gelu_stays(change: str) -> None:
    feeds = {"x": f32(16)} | ({"z": f32(16, seed=1)} if change == "x" else {})
    graph, fired = rewritten(not_gelu(change), feeds)
    assert fired["gelu"] == 0
    assert "erf" in ops(graph)


# -- layer norm ------------------------------------------------------------


def layer_norm(
    m: Maker, x: str, square: str, inverse: str, axes: Any = (-1,), epsilon: float = 1e-5
) -> str:
    centred = m.op("sub", x, m.op("reduce_mean", x, axes=axes, keepdims=1))
    power = (
        m.op("pow", centred, m.constant(2.0)) if square == "pow" else m.op("mul", centred, centred)
    )
    variance = m.op("reduce_mean", power, axes=axes, keepdims=1)
    deviation = m.op("sqrt", m.op("add", variance, m.constant(epsilon)))
    if inverse == "div":
        normal = m.op("div", centred, deviation)
    else:
        normal = m.op("mul", centred, m.op("reciprocal", deviation))
    scaled = m.op("mul", normal, m.constant(f32(8, seed=3)))
    return str(m.op("add", scaled, m.constant(f32(8, seed=4))))


@pytest.mark.parametrize("square", ["pow", "mul"])
@pytest.mark.parametrize("inverse", ["div", "reciprocal"])
@pytest.mark.parametrize("axes", [(-1,), (2,)])
def test_layer_norm(square: str, inverse: str, axes: tuple[int, ...]) -> None:
    m = Maker()
    x = m.input("x", ["b", "s", 8])
    graph, fired = rewritten(m.graph(layer_norm(m, x, square, inverse, axes)), {"x": f32(2, 3, 8)})
    assert ops(graph) == ["layer_normalization"]
    assert graph.nodes[0].attrs["epsilon"] == pytest.approx(1e-5)
    assert fired["layer norm"] == 1


def summed_norm(read_again: bool, before: bool = False) -> Graph:
    m = Maker()
    a, b = m.op("exp", m.input("a", ["n", 8])), m.op("exp", m.input("b", ["n", 8]))
    total = m.op("add", a, b)
    extra = [m.op("neg", total)] if before else []
    vectors = [m.constant(f32(8, seed=seed)) for seed in range(2)]
    y = m.op("layer_normalization", total, *vectors, axis=-1, epsilon=1e-5)
    extra += [m.op("neg", total)] if read_again else []
    return m.graph(y, *extra)


@pytest.mark.parametrize("read_again", [False, True])
def test_the_sum_before_a_norm_joins_it(read_again: bool) -> None:
    feeds = {"a": f32(5, 8), "b": f32(5, 8, seed=1)}
    graph, fired = rewritten(summed_norm(read_again), feeds)
    assert fired["residual + layer norm"] == 1
    assert ops(graph) == ["exp", "exp", "residual_layer_normalization", *["neg"] * read_again]


def test_a_sum_that_is_read_before_the_norm_stays() -> None:
    feeds = {"a": f32(5, 8), "b": f32(5, 8, seed=1)}
    _, fired = rewritten(summed_norm(True, before=True), feeds)
    assert fired["residual + layer norm"] == 0


def test_a_broadcast_sum_stays() -> None:
    _, fired = rewritten(summed_norm(False), {"a": f32(5, 8), "b": f32(1, 8)})
    assert fired["residual + layer norm"] == 0


def test_normalising_another_axis_is_no_layer_norm() -> None:
    m = Maker()
    y = layer_norm(m, m.input("x", ["b", "s", 8]), "pow", "div", axes=(1,))
    graph, _ = rewritten(m.graph(y), {"x": f32(2, 3, 8)})
    assert "layer_normalization" not in ops(graph)


# -- products ------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
@pytest.mark.parametrize("swap", [False, True])
def test_bias_activation_residual_join_the_product(activation: str, swap: bool) -> None:
    m = Maker()
    x, r = m.input("x", ["b", "s", 6]), m.input("r", ["b", "s", 10])
    product = m.op("matmul", x, m.constant(f32(6, 10)))
    bias = m.constant(f32(10))
    y = m.op(activation, m.op("add", *((bias, product) if swap else (product, bias))))
    y = m.op("add", *((r, y) if swap else (y, r)))
    graph, fired = rewritten(m.graph(y), {"x": f32(2, 3, 6), "r": f32(2, 3, 10)})
    assert ops(graph) == ["fused_matmul"]
    assert len(graph.nodes[0].inputs) == 4
    assert fired["matmul + bias"] == fired["matmul + residual"] == 1


def test_a_product_that_is_read_twice_keeps_its_value() -> None:
    m = Maker()
    x = m.input("x", ["s", 6])
    product = m.op("matmul", x, m.constant(f32(6, 10)))
    y = m.op("add", product, m.constant(f32(10)))
    graph, fired = rewritten(m.graph(y, m.op("neg", product)), {"x": f32(3, 6)})
    assert fired["matmul + bias"] == 0
    assert "add" in ops(graph)


def test_a_broadcast_residual_stays_outside() -> None:
    m = Maker()
    x, r = m.input("x", ["b", "s", 6]), m.input("r", [1, "s", 10])
    y = m.op("add", m.op("matmul", x, m.constant(f32(6, 10))), r)
    graph, fired = rewritten(m.graph(y), {"x": f32(2, 3, 6), "r": f32(1, 3, 10)})
    assert fired["matmul + residual"] == 0
    # With a batch of one the shapes are equal, and it goes in.
    m = Maker()
    x, r = m.input("x", ["b", "s", 6]), m.input("r", [1, "s", 10])
    y = m.op("add", m.op("matmul", x, m.constant(f32(6, 10))), r)
    graph, fired = rewritten(m.graph(y), {"x": f32(1, 3, 6), "r": f32(1, 3, 10)})
    assert ops(graph) == ["fused_matmul"]


def test_bias_of_another_length_is_no_bias() -> None:
    m = Maker()
    y = m.op("add", m.op("matmul", m.input("x", ["s", 6]), m.constant(f32(6, 1))),
             m.constant(f32(10)))  # fmt: skip
    _, fired = rewritten(m.graph(y), {"x": f32(3, 6)})
    assert fired["matmul + bias"] == 0


@pytest.mark.parametrize("c", [None, (5,), (1, 5), (4, 1), (4, 5), ()])
@pytest.mark.parametrize("attrs", [{}, {"alpha": 0.5, "beta": 2.0}, {"transpose_b": 1}])
def test_gemm(c: tuple[int, ...] | None, attrs: dict[str, Any]) -> None:
    m = Maker()
    weight = f32(5, 3) if attrs.get("transpose_b") else f32(3, 5)
    inputs = [m.input("x", ["m", 3]), m.constant(weight)]
    if c is not None:
        inputs.append(m.constant(f32(*c, seed=2)))
    graph, fired = rewritten(m.graph(m.op("gemm", *inputs, **attrs)), {"x": f32(4, 3)})
    assert fired["gemm"] == 1
    assert "fused_matmul" in ops(graph)
    assert "gemm" not in ops(graph)


# -- attention ------------------------------------------------------------

Spelling = Callable[[Maker, str, str, str], str]
BATCH, HEADS, ROWS, SIZE = 2, 3, 5, 4


def heads(m: Maker, x: str, perm: tuple[int, ...]) -> str:
    split = m.op("reshape", x, shape=(BATCH, ROWS, HEADS, SIZE), allow_zero=0)
    return str(m.op("transpose", split, perm=perm))


def attend(m: Maker, scores: str, v: str) -> str:
    context = m.op("matmul", m.op("softmax", scores, axis=-1), v)
    turned = m.op("transpose", context, perm=(0, 2, 1, 3))
    return str(m.op("reshape", turned, shape=(BATCH, ROWS, HEADS * SIZE), allow_zero=0))


def mask(m: Maker) -> str:
    return m.input("mask", [BATCH, 1, 1, ROWS])


def scaled_after(m: Maker, q: str, k: str, v: str) -> str:
    scores = m.op("matmul", heads(m, q, (0, 2, 1, 3)), heads(m, k, (0, 2, 3, 1)))
    scores = m.op("div", scores, m.constant(math.sqrt(SIZE)))
    return attend(m, m.op("add", scores, mask(m)), heads(m, v, (0, 2, 1, 3)))


def scaled_before(m: Maker, q: str, k: str, v: str) -> str:
    scaled = m.op("mul", m.constant(SIZE**-0.5), heads(m, q, (0, 2, 1, 3)))
    key = m.op("transpose", heads(m, k, (0, 2, 1, 3)), perm=(0, 1, 3, 2))
    scores = m.op("add", mask(m), m.op("matmul", scaled, key))
    return attend(m, scores, heads(m, v, (0, 2, 1, 3)))


def scaled_in_the_projection(m: Maker, q: str, k: str, v: str) -> str:
    q = m.op("mul", q, m.constant(SIZE**-0.5))
    scores = m.op("matmul", heads(m, q, (0, 2, 1, 3)), heads(m, k, (0, 2, 3, 1)))
    return attend(m, scores, heads(m, v, (0, 2, 1, 3)))


def scaled_on_both(m: Maker, q: str, k: str, v: str) -> str:
    root = m.constant(SIZE**-0.25)
    query = m.op("mul", heads(m, q, (0, 2, 1, 3)), root)
    key = m.op("mul", heads(m, k, (0, 2, 3, 1)), root)
    return attend(m, m.op("matmul", query, key), heads(m, v, (0, 2, 1, 3)))


def where_masked(m: Maker, q: str, k: str, v: str) -> str:
    scores = m.op("matmul", heads(m, q, (0, 2, 1, 3)), heads(m, k, (0, 2, 3, 1)))
    scores = m.op("mul", scores, m.constant(0.5))
    visible = m.op("less", mask(m), m.constant(1.0))
    hidden = m.constant(np.array(np.finfo(np.float32).min))
    scores = m.op("where", visible, scores, hidden)
    return attend(m, scores, heads(m, v, (0, 2, 1, 3)))


def joined(m: Maker, x: str) -> str:
    split = heads(m, x, (0, 2, 1, 3))
    return str(m.op("reshape", split, shape=(BATCH * HEADS, ROWS, SIZE), allow_zero=0))


def three_axes(m: Maker, q: str, k: str, v: str) -> str:
    key = m.op("transpose", joined(m, k), perm=(0, 2, 1))
    return weighted(m, m.op("matmul", joined(m, q), key), joined(m, v))


def masked_in_four_axes(m: Maker, q: str, k: str, v: str) -> str:
    key = m.op("transpose", joined(m, k), perm=(0, 2, 1))
    scores = m.op("matmul", joined(m, q), key)
    scores = m.op("reshape", scores, shape=(BATCH, HEADS, ROWS, ROWS), allow_zero=0)
    scores = m.op("add", scores, mask(m))
    scores = m.op("reshape", scores, shape=(BATCH * HEADS, ROWS, ROWS), allow_zero=0)
    return weighted(m, scores, joined(m, v))


def weighted(m: Maker, scores: str, v: str) -> str:
    context = m.op("matmul", m.op("softmax", scores, axis=-1), v)
    split = m.op("reshape", context, shape=(BATCH, HEADS, ROWS, SIZE), allow_zero=0)
    turned = m.op("transpose", split, perm=(0, 2, 1, 3))
    return str(m.op("reshape", turned, shape=(BATCH, ROWS, HEADS * SIZE), allow_zero=0))


SPELLINGS: list[Spelling] = [
    scaled_after, scaled_before, scaled_in_the_projection, scaled_on_both, where_masked, three_axes,
    masked_in_four_axes,
]  # fmt: skip


def projected(spelling: Spelling, bias: bool = True) -> Graph:
    m = Maker()
    x = m.input("x", [BATCH, ROWS, HEADS * SIZE])
    parts = []
    for seed in range(3):
        part = m.op("matmul", x, m.constant(f32(12, 12, seed=seed, scale=0.3)))
        parts.append(m.op("add", part, m.constant(f32(12, seed=seed))) if bias else part)
    return m.graph(spelling(m, *parts))


def attention_feeds(graph: Graph) -> dict[str, Any]:
    feeds = {"x": f32(BATCH, ROWS, HEADS * SIZE)}
    if len(graph.inputs) > 1:
        feeds["mask"] = np.zeros((BATCH, 1, 1, ROWS), np.float32)
        feeds["mask"][1, ..., 3:] = 7.0
    return feeds


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("bias", [False, True])
def test_attention(spelling: Spelling, bias: bool) -> None:
    graph = projected(spelling, bias)
    graph, fired = rewritten(graph, attention_feeds(graph))
    assert fired["attention"] == fired["projections joined"] == 1
    assert ops(graph).count("fused_matmul") == 1
    assert not {"softmax", "matmul", "where", "div"} & (set(ops(graph)) - {"where"})


def test_scores_that_are_read_elsewhere_are_no_attention() -> None:
    m = Maker()
    q, k, v = (m.input(name, [2, 3, 5, 4]) for name in "qkv")
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    weights = m.op("softmax", scores, axis=-1)
    graph = m.graph(m.op("matmul", weights, v), weights)
    _, fired = rewritten(graph, {name: f32(2, 3, 5, 4, seed=i) for i, name in enumerate("qkv")})
    assert fired["attention"] == 0


def test_softmax_along_another_axis_is_no_attention() -> None:
    m = Maker()
    q, k, v = (m.input(name, [2, 3, 5, 5]) for name in "qkv")
    weights = m.op("softmax", m.op("matmul", q, k), axis=2)
    graph = m.graph(m.op("matmul", weights, v))
    _, fired = rewritten(graph, {name: f32(2, 3, 5, 5, seed=i) for i, name in enumerate("qkv")})
    assert fired["attention"] == 0


def test_a_scale_after_the_mask_is_no_attention() -> None:
    m = Maker()
    q, k, v = (m.input(name, [2, 3, 5, 5]) for name in "qkv")
    masked = m.op("add", m.op("matmul", q, k), m.input("m", [5, 5]))
    weights = m.op("softmax", m.op("mul", masked, m.constant(0.5)), axis=-1)
    graph = m.graph(m.op("matmul", weights, v))
    feeds = {name: f32(2, 3, 5, 5, seed=i) for i, name in enumerate("qkv")} | {"m": f32(5, 5)}
    _, fired = rewritten(graph, feeds)
    assert fired["attention"] == 0


def test_scores_that_are_cut_otherwise_are_no_attention() -> None:
    m = Maker()
    q, k, v = (m.input(name, [6, 4, 4]) for name in "qkv")
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 2, 1)))
    scores = m.op("reshape", scores, shape=(3, 8, 4), allow_zero=0)
    masked = m.op("add", scores, m.input("m", [8, 4]))
    masked = m.op("reshape", masked, shape=(6, 4, 4), allow_zero=0)
    graph = m.graph(m.op("matmul", m.op("softmax", masked, axis=-1), v))
    feeds = {name: f32(6, 4, 4, seed=i) for i, name in enumerate("qkv")} | {"m": f32(8, 4)}
    _, fired = rewritten(graph, feeds)
    assert fired["attention"] == 0


# -- canonical form ------------------------------------------------------------


def test_what_does_nothing_goes_away() -> None:
    m = Maker()
    x = m.input("x", ["a", 4])
    y = m.op("identity", x)
    y = m.op("cast", y, to="float32")
    y = m.op("mul", y, m.constant(1.0))
    y = m.op("add", m.constant(0.0), y)
    y = m.op("transpose", m.op("transpose", y, perm=(1, 0)), perm=(1, 0))
    y = m.op("reshape", y, shape=(0, 4), allow_zero=0)
    m.op("exp", y)  # nobody reads it
    graph, _ = rewritten(m.graph(m.op("neg", y)), {"x": f32(3, 4)})
    assert ops(graph) == ["neg"]


def test_a_neutral_element_that_widens_stays() -> None:
    m = Maker()
    y = m.op("mul", m.input("x", [4]), m.constant(np.ones((1, 1), np.float32)))
    graph, _ = rewritten(m.graph(m.op("neg", y)), {"x": f32(4)})
    assert "mul" in ops(graph)


def test_equal_nodes_are_merged() -> None:
    m = Maker()
    x = m.input("x", [4])
    y = m.op("add", m.op("exp", x), m.op("exp", x))
    graph, fired = rewritten(m.graph(y), {"x": f32(4)})
    assert ops(graph) == ["exp", "add"]
    assert fired["equal nodes merged"] == 1


def test_chains_of_transposes_and_reshapes_become_one() -> None:
    m = Maker()
    y = m.op("transpose", m.input("x", [2, 3, 4]), perm=(1, 0, 2))
    y = m.op("transpose", y, perm=(2, 1, 0))
    y = m.op("reshape", y, shape=(8, 3), allow_zero=0)
    y = m.op("unsqueeze", m.op("squeeze", m.op("unsqueeze", y, axes=(0,)), axes=(0,)), axes=(2,))
    graph, _ = rewritten(m.graph(y), {"x": f32(2, 3, 4)})
    assert ops(graph) == ["transpose", "reshape"]


def test_shape_arithmetic_is_gone() -> None:
    m = Maker()
    x = m.input("x", ["b", "s", 12])
    shape = m.op("shape", x)
    first = m.op("gather", shape, m.constant([0], np.int64), axis=0)
    target = m.op("concat", first, m.constant([-1, 3, 4], np.int64), axis=0)
    y = m.op("reshape", x, target)
    graph, _ = rewritten(m.graph(y), {"x": f32(2, 5, 12)})
    assert ops(graph) == ["reshape"]
    assert graph.nodes[0].attrs["shape"] == (2, -1, 3, 4)


def test_inputs_whose_elements_decide_shapes_are_found() -> None:
    m = Maker()
    x, target = m.input("x", ["n"]), m.input("target", [2], INT64)
    limit = m.op("neg", m.input("limit", [], INT64))
    m.input("other", [2], INT64)
    y = m.op("reshape", x, target)
    z = m.op("range", m.constant(0, np.int64), m.op("neg", limit), m.constant(1, np.int64),
             dtype="int64")  # fmt: skip
    shaped = m.op("constant_of_shape", m.op("shape", "other"), value=0.0, dtype="float32")
    assert value_inputs(m.graph(y, z, shaped)) == {"target": True, "limit": False}


def test_a_module_of_passes_is_left_out_where_it_would_change_nothing() -> None:
    assert {*conv.TAKING, "batch_normalization"} == pipeline.CONVOLUTIONS
    assert {*quant.QUANTISED, *quant.NAMES, "dequantize_linear"} == pipeline.QUANTISED


@pytest.mark.parametrize("length", [5, "n"])
def test_a_slice_that_turns_round_stays(length: Any) -> None:
    """Its shape is its input's, its order is not."""
    m = Maker()
    x = m.input("x", [length])
    turned = m.op("slice", x, starts=(-1,), ends=(-99,), axes=(0,), steps=(-1,))
    graph, _ = rewritten(m.graph(m.op("mul", turned, m.constant(2.0))), {"x": f32(5)})
    assert "slice" in ops(graph)
