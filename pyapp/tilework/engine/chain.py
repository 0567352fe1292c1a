"""Chain: a decoder's next token, with all that was looked up for the last one at hand.

A run whose caches are the very ones that the run before gave, and whose arrays are as then, needs
no key and no checks: the plan is set to the next length, the arrays are copied, the program runs.
The session keeps one as long as nothing else happens in between.
Whatever is not just so goes the long way. Keeps no cache alive: that is for whoever generates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import ReferenceType, ref

import numpy as np

from tilework.core.config import IN_PLACE
from tilework.core.growing import grows
from tilework.core.shapes import with_extent
from tilework.engine.replay import replayable
from tilework.engine.resident import Fed, Resident, host_array
from tilework.hal import Buffer, Device, Program
from tilework.plan.tensor import Storage, Tensor

if TYPE_CHECKING:
    from tilework.core.dtypes import DType
    from tilework.engine.growing import Family


@dataclass(slots=True)
class Link:
    """A cache: the input, the place among the results, its slot, and what the last run gave."""

    source: str
    index: int
    slot: int
    given: ReferenceType[Resident]


@dataclass(slots=True)
class Given:
    """An array that is copied in; its `shape` grows along `axes`. `copy` is for one that does not
    grow, the others are written to `home`; without both nobody reads it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    home: Buffer | None
    copy: Callable[[Any], object] | None


