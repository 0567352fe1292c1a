"""Stages: a graph planned and run part by part, as far as is known each time.

A stage is a plan, the nodes that the host runs after it, and the stages of what is left, which are
found by what those gave. What one leaves on the device the next reads there. A graph all of whose
shapes follow from its inputs' is one stage. Values in flight are arrays, Residents, lists
(sequences) and None (optionals without one).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tilework.core.config import PLANS, VALUE_LIMIT
from tilework.core.errors import InvalidArgument, InvalidIndex, RuntimeException, TileworkError
from tilework.core.growing import Growth
from tilework.core.shapes import count
from tilework.engine.constants import ConstantStore
from tilework.engine.growing import (
    Family,
    Key,
    common,
    farthest,
    growing_axes,
    grown_infos,
    length_of,
)
from tilework.engine.keys import dtype_key, info_of, integral, value_key
from tilework.engine.plan import Plan
from tilework.engine.resident import Resident, host_array
from tilework.engine.shelves import dense, looked_at, on_shelves
from tilework.engine.sound import sound
from tilework.hal import Buffer, Device
from tilework.ir.graph import Constant, Graph, Node
from tilework.ir.opdefs.registry import MALFORMED, DataDependent, Info, evaluate, label
from tilework.plan.caches import Cache, Laid
from tilework.plan.cut import Cut, cut
from tilework.plan.planner import NOTHING, make_draft
from tilework.plan.step import HostStep
from tilework.plan.value_inputs import value_inputs

if TYPE_CHECKING:
    from tilework.engine.recorder import Recorder
    from tilework.engine.stop import Stop

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who may end a run, and who measures it."""

    stop: Stop | None = None
    recorder: Recorder | None = None


UNWATCHED = Watch()
_TRIES: Final = 3  # of planning for many lengths: one may be equal to a width by chance


@dataclass(slots=True)
class Shared:
    """What all stages of a session have in common, also those of graphs inside its nodes."""

    device: Device
    name: str
    constants: Mapping[str, Constant]
    store: ConstantStore
    arena: Buffer | None = None
    bodies: dict[int, Body] = field(default_factory=dict)  # by the graph's id

    def grow(self, nbytes: int) -> None:
        """Sees to an arena of so many bytes. OutOfMemory."""
        if self.arena is not None and self.arena.nbytes >= nbytes:
            return
        if self.arena is not None:
            self.arena.free()
            self.arena = None
        if nbytes:
            self.arena = self.device.allocate(nbytes, f"arena of {self.name}")

    def room(self, plan: Plan) -> Buffer | None:
        """The arena, with room for a run of the plan."""
        nbytes, arena = plan.arena_bytes, self.arena
        if arena is None or arena.nbytes < nbytes:
            self.grow(nbytes)
        return self.arena

    def body(self, graph: Graph) -> Body:
        """The stages of a graph inside a node, the same at any time."""
        found = self.bodies.get(id(graph))
        if found is None:
            found = self.bodies[id(graph)] = Body(self, graph)
        return found

    def free(self) -> None:
        """Gives back what the bodies hold, and the arena."""
        for body in self.bodies.values():
            body.stages.free()
        self.bodies.clear()
        if self.arena is not None:
            self.arena.free()
        self.arena = None


