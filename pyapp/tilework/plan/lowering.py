"""What a lowering is, and the steps of one that is made of others.

`lower(builder, node, inputs, results)` emits the node's dispatches and gives its output tensors, or
says in words why it cannot; then the node runs on the host. `node` is resolved (`ir.opdefs`),
`inputs` has None for absent optional operands, `results` are the outputs' dtypes and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.tensor import Tensor

Operands: TypeAlias = Sequence[Tensor | None]
Lowered: TypeAlias = list[Tensor] | str
Lowering: TypeAlias = Callable[[Builder, Node, Operands, Sequence[Info]], Lowered]


def step(
    b: Builder, lowering: Lowering, op: str, info: Info, *operands: Tensor, **attrs: Any
) -> Tensor:
    """One step; its operands stay as they are, for others may read them."""
    for tensor in operands:
        b.live[tensor.storage] = b.live.get(tensor.storage, 0) + 1
    made = lowering(b, Node(op, (), (), attrs), operands, [info])
    assert not isinstance(made, str)  # the steps have kernels for float32 and bool
    for tensor in operands:
        b.live[tensor.storage] -= 1
    return made[0]


def number(b: Builder, value: float) -> Tensor:
    """An operand of such a step: a constant of the plan's own, float32 (1)."""
    return b.local(np.array([value], np.float32), FLOAT32)
