"""Lowerings along an axis, by index and of rearrangements: each wholly on the device, against the
references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32, run_device
from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64, UINT8, DType
from tilework.ir.reference import run_reference
from tilework.plan.lowerings import elementwise
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.unit


def on_device(draft: Draft) -> bool:
    return not any(isinstance(step, HostStep) for step in (*draft.steps, *draft.prologue))


def drawn(dtype: DType, *shape: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if dtype is FLOAT32:
        return np.round(random.standard_normal(shape) * 4).astype(np.float32)
    return random.integers(0 if dtype.kind == "u" else -9, 9, shape).astype(dtype.numpy)


def one(op: str, dtype: DType, given: tuple[int, ...], **attrs: Any) -> Draft:
    """A graph of one operation on x, on x turned and on a part of x."""
    m = Maker()
    x = m.input("x", given, dtype)
    turned = m.op("transpose", x, perm=(1, 0, *range(2, len(given))))
    part = m.op("slice", x, starts=(1,), ends=(99,), axes=(0,), steps=(2,))
    made = [m.op(op, value, **attrs) for value in (x, turned, part)]
    draft: Draft = check(m.graph(*made), {"x": drawn(dtype, *given)})
    return draft


@pytest.mark.parametrize("dtype", [FLOAT32, INT32, INT64])
@pytest.mark.parametrize("op", ["cumsum", "cumprod", "argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, -1])
def test_along_an_axis(op: str, dtype: DType, axis: int) -> None:
    assert on_device(one(op, dtype, (5, 6, 3), axis=axis))


@pytest.mark.parametrize("dtype", [INT32, INT64])
@pytest.mark.parametrize("op", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min"])
@pytest.mark.parametrize("axes", [(0,), (0, 2), None])
def test_reductions_of_integers(op: str, dtype: DType, axes: Any) -> None:
    assert on_device(one(op, dtype, (5, 6, 3), axes=axes, keepdims=0))


def test_top_k() -> None:
    m = Maker()
    x = m.input("x", ["n", 40])
    most, least = (m.op("top_k", x, outputs=2, k=7, largest=which) for which in (1, 0))
    assert on_device(check(m.graph(*most, *least), {"x": drawn(FLOAT32, 300, 40)}))


@pytest.mark.parametrize("axis", [0, -1])
def test_the_order_of_one_is_a_view(axis: int) -> None:
    """PyTorch sorts the lengths of sequences, of which there is often one."""
    m = Maker()
    shape = (1, 6) if axis == 0 else (6, 1)
    chosen = m.op("top_k", m.input("x", shape, INT64), outputs=2, k=1, axis=axis)
    draft = check(m.graph(*chosen), {"x": drawn(INT64, *shape)})
    assert on_device(draft) and not draft.steps


@pytest.mark.parametrize("dtype", [FLOAT32, INT64, UINT8, BOOL])
@pytest.mark.parametrize(
    ("mode", "pads"),
    [
        ("constant", (1, 0, 2, 0, 3, 1)), ("constant", (-1, 2, 0, 1, -1, 0)),
        ("reflect", (2, 0, 1, 1, 2, 0)), ("edge", (5, 0, 1, 0, 2, 3)), ("wrap", (2, 1, 0, 3, 0, 2)),
    ],
)  # fmt: skip
def test_padding(mode: str, pads: tuple[int, ...], dtype: DType) -> None:
    value = int(dtype is not BOOL)
    assert on_device(one("pad", dtype, (9, 9, 4), pads=pads, mode=mode, value=value))


@pytest.mark.parametrize(
    ("op", "shape", "attrs"),
    [
        ("depth_to_space", (8, 8, 2, 3), {"block": 2, "crd": 0}),
        ("depth_to_space", (8, 8, 2, 3), {"block": 2, "crd": 1}),
        ("space_to_depth", (3, 3, 4, 6), {"block": 2, "crd": 0}),
        ("space_to_depth", (3, 3, 4, 6), {"block": 2, "crd": 1}),
        ("center_crop_pad", (5, 5, 3), {"shape": (3, 8, 4)}),
        ("trilu", (4, 4, 5), {"k": 1, "upper": 1}),
        ("trilu", (4, 4, 5), {"k": -1, "upper": 0}),
        ("bit_cast", (4, 4), {"to": "int32"}),
        ("isnan", (4, 4), {}),
        ("isinf", (4, 4), {"detect_negative": 0}),
        ("isinf", (4, 4), {}),
    ],
)
def test_rearranged(op: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    assert on_device(one(op, FLOAT32, shape, **attrs))


def test_what_is_no_number() -> None:
    m = Maker()
    x = m.input("x", ["n"])
    graph = m.graph(m.op("isnan", x), m.op("isinf", x), m.op("isinf", x, detect_positive=0))
    special = np.array([np.nan, np.inf, -np.inf, 0, 3e38], np.float32)
    assert on_device(check(graph, {"x": special}))


INDICES = np.array([[0, -1, 3], [2, 2, -5], [4, 0, 1]])


@pytest.mark.parametrize("dtype", [FLOAT32, INT64, UINT8])
@pytest.mark.parametrize("kind", [INT32, INT64])
def test_picking(dtype: DType, kind: DType) -> None:
    m = Maker()
    x, at = m.input("x", [5, 3, 5], dtype), m.input("at", [3, 3], kind)
    deep = m.op("unsqueeze", at, axes=(2,))
    graph = m.graph(
        m.op("gather_elements", m.op("reshape", x, shape=(5, 15)), at, axis=1),
        m.op("gather_elements", m.op("transpose", x, perm=(1, 2, 0)), deep, axis=1),
        m.op("gather_nd", m.op("transpose", x, perm=(2, 0, 1)), m.op("slice", at, starts=(0,),
             ends=(2,), axes=(1,))),
        m.op("gather_nd", m.op("transpose", x, perm=(1, 0, 2)), deep, batch_dims=1),
    )  # fmt: skip
    feeds = {"x": drawn(dtype, 5, 3, 5), "at": INDICES.astype(kind.numpy)}
    assert on_device(check(graph, feeds))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [FLOAT32, INT32, INT64])
@pytest.mark.parametrize("threads", [1, 2])
def test_putting(reduction: str, dtype: DType, threads: int) -> None:
    """Into what others read too, into what was just computed, and into a constant."""
    m = Maker()
    x, new = m.input("x", [3, 5], dtype), m.input("new", [3, 3], dtype)
    at = m.constant(np.array([[0, 1, 3], [2, 4, 0], [4, 0, 1]]))
    doubled = m.op("add", x, x)
    held = m.constant(drawn(dtype, 3, 5, seed=4))
    rows = m.constant(np.array([[0], [2]]))
    fresh = m.op("slice", m.op("concat", new, x, axis=1), starts=(0, 0), ends=(2, 5), axes=(0, 1))
    graph = m.graph(
        doubled,
        m.op("scatter_elements", doubled, at, new, axis=1, reduction=reduction),
        m.op("scatter_elements", m.op("mul", x, x), at, new, axis=1, reduction=reduction),
        m.op("scatter_nd", held, rows, fresh, reduction=reduction),
        m.op("scatter_nd", m.op("sub", x, doubled), rows, fresh, reduction=reduction),
    )
    feeds = {"x": drawn(dtype, 3, 5), "new": drawn(dtype, 3, 3, seed=1)}
    wanted = run_reference(graph, feeds)
    for _ in range(2):
        results, draft = run_device(graph, feeds, threads)
        for value, result in zip(graph.outputs, results, strict=True):
            np.testing.assert_allclose(result, wanted[value.name], rtol=1e-6)
    assert on_device(draft)


def test_one_hot() -> None:
    m = Maker()
    at, values = m.input("at", ["n", 3], INT64), m.input("values", [2])
    graph = m.graph(*(m.op("one_hot", at, values, depth=5, axis=axis) for axis in (0, 1, -1)))
    feeds = {"at": np.array([[0, -1, 4], [5, -5, -6]]), "values": f32(2)}
    assert on_device(check(graph, feeds))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [("trilu", {"k": 0, "upper": 1}), ("isinf", {}), ("isnan", {}), ("cumsum", {"axis": 0}),
     ("center_crop_pad", {"shape": (90, 60)}), ("argmax", {"axis": 0})],
)  # fmt: skip
def test_of_constants(op: str, attrs: dict[str, Any]) -> None:
    """Too large to be folded: computed once a session, wherever."""
    m = Maker()
    held = m.constant(f32(80, 70))
    graph = m.graph(m.op(op, held, **attrs), m.op("neg", m.input("x", [2])))
    check(graph, {"x": f32(2)})


def test_one_hot_of_a_constant() -> None:
    m = Maker()
    at = m.constant(np.arange(3000).reshape(60, 50) % 7)
    graph = m.graph(m.op("one_hot", at, m.input("values", [2]), depth=5, axis=-1))
    check(graph, {"values": f32(2)})


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("bhqd,bhkd->bhqk", (2, 3, 5, 8), (2, 3, 7, 8)),
        ("bhqk,bhkd->bqhd", (2, 3, 5, 7), (2, 3, 7, 4)),
        ("ij,jk", (4, 5), (5, 6)),
        ("ab,cd->acdb", (2, 3), (4, 5)),
        ("...ij,...kj->...ik", (3, 4, 5), (3, 6, 5)),
        ("nchw,cf->nfhw", (2, 3, 4, 5), (3, 6)),
        ("ijk,ijk->", (2, 3, 4), (2, 3, 4)),
    ],
)
def test_einsum(equation: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    m = Maker()
    product = m.op("einsum", m.input("a", a), m.input("b", b), equation=equation)
    assert on_device(check(m.graph(product), {"a": f32(*a), "b": f32(*b, seed=1)}))


@pytest.mark.parametrize("equation", ["ij,ij->i", "ij,kl->i", "ii,ij->j"])
def test_einsum_by_reference(equation: str) -> None:
    m = Maker()
    product = m.op("einsum", m.input("a", (4, 4)), m.input("b", (4, 4)), equation=equation)
    check(m.graph(product), {"a": f32(4, 4), "b": f32(4, 4, seed=1)})


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("mish", {}), ("celu", {"alpha": 1.0}), ("celu", {"alpha": 0.4}),
        ("thresholded_relu", {"alpha": 0.5}), ("shrink", {"lambd": 1.0, "bias": 0.25}),
        ("lp_normalization", {"axis": 0, "p": 1}), ("lp_normalization", {"axis": -1, "p": 2}),
        ("hardmax", {"axis": 0}), ("hardmax", {"axis": -1}),
    ],
)  # fmt: skip
def test_formulas_in_steps(op: str, attrs: dict[str, Any]) -> None:
    """x is read again behind them, and has a row of zeros."""
    m = Maker()
    x = m.input("x", (6, 7))
    y = m.op("mul", x, x)
    held = np.round(f32(6, 7) * 2)
    held[2] = 0
    graph = m.graph(m.op(op, x, **attrs), m.op(op, y, **attrs), m.op("neg", y))
    assert on_device(check(graph, {"x": held}))


@pytest.mark.parametrize("op", elementwise.RARE)
def test_functions_of_one_element(op: str) -> None:
    m = Maker()
    x = m.input("x", ("n", 40))
    graph = m.graph(m.op(op, x), m.op(op, m.op("transpose", x, perm=(1, 0))))
    values = np.random.default_rng(0).uniform(-1, 1, (50, 40)).astype(np.float32)
    assert on_device(check(graph, {"x": values + 2 if op == "acosh" else values}))
