"""Blocks of pixels, triangles, the middle of an image: copies of parts to their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL
from tilework.ir.graph import Node
from tilework.ir.narrow import convert
from tilework.ir.opdefs.registry import Info
from tilework.plan.bands import banded
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.elementwise import where
from tilework.plan.lowerings.resample import pad


def crop(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """center_crop_pad: a padding, by less than nothing where it crops."""
    x = inputs[0]
    assert x is not None
    more = [want - have for have, want in zip(x.shape, results[0].shape, strict=True)]
    before = [n // 2 if n >= 0 else -(-n // 2) for n in more]
    pads = (*before, *(n - first for n, first in zip(more, before, strict=True)))
    return pad(b, Node("pad", (), (), {"pads": pads, "value": 0}), inputs, results)


def blocks(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """depth_to_space and space_to_depth: one copy of a view."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    (n, c, h, w), k, crd = x.shape, attrs["block"], bool(attrs.get("crd", 0))
    if node.op == "depth_to_space":
        shape = (n, c // (k * k), k, k, h, w) if crd else (n, k, k, c // (k * k), h, w)
        order = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    else:
        shape = (n, c, h // k, k, w // k, k)
        order = (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
    turned = b.dense(b.shaped(x, shape).transposed(order))
    return [b.shaped(turned, results[0].shape)]


def triangle(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """trilu: a choice by a constant."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    if is_constant(x):
        return "computed once"  # where the plan's constants do not reach
    kept = np.greater_equal if attrs["upper"] else np.less_equal
    rows, columns = x.shape[-2:]
    first = max(-rows, min(attrs["k"], columns))
    inside = banded(b, (rows, columns), first, lambda ahead: kept(ahead, 0), True, BOOL)
    zero = b.local(convert(np.zeros(1), x.dtype), x.dtype)
    return where(b, Node("where", (), ()), (inside, x, zero), results)


def bits(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """bit_cast: the same bytes."""
    x = inputs[0]
    assert x is not None
    if x.dtype.bits:
        return f"elements of {x.dtype.bits} bits"
    return [replace(x, dtype=results[0].dtype)]


PLAIN: dict[str, Lowering] = {
    "center_crop_pad": crop,
    "depth_to_space": blocks,
    "space_to_depth": blocks,
    "bit_cast": bits,
    "trilu": triangle,
}
