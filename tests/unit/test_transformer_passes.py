"""Attention, rotary embedding and RMS norm as PyTorch's exporters write them out.

Each must become one operation and keep its numbers; what only looks alike must stay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, f32
from tests.unit.test_passes import ops, rewritten
from tilework.core.dtypes import FLOAT16
from tilework.ir.graph import Graph, Node

pytestmark = pytest.mark.unit

# -- attention ---------------------------------------------------------------------------------

BATCH, HEADS, SHARED, ROWS, SIZE = 2, 4, 2, 5, 6


def attention_of(graph: Graph) -> Node:
    [node] = [node for node in graph.nodes if node.op == "attention"]
    return node


def safe(m: Maker, scores: str) -> str:
    """torch's softmax of rows that may be hidden throughout."""
    weights = m.op("softmax", scores, axis=-1)
    return str(m.op("where", m.op("isnan", weights), m.constant(0.0), weights))


def repeated(m: Maker, x: str, heads: int = HEADS) -> str:
    wide = m.op("unsqueeze", x, axes=(2,))
    wide = m.op("expand", wide, shape=(BATCH, SHARED, HEADS // SHARED, ROWS, SIZE))
    return str(m.op("reshape", wide, shape=(BATCH, heads, ROWS, SIZE), allow_zero=1))


def turned(m: Maker, x: str) -> str:
    """What torch.export makes of a transpose of the last two axes."""
    joined = m.op("reshape", x, shape=(-1, ROWS, SIZE), allow_zero=0)
    joined = m.op("transpose", joined, perm=(0, 2, 1))
    return str(m.op("reshape", joined, shape=(BATCH, HEADS, SIZE, ROWS), allow_zero=0))


def operands(m: Maker, shared: bool) -> list[str]:
    heads = SHARED if shared else HEADS
    return [
        m.input("q", [BATCH, HEADS, ROWS, SIZE]),
        *(m.input(name, [BATCH, heads, ROWS, SIZE]) for name in "kv"),
    ]


def feeds(graph: Any, hidden: float) -> dict[str, Any]:
    found = {}
    for seed, value in enumerate(graph.inputs):
        found[value.name] = f32(*value.shape, seed=seed)
        if value.name == "mask":
            found["mask"] = np.zeros(value.shape, np.float32)
            found["mask"][0, :, 1] = hidden
            found["mask"][1, :, :, 2:] = hidden
    return found


@pytest.mark.parametrize("hidden", [-math.inf, -1.0])
@pytest.mark.parametrize("shared", [False, True])
def test_exported_attention(shared: bool, hidden: float) -> None:
    m = Maker()
    q, k, v = operands(m, shared)
    if shared:
        k, v = repeated(m, k), repeated(m, v)
    root = m.constant(SIZE**-0.25)
    key = m.op("mul", turned(m, k), root)
    scores = m.op("add", m.op("matmul", m.op("mul", q, root), key), m.input("mask", [2, 1, 5, 5]))
    graph = m.graph(m.op("matmul", safe(m, scores), v))
    graph, fired = rewritten(graph, feeds(graph, hidden))
    assert fired["attention"] == 1
    assert attention_of(graph).attrs["nan_zero"] == 1
    assert not {"softmax", "matmul", "isnan", "expand"} & set(ops(graph))


def test_heads_that_are_repeated_otherwise_are_not_shared() -> None:
    """(batch, 2, heads, …): the second half of the heads repeats the first."""
    m = Maker()
    q, k, v = operands(m, shared=True)
    sides = []
    for x in (k, v):
        wide = m.op("expand", m.op("unsqueeze", x, axes=(1,)), shape=(BATCH, 2, SHARED, ROWS, SIZE))
        sides.append(m.op("reshape", wide, shape=(BATCH, HEADS, ROWS, SIZE), allow_zero=1))
    scores = m.op("matmul", q, m.op("transpose", sides[0], perm=(0, 1, 3, 2)))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), sides[1]))
    graph, fired = rewritten(graph, feeds(graph, 0.0))
    assert fired["attention"] == 1
    assert "expand" in ops(graph)


