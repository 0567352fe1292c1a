"""Group normalisation as PyTorch's exporter writes it becomes one, with what follows it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.graphs import Maker, f32
from tests.unit.test_passes import ops, rewritten

pytestmark = pytest.mark.unit

X = (2, 12, 5, 3)


def exported(m: Maker, x: str, groups: int = 4, view: tuple[int, ...] = (0, 4, -1)) -> str:
    """The norm without its own scale and bias."""
    rows = m.op("reshape", x, shape=view)
    ones, zeros = (m.constant(f32(groups, seed=seed)) for seed in (1, 2))
    normal = m.op("instance_normalization", rows, ones, zeros, epsilon=1e-5)
    return str(m.op("reshape", normal, shape=X))


@pytest.mark.parametrize("form", [(12, 1, 1), (1, 12, 1, 1)])
@pytest.mark.parametrize("swap", [False, True])
def test_what_torch_writes_is_one_norm(form: tuple[int, ...], swap: bool) -> None:
    m = Maker()
    y = exported(m, m.input("x", X))
    for op, seed in (("mul", 3), ("add", 4)):
        pair = (y, m.constant(f32(*form, seed=seed)))
        y = m.op(op, *(pair[::-1] if swap else pair))
    y = m.op("mul", y, m.op("sigmoid", y))
    graph, fired = rewritten(m.graph(y), {"x": f32(*X)})
    assert ops(graph) == ["group_normalization"]
    assert graph.nodes[0].attrs["activation"] == "silu"
    assert graph.nodes[0].attrs["groups"] == 4
    assert fired["group norm"] == fired["norm + mul by channel"] == 1


@pytest.mark.parametrize("op", ["relu", "silu", "gelu", "tanh"])
def test_an_activation_joins_an_instance_norm(op: str) -> None:
    m = Maker()
    x = m.input("x", X)
    y = m.op("instance_normalization", x, m.constant(f32(12)), m.constant(f32(12, seed=1)))
    graph, _ = rewritten(m.graph(m.op(op, y)), {"x": f32(*X)})
    assert ops(graph) == ["instance_normalization"]


@pytest.mark.parametrize("change", ["view", "channels", "read", "computed"])
def test_what_is_no_norm_of_groups_stays(change: str) -> None:
    m = Maker()
    x = m.input("x", X)
    feeds: dict[str, Any] = {"x": f32(*X)}
    if change == "view":  # a group of pieces of two images
        y = exported(m, x, 4, (1, 4, -1))
        graph, fired = rewritten(m.graph(y), feeds)
        assert fired["group norm"] == 0
        return
    y = exported(m, x)
    if change == "channels":
        wrong = m.constant(f32(5, 3))
        graph, fired = rewritten(m.graph(m.op("mul", y, wrong)), feeds)
    elif change == "computed":
        feeds["s"] = f32(12, 1, 1)
        graph, fired = rewritten(m.graph(m.op("mul", y, m.input("s", (12, 1, 1)))), feeds)
    else:
        scaled = m.op("mul", y, m.constant(f32(12, 1, 1)))
        graph, fired = rewritten(m.graph(scaled, m.op("neg", y)), feeds)
    assert fired["norm + mul by channel"] == 0
    assert "mul" in ops(graph)