class Stage:
    """A part of a graph for one set of types; runs as often as they come again."""

    def __init__(
        self,
        shared: Shared,
        parts: Cut,
        slots: bool,
        growth: Growth | None = None,
        laid: Mapping[str, Laid] = NOTHING,
        growing: Collection[str] = (),
    ) -> None:
        """With `growth` it has numbers that grow, unless that is `pinned` then. `laid` and
        `growing` are as for `make_draft`."""
        self._shared = shared
        self._parts = parts
        self.whole = parts.whole
        self.rest = None if parts.later is None else Stages(shared, parts.later)
        self._needed = {name for node in parts.host for name in node.inputs}
        host = [node for node in parts.host if not _controls(node)]
        # What others read, and not the host itself.
        self._resident = self._needed - {name for node in host for name in node.inputs}
        if self.rest is not None:
            self._needed.update(self.rest.names)
            self._resident |= self.rest.reads
        self._given = [value.name for value in parts.now.outputs]
        slots = slots or not self._resident.isdisjoint(self._given)
        threads, ready = shared.device.threads, shared.store.ready
        draft = make_draft(parts.now, shared.constants, threads, slots, ready, laid, growing)
        if not parts.whole:
            draft = replace(draft, behind=_words(parts))
        shared.grow(draft.arena_bytes)  # the likeliest to fail comes first
        if growth is not None and not (parts.whole and draft.places() == {"kernel"}):
            raise DataDependent(f"{shared.name}: parts of it run on the host")
        self.plan = Plan(shared.device, draft, shared.store, slots, growth)

    def run(
        self, values: Values, names: Collection[str], left: Collection[str], watch: Watch
    ) -> set[str]:
        """Enters what this part gives, and says which of it the plan has made for the host.

        `names` are those of the run's outputs; those in `left` stay on the device.
        """
        parts = self._parts
        given = [name for name in self._given if name in self._needed or name in names]
        kept = dict.fromkeys(name for name in given if name in self._resident or name in left)
        arena = self._shared.room(self.plan)
        results = self.plan.run(values, given, arena, kept, watch.stop, watch.recorder)
        values.update(zip(given, results, strict=True))
        for node in parts.host:
            operands = [self._value(name, values) for name in node.inputs]
            outputs = self._on_host(node, operands, watch)
            values.update(
                (name, one) for name, one in zip(node.outputs, outputs, strict=False) if name
            )
        for name in names:
            if name in parts.constants and name not in values:
                values[name] = self._value(name, values)
        return {name for name in given if name not in kept}

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        if name in values or not name:
            return values.get(name)
        return self._shared.store.host_array(self._parts.constants[name])

    def _on_host(self, node: Node, operands: list[Any], watch: Watch) -> Sequence[Any]:
        if watch.stop is not None:
            watch.stop.check()
        device = self._shared.device
        try:
            if _controls(node):
                operands = list(map(dense, operands))
                from tilework.engine.control import CONTROL

                calls = {
                    name: partial(self._shared.body(graph).call, watch=watch)
                    for name, graph in node.attrs.items()
                    if isinstance(graph, Graph)
                }
                with sound(label(node), RuntimeException):
                    return CONTROL[node.op](device, node, operands, calls)
            found: list[tuple[Any, ...]] = []

            def run() -> None:
                with sound(label(node), RuntimeException):
                    found.append(evaluate(node, [on_host(one) for one in operands]))

            if watch.recorder is None:
                run()
            else:
                watch.recorder.time(device, HostStep(node, (), (), "on host"), run)
            return found[0]
        except RuntimeException:
            raise
        except InvalidArgument as error:
            words = str(error)
            where = label(node)
            raise RuntimeException(
                words if words.startswith(where) else f"{where}: {words}"
            ) from error

    def places(self) -> Iterator[str]:
        """Where it computes: "kernel", "host"."""
        if self.whole or self.plan.draft.steps:
            yield from self.plan.draft.places()
        if not all(map(_controls, self._parts.host)):
            yield "host"
        if self.rest is not None:
            yield from self.rest.places()

    def latest(self) -> list[Plan]:
        """Its plan, and those behind it that were used last."""
        behind = None if self.rest is None else self.rest.latest()
        return [self.plan] if behind is None else [self.plan, *behind.latest()]

    def free(self) -> None:
        """Gives back what it and the stages behind it hold on the device."""
        self.plan.free()
        if self.rest is not None:
            self.rest.free()


