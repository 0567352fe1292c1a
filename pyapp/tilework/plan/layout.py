"""Layouts other than row-major: which one a tensor has, and tensors that follow it.

Convolution networks are computed channels last: an (n, c, ...) tensor whose channels lie side by
side, pixel by pixel. It is an ordinary tensor with other strides, so every lowering may read it;
those here say how to find out and how to make more of the kind. Nothing is converted before
somebody needs it otherwise: `Builder.dense` does, at the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tilework.core.dtypes import DType
from tilework.core.shapes import count, with_extent
from tilework.plan.builder import Builder
from tilework.plan.tensor import Tensor, is_dense


@dataclass(frozen=True, slots=True)
class Pixels:
    """A tensor as (n, ..., c) with its channels side by side, `pixel` elements between pixels."""

    tensor: Tensor
    pixel: int


def last(rank: int) -> tuple[int, ...]:
    """The permutation that brings axis 1 to the end."""
    return (0, *range(2, rank), 1)


def first(rank: int) -> tuple[int, ...]:
    """Its inverse."""
    return (0, rank - 1, *range(1, rank - 1))


def pixel_stride(x: Tensor) -> int | None:
    """Elements between pixels of an (n, c, ...) tensor that is channels last, else None.

    The tensor may be some channels of a wider one.
    """
    if 0 in x.shape or (x.shape[1] != 1 and x.strides[1] != 1):
        return None
    turned = x.transposed(last(len(x.shape)))
    shape, strides = turned.shape[:-1], turned.strides[:-1]
    axes = [axis for axis, extent in enumerate(shape) if extent != 1]
    pixel = strides[axes[-1]] if axes else x.shape[1]
    if pixel < x.shape[1]:
        return None
    expected = pixel
    for axis in reversed(axes):
        if strides[axis] != expected:
            return None
        expected *= shape[axis]
    return pixel


def channels_last(b: Builder, x: Tensor) -> Pixels:
    """An (n, c, ...) tensor channels last; a copy if it is not so already."""
    pixel = pixel_stride(x)
    turned = x.transposed(last(len(x.shape)))
    if pixel is not None:
        return Pixels(turned, pixel)
    return Pixels(b.copied(turned), x.shape[1])


def is_channels_last(x: Tensor) -> bool:
    """Whether an (n, c, ...) tensor is channels last and not row-major as well."""
    return len(x.shape) > 2 and not x.dense and pixel_stride(x) is not None


def new_channels_last(b: Builder, dtype: DType, shape: Sequence[int]) -> Tensor:
    """A new (n, c, ...) tensor, channels last."""
    made = b.new(dtype, tuple(shape[axis] for axis in last(len(shape))))
    return made.transposed(first(len(shape)))


def shuffled(b: Builder, x: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A shuffle of channels, (n, a, b, ...) to `shape` (n, a b, ...), as one copy that leaves the
    channels last; None where it is none, or a view."""
    parts, pixels = x.shape[1:3], x.shape[3:]
    if shape != (*x.shape[:1], count(parts), *pixels) or not pixels or x.reshaped(shape):
        return None
    axes = (0, *range(3, len(x.shape)), 1, 2)
    if min(x.strides[1:3]) != 1 or any(stride < count(parts) for stride in x.strides[3:]):
        return None
    turned = b.copied(x.transposed(axes)).reshaped((*shape[:1], *pixels, shape[1]))
    assert turned is not None  # dense
    return turned.transposed(first(len(shape)))


def order(x: Tensor) -> tuple[int, ...] | None:
    """The permutation under which a tensor is dense, None where it is as it stands or never."""
    if x.dense or 0 in x.strides:
        return None
    perm = tuple(sorted(range(len(x.shape)), key=lambda axis: -x.strides[axis]))
    turned = x.transposed(perm)
    return perm if is_dense(turned.shape, turned.strides) else None


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    result = [0] * len(perm)
    for place, axis in enumerate(perm):
        result[axis] = place
    return tuple(result)


def part(whole: Tensor, axis: int, start: int, extent: int) -> Tensor:
    """Elements [start, start + extent) along an axis."""
    shape = with_extent(whole.shape, axis, extent)
    return replace(whole, shape=shape, offset=whole.offset + start * whole.strides[axis])
