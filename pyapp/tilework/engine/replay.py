"""Replay: a run like the one before it, with all that was looked up then at hand.

A plan makes one for the outputs that were asked for; the session keeps it as long as nothing else
happens in between. Looks nothing up, plans nothing, checks only whether it is the one for what is
fed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilework.core.config import IN_PLACE
from tilework.engine.places import Places
from tilework.hal import Buffer, Device, Program
from tilework.ir.opdefs.registry import Array
from tilework.plan.tensor import Tensor

_BUILT_IN = "biuf"  # kinds of dtypes that a device and NumPy hold alike


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input or output lies, and what copies all of it there or from there."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    copy: Callable[[Array], object]


@dataclass(frozen=True, slots=True)
class Replay:
    """One program between arrays of known dtypes and shapes; see `replayable`."""

    names: list[str]
    device: Device
    program: Program
    slots: tuple[Buffer, ...]
    inputs: tuple[tuple[str, Place], ...]
    outputs: tuple[Place, ...]
    copied_in: int
    copied_out: int

    @staticmethod
    def of(places: Places, program: Program, names: tuple[str, ...]) -> Replay | None:
        """Of a plan that is one program, for these outputs; None where arrays are bound and not
        copied, or are of dtypes that the device and NumPy hold differently."""
        inputs, outputs = places.fed, [places.given[name] for name in names]
        for tensor in (*inputs.values(), *outputs):
            if tensor.storage.idle:
                continue
            bound = places.slots and tensor.nbytes >= IN_PLACE
            if bound or not replayable(np.dtype(tensor.dtype.numpy), tensor.size):
                return None

        def place(tensor: Tensor, fed: bool) -> Place:
            if tensor.storage.idle:  # whose dtype and shape are those of the run, no more
                return Place(np.dtype(tensor.dtype.numpy), tensor.shape, _nowhere)
            port = places.at_home(tensor).port()
            copy = port.write if fed else port.read_into
            return Place(np.dtype(tensor.dtype.numpy), tensor.shape, copy)

        slots = (places.arena, *places.spans.values()) if places.arena else ()
        return Replay(
            list(names),
            places.device,
            program,
            slots[: len(program.slot_extents)],
            tuple([(name, place(tensor, True)) for name, tensor in inputs.items()]),
            tuple([place(tensor, False) for tensor in outputs]),
            sum(tensor.nbytes for tensor in inputs.values() if not tensor.storage.idle),
            sum(tensor.nbytes for tensor in outputs),
        )

    def fits(self, names: object, feeds: object) -> bool:
        """Whether a run is the one that this repeats. Whoever gets a no checks it in full."""
        if names != self.names or type(feeds) is not dict or len(feeds) != len(self.inputs):
            return False
        for name, place in self.inputs:
            fed = feeds.get(name)
            # Two equal dtypes may be two objects: those go the long way.
            if type(fed) is not np.ndarray or fed.dtype is not place.dtype:
                return False
            if fed.shape != place.shape or not fed.flags.c_contiguous:
                return False
        return True

    def run(self, feeds: dict[str, Array]) -> list[Array]:
        """The outputs for `feeds` that fit. KernelFailure; it may be run again."""
        for name, place in self.inputs:
            place.copy(feeds[name])
        device = self.device
        device.heap.copied_in += self.copied_in
        device.submit(self.program, self.slots)
        results = []
        for place in self.outputs:
            result = np.empty(place.shape, place.dtype)
            place.copy(result)
            results.append(result)
        device.heap.copied_out += self.copied_out
        return results


def _nowhere(array: Array) -> None:
    """Copies what nobody reads."""


def replayable(dtype: np.dtype[Any], size: int) -> bool:
    """Whether arrays of it can be an input or output of a Replay: bytes that are all there is."""
    return dtype.kind in _BUILT_IN and size > 0
