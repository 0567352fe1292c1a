"""Functions of which exporters write several operations, behind a product: which ones join it."""

from __future__ import annotations

import pytest

from tests.graphs import Maker, f32
from tests.unit.test_passes import ops, rewritten, tanh_gelu

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("x", "silu"),
        (1.702, "quick_gelu"),
        (1.5, ""),
        ("hard", "hard_swish"),
        ("gelu", "gelu_tanh"),
    ],
)
def test_x_times_its_gate_joins_the_product(form: str | float, name: str) -> None:
    m = Maker()
    x = m.op("matmul", m.input("x", ["s", 6]), m.constant(f32(6, 10)))
    if form == "gelu":
        y = tanh_gelu(m, x, "power")
    elif form == "hard":
        y = m.op("mul", x, m.op("hard_sigmoid", x, alpha=1 / 6, beta=0.5))
    else:
        scaled = x if form == "x" else m.op("mul", x, m.constant(float(form)))
        y = m.op("mul", x, m.op("sigmoid", scaled))
    graph, _ = rewritten(m.graph(y), {"x": f32(3, 6)})
    assert ops(graph) == (["fused_matmul"] if name else ["fused_matmul", "silu"])
    assert graph.nodes[0].attrs.get("activation", "") == name
