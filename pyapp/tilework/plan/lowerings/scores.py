"""Attention's scores where somebody asks for them: what the attention kernel never writes down."""

from __future__ import annotations

from typing import Any

from tilework.core.dtypes import BOOL, FLOAT32
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import number, step
from tilework.plan.lowerings import elementwise, reduce
from tilework.plan.lowerings.matmul import matmul
from tilework.plan.tensor import Tensor

CAPPED, MASKED, CHANCES = 1, 2, 3  # scaled_attention's attribute `scores`; 0: the products


def scores(
    b: Builder, attrs: Any, q: Tensor, k: Tensor, scale: float, hiding: Tensor | None
) -> Tensor:
    """scale q kᵀ of (batch, heads, rows, features), so far as `attrs["scores"]` says.

    k may have fewer heads, a divisor; `hiding` is added. Chances of a row that is hidden throughout
    are 0.
    """
    batch, heads, rows, features = q.shape
    shared, keys = k.shape[1:3]
    stacked = (batch, shared, heads // shared * rows, features)
    view = q.reshaped(stacked) or b.dense(q).reshaped(stacked)
    assert view is not None  # a dense tensor takes any shape
    info = Info(FLOAT32, (*stacked[:3], keys))
    products = step(b, matmul, "fused_matmul", info, view, k, alpha=scale, transpose_b=1)
    whole = Info(FLOAT32, (batch, heads, rows, keys))
    found = products.reshaped(whole.shape)
    assert found is not None  # a product is dense
    wanted, cap = attrs.get("scores", 0), attrs.get("softcap", 0.0)
    if wanted >= CAPPED and cap > 0:
        found = step(b, elementwise.binary, "div", whole, found, number(b, cap))
        found = step(b, elementwise.unary, "tanh", whole, found)
        found = step(b, elementwise.binary, "mul", whole, found, number(b, cap))
    if wanted >= MASKED and hiding is not None:
        found = step(b, elementwise.binary, "add", whole, found, hiding)
    if wanted < CHANCES:
        return found
    chances = step(b, reduce.soft, "softmax", whole, found, axis=3)
    if hiding is None:
        return chances
    lost = step(b, elementwise.is_special, "isnan", Info(BOOL, whole.shape), chances)
    return step(b, elementwise.where, "where", whole, lost, number(b, 0), chances)
