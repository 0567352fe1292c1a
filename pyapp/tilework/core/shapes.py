"""Arithmetic on shapes: broadcasting, axes, strides, reshape. Tuples of ints, no arrays.

Every layer may use it; it knows no operator and no node, so a failure is None or a plain
InvalidArgument that the caller completes with where it happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from tilework.core.errors import InvalidArgument

Shape = tuple[int, ...]


def count(shape: Iterable[int]) -> int:
    """The number of elements; 1 for the shape ()."""
    return prod(shape)


def with_extent(shape: Sequence[int], axis: int, extent: int) -> Shape:
    """The shape with another extent at `axis`, counted from 0."""
    return (*shape[:axis], extent, *shape[axis + 1 :])


def row_major_strides(shape: Sequence[int]) -> Shape:
    """Strides in elements of a dense row-major tensor; for extent 0 as if it were 1."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def broadcast_two(a: Shape, b: Shape) -> Shape | None:
    """The shape that both broadcast to by NumPy's rule, or None when they do not fit."""
    if a == b or not b:
        return a
    if not a:
        return b
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    result = list(a)
    for axis, extent in enumerate(b, lead):
        other = result[axis]
        if extent != other:
            if other == 1:
                result[axis] = extent
            elif extent != 1:
                return None
    return tuple(result)


def broadcast(*shapes: Shape) -> Shape | None:
    """The shape that all broadcast to by NumPy's rule, or None when they do not fit."""
    result: Shape = ()
    for shape in shapes:
        wider = broadcast_two(result, shape)
        if wider is None:
            return None
        result = wider
    return result


def normalize_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front; InvalidArgument outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise InvalidArgument(f"axis {axis} is outside [{-rank}, {rank}) of a rank {rank} tensor")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, in the order given; InvalidArgument outside or twice."""
    result = tuple(normalize_axis(axis, rank) for axis in axes)
    if len(set(result)) != len(result):
        raise InvalidArgument(f"axes {result} name an axis twice")
    return result


def resolve_reshape(shape: Shape, asked: Sequence[int], allow_zero: bool) -> Shape | None:
    """ONNX Reshape: -1 takes what is left, 0 copies (unless `allow_zero`); None if impossible."""
    result = list(asked)
    unknown = -1
    for axis, extent in enumerate(asked):
        if extent == 0 and not allow_zero:
            if axis >= len(shape):
                return None
            result[axis] = shape[axis]
        elif extent == -1:
            if unknown >= 0:
                return None
            unknown = axis
        elif extent < 0:
            return None
    total = count(shape)
    if unknown >= 0:
        result[unknown] = 1
        rest = count(result)
        if rest == 0 or total % rest:
            return None
        result[unknown] = total // rest
    return tuple(result) if count(result) == total else None


def slice_bounds(start: int, stop: int, step: int, extent: int) -> tuple[int, int, int]:
    """First index, step and number of elements of ONNX Slice along one axis, ends clamped."""
    # Going backwards the range is [-1, extent - 1]; Python's slice() would read -1 as the last.
    low, top = (0, extent) if step > 0 else (-1, extent - 1)
    first, last = (_clamp(index, extent, low, top) for index in (start, stop))
    return first, step, max((last - first + step - (1 if step > 0 else -1)) // step, 0)


def _clamp(index: int, extent: int, low: int, top: int) -> int:
    if index < 0:
        index += extent
    return min(max(index, low), top)
