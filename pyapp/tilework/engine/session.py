"""GraphSession: a graph on a device, planned for the shapes that it meets.

validate → plan (once for each set of shapes) → write, submit, read. Owns the constants, the arena
that all plans share, the plans, and whatever external data it was handed over. What it holds on the
device goes back with `close`, at the end of a `with`, or when the last reference is gone.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from tilework.core.config import PLANS
from tilework.core.errors import Fail
from tilework.core.scoped import Scoped
from tilework.engine.constants import ConstantStore
from tilework.engine.devices import turn_of
from tilework.engine.plan import Plan
from tilework.engine.recorder import Recorder
from tilework.engine.resident import Fed, Resident, host_array
from tilework.engine.stop import Stop
from tilework.hal import Buffer, Device
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import Array
from tilework.passes import pipeline
from tilework.plan.planner import make_draft
from tilework.plan.specialise import value_inputs

Key: TypeAlias = tuple[tuple[int, ...] | bytes | bool, ...]


class _Held:
    """What a session holds on the device; outlives the session's object until it is freed."""

    def __init__(
        self, store: ConstantStore, owned: Buffer | None, turn: threading.RLock
    ) -> None:
        self.turn = turn
        self.store = store
        self.owned = owned
        self.arena: Buffer | None = None
        self.plans: dict[Key, Plan] = {}

    def free(self) -> None:
        with self.turn:
            for plan in self.plans.values():
                plan.free()
            self.plans.clear()
            for buffer in (self.arena, self.owned):
                if buffer is not None:
                    buffer.free()
            self.arena = self.owned = None


class GraphSession(Scoped):
    """`external` holds the graph's external constants; with `owned` it is freed at the end."""

    def __init__(
        self, graph: Graph, device: Device, external: Buffer | None = None, owned: bool = False
    ) -> None:
        self.device = device
        self.graph, self.fired = pipeline.run(graph, pipeline.LOAD)
        self._names = tuple(value.name for value in self.graph.inputs)
        self._by_value = value_inputs(self.graph)
        store = ConstantStore(device, self.graph.constants, external)
        self._turn = turn_of(device)
        self._held = _Held(store, external if owned else None, self._turn)
        self._end = weakref.finalize(self, self._held.free)

    def plan(self, feeds: Mapping[str, Array]) -> Plan:
        """The plan for arrays of these shapes; made now when there is none yet."""
        with self._turn:
            return self._plan(feeds, self.device.imports)

    def latest(self) -> Plan | None:
        """The plan that was used last."""
        plans = self._held.plans
        return plans[next(reversed(plans))] if plans else None

    def _plan(self, feeds: Mapping[str, Fed], slots: bool) -> Plan:
        self._check_open()
        held = self._held
        # Where elements decide shapes, they are part of the key.
        key: Key = (slots, *[feeds[name].shape for name in self._names])
        known = {name: host_array(feeds[name]) for name in self._by_value}
        if known:
            key = (*key, *(array.tobytes() for array in known.values()))
        plan = held.plans.pop(key, None)
        if plan is None:
            shapes = {name: feeds[name].shape for name in self._names}
            known = {name: array.copy() for name, array in known.items()}
            draft = make_draft(self.graph, shapes, self.device.threads, known, in_place=slots)
            self._grow(draft.arena_bytes)  # the likeliest to fail comes first
            plan = Plan(self.device, draft, held.store, slots)
            while len(held.plans) >= PLANS:
                held.plans.pop(next(iter(held.plans))).free()
        held.plans[key] = plan
        self._grow(plan.arena_bytes)
        return plan

    def _grow(self, nbytes: int) -> None:
        held = self._held
        if held.arena is not None and held.arena.nbytes >= nbytes:
            return
        if held.arena is not None:
            held.arena.free()
            held.arena = None
        if nbytes:
            held.arena = self.device.allocate(nbytes, f"arena of {self.graph.name}")

    def run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        """The outputs `names` for `feeds`: every input, contiguous, of its dtype.

        One run at a time on a device; other threads wait. Errors leave the session usable.
        """
        with self._turn:
            plan = self._plan(feeds, self.device.imports)
            return cast("list[Array]", plan.run(feeds, names, self._held.arena))

    def run_resident(
        self,
        feeds: Mapping[str, Fed],
        names: Sequence[str],
        kept: Mapping[str, Resident | None],
        stop: Stop | None = None,
        recorder: Recorder | None = None,
    ) -> list[Fed]:
        """`run`, where feeds may be Residents of this device, and outputs in `kept` stay on it.

        Such an output is written to the Resident given there, or to a new one for None. What is
        fed may also be written: the run then ends with a copy on the device. `stop` ends the run
        with Cancelled, a `recorder` gets an event for each step.
        """
        resident = bool(kept) or any(isinstance(fed, Resident) for fed in feeds.values())
        with self._turn:
            plan = self._plan(feeds, resident or self.device.imports)
            return plan.run(feeds, names, self._held.arena, kept, stop, recorder)

    def places(self) -> frozenset[str]:
        """Where the plans that there are compute: "kernel", "host", or both."""
        with self._turn:
            plans = self._held.plans.values()
            return frozenset[str]().union(*(plan.draft.places() for plan in plans))

    def _check_open(self) -> None:
        if not self._end.alive:
            raise Fail(f"the session of '{self.graph.name}' is closed; make a new one")

    def close(self) -> None:
        """Gives all device memory back. A second call does nothing."""
        with self._turn:
            self._end()

    def _leave(self) -> None:
        self.close()
