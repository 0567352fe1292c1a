"""Casts: by `convert`; dtypes of a byte and less, which few models hold, by `narrow`."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.convert import TYPES, convert


def cast(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """y = x in another type."""
    x = inputs[0]
    assert x is not None
    own, target = x.dtype, results[0].dtype
    if own is not target and (own.wide or target.wide) and (own in TYPES or target in TYPES):
        from tilework.plan.lowerings import narrow  # loaded where it is needed

        return narrow.cast(b, node, inputs, results)
    return convert(b, node, inputs, results)


PLAIN: dict[str, Lowering] = {"cast": cast}
