"""How a kernel that goes element by element walks its operands, whatever their strides.

One operand: its distinct elements as a run, and the result in the same order. Several: the space
of their indices, collapsed, and each one's strides in it. Knows no operation: families of lowerings
say which kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.hal.kernel import Kernel
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import AXES, Builder, six
from tilework.plan.layout import inverse, order
from tilework.plan.lowering import Operands
from tilework.plan.tensor import Tensor, collapse, packed_view


def dense_run(b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
    """(dense run of the distinct elements, the view whose strides the result takes)."""
    run = packed_view(x)
    if run is not None:
        return run, x
    x = b.dense(x)
    return replace(x, shape=(x.size,), strides=(1,)), x


def shaped(run: Tensor, like: Tensor) -> Tensor:
    """A run's elements in the order of the view that it was taken from."""
    return replace(run, shape=like.shape, strides=like.strides)


def operands(
    b: Builder, shape: tuple[int, ...], operands: Sequence[Tensor]
) -> tuple[tuple[int, ...], list[tuple[int, ...]], list[Tensor]]:
    """The collapsed index space, each operand's strides in it, and the operands as read."""
    wide = [tensor.broadcast_to(shape) for tensor in operands]
    sizes, strides = collapse(shape, *(tensor.strides for tensor in wide))
    if len(sizes) > AXES:
        own = [b.dense(tensor) for tensor in operands]
        wide = [tensor.broadcast_to(shape) for tensor in own]
        sizes, strides = collapse(shape, *(tensor.strides for tensor in wide))
        if len(sizes) > AXES:
            wide = [b.dense(tensor) for tensor in wide]
            sizes, strides = collapse(shape, *(tensor.strides for tensor in wide))
    return sizes or (1,), [walk or (0,) for walk in strides], wide


def _order(shape: tuple[int, ...], operands: Sequence[Tensor]) -> tuple[int, ...] | None:
    """The order of axes in which the first operand of the result's shape lies, if not this."""
    whole = next((tensor for tensor in operands if tensor.shape == shape), None)
    return None if whole is None else order(whole)


def pair(
    b: Builder, inputs: Operands, result: Info, kernel: Kernel, record: Any, op: Any, most: int
) -> list[Tensor]:
    """One dispatch of a kernel of two operands; `record` takes sizes, strides, a tile and op."""
    a, c = inputs[0], inputs[1]
    assert a is not None and c is not None
    perm = _order(result.shape, (a, c))
    if perm is not None:  # the operands' own order is the result's
        a, c = (one.broadcast_to(result.shape).transposed(perm) for one in (a, c))
        turned = Info(result.dtype, tuple(result.shape[axis] for axis in perm))
        (y,) = pair(b, (a, c), turned, kernel, record, op, most)
        return [y.transposed(inverse(perm))]
    sizes, (walk_a, walk_c), wide = operands(b, result.shape, (a, c))
    y = b.result(result.dtype, result.shape, a, c)
    tile, tiles = b.tiles(y.size, most)
    params = record(
        sizes=six(sizes, 1),
        a_strides=six(walk_a, 0),
        b_strides=six(walk_c, 0),
        tile_elements=tile,
        op=op,
    )
    b.emit(kernel, (tiles if y.size else 0, 1, 1), params, (*wide, y))
    return [y]