@pytest.mark.parametrize("masked", [False, True])
def test_capped_attention(masked: bool) -> None:
    m = Maker()
    q, k, v = operands(m, shared=False)
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    scores = m.op("mul", scores, m.constant(2.0))
    scores = m.op("tanh", m.op("div", scores, m.constant(1.5)))
    scores = m.op("mul", scores, m.constant(1.5))
    if masked:
        scores = m.op("add", scores, m.input("mask", [2, 1, 5, 5]))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), v))
    graph, fired = rewritten(graph, feeds(graph, -4.0))
    assert fired["attention"] == 1
    node = attention_of(graph)
    assert (node.attrs["softcap"], node.attrs["scale"]) == (1.5, pytest.approx(2.0))
    assert "tanh" not in ops(graph)


@pytest.mark.parametrize("where", ["before the cap", "scaled behind the cap"])
def test_what_a_capped_attention_cannot_say_stays(where: str) -> None:
    m = Maker()
    q, k, v = operands(m, shared=False)
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    if where == "before the cap":
        scores = m.op("add", scores, m.input("mask", [2, 1, 5, 5]))
    scores = m.op("mul", m.op("tanh", scores), m.constant(3.0))
    if where != "before the cap":
        scores = m.op("mul", scores, m.input("factors", [5]))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), v))
    given: dict[str, Any] = feeds(graph, -1.0)
    graph, fired = rewritten(graph, given)
    assert fired["attention"] == 0


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_masks_of_several_kinds(joined: bool, hides: bool) -> None:
    """A bias of all scores, of keys, and what hides, with batch and heads as one axis or two."""
    m = Maker()
    sides = operands(m, shared=False)
    whole = [BATCH, HEADS, ROWS, ROWS]
    if joined:
        whole = [BATCH * HEADS, ROWS, ROWS]
        shape = (BATCH * HEADS, ROWS, SIZE)
        sides = [m.op("reshape", side, shape=shape, allow_zero=0) for side in sides]
    perm = (0, 2, 1) if joined else (0, 1, 3, 2)
    scores = m.op("matmul", sides[0], m.op("transpose", sides[1], perm=perm))
    scores = m.op("add", m.input("bias", whole), m.op("mul", scores, m.constant(0.5)))
    if joined:
        scores = m.op("reshape", scores, shape=(BATCH, HEADS, ROWS, ROWS), allow_zero=0)
    scores = m.op("add", scores, m.input("keys", [HEADS, 1, ROWS]))
    flags = m.op("less", m.input("mask", [BATCH, 1, ROWS, ROWS]), m.constant(-0.5))
    filler = m.constant(float(np.finfo(np.float32).min))
    flags = flags if hides else m.op("not", flags)
    scores = m.op("where", flags, *((filler, scores) if hides else (scores, filler)))
    weights = m.op("softmax", scores, axis=-1)
    if joined:
        weights = m.op("reshape", weights, shape=tuple(whole), allow_zero=0)
    graph = m.graph(m.op("matmul", weights, sides[2]))
    graph, fired = rewritten(graph, feeds(graph, -1.0))
    assert fired["attention"] == 1
    assert "softmax" not in ops(graph)


@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_factor_of_each_head_or_row(rows: int) -> None:
    """Cosine attention: the scores of a head are scaled by a number that it has learnt."""
    m = Maker()
    q, k, v = operands(m, shared=False)
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    scores = m.op("mul", scores, m.input("factors", [HEADS, rows, 1]))
    scores = m.op("add", scores, m.input("mask", [BATCH, 1, ROWS, ROWS]))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), v))
    _, fired = rewritten(graph, feeds(graph, -1.0))
    assert fired["attention"] == 1


def test_a_factor_of_each_key_is_no_attention() -> None:
    m = Maker()
    q, k, v = operands(m, shared=False)
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    scores = m.op("mul", scores, m.input("factors", [HEADS, 1, ROWS]))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), v))
    _, fired = rewritten(graph, feeds(graph, -1.0))
    assert fired["attention"] == 0


def test_weights_whose_nan_becomes_another_number_are_no_attention() -> None:
    m = Maker()
    q, k, v = operands(m, shared=False)
    weights = m.op("softmax", m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2))), axis=-1)
    weights = m.op("where", m.op("isnan", weights), m.constant(1.0), weights)
    graph = m.graph(m.op("matmul", weights, v))
    _, fired = rewritten(graph, feeds(graph, 0.0))
    assert fired["attention"] == 0


