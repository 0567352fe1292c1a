"""Plan: a draft turned into programs, ready to be replayed by submission.

Owns its programs. Where everything lies is `places.py`; what a run has in places of its own,
`binding.py`; a run that repeats the last one, `replay.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tilework.core.growing import Growth, at, at_hand
from tilework.engine.binding import Binding
from tilework.engine.constants import ConstantStore, contiguous, run_on_host
from tilework.engine.places import Places
from tilework.engine.replay import Replay
from tilework.engine.resident import Fed, Resident
from tilework.hal import Buffer, Device, Program
from tilework.ir.narrow import plain
from tilework.plan.plan import Draft
from tilework.plan.record import record
from tilework.plan.settle import settle
from tilework.plan.step import Dispatch, HostStep, Step
from tilework.plan.tensor import Storage

if TYPE_CHECKING:
    from tilework.engine.recorder import Recorder
    from tilework.engine.stop import Stop


class Plan:
    """Made by the session for one set of shapes; `run` replays it."""

    def __init__(
        self,
        device: Device,
        draft: Draft,
        store: ConstantStore,
        slots: bool = False,
        growth: Growth | None = None,
    ) -> None:
        """With `slots` runs may be fed Residents and give them; the draft was made `in_place`.

        With `growth` the draft has numbers that grow, and `grow` sets them for other lengths.
        """
        self._drafted = draft
        self._draft: Draft | None = None  # for the length at hand
        self._grows = growth is not None
        self._value: Callable[[int], int] = at_hand
        self._device = device
        self._store = store
        self._segments: list[Program | HostStep] = []
        self._singles: dict[Step, Program] = {}  # programs of one dispatch, where that was measured
        self._replays: dict[tuple[str, ...], Replay | None] = {}  # by their outputs
        self._runs = 0  # since anything of that has moved
        self._constants: list[Storage] = []
        self._places: Places | None = None
        try:
            needed = draft.constants()
            store.retain(needed, draft.prologue)
            self._constants = needed
            places = self._places = Places(device, draft, store, slots)
            for part in draft.segments():
                if isinstance(part[0], HostStep):
                    self._segments.append(part[0])
                    continue
                steps = [step for step in part if isinstance(step, Dispatch)]
                program = record(device, steps, places.resolve, draft.name, growth)
                self._segments.append(program)
            places.settle(at_hand, growth)
        except BaseException:
            self.free()
            raise

    def __str__(self) -> str:
        return str(self.draft)

    @property
    def draft(self) -> Draft:
        """What was decided, in the numbers of the length at hand."""
        if self._draft is None:
            self._draft = settle(self._drafted, self._value) if self._grows else self._drafted
        return self._draft

    @property
    def arena_bytes(self) -> int:
        """What the arena must have, bytes."""
        return self._drafted.arena_bytes

    @property
    def places(self) -> Places:
        """Where everything lies, until the plan is freed."""
        assert self._places is not None
        return self._places

    def grow(self, values: Sequence[int], atoms: Sequence[int]) -> None:
        """Sets all that grows for another length: `values` of the growth's table, and its atoms."""
        for program in self._segments:
            assert isinstance(program, Program)  # with host steps there is no growth
            program.grow(values)
        for program in self._singles.values():
            program.free()
        self._singles.clear()
        self._draft, self._value = None, partial(at, atoms=atoms)
        self._moved()
        self.places.settle(self._value)

    def run(
        self,
        feeds: Mapping[str, Fed],
        names: Sequence[str],
        arena: Buffer | None,
        kept: Mapping[str, Resident | None] | None = None,
        stop: Stop | None = None,
        recorder: Recorder | None = None,
    ) -> list[Fed]:
        """Writes `feeds` (contiguous, of the planned shapes), runs, reads the outputs `names`.

        Outputs in `kept` stay on the device: in the Resident given there, or a new one for None.
        `stop` can end it (Cancelled); with a `recorder` each step is measured by itself.
        KernelFailure or RuntimeException names what failed; the plan may be run again.
        """
        places = self.places
        if arena is not places.arena:
            places.attach(arena)
            self._moved()
        places.look()
        self._runs += 1
        if kept or (places.slots and arena):
            with Binding(places, feeds, names, kept or {}) as binding:
                self._submit(binding.slots(), binding.lies, stop, recorder)
                return binding.finish()
        for name, tensor in places.inputs:
            fed = feeds[name]
            assert not isinstance(fed, Resident)  # a plan for those has slots
            places.at_home(tensor).write(contiguous(fed))
        self._submit((arena,) if arena else (), places.home, stop, recorder)
        results: list[Fed] = []
        for name in names:
            tensor = places.given[name]
            result = np.empty(tensor.shape, tensor.dtype.numpy)
            if result.size:
                places.at_home(tensor).read_into(plain(result))
            results.append(result)
        return results

    def replay(self, names: Sequence[str]) -> Replay | None:
        """What repeats the last run, which was for these outputs, or None.

        None for the first run of a kind, as making one takes as long as some runs do, and for what
        a Replay cannot do. It is for as long as nothing else happens to the plan or the session's
        arena.
        """
        if self._runs < 2:
            return None
        key = tuple(names)
        if key not in self._replays:
            program = self.whole
            self._replays[key] = None if program is None else Replay.of(self.places, program, key)
        return self._replays[key]

    @property
    def whole(self) -> Program | None:
        """The one program that is all of the plan, if it is one."""
        one = self._segments[0] if len(self._segments) == 1 else None
        return one if isinstance(one, Program) else None

    def _moved(self) -> None:
        self._replays.clear()
        self._runs = 0

    def _submit(
        self,
        slots: tuple[Buffer, ...],
        lies: Callable[[Storage], Buffer],
        stop: Stop | None,
        recorder: Recorder | None,
    ) -> None:
        if recorder is not None:
            for step in self.draft.steps:
                if stop is not None:
                    stop.check()
                recorder.time(self._device, step, self._alone(step, slots, lies))
            return
        for segment in self._segments:
            if isinstance(segment, HostStep):
                if stop is not None:
                    stop.check()
                run_on_host(segment, lies)
            elif stop is not None:
                stop.submit(self._device, segment, slots[: len(segment.slot_extents)])
            else:
                self._device.submit(segment, slots[: len(segment.slot_extents)])

    def _alone(
        self, step: Step, slots: tuple[Buffer, ...], lies: Callable[[Storage], Buffer]
    ) -> Callable[[], None]:
        """What runs one step by itself, in order to be measured."""
        if isinstance(step, HostStep):
            return partial(run_on_host, step, lies)
        program = self._singles.get(step)
        if program is None:
            program = record(self._device, [step], self.places.resolve, self.draft.name)
            self._singles[step] = program
        return partial(self._device.submit, program, slots[: len(program.slot_extents)])

    def free(self) -> None:
        """Gives back what the plan holds on the device."""
        for segment in self._segments:
            if isinstance(segment, Program):
                segment.free()
        self._segments.clear()
        for program in self._singles.values():
            program.free()
        self._singles.clear()
        if self._places is not None:
            self._places.free()
        self._store.release(self._constants)
        self._constants = []
        self._moved()
