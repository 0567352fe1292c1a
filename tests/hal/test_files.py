"""Reads and writes on the queue: files and Python's own bytes."""

from __future__ import annotations

import gc
import io
import random
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hal.queued import zeros
from tilework.core.errors import Fail, InvalidArgument, OutOfRange
from tilework.hal import Device

KINDS = ["bytearray", "file", "BytesIO"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    files: list[Any] = []
    yield files
    for file in files:
        file.close()


def make(kind: str, content: bytes, opened: list[Any]) -> Any:
    """A place to read from and write to."""
    if kind == "bytearray":
        return bytearray(content)
    file = tempfile.TemporaryFile() if kind == "file" else io.BytesIO()  # noqa: SIM115
    file.write(content)
    opened.append(file)
    return file


def content(file: Any) -> bytes:
    if isinstance(file, bytearray):
        return bytes(file)
    file.seek(0)
    return bytes(file.read())


@pytest.mark.parametrize("case", ["whole", "range"])
def test_read(device: Device, kind: str, case: str, opened: list[Any]) -> None:
    data = bytes(range(64))
    file = make(kind, data, opened)
    start, done = device.semaphore(), device.semaphore()
    target = zeros(device, 16)
    if case == "whole":
        device.queue.read(file, 0, target, wait=(start, 1), signal=(done, 1))
    else:
        device.queue.read(file, 5, target.subspan(9, 20), wait=(start, 1), signal=(done, 1))
    assert target.read() == bytes(64)
    start.signal(1)
    done.wait(1)
    expected = data if case == "whole" else bytes(9) + data[5:25] + bytes(35)
    assert target.read() == expected


@pytest.mark.parametrize("case", ["whole", "range"])
def test_write(device: Device, kind: str, case: str, opened: list[Any]) -> None:
    data = bytes(range(64))
    file = make(kind, b"\xee" * 64, opened)
    start, done = device.semaphore(), device.semaphore()
    source = device.allocate(64)
    source.write(data)
    if case == "whole":
        device.queue.write(source, file, 0, wait=(start, 1), signal=(done, 1))
    else:
        device.queue.write(source.subspan(9, 20), file, 5, wait=(start, 1), signal=(done, 1))
    assert content(file) == b"\xee" * 64
    start.signal(1)
    done.wait(1)
    expected = data if case == "whole" else b"\xee" * 5 + data[9:29] + b"\xee" * 39
    assert content(file) == expected


@pytest.mark.parametrize(
    "nbytes", [64, (256 << 10) + 31, (3 << 20) + 7], ids=["small", "large", "pieces"]
)
def test_write_then_read(device: Device, kind: str, nbytes: int, opened: list[Any]) -> None:
    """fill → write → read → copy, chained by semaphores; the host only waits for the last."""
    data = random.Random(nbytes).randbytes(nbytes)
    file = make(kind, bytes(nbytes + 3), opened)
    line = device.semaphore()
    queue = device.queue
    with device.allocate(nbytes) as a, device.allocate(nbytes) as b, device.allocate(nbytes) as c:
        queue.update(a, data, signal=(line, 1))
        queue.copy(b, c, wait=(line, 3), signal=(line, 4))
        queue.read(file, 3, b, wait=(line, 2), signal=(line, 3))
        queue.write(a, file, 3, wait=(line, 1), signal=(line, 2))
        line.wait(4)
        assert c.read() == data
        assert content(file) == bytes(3) + data


def test_a_file_that_is_too_short(device: Device) -> None:
    target, done = zeros(device, 16), device.semaphore()
    device.queue.read(io.BytesIO(bytes(40)), 8, target, signal=(done, 1))
    with pytest.raises(Fail, match="the file ended after 40 bytes, 72 are needed"):
        done.wait(1)
    with pytest.raises(OutOfRange, match="64 bytes at 8 leave a file of 40"):
        device.queue.read(bytes(40), 8, target)
    with pytest.raises(OutOfRange):
        device.queue.write(target, bytearray(63), 0)
    with pytest.raises(OutOfRange, match="no byte -1"):
        device.queue.read(io.BytesIO(bytes(100)), -1, target)


def test_a_file_s_own_error_is_the_failure(device: Device) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError("the disk is gone")

    done = device.semaphore()
    device.queue.read(Broken(bytes(100)), 0, zeros(device), signal=(done, 1))
    with pytest.raises(OSError, match="the disk is gone"):
        done.wait(1)


def test_what_is_no_file_is_refused(device: Device) -> None:
    target = zeros(device)
    before = device.statistics.spans
    with pytest.raises(InvalidArgument, match="open files in binary mode"):
        device.queue.read(io.StringIO("text" * 100), 0, target)
    with pytest.raises(InvalidArgument, match="nor the buffer protocol"):
        device.queue.write(target, 3, 0)
    with pytest.raises(InvalidArgument, match="read-only"):
        device.queue.write(target, bytes(64), 0)
    target.free()
    gc.collect()
    assert device.statistics.spans == before - 1, "a refused operation held its buffer"


def test_a_read_that_waits_keeps_its_buffer(device: Device) -> None:
    start = device.semaphore()
    target = zeros(device)
    before = device.statistics.spans
    operation = device.queue.read(b"\x05" * 32, 0, target, wait=(start, 1))
    target.free()
    del target
    gc.collect()
    assert device.statistics.spans == before
    start.signal(1)
    operation.wait()
    assert device.statistics.spans == before - 1
