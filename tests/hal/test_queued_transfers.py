"""Fill, update, copy and indirect dispatch put on the queue by themselves, without a program."""

from __future__ import annotations

import random
import struct

import pytest

from tests.hal.queued import words, zeros
from tilework.core.errors import InvalidArgument, KernelFailure, TimedOut
from tilework.hal import Device
from tilework.hal.kernels.probe import TRACE, TraceParams

EDGE = b"\xee"
PATTERNS = {1: b"\xab", 2: b"\x12\x34", 4: b"\x12\x34\x56\x78"}
# Pattern's bytes, offset, length; the buffer goes on for 64 bytes after it.
FILLS = [
    *((width, 0, 1024) for width in (1, 2, 4)),
    (4, 256, 512),
    (4, 0, 256 << 10),
    *((1, offset, length) for offset in (0, 1, 3) for length in (1, 3, 5, 17, 255)),
    *((2, offset, length) for offset in (0, 1, 2, 6) for length in (2, 6, 34)),
    *((4, offset, length) for offset in (0, 2, 4, 12) for length in (4, 12, 36)),
]
LENGTHS = (1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 64, 255, 4096)
OFFSETS = ((0, 0), (16, 32), (8, 4), (1, 3))


@pytest.mark.parametrize(("width", "offset", "length"), FILLS)
def test_fill(device: Device, width: int, offset: int, length: int) -> None:
    with device.allocate(offset + length + 64) as buffer:
        buffer.write(EDGE * buffer.nbytes)
        device.queue.fill(buffer.subspan(offset, length), PATTERNS[width]).wait()
        filled = PATTERNS[width] * (length // width)
        assert buffer.read() == EDGE * offset + filled + EDGE * 64


def test_patterns_of_other_widths_are_refused(device: Device) -> None:
    with device.allocate(24) as buffer:
        for pattern in (b"", b"abc", b"abcdefgh"):
            with pytest.raises(InvalidArgument, match="1, 2 or 4 bytes"):
                device.queue.fill(buffer, pattern)
        with pytest.raises(InvalidArgument, match="no multiple"):
            device.queue.fill(buffer.subspan(0, 6), b"abcd")


@pytest.mark.parametrize(
    ("offset", "length", "at"),
    [
        (0, 1024, 0),
        (100, 200, 0),
        (0, 64, 37),
        (0, 131_109, 0),
        (1, 1, 0),
        (3, 2, 1),
        (5, 3, 2),
        (2, 13, 5),
        (7, 29, 3),
    ],
    ids=["whole", "range", "source offset", "large", "1", "2", "3", "13", "29"],
)
def test_update(device: Device, offset: int, length: int, at: int) -> None:
    data = random.Random(length).randbytes(at + length)
    with device.allocate(offset + length + 64) as buffer:
        buffer.write(EDGE * buffer.nbytes)
        source = memoryview(data)[at:]
        device.queue.update(buffer.subspan(offset, length), source).wait()
        assert buffer.read() == EDGE * offset + data[at:] + EDGE * 64


def test_an_update_takes_its_bytes_at_once(device: Device) -> None:
    start, done = device.semaphore(), device.semaphore()
    target, data = zeros(device), bytearray(b"\x05" * 32)
    device.queue.update(target, data, wait=(start, 1), signal=(done, 1))
    data[:] = b"\xff" * 32
    del data
    with pytest.raises(TimedOut):
        done.wait(1, 0.01)
    start.signal(1)
    done.wait(1)
    assert target.read() == b"\x05" * 32


@pytest.mark.parametrize(
    ("source", "target", "length"),
    [(0, 0, 1024), (64, 256, 500), (0, 0, 256 << 10)],
    ids=["whole", "offsets", "256 KiB"],
)
def test_copy(device: Device, source: int, target: int, length: int) -> None:
    check_copy(device, source, target, length)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("source", "target"), OFFSETS)
def test_copy_sizes_and_alignments(
    device: Device, source: int, target: int, length: int
) -> None:
    check_copy(device, source, target, length)


def test_a_large_copy(device: Device) -> None:
    check_copy(device, 3, 5, 1 << 20)


def check_copy(device: Device, source: int, target: int, length: int) -> None:
    """Exactly the range arrives; both sides are left."""
    data = random.Random(length).randbytes(length)
    with device.allocate(source + length) as a, device.allocate(target + length + 64) as b:
        a.write(data, source)
        b.write(EDGE * b.nbytes)
        device.queue.copy(a.subspan(source, length), b.subspan(target, length)).wait()
        assert b.read() == EDGE * target + data + EDGE * 64


# -- indirect dispatch -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["whole buffer", "subspan"])
@pytest.mark.parametrize("counts", [(5, 1, 1), (0, 1, 1), (8, 1, 1)], ids=["5", "none", "all"])
def test_dispatch_takes_its_counts_from_a_buffer(
    device: Device, place: str, counts: tuple[int, int, int]
) -> None:
    """They are read as late as can be: an update that the dispatch waits for has written them."""
    line, out, seen = device.semaphore(), zeros(device), zeros(device)
    whole = device.allocate(12 if place == "whole buffer" else 64)
    whole.write(b"\xff" * whole.nbytes)
    held = whole if place == "whole buffer" else whole.subspan(20, 12)
    start = device.semaphore()
    device.queue.dispatch(
        TRACE, (8, 1, 1), TraceParams(3), [out, seen],
        counts_from=held, wait=(line, 1), signal=(line, 2),
    )  # fmt: skip
    device.queue.update(held, struct.pack("<3I", *counts), wait=(start, 1), signal=(line, 1))
    start.signal(1)
    line.wait(2)
    assert words(out) == [3] * counts[0] + [0] * (8 - counts[0])


def test_counts_above_the_ceiling_fail_the_dispatch(device: Device) -> None:
    out, seen, done = zeros(device), zeros(device), device.semaphore()
    with device.allocate(12) as counts:
        counts.write(struct.pack("<3I", 9, 1, 1))
        device.queue.dispatch(
            TRACE, (8, 1, 1), TraceParams(3), [out, seen], counts_from=counts, signal=(done, 1)
        )
        with pytest.raises(KernelFailure, match="trace"):
            done.wait(1)
        assert words(out) == [0] * 8