class Stages:
    """A graph's first stages, by the types that they are for and elements that decide shapes."""

    def __init__(
        self, shared: Shared, graph: Graph, typed: bool = False, caches: Sequence[Cache] = ()
    ) -> None:
        """`typed`: values always have the dtypes that the inputs say. `caches`: what may stay on
        the device with rows to spare."""
        self.shared = shared
        self.caches = caches
        self._graph = graph
        self.names = tuple(value.name for value in graph.inputs)
        self._untyped = () if typed else self.names
        self.by_value = value_inputs(graph)  # inputs whose elements decide shapes
        self._stages: dict[Key | Family, Stage] = {}
        self._families: list[Family] = []
        self.served: Family | None = None  # what the last stage that was found is for
        self._failed: dict[Key, int] = {}  # how often what could not be planned for many lengths
        self._before: dict[Any, Key] = {}  # the last one of a kind, which is its first place
        # What is better left on the device: all but what is a shape itself.
        self.reads = {name for name in self.names if not self.by_value.get(name)}

    def find(
        self, values: Mapping[str, Any], slots: bool, caches: Sequence[Cache] = ()
    ) -> Stage:
        """The stage for these values; made now when there is none yet.

        `slots`: Residents are fed or kept. `caches`: those that stay on the device.
        InvalidArgument when the values do not fit the graph.
        """
        key: Key = (slots, *[getattr(values[name], "shape", None) for name in self.names])
        laid: Mapping[str, Laid] = NOTHING
        if slots:
            laid = looked_at(values, caches)
            if laid or caches:
                shapes = dict(zip(self.names, key[1:], strict=True))
                shapes.update((name, (*shapes[name], lies)) for name, lies in laid.items())
                key = (frozenset([one.output for one in caches]), *shapes.values())
        if self._untyped:
            key = (*key, *[dtype_key(values[name]) for name in self._untyped])
        known: dict[str, Any] = {}
        if self.by_value:
            known = self.known(values)
            key = (*key, *map(value_key, known.values()))
        before, self._before[key[0]] = self._before.get(key[0], ()), key
        place: Key | Family = key
        stage = self._stages.pop(key, None)
        if stage is None:
            for family in reversed(self._families):
                if family.serves(key):
                    place, stage = family, self._stages.pop(family)
                    break
        if stage is None:
            self._make_room()
            infos = {}
            for name in self.names:
                info = info_of(values[name], known.get(name))
                if info is not None:
                    infos[name] = info
            growing = [one.output for one in caches]
            grown = self._family(before, key, infos, slots, (laid, growing))
            if grown is not None:
                place, stage = grown
            else:
                with sound(f"graph '{self._graph.name}'"):
                    parts = cut(self._graph, infos)
                    stage = Stage(self.shared, parts, slots, None, laid, growing)
        self._stages[place] = stage
        self.served = place if isinstance(place, Family) else None
        return stage

    def _make_room(self) -> None:
        while len(self._stages) >= PLANS:
            place = next(iter(self._stages))
            self._stages.pop(place).free()
            if isinstance(place, Family):
                self._families.remove(place)

    def _family(
        self,
        before: Key,
        key: Key,
        infos: Mapping[str, Info],
        slots: bool,
        lying: tuple[Mapping[str, Laid], Collection[str]],
    ) -> tuple[Family, Stage] | None:
        """A stage for all runs that differ from this one in a length that grows, if it does."""
        axes = growing_axes(before, key)
        if axes is None:
            return None
        shared = common(key, axes)
        failed = self._failed.get(shared, 0)
        if failed >= _TRIES:
            return None
        length = length_of(key, axes)
        growth = Growth(length, farthest(length, infos, lying[0]))
        first = 1 + len(self.names) + len(self._untyped)  # of the places of values
        grown = grown_infos(key, axes, infos, growth, self.names, first)
        stage: Stage | None = None
        try:
            stage = Stage(self.shared, cut(self._graph, grown), slots, growth, *lying)
            table = growth.table()
        except (TileworkError, *MALFORMED):
            growth.pin("planning has failed")  # the plan for this length alone says why
        if stage is None or growth.pinned:
            self._failed[shared] = failed + 1
            if stage is not None:
                stage.free()
            return None
        by_value = any(place >= first for place in axes)
        family = Family(axes, shared, growth, table, stage.plan, length, by_value)
        self._families.append(family)
        return family, stage

    def latest(self) -> Stage | None:
        """The one that was found last."""
        return self._stages[next(reversed(self._stages))] if self._stages else None

    def known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The elements that are part of what a stage is made for."""
        known = {}
        for name, direct in self.by_value.items():
            value = values[name]
            shape = getattr(value, "shape", None)
            if shape is None or value.dtype == object:
                continue
            # Shapes are made of integers.
            if direct or (count(shape) <= VALUE_LIMIT and integral(value)):
                known[name] = on_host(value)
        return known

    def places(self) -> Iterator[str]:
        """Where the stages that there are compute."""
        for stage in self._stages.values():
            yield from stage.places()

    def free(self) -> None:
        """Gives back what the stages hold on the device."""
        for stage in self._stages.values():
            stage.free()
        self._stages.clear()
        self._families.clear()


class Body:
    """A graph inside a node: a branch, or what a loop runs each turn."""

    def __init__(self, shared: Shared, graph: Graph) -> None:
        self.graph = graph
        self.stages = Stages(shared, graph)
        self._device = shared.device
        self._inputs = [value.name for value in graph.inputs]
        # What an output is but for its name: an input, as the condition of most loops, or another
        # output, as what is stacked of a state.
        self._sources = [value.name for value in graph.outputs]
        ends = {*self._inputs, *self._sources}
        same = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.op == "identity"}
        for index, name in enumerate(self._sources):
            while name not in self._inputs and same.get(name, "") in ends:
                name = same[name]
            self._sources[index] = name
        self._names = list(dict.fromkeys(n for n in self._sources if n not in self._inputs))

    def call(
        self,
        values: Sequence[Any],
        host: Collection[int],
        places: Mapping[int, Resident],
        watch: Watch,
    ) -> list[Any]:
        """The outputs; those whose numbers are in `host` as the host has them.

        Others may have been written to their place, if they have one.
        """
        if watch.stop is not None:
            watch.stop.check()  # a turn may submit nothing
        feeds = dict(zip(self._inputs, values, strict=True))
        read = {self._sources[index] for index in host}
        kept: dict[str, Resident | None] = dict.fromkeys(n for n in self._names if n not in read)
        for index, place in places.items():
            if self._sources[index] in kept:
                kept[self._sources[index]] = place
        found, _ = run_stages(self.stages, feeds, self._names, kept, self._device.imports, watch)
        found = {**found, **feeds}
        results = [found[name] for name in self._sources]
        return [on_host(one) if index in host else one for index, one in enumerate(results)]


def run_stages(
    stages: Stages,
    feeds: Mapping[str, Any],
    names: Sequence[str],
    kept: Mapping[str, Resident | None],
    slots: bool,
    watch: Watch = UNWATCHED,
) -> tuple[Values, set[str]]:
    """`run_with`, where every cache that may grow in place does, but for those whose sequences
    turn out to have several lengths: these are copied from then on."""
    caches = [one for one in stages.caches if kept.get(one.output, stages) is None]
    try:
        return run_with(stages, feeds, names, kept, slots, watch, caches)
    except InvalidIndex:
        sure = [one for one in caches if not one.checked]
        if len(sure) == len(caches):
            raise
    found = run_with(stages, feeds, names, kept, slots, watch, sure)
    stages.caches = [one for one in stages.caches if not one.checked]
    return found


def run_with(
    stages: Stages,
    feeds: Mapping[str, Any],
    names: Sequence[str],
    kept: Mapping[str, Resident | None],
    slots: bool,
    watch: Watch,
    caches: Sequence[Cache],
) -> tuple[Values, set[str]]:
    """The outputs `names`, and which of them nobody else has. What is `kept` may be on the device.

    `slots` and `caches` as for `Stages.find`, where nothing here asks for slots.
    """
    shared = stages.shared
    slots = slots or bool(kept) or any(isinstance(one, Resident) for one in feeds.values())
    if caches:
        feeds = on_shelves(shared.device, feeds, caches)
    stage = stages.find(feeds, slots, caches)
    if stage.whole:
        arena = shared.room(stage.plan)
        results = stage.plan.run(feeds, names, arena, kept, watch.stop, watch.recorder)
        return dict(zip(names, results, strict=True)), set(names)
    values, own = dict(feeds), set[str]()
    while True:
        own |= stage.run(values, names, kept, watch)
        if stage.rest is None:
            return values, own
        needed = {*stage.rest.names, *names}
        values = {name: value for name, value in values.items() if name in needed}
        try:
            stage = stage.rest.find(values, True)
        except InvalidArgument as error:
            raise RuntimeException(str(error)) from error


def on_host(value: Any) -> Any:
    """A value as the host has it."""
    return host_array(value) if isinstance(value, Resident) else value


def _controls(node: Node) -> bool:
    """Whether it runs graphs of its own: those runs are the stages' too, see `engine.control`."""
    return any(isinstance(value, Graph) for value in node.attrs.values())


def _words(parts: Cut) -> tuple[str, ...]:
    """What runs behind the plan."""
    lines = [f"on host {label(node)}" for node in parts.host]
    if parts.later is not None:
        lines.append(f"{len(parts.later.nodes)} nodes, planned when their shapes are known")
    return tuple(lines)
