"""Projections of one input are joined also where a cache stands between them and attention."""

from __future__ import annotations

import pytest

from tests.graphs import Maker, f32
from tests.unit.test_passes import BATCH, HEADS, ROWS, SIZE, heads, rewritten


@pytest.mark.parametrize("read", [False, True])
def test_projections_are_joined_through_caches(read: bool) -> None:
    """Keys and values that go behind those of a past; not where one is `read` by itself."""
    m = Maker()
    x = m.input("x", [BATCH, ROWS, HEADS * SIZE])
    products = [
        m.op("matmul", x, m.constant(f32(12, 12, seed=seed, scale=0.3))) for seed in range(3)
    ]
    q, k, v = (heads(m, one, (0, 2, 1, 3)) for one in products)
    pasts = [m.input(name, [BATCH, HEADS, 2, SIZE]) for name in ("keys", "values")]
    k, v = (m.op("concat", past, new, axis=2) for past, new in zip(pasts, (k, v), strict=True))
    scores = m.op("matmul", q, m.op("transpose", k, perm=(0, 1, 3, 2)))
    y = m.op("matmul", m.op("softmax", scores, axis=-1), v)
    graph = m.graph(y, k, v, *(products[1:] if read else []))
    past = f32(BATCH, HEADS, 2, SIZE)
    feeds = {"x": f32(BATCH, ROWS, HEADS * SIZE), "keys": past, "values": past + 1}
    graph, fired = rewritten(graph, feeds)
    assert fired["attention"] == 1
    assert fired["projections joined"] == int(not read)
