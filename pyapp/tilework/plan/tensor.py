"""Storage and Tensor: bytes that a plan touches, and a strided view of them.

A view operation (reshape, transpose, slice, expand, …) makes a new Tensor of the same Storage and
costs nothing. Strides and offsets are in elements. Nothing here knows devices or addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from tilework.core.dtypes import DType
from tilework.core.shapes import count, row_major_strides


class Kind(Enum):
    """Where a storage's bytes come from and how long they live."""

    TRANSIENT = "transient"  # in the session's arena, for a part of one run
    CONSTANT = "constant"  # given to the session: an array, or a span of its external data
    PREPARED = "prepared"  # computed from constants, once a session
    LOCAL = "local"  # a constant of one plan: it came from the shapes
    RESIDENT = "resident"  # memory on the device that outlives the run: a cache with spare rows


@dataclass(eq=False, slots=True)
class Storage:
    """`nbytes` bytes. The planner sets `first`, `last` and `offset` of transients.

    `fixed`: a transient that no step writes, since it may be the caller's own array.
    """

    kind: Kind
    nbytes: int
    label: str
    key: str = ""  # of a constant or prepared one: its name in the session
    first: int = -1  # first and last step that touches it
    last: int = -1
    offset: int = -1  # in the arena, bytes
    fixed: bool = False

    @property
    def idle(self) -> bool:
        """Whether it is a transient that no step touches and no output is: it lies nowhere."""
        return self.kind is Kind.TRANSIENT and self.first < 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """Element (i, j, …) lies at `offset` + i · strides[0] + j · strides[1] + … of the storage."""

    storage: Storage
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return count(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, as if dense."""
        return count(self.shape) * self.dtype.size

    @property
    def dense(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return is_dense(self.shape, self.strides)

    def span(self) -> tuple[int, int]:
        """(offset, length) in bytes of the smallest range with all elements; strides ≥ 0."""
        size = self.dtype.size
        if 0 in self.shape:
            return self.offset * size, 0
        reach = 1
        for extent, stride in zip(self.shape, self.strides, strict=True):
            reach += (extent - 1) * stride
        return self.offset * size, reach * size

    # -- views ------------------------------------------------------------

    def transposed(self, perm: tuple[int, ...]) -> Tensor:
        """Axes reordered."""
        shape, strides = self.shape, self.strides
        return self._view(
            tuple([shape[axis] for axis in perm]), tuple([strides[axis] for axis in perm])
        )

    def broadcast_to(self, shape: tuple[int, ...]) -> Tensor:
        """Stride 0 along the axes that repeat; the shape must fit."""
        lead = len(shape) - len(self.shape)
        # infer has checked it; without this, a kernel would read what lies behind the tensor.
        assert all(own in (1, wide) for own, wide in zip(self.shape, shape[lead:], strict=True))
        strides = [
            0 if extent == 1 and wide != 1 else stride
            for extent, wide, stride in zip(self.shape, shape[lead:], self.strides, strict=True)
        ]
        return self._view(shape, (*(0,) * lead, *strides))

    def sliced(
        self, firsts: tuple[int, ...], steps: tuple[int, ...], extents: tuple[int, ...]
    ) -> Tensor | None:
        """Every `steps`-th element from `firsts` on; None when a step is negative."""
        if min(steps, default=1) < 0:
            return None
        offset = self.offset
        if 0 not in extents:
            for first, stride in zip(firsts, self.strides, strict=True):
                offset += first * stride
        strides = [stride * step for stride, step in zip(self.strides, steps, strict=True)]
        return Tensor(self.storage, self.dtype, extents, tuple(strides), offset)

    def reshaped(self, shape: tuple[int, ...]) -> Tensor | None:
        """The same elements in another shape, or None when no strides can express it."""
        strides = reshape_strides(self.shape, self.strides, shape)
        return None if strides is None else self._view(shape, strides)

    def _view(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        # Not `replace`, which takes several times as long; a plan has thousands of views.
        return Tensor(self.storage, self.dtype, shape, strides, self.offset)


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the strides are row-major's, ignoring axes of extent 1."""
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 0:
            return True
        if extent != 1:
            if stride != expected:
                return False
            expected *= extent
    return True


def reshape_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], target: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides that make `target` of the same elements in the same order, or None."""
    if 0 in shape or is_dense(shape, strides):
        return row_major_strides(target)
    # Source axes without extent 1, joined where one continues the other.
    joined: list[list[int]] = []  # [extent, innermost stride]
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if joined and joined[-1][1] == extent * stride:
            joined[-1] = [joined[-1][0] * extent, stride]
        else:
            joined.append([extent, stride])
    result = [1] * len(target)
    axis = len(target) - 1
    for extent, stride in reversed(joined):
        left = extent
        while left > 1:
            if axis < 0:
                return None
            if target[axis] == 1:
                result[axis] = stride
            elif left % target[axis]:
                return None
            else:
                result[axis] = stride
                stride *= target[axis]
                left //= target[axis]
            axis -= 1
    return tuple(result)


def collapse(
    shape: tuple[int, ...], *strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The index space with fewest axes: neighbours that all operands walk as one are joined."""
    extents: list[int] = []
    walks: list[list[int]] = [[] for _ in strides]
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        if extents and all(
            walk[-1] == own[axis] * extent for walk, own in zip(walks, strides, strict=True)
        ):
            extents[-1] *= extent
            for walk, own in zip(walks, strides, strict=True):
                walk[-1] = own[axis]
        else:
            extents.append(extent)
            for walk, own in zip(walks, strides, strict=True):
                walk.append(own[axis])
    return tuple(extents), tuple(tuple(walk) for walk in walks)


def packed_view(tensor: Tensor) -> Tensor | None:
    """The distinct elements of a view as one dense run, or None when there are gaps.

    Permutations and repetitions (stride 0) are seen through: an operation on each element may
    compute the run once and keep the view's strides.
    """
    axes = sorted(
        (
            (stride, extent)
            for extent, stride in zip(tensor.shape, tensor.strides, strict=True)
            if extent != 1 and stride != 0
        ),
    )
    expected = 1
    for stride, extent in axes:
        if stride != expected:
            return None
        expected *= extent
    return replace(tensor, shape=(expected,), strides=(1,))
