"""Buffers and the allocator: copies, subspans, ranges, freeing, running out."""

from __future__ import annotations

import random
import struct
from array import array

import pytest

from tilework.core.errors import (
    DeviceLost,
    InvalidArgument,
    OutOfMemory,
    OutOfRange,
    Unsupported,
)
from tilework.hal import Access, Device, MemoryType, Usage, open_device
from tilework.hal.allocator import Allocator
from tilework.hal.kernels.probe import TRACE, TraceParams


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


def test_a_port_copies_all_of_a_buffer_whatever_its_format(device: Device) -> None:
    with device.allocate(64) as buffer:
        buffer.write(bytes(range(64)))
        part = buffer.subspan(8, 16)
        port = part.port()
        out = array("f", bytes(16))
        port.read_into(out)
        assert out.tobytes() == bytes(range(8, 24))
        port.write(array("d", [1.5, -2.0]))
        port.write(memoryview(array("h", range(8))).toreadonly())
        assert buffer.read() == bytes(range(8)) + array("h", range(8)).tobytes() + bytes(
            range(24, 64)
        )
        before = device.statistics
        port.read_into(out)
        assert device.statistics == before
    with pytest.raises(DeviceLost):
        part.port()


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


def test_subspans_are_read_and_written_at_their_own_place(device: Device) -> None:
    with device.allocate(16) as whole:
        whole.write(bytes(range(16)))
        part = whole.subspan(4, 8)
        assert part.read() == bytes(range(4, 12))
        assert part.read(2, 3) == bytes([6, 7, 8])
        part.write(b"ab", 5)
        assert whole.read() == bytes([*range(9), *b"ab", *range(11, 16)])


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


def test_the_limit_of_a_device_can_be_set() -> None:
    with pytest.raises(OutOfMemory, match=r"the limit is 100,000"):
        open_device(threads=1, limit=100_000)
    device = open_device(threads=1)
    used = device.statistics.in_use
    device.close()
    device = open_device(threads=1, limit=used + 4096)
    with device.allocate(4096), pytest.raises(OutOfMemory, match=r"b needs 64 bytes .* 0 are free"):
        device.allocate(1, "b")
    with device.allocate(4096) as buffer:
        buffer.write(bytes(4096))
    device.close()


def test_the_default_memory_takes_transfers_and_dispatches(device: Device) -> None:
    with device.allocate(400) as out, device.allocate(400) as seen:
        assert out.memory & MemoryType.DEVICE
        assert out.nbytes >= 400
        out.write(bytes(400))
        commands = device.command_buffer()
        commands.fill(out, b"\1\0\0\0")
        commands.barrier()
        commands.dispatch(TRACE, (100, 1, 1), TraceParams(2), [out, seen])
        program = commands.finish()
        device.submit(program)
        assert struct.unpack("<100I", out.read()) == (3,) * 100
        program.free()


def test_a_buffer_has_the_type_usage_and_access_that_were_asked_for(device: Device) -> None:
    with device.allocate(100, usage=Usage.TRANSFER | Usage.MAP, access=Access.READ) as buffer:
        assert buffer.usage == Usage.TRANSFER | Usage.MAP
        assert buffer.access == Access.READ
        assert MemoryType.DEVICE in buffer.memory
        assert MemoryType.IN_PLACE not in buffer.memory
        assert (MemoryType.HOST_VISIBLE in buffer.memory) == (buffer.view() is not None)
        part = buffer.subspan(10, 20)
        assert (part.usage, part.access, part.memory) == (
            buffer.usage, buffer.access, buffer.memory,
        )  # fmt: skip
    if MemoryType.HOST_VISIBLE in device.memory:
        device.allocate(1, memory=MemoryType.HOST_VISIBLE).free()
    else:
        with pytest.raises(Unsupported, match=r"HOST_VISIBLE was asked for; arena mode has DEVICE"):
            device.allocate(1, memory=MemoryType.HOST_VISIBLE)
    with pytest.raises(Unsupported, match="import_memory"):
        device.allocate(1, memory=MemoryType.IN_PLACE)


def test_statistics_say_what_was_moved(device: Device) -> None:
    before = device.statistics
    with device.allocate(100) as buffer:
        buffer.write(bytes(30))
        buffer.read(0, 7)
        now = device.statistics
        assert now.copied_in == before.copied_in + 30
        assert now.copied_out == before.copied_out + 7
        assert now.allocated == before.allocated + 128
        assert now != before
    after = device.statistics
    assert after.freed == before.freed + 128
    assert after == before, "what is held is what counts"


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


def test_a_limit_is_on_what_is_handed_out() -> None:
    allocator = Allocator(Ground(1 << 20).reserve, slab=1 << 16, limit=6400)
    first = allocator.allocate(6000)
    assert allocator.statistics.reserved == 6400, "more was taken than may be handed out"
    with pytest.raises(
        OutOfMemory, match=r"w needs 512 bytes .* 384 are free, the largest piece is 384, .* 6,400"
    ):
        allocator.allocate(500, "w")
    assert allocator.allocate(384)
    allocator.release(first)
    assert allocator.allocate(3000)
    assert allocator.within_limit(6400)
    assert not allocator.within_limit(6401)
    allocator.limit = None
    assert allocator.allocate(1 << 17)


def test_the_hook_hears_of_what_came_back() -> None:
    allocator = Allocator(Ground(1 << 20).reserve)
    heard: list[int] = []
    allocator.on_release = lambda: heard.append(allocator.statistics.in_use)
    first, second = allocator.allocate(64), allocator.allocate(64)
    assert not heard
    allocator.release(first)
    allocator.release(second)
    assert heard == [64, 0]


def test_an_allocation_can_be_made_to_fail() -> None:
    allocator = Allocator(Ground(1 << 20).reserve, slab=1 << 16)
    allocator.fail_at = 2
    assert allocator.allocate(64)
    assert allocator.allocate(64)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match=r"w needs 64 bytes .* 65,408 are free"):
            allocator.allocate(64, "w")
    allocator.fail_at = None
    assert allocator.allocate(64)
    assert allocator.statistics.spans == 3


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
