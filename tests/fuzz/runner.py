"""Gives mutated models to `InferenceSession` and says how each ended: on the desktop and in a page.

A model ends well with a result or with a typed error of tilework's. Anything else is a bug: another
exception, a kernel or a program that refuses what a lowering gave it, more time or memory than is
allowed, or device memory that is not given back.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

import tilework
from tests.conformance.runner import Pack
from tests.conformance.values import read_value
from tests.fuzz.mutate import mutate

# That a model may take: most take some milliseconds, the largest results that there may be (2 GiB,
# config.LARGEST_TENSOR) up to half a minute on a busy machine.
SECONDS = 60.0
# Elements and axes of an input that is made up; a scan takes a turn, 0.2 ms, for each element.
_LARGEST, _RANK = 1 << 15, 32
# The light models are real networks; those that take long even unmutated are left out.
_LIGHT = {"test_squeezenet", "test_shufflenet"}
_LIGHT_SHARE = 0.002
# Typed, but never a model's fault: a lowering has written a command that cannot be carried out.
_OURS = (tilework.KernelFailure, tilework.OutOfRange)
_TRACE = 1500  # characters of a bug's traceback


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one model ended. `bug`: what was wrong, "" when nothing; then with a traceback."""

    number: int
    base: str
    mutation: str
    end: str  # "result", or the error's class
    seconds: float
    bug: str = ""


@dataclass(frozen=True)
class Fuzzer:
    """Model number n of a seed is always the same."""

    pack: Pack
    seed: int
    threads: int = 2

    @cached_property
    def _bases(self) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        index = self.pack.index
        small = [case for case in index if case["suite"] != "light"]
        return small, [case for case in index if case["case"] in _LIGHT]

    @cached_property
    def _names(self) -> Sequence[bytes]:
        operators = {case["operator"].rpartition(".")[2] for case in self.pack.index}
        return [name.encode() for name in sorted(operators - {""})]

    def make(self, number: int) -> tuple[Mapping[str, Any], str, bytes]:
        """(the case that it was made of, what was done to its model, the model)."""
        draw = Random(f"{self.seed} {number}")
        small, light = self._bases
        case = draw.choice(light if draw.random() < _LIGHT_SHARE else small)
        return case, *mutate(bytes(self.pack.read(case["model"])), draw, self._names)

    def run(self, number: int) -> Outcome:
        """Loads and runs model `number`."""
        case, mutation, content = self.make(number)
        given = {}
        for name, kind, place in case["sets"][0]["inputs"]:
            try:
                given[name] = read_value(kind, self.pack.read(place), name)
            except tilework.NotImplemented:  # a dtype that there is not yet
                continue
        began = time.perf_counter()
        end, bug, kept = self._try(content, given)
        seconds = time.perf_counter() - began
        if not bug and seconds > SECONDS:
            bug = f"took {seconds:.0f} s"
        if not bug and kept:  # the first use of a kernel loads its module; the second one does not
            kept = self._try(content, given)[2]
            bug = f"keeps {kept} bytes of device memory each time" if kept else ""
        return Outcome(number, case["case"], mutation, end, seconds, bug)

    def _try(self, content: bytes, given: Mapping[str, Any]) -> tuple[str, str, int]:
        """(the end, the bug, bytes of device memory that are not given back)."""
        device = tilework.device(self.threads)
        before = device.memory.in_use
        end, bug = "result", ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._load_and_run(content, given)
        except Exception as error:  # noqa: BLE001 - the very thing that is looked for
            end = type(error).__name__
            ours = isinstance(error, _OURS) and not isinstance(error, tilework.InvalidIndex)
            if ours or not isinstance(error, tilework.TileworkError):
                bug = traceback.format_exc()[-_TRACE:]
        return end, bug, device.memory.in_use - before

    def _load_and_run(self, content: bytes, given: Mapping[str, Any]) -> None:
        options = tilework.SessionOptions(intra_op_num_threads=self.threads)
        with tilework.InferenceSession(content, options) as session:
            feeds = {arg.name: _fed(arg, given.get(arg.name)) for arg in session.get_inputs()}
            session.run(None, feeds)


_DTYPES = {"float": "float32", "double": "float64"}


def _fed(arg: Any, value: Any) -> Any:
    """The case's own value where it fits, else ones of the shape that is asked for."""
    shape = arg.shape
    fits = isinstance(value, np.ndarray) and len(value.shape) == len(shape)
    if fits and all(isinstance(n, str | None) or n == m for n, m in zip(shape, value.shape)):  # noqa: B905 - of one length
        return value
    made = tuple(n if isinstance(n, int) else 2 for n in shape)
    kind = str(arg.type).partition("(")[2].rstrip(")")
    size = 1
    for extent in made:
        size *= max(extent, 1)  # NumPy minds the others even where one is 0
    try:
        dtype = np.dtype(_DTYPES.get(kind, kind))
    except (TypeError, ValueError):  # strings, or a map of them
        return value
    return np.ones(made, dtype) if size <= _LARGEST and len(made) <= _RANK else value
