"""Runs cases of the pack through `InferenceSession`: the same on the desktop and in a page.

A case passes when its model loads, runs and gives what the suite wants; whatever else happens is
its reason of failure. NumPy and tilework only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tilework
from tests.conformance.compare import difference
from tests.conformance.values import read_value

_WORDS = 600  # of a reason


@dataclass(frozen=True, slots=True)
class Pack:
    """tools/cases.py says what the index holds."""

    index: Sequence[Mapping[str, Any]]
    pieces: Sequence[bytes]

    def read(self, place: Sequence[int]) -> memoryview:
        piece, first, size = place
        return memoryview(self.pieces[piece])[first : first + size]


@dataclass(frozen=True, slots=True)
class Row:
    """A case's outcome. `where`: kernel, host or mixed, or "" when it never ran."""

    suite: str
    case: str
    status: str
    where: str
    reason: str


def run_cases(pack: Pack, numbers: Sequence[int], threads: int) -> Iterator[Row]:
    """The cases with these numbers, one after another."""
    for number in numbers:
        yield run_case(pack, pack.index[number], threads)


def run_case(pack: Pack, case: Mapping[str, Any], threads: int) -> Row:
    """One case."""
    where, reason = "", ""
    options = tilework.SessionOptions(intra_op_num_threads=threads)
    try:
        with tilework.InferenceSession(bytes(pack.read(case["model"])), options) as session:
            for one in case["sets"]:
                wanted = _values(pack, one["outputs"])
                found = session.run(None, _values(pack, one["inputs"]))
                where = session.where()
                reason = reason or _compared(case, wanted, found)
    except Exception as error:  # noqa: BLE001 - any error is the case's outcome
        reason = f"{type(error).__name__}: {error}"
    status = "failed" if reason else "passed"
    return Row(case["suite"], case["case"], status, where, reason[:_WORDS])


def _values(pack: Pack, items: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {name: read_value(kind, pack.read(place), name) for name, kind, place in items}


def _compared(case: Mapping[str, Any], wanted: Mapping[str, Any], found: Sequence[Any]) -> str:
    if len(wanted) != len(found):
        return f"expected {len(wanted)} outputs, got {len(found)}"
    for (name, value), result in zip(wanted.items(), found, strict=True):
        words = difference(value, result, case["rtol"], case["atol"], case["random"])
        if words:
            return f"output '{name}': {words}"
    return ""
