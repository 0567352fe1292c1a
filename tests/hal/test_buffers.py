"""Buffers and the allocator: copies, subspans, ranges, freeing, running out."""

from __future__ import annotations

import random

import pytest

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfMemory, OutOfRange, Unsupported
from tilework.hal import Device
from tilework.hal.allocator import Allocator


def test_bytes_come_back(device: Device) -> None:
    data = random.Random(1).randbytes(100_003)
    with device.allocate(len(data), "test") as buffer:
        buffer.write(data)
        assert buffer.read() == data
        assert buffer.read(99_990) == data[99_990:]
        assert buffer.read(5, 7) == data[5:12]


def test_writes_at_an_offset_touch_nothing_else(device: Device) -> None:
    with device.allocate(64) as buffer:
        buffer.write(bytes(64))
        buffer.write(b"\x01\x02\x03", 7)
        assert buffer.read() == bytes(7) + b"\x01\x02\x03" + bytes(54)


def test_read_into_fills_a_host_buffer(device: Device) -> None:
    with device.allocate(16) as buffer:
        buffer.write(bytes(range(16)))
        out = bytearray(4)
        buffer.read_into(out, 3)
        assert out == bytes([3, 4, 5, 6])


def test_a_buffer_is_aligned_and_its_size_is_the_one_asked_for(device: Device) -> None:
    buffers = [device.allocate(n) for n in (0, 1, 63, 64, 65, 1000)]
    for buffer, n in zip(buffers, (0, 1, 63, 64, 65, 1000), strict=True):
        assert buffer.address % 64 == 0
        assert buffer.nbytes == n
    for buffer in buffers:
        buffer.free()


def test_subspans_share_memory_and_outlive_nothing(device: Device) -> None:
    buffer = device.allocate(100, "whole")
    part = buffer.subspan(10, 20)
    part.write(bytes([9] * 20))
    assert buffer.read(9, 3)[1:] == b"\x09\x09"
    assert part.subspan(5).nbytes == 15
    part.free()
    buffer.free()
    with pytest.raises(DeviceLost, match="after it was freed"):
        part.read()


def test_a_view_where_there_is_one_is_the_memory(device: Device) -> None:
    with device.allocate(8) as buffer:
        buffer.write(bytes(8))
        view = buffer.view()
        if view is None:
            assert device.mode == "arena", "only a browser's arena is out of the host's sight"
            return
        view[3] = 5
        assert buffer.read() == b"\0\0\0\5\0\0\0\0"


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 101), (100, 1), (-1, 1), (50, 51), (5, -1)])
def test_ranges_are_checked(device: Device, offset: int, nbytes: int) -> None:
    with device.allocate(100, "small") as buffer:
        with pytest.raises(OutOfRange, match="small"):
            buffer.subspan(offset, nbytes)
        if nbytes > 0:
            with pytest.raises(OutOfRange):
                buffer.write(bytes(nbytes), offset)
            with pytest.raises(OutOfRange):
                buffer.read_into(bytearray(nbytes), offset)


def test_freeing_twice_is_harmless_and_use_after_it_is_not(device: Device) -> None:
    buffer = device.allocate(10)
    buffer.free()
    buffer.free()
    with pytest.raises(DeviceLost):
        buffer.write(b"x")


def test_memory_comes_back_when_nothing_refers_to_a_buffer(device: Device) -> None:
    before = device.statistics.in_use
    device.allocate(1000)
    assert device.statistics.in_use == before


def test_a_negative_size_is_refused(device: Device) -> None:
    with pytest.raises(InvalidArgument, match="-1 bytes"):
        device.allocate(-1)


def test_running_out_says_what_was_asked_and_what_there_is(device: Device) -> None:
    before = device.statistics
    with pytest.raises(OutOfMemory, match=r"weights needs 6,000,000,000 bytes .* largest piece"):
        device.allocate(6_000_000_000, "weights")
    assert device.statistics == before
    with device.allocate(1000) as buffer:
        buffer.write(bytes(1000))


# -- the allocator alone -----------------------------------------------------------------------


class Ground:
    """A pretended driver with `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.next = 65536
        self.end = 65536 + limit

    def reserve(self, nbytes: int) -> tuple[int, int]:
        if self.next + nbytes > self.end:
            raise OutOfMemory("the ground is full")
        self.next += nbytes
        return self.next - nbytes, nbytes


@pytest.mark.parametrize("seed", range(20))
def test_random_lives_never_overlap_and_leave_one_free_piece(seed: int) -> None:
    rng = random.Random(seed)
    ground = Ground(1 << 20)
    allocator = Allocator(ground.reserve, slab=1 << 16)
    live: dict[int, int] = {}
    for _ in range(600):
        if live and rng.random() < 0.45:
            address = rng.choice(list(live))
            del live[address]
            allocator.release(address)
            continue
        size = rng.choice([1, 64, 100, 4096, 30_000])
        try:
            address = allocator.allocate(size)
        except OutOfMemory:
            continue
        for other, other_size in live.items():
            assert address + size <= other or other + other_size <= address
        assert address % 64 == 0
        live[address] = size
    rounded = sum(-(-size // 64) * 64 for size in live.values())
    assert allocator.statistics.in_use == rounded
    for address in live:
        allocator.release(address)
    statistics = allocator.statistics
    assert statistics.in_use == 0
    assert statistics.spans == 0
    assert allocator.largest_free == statistics.reserved, "neighbours were not joined"


def test_a_slab_that_is_refused_is_asked_for_smaller() -> None:
    allocator = Allocator(Ground(1000 * 64).reserve, slab=1 << 20)
    assert allocator.allocate(500 * 64) >= 65536


def test_a_finaliser_may_release_in_the_middle_of_an_allocation() -> None:
    """As the garbage collector does when it runs inside one of the allocator's own methods."""
    ground = Ground(1 << 20)
    kept: list[int] = []

    def reserve(nbytes: int) -> tuple[int, int]:
        while kept:
            allocator.release(kept.pop())
        return ground.reserve(nbytes)

    allocator = Allocator(reserve, slab=1 << 12)
    kept += [allocator.allocate(1000) for _ in range(3)]
    large = allocator.allocate(1 << 14)
    assert allocator.statistics.spans == 1
    allocator.release(large)
    assert allocator.largest_free == allocator.statistics.reserved


def test_bytes_that_lie_in_device_memory_have_an_address_there(device: Device) -> None:
    with device.allocate(256) as buffer:
        view = buffer.view()
        if view is None:
            with pytest.raises(Unsupported, match="device memory is not Python's"):
                device.driver.address_of(bytes(16))
            return
        assert device.driver.address_of(view) == buffer.address
        assert device.driver.address_of(view[32:64]) == buffer.address + 32
        with pytest.raises(InvalidArgument, match="C-contiguous"):
            device.driver.address_of(view[::2])
