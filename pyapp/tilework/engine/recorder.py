"""Recorder: what a run's steps took, one event a step.

With a recorder each dispatch is a submission of its own, so a run is slower and nothing runs side
by side; what is measured is each kernel by itself. Runs without one know nothing of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tilework.hal import Device
from tilework.plan.step import Dispatch, HostStep, Step


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a run. Times are `time.perf_counter_ns`'s.

    `label` is what the model calls the node, `kernel` what computed it ("" for the host),
    `tiles` how many tiles each thread ran, `nbytes` the bytes that its operands span.
    """

    label: str
    kernel: str
    began: int
    ended: int
    tiles: tuple[int, ...] = ()
    nbytes: int = 0
    shapes: str = ""


@dataclass(slots=True)
class Recorder:
    """Collects events in the order in which they happened."""

    events: list[Event] = field(default_factory=list)

    def time(self, device: Device, step: Step, run: Callable[[], None]) -> None:
        """Runs the step and enters its event."""
        before = device.tiles_run
        began = time.perf_counter_ns()
        run()
        ended = time.perf_counter_ns()
        after = device.tiles_run
        tiles = tuple(
            (late - early) & 0xFFFFFFFF for early, late in zip(before, after, strict=True)
        )
        self.events.append(_event(step, began, ended, tiles))


def _event(step: Step, began: int, ended: int, tiles: tuple[int, ...]) -> Event:
    if isinstance(step, HostStep):
        tensors = [one for one in (*step.inputs, *step.outputs) if one is not None]
        nbytes = sum(tensor.nbytes for tensor in tensors)
        shapes = ", ".join(str(tensor) for tensor in tensors)
        return Event(step.label, "", began, ended, (), nbytes, shapes)
    assert isinstance(step, Dispatch)
    nbytes = sum(span.nbytes for span in step.bindings if span is not None)
    counts = "×".join(map(str, step.counts))
    return Event(step.label, step.kernel.name, began, ended, tiles, nbytes, f"{counts} tiles")
