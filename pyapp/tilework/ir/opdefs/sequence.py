"""Sequences and optionals: lists and None on the host. What is in them is never changed.

sequence_construct (x...)      sequence_empty ()      sequence_length (s) -> int64 scalar
sequence_at (s, position)      sequence_insert (s, x, position)      sequence_erase (s, position)
concat_from_sequence(axis, new_axis) (s)      split_to_sequence(axis, keep) (x, split)
optional (x)      optional_get_element (o)      optional_has_element (o) -> bool scalar
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.opdefs.dynamic import checked_axis
from tilework.ir.opdefs.registry import Array, Attrs, define_dynamic


def listed(sequence: Any) -> list[Any]:
    """The sequence itself. InvalidArgument when it is something else."""
    if not isinstance(sequence, list):
        raise InvalidArgument("takes a sequence")
    return sequence


def _place(position: Array | None, extent: int, default: int) -> int:
    """The position counted from the front, which must be below `extent`."""
    place = default if position is None else int(position.reshape(-1)[0])
    if not -extent <= place < extent:
        raise InvalidArgument(f"position {place} is outside [{-extent}, {extent})")
    return place % extent


def _insert(
    attrs: Attrs, sequence: Any, x: Any, position: Array | None = None
) -> tuple[list[Any]]:
    items = listed(sequence)
    count = len(items)
    place = count if position is None else int(position.reshape(-1)[0])
    if not -count <= place <= count:
        raise InvalidArgument(f"position {place} is outside [{-count}, {count}]")
    place = place + count if place < 0 else place
    return ([*items[:place], x, *items[place:]],)


def _erase(attrs: Attrs, sequence: Any, position: Array | None = None) -> tuple[list[Any]]:
    items = listed(sequence)
    place = _place(position, len(items), -1)
    return ([*items[:place], *items[place + 1 :]],)


def _at(attrs: Attrs, sequence: Any, position: Array) -> tuple[Any]:
    items = listed(sequence)
    return (items[_place(position, len(items), 0)],)


def _length(attrs: Attrs, sequence: Any) -> tuple[Array]:
    return (np.array(len(listed(sequence)), dtype=np.int64),)


define_dynamic("sequence_construct", (1, -1), lambda attrs, *items: (list(items),))
define_dynamic("sequence_empty", 0, lambda attrs: ([],))
define_dynamic("sequence_insert", (2, 3), _insert)
define_dynamic("sequence_erase", (1, 2), _erase)
define_dynamic("sequence_at", 2, _at)
define_dynamic("sequence_length", 1, _length)


def _concat_from(attrs: Attrs, sequence: Any) -> tuple[Array]:
    items = listed(sequence)
    if not items:
        raise InvalidArgument("the sequence is empty")
    try:
        if attrs.get("new_axis", 0):
            return (np.stack(items, axis=attrs["axis"]),)
        return (np.concatenate(items, axis=attrs["axis"]),)
    except ValueError as error:  # shapes that do not fit, or an axis that there is not
        raise InvalidArgument(str(error)) from None


define_dynamic("concat_from_sequence", 1, _concat_from)


def _split_to(attrs: Attrs, x: Array, split: Array | None = None) -> tuple[list[Array]]:
    axis = checked_axis(attrs.get("axis", 0), x.ndim)
    extent = x.shape[axis]
    if split is None:
        places = range(extent)
        if attrs.get("keep", 1):
            return ([np.take(x, [place], axis=axis) for place in places],)
        return ([np.take(x, place, axis=axis) for place in places],)
    if split.ndim == 0:
        size = int(split)
        if size <= 0:
            raise InvalidArgument(f"split is {size}; pieces must have a positive size")
        ends = list(range(size, extent, size))
    else:
        sizes = split.tolist()
        if min(sizes, default=0) < 0 or sum(sizes) != extent:
            raise InvalidArgument(f"split {sizes} does not sum to axis {axis}, {extent}")
        ends = np.cumsum(sizes)[:-1].tolist()
    return (np.split(x, ends, axis=axis),)


define_dynamic("split_to_sequence", (1, 2), _split_to)


def _element(attrs: Attrs, optional: Any) -> tuple[Any]:
    if optional is None:
        raise InvalidArgument("the optional has no element")
    return (optional,)


define_dynamic("optional", (0, 1), lambda attrs, x=None: (x,))
define_dynamic("optional_get_element", 1, _element)
define_dynamic("optional_has_element", (0, 1), lambda attrs, x=None: (np.array(x is not None),))
