"""Shape arithmetic against NumPy's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilework.core import shapes
from tilework.core.errors import InvalidArgument

pytestmark = pytest.mark.unit

SHAPES = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=4).map(tuple)


@given(SHAPES, SHAPES, SHAPES)
def test_broadcast(a: tuple[int, ...], b: tuple[int, ...], c: tuple[int, ...]) -> None:
    try:
        right: tuple[int, ...] | None = np.broadcast_shapes(a, b, c)
    except ValueError:
        right = None
    assert shapes.broadcast(a, b, c) == right


def test_slices() -> None:
    """Against Python's slicing, where -1 as an end of a backward slice is said as None."""
    bounds = (-(2**63), -7, -6, -1, 0, 1, 4, 5, 6, 2**63 - 1)
    for start, stop, step, extent in itertools.product(bounds, bounds, (-3, -1, 1, 2), (0, 1, 5)):
        first, by, length = shapes.slice_bounds(start, stop, step, extent)
        right = list(range(extent))[start:stop:step]
        assert [first + by * i for i in range(length)] == right


@pytest.mark.parametrize(
    ("shape", "asked", "allow_zero", "right"),
    [
        ((2, 3, 4), (4, -1), False, (4, 6)),
        ((2, 3, 4), (0, -1), False, (2, 12)),
        ((2, 3), (0, 0), False, (2, 3)),
        ((0, 3), (3, 0), True, (3, 0)),
        ((2, 3), (0, 6), True, None),
        ((0, 3), (0, -1), False, None),
        ((2, 3), (-1, -1), False, None),
        ((2, 3), (4, -1), False, None),
        ((2, 3), (2, 2), False, None),
        ((2,), (2, 0), False, None),
        ((2,), (-2, -1), False, None),
        ((), (1, 1), False, (1, 1)),
        ((1,), (), False, ()),
    ],
)
def test_reshape(
    shape: tuple[int, ...],
    asked: tuple[int, ...],
    allow_zero: bool,
    right: tuple[int, ...] | None,
) -> None:
    assert shapes.resolve_reshape(shape, asked, allow_zero) == right


def test_axes() -> None:
    assert shapes.normalize_axes((-1, 0), 3) == (2, 0)
    with pytest.raises(InvalidArgument, match=r"axis 3 is outside \[-3, 3\)"):
        shapes.normalize_axis(3, 3)
    with pytest.raises(InvalidArgument, match="name an axis twice"):
        shapes.normalize_axes((0, -3), 3)


def test_row_major_strides() -> None:
    assert shapes.row_major_strides((2, 3, 4)) == (12, 4, 1)
    assert shapes.row_major_strides(()) == ()
