"""GraphSession: a graph on a device, planned for the shapes that it meets.

validate → plan (once for each set of shapes) → write, submit, read. Owns the constants, the arena
that all plans share, the plans, and whatever external data it was handed over. What it holds on the
device goes back with `close`, at the end of a `with`, or when the last reference is gone.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType

from tilework.core.errors import Fail
from tilework.engine.constants import ConstantStore
from tilework.engine.plan import Plan
from tilework.hal import Buffer, Device
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import Array
from tilework.passes import pipeline
from tilework.plan.planner import make_draft

PLANS = 64  # kept; the one used longest ago goes first

Shapes = tuple[tuple[int, ...], ...]


class _Held:
    """What a session holds on the device; outlives the session's object until it is freed."""

    def __init__(self, store: ConstantStore, owned: Buffer | None) -> None:
        self.store = store
        self.owned = owned
        self.arena: Buffer | None = None
        self.plans: dict[Shapes, Plan] = {}

    def free(self) -> None:
        for plan in self.plans.values():
            plan.free()
        self.plans.clear()
        self.store.free()
        for buffer in (self.arena, self.owned):
            if buffer is not None:
                buffer.free()
        self.arena = self.owned = None


class GraphSession:
    """`external` holds the graph's external constants; with `owned` it is freed at the end."""

    def __init__(
        self, graph: Graph, device: Device, external: Buffer | None = None, owned: bool = False
    ) -> None:
        self.device = device
        self.graph, self.fired = pipeline.run(graph, pipeline.LOAD)
        self._names = tuple(value.name for value in self.graph.inputs)
        store = ConstantStore(device, self.graph.constants, external)
        self._held = _Held(store, external if owned else None)
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, self._held.free)

    def plan(self, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
        """The plan for these input shapes; made now when there is none yet."""
        with self._lock:
            return self._plan(tuple(shapes[name] for name in self._names))

    def _plan(self, key: Shapes) -> Plan:
        self._check_open()
        held = self._held
        plan = held.plans.pop(key, None)
        if plan is None:
            shapes = dict(zip(self._names, key, strict=True))
            draft = make_draft(self.graph, shapes, self.device.threads)
            plan = Plan(self.device, draft, held.store)
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

    def run(self, feeds: dict[str, Array], names: Sequence[str]) -> list[Array]:
        """The outputs `names` for `feeds`: every input, contiguous, of its dtype.

        One run at a time; other threads wait. Errors leave the session usable.
        """
        with self._lock:
            plan = self._plan(tuple([feeds[name].shape for name in self._names]))
            return plan.run(feeds, names, self._held.arena)

    def _check_open(self) -> None:
        if not self._end.alive:
            raise Fail(f"the session of '{self.graph.name}' is closed; make a new one")

    def close(self) -> None:
        """Gives all device memory back. A second call does nothing."""
        with self._lock:
            self._end()

    def __enter__(self) -> GraphSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
