"""Takes the place of tests/kernels/bare_host.py in the page, where there is no wasmtime.

The same kernels run through all of the HAL instead: command buffer, processor, workers. Each call
runs once for each number of threads, with guards around every binding, and the results must be
the same bits. The order of tiles is the threads' own, and nothing can be put where memory ends.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilework.core.errors import KernelFailure
from tilework.hal import Device, open_device
from tilework.hal._abi import THREAD_SCRATCH_LENGTH

Array = NDArray[Any]
BUILDS = ("simd", "relaxed")  # what an engine takes is a beginning of this
_GUARD = 256
_ALIGNMENT = 64
_NAN = 0x7FC0_1234
_hosts: dict[str, Host] = {}


@dataclass(frozen=True, slots=True)
class Host:
    """One build's kernels on every number of threads."""

    devices: Sequence[Device]

    def run(
        self,
        kernel: Any,
        counts: tuple[int, int, int],
        params: Any,
        arrays: Sequence[Array | None],
        scratch: int = 0,
        shuffle: int | None = 0,
        at_end: int | None = None,
        same: Mapping[int, int] | None = None,
    ) -> int:
        """As the desktop's Host.run, but for `shuffle` and `at_end`, which mean nothing here."""
        del shuffle, at_end
        image, spans = _layout(arrays, same or {})
        outcomes = [_run(d, kernel, counts, params, image, spans, scratch) for d in self.devices]
        status, after = outcomes[0]
        for device, other in zip(self.devices, outcomes, strict=True):
            assert other[0] == status, f"{kernel.name}: {other[0]}, {device.threads} threads"
            if status == 0:
                assert (other[1] == after).all(), f"{kernel.name}: other bits with more threads"
        inside = np.zeros(image.size, bool)
        for at, length in filter(None, spans):
            inside[at : at + length] = True
        assert (after[~inside] == image[~inside]).all(), f"{kernel.name} left its spans"
        for array, span in zip(arrays, spans, strict=True):
            if array is not None and span is not None:
                array.view(np.uint8)[:] = after[span[0] : span[0] + span[1]]
        return status


Spans = list[tuple[int, int] | None]


def _layout(arrays: Sequence[Array | None], same: Mapping[int, int]) -> tuple[Array, Spans]:
    """All bindings in one image, guards of NaN between them; each binding's offset and length."""
    spans: Spans = []
    top = _GUARD
    for index, array in enumerate(arrays):
        if array is None:
            spans.append(None)
        elif index in same:
            first = spans[same[index]]
            assert first is not None
            spans.append((first[0], array.nbytes))
        else:
            spans.append((top, array.nbytes))
            top = -(-(top + array.nbytes + _GUARD) // _ALIGNMENT) * _ALIGNMENT
    image = np.full(top // 4, _NAN, np.uint32).view(np.uint8)
    for index, (array, span) in enumerate(zip(arrays, spans, strict=True)):
        if array is not None and span is not None and index not in same:
            image[span[0] : span[0] + span[1]] = array.view(np.uint8)
    return image, spans


def _run(
    device: Device,
    kernel: Any,
    counts: tuple[int, int, int],
    params: Any,
    image: Array,
    spans: Spans,
    scratch: int,
) -> tuple[int, Array]:
    """The status, and the image as the kernel left it."""
    after = np.empty_like(image)
    # A kernel may use all of its thread's scratch; what it makes of too little is tested as well.
    for thread in device._threads:
        thread.write(struct.pack("<I", scratch), THREAD_SCRATCH_LENGTH)
    with device.allocate(image.size, "image") as whole:
        whole.write(image)
        commands = device.command_buffer(kernel.name)
        bindings = [None if span is None else whole.subspan(*span) for span in spans]
        commands.dispatch(kernel, counts, params.pack(), bindings, scratch=scratch)
        program = commands.finish()
        try:
            device.submit(program)
            status = 0
        except KernelFailure as failure:
            status = failure.status
        finally:
            program.free()
        whole.read_into(after)
    return status, after


async def open_hosts(threads: Sequence[int]) -> None:
    """For the runner, before the tests: a device of each build and number of threads."""
    best = open_device(1)
    for build in BUILDS[: BUILDS.index(best.build) + 1]:
        devices = [open_device(n, build=build) for n in threads]
        for device in devices:
            assert await device.ready(), f"{device.ready_threads} of {device.threads} threads"
        _hosts[build] = Host(devices)
    best.close()


def host(build: str) -> Host:
    """The one host of a build; skips the test where the engine does not take such modules."""
    if build not in _hosts:
        pytest.skip("this engine has no relaxed SIMD, so tilework chooses the simd build in it")
    return _hosts[build]


def deterministic() -> Host:
    """Skips the test: a browser's engine cannot be told what relaxed instructions are to be."""
    pytest.skip("only the desktop's engine can be told to compute as the deterministic profile")
