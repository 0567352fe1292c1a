"""The case tables of all kernel families (see harness.py) on the bare engine, in both builds."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.bare_host import BUILDS, host
from tests.kernels.harness import KERNELS, Case, run_bare, tables
from tilework.hal.kernel import Kernel

pytestmark = pytest.mark.kernels
TABLES = tables()
# Families with test files of their own, and those whose kernels exist for tests of the HAL.
ELSEWHERE = {"gemm", "attention", "probe", "processor"}


def _id(case: Case) -> str:
    return case.title


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("case", [c for t in TABLES for c in t.cases], ids=_id)
def test_case(case: Case, build: str) -> None:
    run_bare(host(build), case)
    # whichever span lies last in memory, reading past it would trap
    for index, binding in enumerate(case.bindings):
        if binding is not None and index not in case.same:
            run_bare(host(build), case, seed=None, at_end=index)


DRAWN = {f"{t.family}-{name}": strategy for t in TABLES for name, strategy in t.drawn.items()}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", DRAWN)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_drawn(name: str, build: str, data: st.DataObject) -> None:
    case = data.draw(DRAWN[name])
    present = [i for i, b in enumerate(case.bindings) if b is not None and i not in case.same]
    run_bare(host(build), case, seed=data.draw(st.integers(0, 99)))
    run_bare(host(build), case, seed=None, at_end=data.draw(st.sampled_from(present)))


FAMILIES = {p.parent.name for p in KERNELS.glob("*/*.wit")}


@pytest.mark.parametrize("family", sorted(FAMILIES - ELSEWHERE))
def test_every_kernel_has_cases(family: str) -> None:
    module = importlib.import_module(f"tilework.hal.kernels.{family.replace('-', '_')}")
    kernels = {v.name for v in vars(module).values() if isinstance(v, Kernel)}
    tested = {c.kernel.name for t in TABLES for c in t.cases if c.status == 0}
    assert kernels <= tested, f"no case for {sorted(kernels - tested)} in kernels/{family}/cases.py"
