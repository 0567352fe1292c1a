"""GraphSession: a graph on a device, planned for the shapes that it meets.

validate → stages (planned once for each set of shapes) → write, submit, read. Owns the constants,
the arena that all plans share, the plans, and whatever external data it was handed over. What it
holds on the device goes back with `close`, at the end of a `with`, or when the last reference is
gone.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tilework.core.errors import Fail, InvalidArgument, InvalidIndex
from tilework.core.scoped import Scoped
from tilework.engine.chain import Chain
from tilework.engine.constants import ConstantStore
from tilework.engine.devices import turn_of
from tilework.engine.growing import Family
from tilework.engine.plan import Plan
from tilework.engine.replay import Replay
from tilework.engine.resident import Resident, copy_on_device
from tilework.engine.sound import sound
from tilework.engine.stages import UNWATCHED, Shared, Stages, Watch, on_host, run_stages
from tilework.hal import Buffer, Device
from tilework.ir.graph import Graph
from tilework.ir.nested import with_own_constants
from tilework.passes import pipeline
from tilework.plan.caches import find_caches

if TYPE_CHECKING:
    from tilework.engine.recorder import Recorder
    from tilework.engine.stop import Stop


class _Held:
    """What a session holds on the device; outlives the session's object until it is freed."""

    def __init__(
        self, shared: Shared, stages: Stages, owned: Buffer | None, turn: threading.RLock
    ) -> None:
        self.turn = turn
        self.shared = shared
        self.stages = stages
        self.owned = owned

    def free(self) -> None:
        with self.turn:
            self.stages.free()
            self.shared.free()
            if self.owned is not None:
                self.owned.free()
            self.owned = None


