"""The case tables through the whole HAL: modules loaded at run time, threads, failure records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from tests.kernels.bare_host import host
from tests.kernels.harness import OK, SCRATCH, Case, judge, tables
from tilework.core.errors import KernelFailure
from tilework.hal import Buffer, Device, open_device

pytestmark = pytest.mark.kernels
TABLES = tables()


@pytest.fixture(scope="module", params=["simd", "relaxed"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    host(request.param)  # skips where the engine does not take this build
    opened = open_device(threads=2, build=request.param)
    yield opened
    opened.close()


def _run(device: Device, case: Case) -> None:
    with ExitStack() as stack:
        buffers: list[Buffer | None] = []
        for index, binding in enumerate(case.bindings):
            if binding is None:
                buffers.append(None)
            elif index in case.same:
                buffers.append(buffers[case.same[index]])
            else:
                # nothing can be bound that has no bytes: a span of one word stands for it
                buffer = stack.enter_context(device.allocate(max(binding.nbytes, 4)))
                buffer.write(binding.view(np.uint8))
                buffers.append(buffer.subspan(0, binding.nbytes))
        commands = device.command_buffer(case.title)
        commands.dispatch(case.kernel, case.counts, case.params, buffers, scratch=case.scratch)
        program = commands.finish()
        stack.callback(program.free)
        if case.status != OK:
            with pytest.raises(KernelFailure) as caught:
                device.submit(program)
            assert caught.value.status == case.status
            assert caught.value.kernel == case.kernel.name
            return
        device.submit(program)
        results = [None if b is None else b.copy() for b in case.bindings]
        for buffer_, result in zip(buffers, results, strict=True):
            if buffer_ is not None and result is not None and result.nbytes:
                buffer_.read_into(result.view(np.uint8))
        judge(case, results)


@pytest.mark.parametrize("family", [t.family for t in TABLES])
def test_cases(device: Device, family: str) -> None:
    """All of a family's cases, one after the other on one device, failures among them."""
    (table,) = (t for t in TABLES if t.family == family)
    for case in table.cases:
        # A device gives a kernel all of its thread's scratch, which is more than too little.
        if 0 not in case.counts and case.status != SCRATCH:
            _run(device, case)