def test_attention_of_float16() -> None:
    m = Maker()
    shape = [1, 2, 3, 4]
    q, k, v = (m.input(name, shape, FLOAT16) for name in "qkv")
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), v))
    given = {name: f32(*shape, seed=seed).astype(np.float16) for seed, name in enumerate("qkv")}
    _, fired = rewritten(graph, given, atol=2e-3)
    assert fired["attention"] == 1


def test_attention_whose_softmax_alone_is_of_float32() -> None:
    """What model.half() gives: products of float16, casts around mask and softmax."""
    m = Maker()
    q, k, v = (m.input(name, [1, 2, 3, 4], FLOAT16) for name in "qkv")
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    scores = m.op("add", m.op("cast", scores, to="float32"), m.input("mask", [3, 3]))
    value = m.op("cast", v, to="float32")
    graph = m.graph(m.op("matmul", m.op("softmax", scores, axis=-1), value))
    shape = (1, 2, 3, 4)
    given: dict[str, Any] = {"mask": f32(3, 3)}
    for seed, name in enumerate("qkv"):
        given[name] = f32(*shape, seed=seed).astype(np.float16)
    _, fired = rewritten(graph, given, atol=2e-3)
    assert fired["attention"] == 1


# -- RMS norm ----------------------------------------------------------------------------------

INVERSES = ("divided", "reciprocal", "one over", "power")


def rms(m: Maker, x: str, inverse: str, axis: int = -1) -> str:
    square = m.op("pow", x, m.constant(2.0))
    mean = m.op("reduce_mean", square, axes=(axis,), keepdims=1)
    inside = m.op("add", mean, m.constant(1e-6))
    if inverse == "power":
        return str(m.op("mul", x, m.op("pow", inside, m.constant(-0.5))))
    root = m.op("sqrt", inside)
    if inverse == "divided":
        return str(m.op("div", x, root))
    over = m.op("reciprocal", root)
    if inverse == "one over":
        over = m.op("div", m.constant(1.0), root)
    return str(m.op("mul", x, over))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("inverse", INVERSES)
def test_rms_norm(inverse: str, scaled: bool) -> None:
    m = Maker()
    y = rms(m, m.input("x", ["b", "n", 8]), inverse)
    if scaled:
        y = m.op("mul", m.constant(f32(8)), y)
    graph, fired = rewritten(m.graph(y), {"x": f32(2, 3, 8)})
    assert fired["rms norm"] == 1
    assert ops(graph) == ["rms_normalization"]


def test_rms_norm_of_a_sum() -> None:
    m = Maker()
    total = m.op("add", m.input("x", [2, 3, 8]), m.input("y", [2, 3, 8]))
    normal = m.op("mul", rms(m, total, "reciprocal"), m.constant(f32(8)))
    graph = m.graph(normal, m.op("exp", total))
    graph, fired = rewritten(graph, {"x": f32(2, 3, 8), "y": f32(2, 3, 8, seed=1)})
    assert fired["residual + rms norm"] == 1
    assert ops(graph) == ["residual_rms_normalization", "exp"]


def test_a_mean_of_other_rows_is_no_rms_norm() -> None:
    m = Maker()
    graph = m.graph(rms(m, m.input("x", [2, 8, 8]), "reciprocal", axis=1))
    _, fired = rewritten(graph, {"x": f32(2, 8, 8)})
    assert fired["rms norm"] == 0


# -- rotary embedding --------------------------------------------------------------------------


def rotated(m: Maker, x: str, sides: list[str], pairs: int, split: bool) -> str:
    """rotate_half of transformers: x cos + (-x₂, x₁) sin."""
    cos, sin = sides
    if split:
        first, second = m.op("split", x, outputs=2, axis=3, sizes=(pairs, pairs))
    else:
        ends = ((0, pairs), (pairs, (1 << 63) - 1))
        first, second = (
            m.op("slice", x, axes=(3,), starts=(a,), ends=(b,), steps=(1,)) for a, b in ends
        )
    crossed = m.op("concat", m.op("neg", second), first, axis=-1)
    return str(m.op("add", m.op("mul", x, cos), m.op("mul", crossed, sin)))


def computed(m: Maker, rows: int, pairs: int) -> list[str]:
    angles = m.input("angles", [1, rows, pairs])
    twice = m.op("concat", angles, angles, axis=-1)
    sides = (m.op("mul", m.op(op, twice), m.constant(1.5)) for op in ("cos", "sin"))
    return [m.op("unsqueeze", side, axes=(1,)) for side in sides]