class GraphSession(Scoped):
    """`external` holds the graph's external constants; with `owned` it is freed at the end."""

    def __init__(
        self, graph: Graph, device: Device, external: Buffer | None = None, owned: bool = False
    ) -> None:
        self.device = device
        with sound(f"graph '{graph.name}'"):
            loaded, self.fired = pipeline.run(graph, pipeline.LOAD)
        self.graph, constants = with_own_constants(loaded)
        shared = Shared(device, graph.name, constants, ConstantStore(device, constants, external))
        self._stages = Stages(shared, self.graph, typed=True, caches=find_caches(self.graph))
        self._turn = turn_of(device)
        self._replay: Replay | None = None  # of the last run, if that is all that has happened
        self._chain: Chain | None = None  # that goes on from it
        self._served: Family | None = None  # by it
        self._held = _Held(shared, self._stages, external if owned else None, self._turn)
        self._end = weakref.finalize(self, self._held.free)

    def plan(self, feeds: Mapping[str, Any]) -> Plan:
        """The plan for arrays of these shapes; made now when there is none yet.

        Where sizes hang on data it is the plan of what comes before.
        """
        with self._turn:
            self._check_open()
            self._forget()
            return self._stages.find(feeds, self.device.imports).plan

    def latest(self) -> list[Plan]:
        """The plans that were used last: of the graph's stages in order, then of those inside
        its nodes."""
        bodies = self._held.shared.bodies.values()
        first = [self._stages.latest(), *(body.stages.latest() for body in bodies)]
        return [plan for stage in first if stage is not None for plan in stage.latest()]

    def run(self, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
        """The outputs `names` for `feeds`: every input, contiguous, of its dtype.

        Sequences are lists of arrays, optionals None or what they hold. One run at a time on a
        device; other threads wait. Errors leave the session usable.
        """
        with self._turn:
            self._check_open()
            self._forget()
            stage = self._stages.find(feeds, self.device.imports)
            if not stage.whole:
                return self._run(feeds, names, {}, UNWATCHED)
            results = stage.plan.run(feeds, names, self._held.shared.room(stage.plan))
            if not self._stages.by_value:
                self._replay = stage.plan.replay(names)
            return results

    def again(self, names: Sequence[str], feeds: object) -> list[Any] | None:
        """`run`, if that is just what the last one was: `names` as then, and a dict with arrays of
        the same dtypes and shapes. None when it is not, or when not all is at hand."""
        with self._turn:
            replay = self._replay
            if replay is None or not replay.fits(names, feeds):
                return None
            return replay.run(cast("dict[str, Any]", feeds))

    def next(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Resident] | None:
        """`run_resident` with all outputs kept, if that goes on from the last one: the caches that
        it gave, and all else as then. None when it does not, or when not all is at hand."""
        with self._turn:
            chain, self._chain = self._chain, None
            try:
                results = None if chain is None else chain.run(names, feeds)
            except InvalidIndex:  # which may be lengths that the long way gets along with
                results = None
            if results is not None:
                self._chain = chain
            return results

    def _forget(self) -> None:
        """Something else happens than to go on as before."""
        self._replay = self._chain = None

    def _go_on(
        self, names: Sequence[str], feeds: Mapping[str, Any], results: Sequence[Any]
    ) -> None:
        """Makes what the next run may go on with; from the second run of a family on, since it
        takes as long as some runs do."""
        family, before = self._stages.served, self._served
        self._served = family
        if family is not None and family is before:
            known = self._stages.known(feeds)
            self._chain = Chain.after(family, known, names, feeds, results)

    def run_resident(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        kept: Mapping[str, Resident | None],
        stop: Stop | None = None,
        recorder: Recorder | None = None,
    ) -> list[Any]:
        """`run`, where feeds may be Residents of this device, and outputs in `kept` stay on it.

        Such an output is written to the Resident given there, or to a new one for None. What is
        fed may also be written: the run then ends with a copy on the device. `stop` ends the run
        with Cancelled, a `recorder` gets an event for each step.
        """
        return self._run(feeds, names, kept, Watch(stop, recorder))

    def _run(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        kept: Mapping[str, Resident | None],
        watch: Watch,
    ) -> list[Any]:
        with self._turn:
            self._check_open()
            self._forget()
            values, own = run_stages(self._stages, feeds, names, kept, self.device.imports, watch)
            results = [values[name] for name in names]
            if len(own) < len(set(names)):
                for index, name in enumerate(names):
                    if name in kept:
                        results[index] = self._left(name, results[index], kept[name], feeds)
                    elif name not in own:
                        results[index] = _copied(results[index])
            elif watch == UNWATCHED and not any(kept.get(name, self) for name in names):
                self._go_on(names, feeds, results)
            return results

    def _left(
        self, name: str, value: Any, target: Resident | None, feeds: Mapping[str, Any]
    ) -> Any:
        """An output of several stages where it shall be on the device, if that can hold it."""
        if value is None or isinstance(value, list) or value.dtype == object:
            if target is not None:
                raise InvalidArgument(f"output '{name}' is no tensor that a device can hold")
            return _copied(value)
        if not isinstance(value, Resident):
            if target is None:
                return Resident.of(self.device, value, name)
            target.write(value)
            return target
        if target is None:
            value.shared |= any(value is fed for fed in feeds.values())
            return value
        if (target.dtype, target.shape) != (value.dtype, value.shape):
            raise InvalidArgument(
                f"output '{name}' is {value.dtype}{list(value.shape)}, and is to be written to a "
                f"tensor of {target.dtype}{list(target.shape)}"
            )
        value, size = value.apart(), value.nbytes
        pair = (value.buffer.subspan(0, size), target.buffer.subspan(0, size))
        copy_on_device(self.device, [pair] if size else [])
        return target

    def places(self) -> frozenset[str]:
        """Where the plans that there are compute: "kernel", "host", or both."""
        with self._turn:
            bodies = self._held.shared.bodies.values()
            inner = (place for body in bodies for place in body.stages.places())
            return frozenset((*self._stages.places(), *inner))

    def _check_open(self) -> None:
        if not self._end.alive:
            raise Fail(f"the session of '{self.graph.name}' is closed; make a new one")

    def close(self) -> None:
        """Gives all device memory back. A second call does nothing."""
        with self._turn:
            self._forget()
            self._end()

    def _leave(self) -> None:
        self.close()


def _copied(value: Any) -> Any:
    """What the host gets of a value that the model, the caller or another output may have too."""
    if isinstance(value, list):
        return [_copied(one) for one in value]
    if isinstance(value, np.ndarray):
        return np.array(value)
    return on_host(value)
