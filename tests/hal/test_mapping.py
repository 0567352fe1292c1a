"""Mapping and host fills: the same bytes in every mode, whoever sees whose memory."""

from __future__ import annotations

from pickle import PickleBuffer

import pytest

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfRange
from tilework.hal import Access, Device, MemoryType, Usage

BYTES = bytes(range(64))


def test_mappable_memory_can_be_asked_for(device: Device) -> None:
    with device.allocate(64, usage=Usage.MAP | Usage.TRANSFER) as buffer:
        assert Usage.MAP in buffer.usage
        with buffer.map() as mapping:
            assert len(mapping.data) == 64
    with (
        device.allocate(64, "sealed", usage=Usage.DISPATCH) as sealed,
        pytest.raises(InvalidArgument, match=r"map needs usage MAP; .*sealed.* was made for DISP"),
    ):
        sealed.map()


@pytest.mark.parametrize("through", ["whole", "subspan"])
@pytest.mark.parametrize(("offset", "nbytes"), [(0, None), (0, 40), (5, 0), (7, 13), (48, None)])
@pytest.mark.parametrize("pattern", [b"\0", b"\xa5", b"\x12\x34", b"\x01\x02\x03\x04"])
def test_host_fill(
    device: Device, pattern: bytes, offset: int, nbytes: int | None, through: str
) -> None:
    with device.allocate(80) as whole:
        before = bytes(0xC0 | i & 15 for i in range(80))
        whole.write(before)
        target, start = (whole, 0) if through == "whole" else (whole.subspan(9, 64), 9)
        length = target.nbytes - offset if nbytes is None else nbytes
        if length % len(pattern):
            with pytest.raises(InvalidArgument, match="no multiple"):
                target.fill(pattern, offset, nbytes)
            assert whole.read() == before
            return
        target.fill(pattern, offset, nbytes)
        expected = bytearray(before)
        expected[start + offset : start + offset + length] = pattern * (length // len(pattern))
        assert whole.read() == expected
        assert target.read() == expected[start : start + target.nbytes]


def test_a_large_host_fill(device: Device) -> None:
    with device.allocate(300_004) as buffer:
        buffer.fill(b"wxyz")
        assert buffer.read() == b"wxyz" * 75_001


def test_host_fills_are_checked(device: Device) -> None:
    with device.allocate(24) as buffer:
        for pattern in (b"", b"abc", b"12345678"):
            with pytest.raises(InvalidArgument, match="1, 2 or 4 bytes"):
                buffer.fill(pattern)
        with pytest.raises(OutOfRange):
            buffer.fill(b"a", 20, 5)


def test_map_for_reading(device: Device) -> None:
    with device.allocate(64) as buffer:
        buffer.write(BYTES)
        part = buffer.subspan(8, 32)
        for source, offset, nbytes, expected in (
            (buffer, 0, None, BYTES),
            (buffer, 5, 10, BYTES[5:15]),
            (part, 0, None, BYTES[8:40]),
            (part, 30, 2, BYTES[38:40]),
            (part, 32, 0, b""),
        ):
            with source.map(Access.READ, offset, nbytes) as mapping:
                assert bytes(mapping.data) == expected
                assert mapping.data.readonly
                if expected:
                    with pytest.raises(TypeError):
                        mapping.data[0] = 1
        with pytest.raises(OutOfRange):
            buffer.map(Access.READ, 60, 5)
        assert buffer.read() == BYTES


@pytest.mark.parametrize("discard", [False, True])
def test_map_for_writing(device: Device, discard: bool) -> None:
    with device.allocate(64) as buffer:
        buffer.write(BYTES)
        with buffer.map(Access.WRITE, 16, 32, discard=discard) as mapping:
            mapping.data[:] = b"\xee" * 32
            mapping.flush()
            assert buffer.read(16, 32) == b"\xee" * 32
            mapping.data[0] = 1
        assert buffer.read() == BYTES[:16] + b"\1" + b"\xee" * 31 + BYTES[48:]


def test_map_for_both(device: Device) -> None:
    with device.allocate(64) as buffer:
        buffer.write(BYTES)
        with buffer.map(offset=8) as mapping:
            assert mapping.data[0] == 8
            mapping.data[1] = 99
        assert buffer.read() == BYTES[:9] + b"\x63" + BYTES[10:]


def test_a_mapping_is_data_for_another_buffer(device: Device) -> None:
    with device.allocate(64) as a, device.allocate(64) as b:
        a.write(BYTES)
        with a.map(Access.READ) as source, b.map(Access.WRITE, discard=True) as target:
            target.data[:] = source.data
        assert b.read() == BYTES
        b.fill(b"\0")
        with a.map(Access.READ, 4, 8) as source:
            b.write(source.data, 1)
        assert b.read(0, 10) == b"\0" + BYTES[4:12] + b"\0"


def test_what_was_unmapped_cannot_be_used(device: Device) -> None:
    before = device.statistics.spans
    buffer = device.allocate(64)
    buffer.write(BYTES)
    mapping = buffer.map()
    data = mapping.data
    buffer.free()
    assert device.statistics.spans == before + 1, "memory went while it was mapped"
    data[0] = 1
    mapping.unmap()
    mapping.unmap()
    assert device.statistics.spans == before
    with pytest.raises(ValueError, match="released"):
        bytes(data)
    with pytest.raises(DeviceLost, match="after it was unmapped"):
        mapping.flush()
    with pytest.raises(DeviceLost):
        buffer.map()


def test_what_stands_on_a_mapping_keeps_it(device: Device) -> None:
    with device.allocate(64) as buffer:
        buffer.write(BYTES)
        mapping = buffer.map()
        standing = PickleBuffer(mapping.data)  # as an array would
        with pytest.raises(InvalidArgument, match="still stands on the mapping"):
            mapping.unmap()
        assert bytes(standing) == BYTES
        standing.release()
        mapping.unmap()


def test_access_is_the_buffers_to_give(device: Device) -> None:
    with device.allocate(8, "source", access=Access.READ) as buffer:
        with pytest.raises(InvalidArgument, match=r"map needs access WRITE; .*source"):
            buffer.map(Access.WRITE)
        buffer.map(Access.READ).unmap()
    with device.allocate(8, access=Access(0)) as buffer:
        assert buffer.access == Access.ALL, "no access named is full access"
        buffer.map().unmap()


def test_mappings_and_views_survive_growth(device: Device) -> None:
    """A slab that is added moves nothing that somebody looks at."""
    with device.allocate(64) as buffer:
        buffer.write(BYTES)
        with buffer.map() as mapping:
            view = buffer.view()
            assert (view is not None) == (MemoryType.HOST_VISIBLE in buffer.memory)
            reserved = device.statistics.reserved
            with device.allocate(device.allocator.largest_free + 64) as large:
                assert device.statistics.reserved > reserved, "nothing grew"
                large.fill(b"\xff", 0, 4096)
                assert bytes(mapping.data) == BYTES
                mapping.data[3] = 77
                if view is not None:
                    assert view[3] == 77
                    view[4] = 78
                mapping.flush()
                assert buffer.read(3, 1) == b"\x4d"
                if view is not None:
                    assert buffer.read(4, 1) == b"\x4e"
