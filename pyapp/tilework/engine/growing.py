"""Which runs differ only in a length that grows: a decoder's, token by token.

`growing_axes` sees it in two runs after each other, a Family is what they have in common and the
one plan that serves all its lengths. Plans nothing, runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tilework.core.growing import SPARE, Growth, Table, room
from tilework.engine.plan import Plan
from tilework.ir.opdefs.create import whole_numbers
from tilework.ir.opdefs.registry import Info
from tilework.plan.caches import Laid

Key: TypeAlias = tuple[Any, ...]
Axes: TypeAlias = dict[int, tuple[int, ...]]  # by place in the key


def growing_axes(before: Key, now: Key) -> Axes | None:
    """The axes, or numbers that decide shapes, that have grown, all by the same; None where
    anything else has changed as well, or where no matrix stayed: what a decoder is fed anew keeps
    its shape."""
    found: Axes = {}
    step, stayed = 0, False
    if len(before) != len(now):
        return None
    for place, (old, new) in enumerate(zip(before, now, strict=True)):
        if old == new:
            stayed = stayed or (isinstance(new, tuple) and len(new) > 1)
            continue
        if not isinstance(old, tuple) or not isinstance(new, tuple):
            return None
        old, new = extents(old), extents(new)
        if len(old) != len(new) or old == new:  # which then lies in another way
            return None
        axes = tuple(axis for axis, extent in enumerate(new) if extent != old[axis])
        steps = {new[axis] - old[axis] for axis in axes}
        step = step or next(iter(steps))
        if steps != {step}:
            return None
        found[place] = axes
    return found if step > 0 and stayed else None


def extents(shape: Key) -> Key:
    """A shape without what may be behind it: how it lies, which grows in steps of its own."""
    return shape[:-1] if shape and isinstance(shape[-1], tuple) else shape


def length_of(key: Key, axes: Axes) -> int:
    """The length of a run: the first of the axes that grow."""
    place = next(iter(axes))
    length: int = key[place][axes[place][0]]
    return length


def common(key: Key, axes: Axes) -> Key:
    """What all runs of a family have in common: the key, with differences from the length."""
    length = length_of(key, axes)
    found = list(key)
    for place, grown in axes.items():
        shape = list(key[place])
        for axis in grown:
            shape[axis] -= length
        found[place] = tuple(shape)
    return tuple(found)


def farthest(length: int, infos: Mapping[str, Info], laid: Mapping[str, Laid]) -> int:
    """The most that a family with this length is planned for: as far as its caches have room where
    they lie. And a little farther, for the most is what constants are made for, and a view of all
    of one is another case than one of a part."""
    rooms = [
        lies.rows - SPARE // 2 - infos[name].shape[lies.axis]
        for name, lies in laid.items()
        if lies.free
    ]
    return length + min(rooms) if rooms else room(length)


def grown_infos(
    key: Key,
    axes: Axes,
    infos: Mapping[str, Info],
    growth: Growth,
    names: Sequence[str],
    first: int,
) -> dict[str, Info]:
    """What is known of the inputs `names`, whose extents, and elements that decide shapes, grow.
    Those elements are in the key from place `first` on."""
    length = length_of(key, axes)
    grown = dict(infos)
    valued = [name for name, info in infos.items() if info.value is not None]
    for place, where in axes.items():
        numbers = list(extents(key[place]))
        for axis in where:
            numbers[axis] = growth.length + (numbers[axis] - length)
        name = names[place - 1] if place < first else valued[place - first]
        info = grown[name]
        if place < first:
            grown[name] = replace(info, shape=tuple(numbers))
        else:
            grown[name] = replace(info, value=whole_numbers(numbers).reshape(info.shape))
    return grown


@dataclass(eq=False, slots=True)
class Family:
    """Runs that differ in a length, and what was planned for all of them."""

    axes: Axes
    common: Key
    growth: Growth
    table: Table
    plan: Plan
    length: int
    by_value: bool = False  # elements that decide shapes grow as well

    def serves(self, key: Key) -> bool:
        """Sets its plan for a run with this key; False where it is for others."""
        places = len(self.common) == len(key) and all(
            isinstance(key[place], tuple) and len(key[place]) == len(self.common[place])
            for place in self.axes
        )
        if not places or common(key, self.axes) != self.common:
            return False
        return self.at(length_of(key, self.axes))

    def at(self, length: int) -> bool:
        """Sets its plan for this length; False where it does not hold."""
        if length != self.length:
            values = self.table.at(length)
            if values is None:
                return False
            self.plan.grow(values, self.growth.atoms_at(length) or [])
            self.length = length
        return True
