"""Case tables of kernels: what a case is, how it is run and how its results are judged.

A family's cases live beside its kernels in `kernels/<family>/cases.py`, which defines

    CASES: list[Case]                                # fixed ones
    DRAWN: dict[str, SearchStrategy[Case]]           # hypothesis makes more (optional)

`test_cases.py` collects every such file, so a new kernel is tested by a new row there and no test
file changes. Cases are plain data: the same table runs on the bare engine (guards around every
span, each span once at the very end of memory) and through the whole HAL.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from tests.kernels.bare_host import Host
from tilework.hal.kernel import Kernel

Array = NDArray[Any]
KERNELS = Path(__file__).resolve().parents[2] / "kernels"
OK, INVALID_PARAMS, TOO_SHORT, SCRATCH, OUT_OF_RANGE = range(5)  # tw_status


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|result - expected| <= ulp units in the last place of `expected` + absolute."""

    ulp: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True)
class Case:
    """One dispatch and what must come of it.

    `bindings` are in the kernel's order, 1-D, None where absent; those that the kernel writes hold
    what is there before. `same` maps a binding to the one whose memory it shares (in place).
    `expected` maps a binding's number to its contents afterwards, float64 where rounding is
    allowed for; it is looked at only when `status` is 0.
    """

    kernel: Kernel
    counts: tuple[int, int, int]
    params: Any
    bindings: Sequence[Array | None]
    expected: Mapping[int, Array] = field(default_factory=dict)
    tolerance: Tolerance = Tolerance()
    status: int = OK
    same: Mapping[int, int] = field(default_factory=dict)
    scratch: int = 0
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.kernel.name}-{self.note}".replace(" ", "_")


@dataclass(frozen=True)
class Table:
    """One family's cases."""

    family: str
    cases: Sequence[Case] = field(repr=False)
    drawn: Mapping[str, SearchStrategy[Case]] = field(repr=False)


def tables() -> list[Table]:
    """Every family's cases, in the order of their names."""
    found = []
    for path in sorted(KERNELS.glob("*/cases.py")):
        name = f"kernel_cases_{path.parent.name}"
        module = sys.modules.get(name)
        if module is None:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        found.append(Table(path.parent.name, module.CASES, getattr(module, "DRAWN", {})))
    return found


def up(total: int, each: int) -> int:
    """Tiles of `each` that cover `total`."""
    return -(-total // each)


def refused(
    case: Case,
    status: int = INVALID_PARAMS,
    note: str = "",
    scratch: int | None = None,
    **changes: Any,
) -> Case:
    """The case with changed parameters or scratch, which the kernel must refuse."""
    return replace(
        case,
        counts=(1, 1, 1),
        params=case.params._replace(**changes),
        scratch=case.scratch if scratch is None else scratch,
        status=status,
        note=note or f"{case.note} {changes} {'' if scratch is None else scratch}".strip(),
    )


def short(case: Case, *which: int) -> list[Case]:
    """The case with one binding at a time an element too short; all of them, unless told."""
    made = []
    for cut, binding in enumerate(case.bindings):
        if binding is None or (which and cut not in which):
            continue
        bindings = [*case.bindings[:cut], binding[:-1], *case.bindings[cut + 1 :]]
        note = f"{case.note}, binding {cut} too short"
        made.append(replace(case, bindings=bindings, status=TOO_SHORT, same={}, note=note))
    return made


def run_bare(host: Host, case: Case, seed: int | None = 0, at_end: int | None = None) -> None:
    """Run `case` on the bare engine; binding `at_end` lies at the very end of memory."""
    results = [None if b is None else b.copy() for b in case.bindings]
    status = host.run(
        case.kernel, case.counts, case.params, results,
        scratch=case.scratch, shuffle=seed, at_end=at_end, same=case.same,
    )  # fmt: skip
    assert status == case.status, f"{case.title}: status {status}, expected {case.status}"
    if status == OK:
        judge(case, results)


def judge(case: Case, results: Sequence[Array | None]) -> None:
    """AssertionError unless `results`, one for each binding, are what `case` expects."""
    for index, expected in case.expected.items():
        result = results[index]
        assert result is not None
        what = f"{case.title}: {case.kernel.bindings[index].name}"
        compare(result, expected, case.tolerance, what)
    shared = {case.same.get(i, i) for i in case.expected}
    for index, before in enumerate(case.bindings):
        if index in case.expected or case.same.get(index, index) in shared or before is None:
            continue
        result = results[index]
        assert result is not None
        same = result.view(np.uint8) == before.view(np.uint8)
        assert same.all(), f"{case.title}: {case.kernel.bindings[index].name} was changed"


def compare(result: Array, expected: Array, tolerance: Tolerance, what: str) -> None:
    """NaN equals NaN, infinities equal themselves, the rest within `tolerance`."""
    assert result.shape == expected.shape, f"{what}: {result.shape}, expected {expected.shape}"
    if result.dtype.kind != "f":
        wrong = np.flatnonzero(result != expected)
        assert not wrong.size, f"{what}: {_few(wrong, result, expected)}"
        return
    with np.errstate(all="ignore"):
        rounded = expected.astype(result.dtype)
        error = np.abs(result.astype(np.float64) - expected)
        allowed = tolerance.ulp * np.spacing(np.abs(rounded)).astype(np.float64)
        good = error <= allowed + tolerance.absolute
    good |= result == rounded
    good |= np.isnan(result) & np.isnan(expected)
    wrong = np.flatnonzero(~good)
    assert not wrong.size, f"{what}: {_few(wrong, result, expected)}"


def ulps(result: Array, expected: Array) -> Array:
    """Errors in units of the last place of float32; inf where one is NaN or infinite alone."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
        errors = np.abs(result.astype(np.float64) - expected) / np.spacing(np.abs(rounded))
    same = (result == rounded) | (np.isnan(result) & np.isnan(rounded))
    return np.where(same & ~np.isfinite(rounded), 0.0, np.where(np.isnan(errors), np.inf, errors))


def _few(wrong: Array, result: Array, expected: Array) -> str:
    rows = [f"[{i}] {result[i]!r}, expected {expected[i]!r}" for i in wrong[:5]]
    return f"{wrong.size} of {result.size} differ: " + "; ".join(rows)