@dataclass(frozen=True, slots=True)
class Known:
    """An input whose elements are part of what was planned, as which branch is taken."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    content: bytes

    def holds(self, fed: Any) -> bool:
        """Whether it is fed so again."""
        array = host_array(fed)
        if type(array) is not np.ndarray or array.dtype != self.dtype:
            return False
        return array.shape == self.shape and array.tobytes() == self.content


@dataclass(frozen=True, slots=True)
class Fresh:
    """An output in new memory: its place among the results and its slot."""

    index: int
    dtype: DType
    shape: tuple[int, ...]
    slot: int
    label: str


@dataclass(slots=True)
class Chain:
    """What the next token needs; `step` rows are what a run adds."""

    names: list[str]
    step: int
    device: Device
    family: Family
    program: Program
    slots: list[Buffer | None]  # the arena's first; None of what each run has its own
    links: list[Link]
    same: list[tuple[str, int, ReferenceType[Resident]]]  # fed as they were: name, slot
    arrays: list[Given]
    fresh: list[Fresh]
    known: list[Known]
    passed: list[tuple[int, str]]  # outputs that are an input as it is: place, the input's name
    empty: list[tuple[int, Resident]]  # outputs without elements: always the same

    @staticmethod
    def after(
        family: Family,
        known: Mapping[str, Any],
        names: Sequence[str],
        feeds: Mapping[str, Fed],
        results: Sequence[Fed],
    ) -> Chain | None:
        """What goes on from the family's last run, which was fed and gave these and left all on the
        device; None where not every cache has grown in place, or anything else is not as here.

        `known` are the inputs whose elements are part of what was planned.
        """
        program, places = family.plan.whole, family.plan.places
        if program is None:
            return None
        arena, draft, slots = places.arena, places.draft, places.slots
        given = dict(zip(names, results, strict=True))
        pasts = {one.source: name for name, one in draft.shelved.items()}
        if not pasts or "" in pasts or arena is None or family.by_value:
            return None
        bound: dict[Storage, Buffer | None] = dict(places.spans)
        links, same, arrays = [], [], []
        steps = set[int]()
        order = {name: index for index, name in enumerate(names)}
        for name, tensor in places.fed.items():
            fed, storage = feeds[name], tensor.storage
            if name in pasts:
                grown = given[pasts[name]]
                assert isinstance(grown, Resident) and isinstance(fed, Resident)
                bound[storage] = None
                steps.add(sum(grown.shape) - sum(fed.shape))
                links.append(Link(name, order[pasts[name]], slots[storage], ref(grown)))
            elif isinstance(fed, Resident):
                if storage in slots:
                    bound[storage] = None
                elif not storage.idle:
                    return None
                same.append((name, slots.get(storage, -1), ref(fed)))
            elif storage.idle:
                axes = tuple(a for a, n in enumerate(draft.inputs[name].shape) if grows(n))
                arrays.append(Given(name, fed.dtype, fed.shape, axes, None, None))
            elif (slots and fed.nbytes >= IN_PLACE) or not replayable(fed.dtype, fed.size):
                return None
            else:
                axes = tuple(a for a, n in enumerate(draft.inputs[name].shape) if grows(n))
                home = places.home(storage).subspan(tensor.offset * tensor.dtype.size)
                copy = None if axes else places.at_home(tensor).port().write
                arrays.append(Given(name, fed.dtype, fed.shape, axes, home, copy))
        fed_as = {id(one): name for name, one in feeds.items()}
        passed, empty = [], []
        others = {n: x for n, x in draft.outputs.items() if n not in draft.shelved}
        for index, (name, one) in enumerate(zip(names, results, strict=True)):
            if name not in others or not isinstance(one, Resident):
                continue
            if id(one) in fed_as:
                passed.append((index, fed_as[id(one)]))
                del others[name]
            elif not one.nbytes and not grows(others[name].shape):
                empty.append((index, one))
                del others[name]
        fresh = fresh_outputs(others, names, slots, results)
        if fresh is None or len(steps) != 1 or len(order) != len(names):
            return None
        held = [arena, *(bound[storage] for storage in slots)]
        return Chain(
            list(names), steps.pop(), places.device, family, program,
            held, links, same, arrays, fresh,
            [Known(n, a.dtype, a.shape, a.tobytes()) for n, a in known.items()], passed, empty,
        )  # fmt: skip

    def run(self, names: Sequence[str], values: Mapping[str, Any]) -> list[Resident] | None:
        """The outputs, or None where this run is another one. KernelFailure, OutOfMemory."""
        arrays, get = self.arrays, values.get
        fed = len(self.links) + len(self.same) + len(arrays) + len(self.known)
        if names != self.names or len(values) != fed:
            return None
        slots = self.slots.copy()
        for link in self.links:
            given = link.given()
            past = cast("Resident", get(link.source))
            if given is None or past is not given:
                return None
            shelf = past.shelf  # that somebody else may have gone on from
            if shelf is None or shelf.taken != past.shape[shelf.axis]:
                return None
            slots[link.slot] = past.buffer
        for name, slot, last in self.same:
            held, before = cast("Resident", get(name)), last()
            if before is None or held is not before:
                return None
            if slot >= 0:
                slots[slot] = held.buffer
        for array in arrays:
            one = get(array.name)
            if type(one) is not np.ndarray or one.dtype is not array.dtype:
                return None
            if one.shape != self._next(array) or not one.flags.c_contiguous:
                return None
        for known in self.known:
            if not known.holds(get(known.name)):
                return None
        family = self.family
        if not family.at(family.length + self.step):
            return None
        return self._go(values, slots)

    def _next(self, one: Given) -> tuple[int, ...]:
        shape = one.shape
        for axis in one.axes:
            shape = with_extent(shape, axis, shape[axis] + self.step)
        return shape

    def _go(self, values: Mapping[str, Any], slots: list[Buffer | None]) -> list[Resident]:
        device = self.device
        found: dict[int, Resident] = {}
        for out in self.fresh:
            made = found[out.index] = Resident.make(device, out.dtype, out.shape, out.label)
            slots[out.slot] = made.buffer
        for one in self.arrays:
            fed = values[one.name]
            if one.copy is not None:
                one.copy(fed)
                device.heap.copied_in += fed.nbytes
            else:
                one.shape = fed.shape
                if one.home is not None:
                    one.home.write(fed)
        device.submit(self.program, cast("list[Buffer]", slots[: len(self.program.slot_extents)]))
        old: tuple[int, ...] = ()
        shape = old
        for link in self.links:
            given = cast("Resident", values[link.source])
            shelf = given.shelf
            assert shelf is not None  # run has looked
            if given.shape != old:
                old = given.shape
                shape = with_extent(old, shelf.axis, old[shelf.axis] + self.step)
            shelf.taken += self.step
            found[link.index] = Resident(given.dtype, shape, given.buffer, shelf)
            link.given = ref(found[link.index])
        found.update(self.empty)
        for index, name in self.passed:
            found[index] = values[name]
        return [found[index] for index in range(len(self.names))]


def fresh_outputs(
    outputs: Mapping[str, Tensor],
    names: Sequence[str],
    slots: Mapping[Storage, int],
    results: Sequence[Any],
) -> list[Fresh] | None:
    """Those of the `outputs` among `names` whose results were new; None where one is an input, or
    another output, or grows."""
    found: list[Fresh] = []
    for index, (name, one) in enumerate(zip(names, results, strict=True)):
        if name not in outputs:
            continue
        tensor = outputs[name]
        slot = slots.get(tensor.storage)
        if slot is None or tensor.storage.fixed or not isinstance(one, Resident):
            return None
        if grows(tensor.shape) or any(other.slot == slot for other in found):
            return None
        found.append(Fresh(index, one.dtype, one.shape, slot, name))
    return found
