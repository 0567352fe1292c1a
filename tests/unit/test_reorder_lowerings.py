"""What data puts in its place, and classical formulas, against the references on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32, run_device
from tilework.core.dtypes import BFLOAT16, FLOAT32, INT64
from tilework.core.errors import TileworkError
from tilework.plan.plan import Draft
from tilework.plan.step import HostStep

pytestmark = pytest.mark.kernels


def reasons(draft: Draft) -> list[str]:
    return [step.reason for step in draft.steps if isinstance(step, HostStep)]


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("more", [(), (3,), (2, 2)])
def test_sequences_are_turned(batch: int, more: tuple[int, ...]) -> None:
    m = Maker()
    shape = (4, 6, *more) if batch == 0 else (6, 4, *more)
    x, lengths = m.input("x", list(shape)), m.input("n", [4], INT64)
    y = m.op("reverse_sequence", x, lengths, time=1 - batch, batch=batch)
    feeds = {"x": f32(*shape), "n": np.array([0, 1, 6, 4])}
    assert not reasons(check(m.graph(y, m.op("add", y, x)), feeds, rtol=0, atol=0))


def test_a_length_beyond_the_rows_is_an_error() -> None:
    m = Maker()
    x, lengths = m.input("x", [2, 3]), m.input("n", [2], INT64)
    graph = m.graph(m.op("reverse_sequence", x, lengths, time=1, batch=0))
    with pytest.raises(TileworkError):
        run_device(graph, {"x": f32(2, 3), "n": np.array([3, 5])})


@pytest.mark.parametrize("asked", [None, (2, 3, 9, 8)])
def test_maxima_go_back(asked: Any) -> None:
    m = Maker()
    attrs: dict[str, Any] = {"kernel_shape": (2, 2), "strides": (2, 2)}
    y, places = m.op("max_pool", m.input("x", [2, 3, 8, 6]), outputs=2, **attrs)
    back = m.op("max_unpool", m.op("relu", y), places, **attrs, output_shape=asked)
    assert not reasons(check(m.graph(back), {"x": f32(2, 3, 8, 6)}, rtol=0, atol=0))


def test_an_index_outside_is_an_error() -> None:
    m = Maker()
    x, places = m.input("x", [1, 1, 2]), m.input("i", [1, 1, 2], INT64)
    graph = m.graph(m.op("max_unpool", x, places, kernel_shape=(2,), strides=(2,)))
    with pytest.raises(TileworkError):
        run_device(graph, {"x": f32(1, 1, 2), "i": np.array([[[0, 4]]])})


@pytest.mark.parametrize("size", [(2, 3, 5, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("corners", [0, 1])
def test_regular_grids(size: tuple[int, ...], corners: int) -> None:
    m = Maker()
    rank = len(size) - 2
    theta = m.input("t", [2, rank, rank + 1])
    y = m.op("affine_grid", theta, size=size, align_corners=corners)
    assert not reasons(check(m.graph(y), {"t": f32(2, rank, rank + 1)}))


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_row_norms(norm: str) -> None:
    m = Maker()
    x = f32(5, 7)
    x[2] = 0
    assert not reasons(check(m.graph(m.op("row_norm", m.input("x", [5, 7]), norm=norm)), {"x": x}))


@pytest.mark.parametrize("replaced", [float("nan"), 1.0])
def test_imputed(replaced: float) -> None:
    m = Maker()
    x = np.where(f32(6, 3) > 0, replaced, f32(6, 3)).astype(np.float32)
    y = m.op("impute", m.input("x", [6, 3]), replaced=replaced, imputed=(1.0, 2.0, 3.0))
    whole = m.op("impute", m.input("n", [6, 3], INT64), replaced=2, imputed=(7,))
    draft = check(m.graph(y, whole), {"x": x, "n": np.arange(18).reshape(6, 3) % 4})
    assert not reasons(draft)


@pytest.mark.parametrize("dtype", [FLOAT32, INT64], ids=str)
def test_classes_one_hot(dtype: Any) -> None:
    m = Maker()
    y = m.op("class_one_hot", m.input("x", [4, 2], dtype), classes=(3, 1, 4))
    x = np.array([[1, 2], [3, 4], [4, 9], [0, 1]]).astype(dtype.numpy)
    assert not reasons(check(m.graph(y), {"x": x}))


@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kind: str) -> None:
    m = Maker()
    attrs: dict[str, Any] = {"kind": kind, "vectors": f32(9, 4)}
    attrs |= {"gamma": 0.3, "coef0": 0.1, "degree": 3.0}
    made: Any = m.op("support_vectors", m.input("x", [6, 4]), **attrs)
    assert not reasons(check(m.graph(made), {"x": f32(6, 4)}, rtol=1e-4))


def test_pairs_of_classes() -> None:
    m = Maker()
    attrs: dict[str, Any] = {"counts": (2, 3, 1), "coefficients": f32(12).tolist(),
                             "rho": (0.1, -0.2, 0.3), "prob_a": (), "prob_b": ()}  # fmt: skip
    votes, scores = m.op("pairwise_classes", m.input("x", [20, 6]), outputs=2, **attrs)
    assert not reasons(check(m.graph(votes, scores), {"x": f32(20, 6)}, rtol=1e-4))


def test_narrow_sequences_are_turned_too() -> None:
    m = Maker()
    x, lengths = m.input("x", [3, 2], BFLOAT16), m.input("n", [2], INT64)
    y = m.op("reverse_sequence", x, lengths, time=0, batch=1)
    feeds = {"x": np.arange(6, dtype=np.uint16).reshape(3, 2).view(BFLOAT16.numpy)}
    graph = m.graph(y)
    found, draft = run_device(graph, {**feeds, "n": np.array([3, 2])})
    assert not reasons(draft)
    assert found[0]["bfloat16"].tolist() == [[4, 3], [2, 1], [0, 5]]