def tabled(m: Maker, rows: int, pairs: int) -> list[str]:
    table = f32(9, pairs)
    rows_of = m.constant(np.arange(rows)[None] + 2)
    sides = (m.constant(np.concatenate([part, part], 1)) for part in (np.cos(table), np.sin(table)))
    return [m.op("unsqueeze", m.op("gather", s, rows_of, axis=0), axes=(1,)) for s in sides]


@pytest.mark.parametrize("angles", [computed, tabled])
@pytest.mark.parametrize("split", [False, True])
def test_rotary_embedding(angles: Any, split: bool) -> None:
    m = Maker()
    sides = angles(m, 5, 4)
    heads = (m.input(name, [2, 5, 3, 8]) for name in "qk")
    turned = (m.op("transpose", x, perm=(0, 2, 1, 3)) for x in heads)
    graph = m.graph(*(rotated(m, x, sides, 4, split) for x in turned))
    given: dict[str, Any] = {"q": f32(2, 5, 3, 8), "k": f32(2, 5, 3, 8, seed=1)}
    if angles is computed:
        given["angles"] = f32(1, 5, 4)
    graph, fired = rewritten(graph, given)
    assert fired["rotary embedding"] == 2
    assert ops(graph).count("rotate_pairs") == 2
    assert not {"neg", "concat", "add"} & set(ops(graph))


def test_rotary_embedding_of_some_features() -> None:
    m = Maker()
    sides = computed(m, 5, 2)
    x = m.input("x", [2, 3, 5, 10])
    ends = ((0, 4), (4, 99))
    first, rest = (
        m.op("slice", x, axes=(3,), starts=(a,), ends=(b,), steps=(1,)) for a, b in ends
    )
    graph = m.graph(m.op("concat", rotated(m, first, sides, 2, False), rest, axis=3))
    graph, fired = rewritten(graph, {"angles": f32(1, 5, 2), "x": f32(2, 3, 5, 10)})
    assert fired["rotary embedding of some features"] == 1
    assert not {"concat", "neg"} & set(ops(graph))


@pytest.mark.parametrize("wrong", ["angles of their own", "halves in order", "another x"])
def test_what_only_looks_like_a_rotary_embedding(wrong: str) -> None:
    m = Maker()
    x = m.input("x", [1, 2, 5, 8])
    parts = [m.input("a", [1, 1, 5, 4]), m.input("b", [1, 1, 5, 4])]
    if wrong != "angles of their own":
        parts[1] = parts[0]
    sides = [m.op(op, m.op("concat", *parts, axis=-1)) for op in ("cos", "sin")]
    y = m.op("exp", x) if wrong == "another x" else x
    first, second = m.op("split", y, outputs=2, axis=3, sizes=(4, 4))
    if wrong == "halves in order":
        first, second = second, first
    crossed = m.op("concat", m.op("neg", second), first, axis=-1)
    graph = m.graph(m.op("add", m.op("mul", x, sides[0]), m.op("mul", crossed, sides[1])))
    given = {"x": f32(1, 2, 5, 8), "a": f32(1, 1, 5, 4), "b": f32(1, 1, 5, 4, seed=3)}
    _, fired = rewritten(graph, given)
    assert fired["rotary embedding"] == 0


# -- layer norm --------------------------------------------------------------------------------


def test_layer_norms_of_one_value_and_without_a_bias() -> None:
    """Attention and feed-forward side by side share all of the norm but its vectors."""
    m = Maker()
    x = m.input("x", ["b", 3, 8])
    centred = m.op("sub", x, m.op("reduce_mean", x, axes=(-1,), keepdims=1))
    square = m.op("pow", centred, m.constant(2.0))
    inside = m.op("add", m.op("reduce_mean", square, axes=(-1,), keepdims=1), m.constant(1e-5))
    normal = m.op("div", centred, m.op("sqrt", inside))
    scaled = [m.op("mul", normal, m.constant(f32(8, seed=seed))) for seed in range(2)]
    graph = m.graph(m.op("add", scaled[0], m.constant(f32(8, seed=2))), scaled[1])
    graph, fired = rewritten(graph, {"x": f32(2, 3, 8)})
    assert fired["layer norm"] == 2
    assert ops(graph) == ["layer_normalization"] * 2
