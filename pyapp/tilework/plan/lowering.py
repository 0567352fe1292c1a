"""What a lowering is.

`lower(builder, node, inputs, results)` emits the node's dispatches and gives its output tensors, or
says in words why it cannot; then the node runs on the host. `node` is resolved (`ir.opdefs`),
`inputs` has None for absent optional operands, `results` are the outputs' dtypes and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.tensor import Tensor

Operands: TypeAlias = Sequence[Tensor | None]
Lowered: TypeAlias = list[Tensor] | str
Lowering: TypeAlias = Callable[[Builder, Node, Operands, Sequence[Info]], Lowered]
