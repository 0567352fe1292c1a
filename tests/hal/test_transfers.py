"""Fill, copy and update: every width, length and alignment, exactly the range, each way there is.

A way is how a range reaches the processor: recorded with the buffer itself (`direct`), with a slot
that is bound at submit (`slot`), or as an operation of the queue's (`queued`).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.hal.queued import PATIENCE
from tilework.hal import Buffer, CommandBuffer, Device, Slot


class Transfers:
    """Runs one transfer, and waits for it."""

    def __init__(self, device: Device, way: str) -> None:
        self.device = device
        self.way = way

    def fill(self, target: Buffer, offset: int, nbytes: int, pattern: bytes) -> None:
        if self.way == "queued":
            self.device.queue.fill(target.subspan(offset, nbytes), pattern).wait(PATIENCE)
            return
        self._run([target], lambda c, at: c.fill(at(0, offset, nbytes), pattern))

    def copy(self, source: Buffer, start: int, target: Buffer, offset: int, nbytes: int) -> None:
        if self.way == "queued":
            part = target.subspan(offset, nbytes)
            self.device.queue.copy(source.subspan(start, nbytes), part).wait(PATIENCE)
            return
        self._run(
            [source, target], lambda c, at: c.copy(at(0, start, nbytes), at(1, offset, nbytes))
        )

    def update(self, target: Buffer, offset: int, data: bytes) -> None:
        if self.way == "queued":
            self.device.queue.update(target.subspan(offset, len(data)), data).wait(PATIENCE)
            return
        self._run([target], lambda c, at: c.update(at(0, offset, len(data)), data))

    def _run(
        self,
        buffers: list[Buffer],
        record: Callable[[CommandBuffer, Callable[[int, int, int], Buffer | Slot]], None],
    ) -> None:
        def at(index: int, offset: int, nbytes: int) -> Buffer | Slot:
            if self.way == "slot":
                return Slot(index, offset, nbytes)
            return buffers[index].subspan(offset, nbytes)

        commands = self.device.command_buffer(self.way)
        record(commands, at)
        program = commands.finish(reusable=False)
        self.device.submit(program, buffers if self.way == "slot" else ())


@pytest.fixture(params=["direct", "slot", "queued"])
def transfers(device: Device, request: pytest.FixtureRequest) -> Transfers:
    return Transfers(device, request.param)


# -- fill ------------------------------------------------------------------------------------------

ONE, TWO, FOUR = b"\x07", b"\xab\x23", b"\xab\x23\x67\xcd"
FILLS = {
    "1 of 1": (ONE, 1, 0, 1),
    "5 of 5": (ONE, 5, 0, 5),
    "1 of 16": (ONE, 16, 0, 1),
    "3 of 16": (ONE, 16, 0, 3),
    "8 of 16": (ONE, 16, 0, 8),
    "8 of 16 from 2": (ONE, 16, 2, 8),
    "2x1 of 2": (TWO, 2, 0, 2),
    "2x4 of 16": (TWO, 16, 0, 8),
    "2x5 of 16": (TWO, 16, 0, 10),
    "2x4 of 16 from 2": (TWO, 16, 2, 8),
    "4x1 of 4": (FOUR, 4, 0, 4),
    "4x1 of 20 from 16": (FOUR, 20, 16, 4),
    "4x2 of 16": (FOUR, 16, 0, 8),
    "4x2 of 16 from 8": (FOUR, 16, 8, 8),
    "1024": (ONE, 1024, 0, 1024),
    "2x512": (TWO, 1024, 0, 1024),
    "4x256": (FOUR, 1024, 0, 1024),
    "range": (FOUR, 1024, 256, 512),
    "256 KiB": (FOUR, 256 << 10, 0, 256 << 10),
    "nothing": (FOUR, 16, 8, 0),
}
CLASSES = [
    (pattern, offset, length)
    for pattern, offsets, lengths in (
        (ONE, (0, 1, 3, 15), (1, 7, 17, 255, 4097)),
        (TWO, (0, 1, 2, 6, 63), (2, 6, 34, 4098)),
        (FOUR, (0, 3, 4, 12, 66), (4, 12, 36, 8196)),
        (FOUR, (5,), (65_532, 65_536, 65_540)),
    )
    for offset in offsets
    for length in lengths
]


def filled(transfers: Transfers, pattern: bytes, size: int, offset: int, length: int) -> None:
    with transfers.device.allocate(size) as buffer:
        before = random.Random(size + offset).randbytes(size)
        buffer.write(before)
        transfers.fill(buffer, offset, length, pattern)
        whole = pattern * (length // len(pattern))
        assert buffer.read() == before[:offset] + whole + before[offset + length :]


@pytest.mark.parametrize("case", FILLS)
def test_fill(transfers: Transfers, case: str) -> None:
    filled(transfers, *FILLS[case])


def test_fill_sizes_alignments_and_patterns(transfers: Transfers) -> None:
    for pattern, offset, length in CLASSES:
        filled(transfers, pattern, offset + length + 9, offset, length)


# -- copy ------------------------------------------------------------------------------------------

COPIES = {
    "whole": (1024, 0, 1024, 0, 1024),
    "offsets": (1024, 128, 2048, 512, 256),
    "256 KiB": (256 << 10, 0, 256 << 10, 0, 256 << 10),
    "1 MiB": (1 << 20, 0, (1 << 20) + 8, 4, 1 << 20),
    "nothing": (16, 4, 16, 8, 0),
}
LENGTHS = (4, 8, 12, 16, 20, 60, 64, 68, 256, 1020, 4096, 65_532, 65_536)
OFFSETS = ((0, 16), (8, 24), (4, 12), (3, 5))


def copied(
    transfers: Transfers, source_size: int, start: int, size: int, offset: int, length: int
) -> None:
    rng = random.Random(length + offset)
    with transfers.device.allocate(source_size) as a, transfers.device.allocate(size) as b:
        given, before = rng.randbytes(source_size), rng.randbytes(size)
        a.write(given)
        b.write(before)
        transfers.copy(a, start, b, offset, length)
        moved = given[start : start + length]
        assert b.read() == before[:offset] + moved + before[offset + length :]
        assert a.read() == given


@pytest.mark.parametrize("case", COPIES)
def test_copy(transfers: Transfers, case: str) -> None:
    copied(transfers, *COPIES[case])


@pytest.mark.parametrize("offsets", OFFSETS, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def test_copy_sizes_and_alignments(transfers: Transfers, offsets: tuple[int, int]) -> None:
    start, offset = offsets
    for length in LENGTHS:
        copied(transfers, start + length + 3, start, offset + length + 11, offset, length)


def test_copy_between_two_fills(device: Device) -> None:
    """A fill before and a fill beside a copy into the same buffer, one command buffer."""
    for bind in ("direct", "slot"):
        with device.allocate(16) as a, device.allocate(32) as b:
            a.write(bytes(range(16)))
            b.write(bytes(32))
            buffers = [a, b]

            def at(index: int, offset: int, nbytes: int) -> Buffer | Slot:
                if bind == "slot":  # noqa: B023 - called below, in the same round
                    return Slot(index, offset, nbytes)
                return buffers[index].subspan(offset, nbytes)  # noqa: B023

            commands = device.command_buffer()
            commands.fill(at(1, 0, 20), b"\xaa")
            commands.barrier()
            commands.copy(at(0, 4, 8), at(1, 9, 8))
            commands.fill(at(1, 24, 4), b"\xbb")
            program = commands.finish()
            device.submit(program, buffers if bind == "slot" else ())
            expected = b"\xaa" * 9 + bytes(range(4, 12)) + b"\xaa" * 3 + bytes(4) + b"\xbb" * 4
            assert b.read() == expected + bytes(4)
            program.free()


# -- update ----------------------------------------------------------------------------------------

UPDATES = {
    "16": (16, 0, 16),
    "256": (256, 0, 256),
    "whole": (1024, 0, 1024),
    "range": (1024, 256, 128),
    "offsets": (16, 4, 8),
    "131 109 bytes": (131_200, 37, 131_109),
    "odd 1": (64, 1, 1),
    "odd 3": (64, 7, 3),
    "odd 5": (64, 13, 5),
    "odd 17": (64, 31, 17),
    "nothing": (16, 8, 0),
}


@pytest.mark.parametrize("case", UPDATES)
def test_update(transfers: Transfers, case: str) -> None:
    size, offset, length = UPDATES[case]
    rng = random.Random(length)
    with transfers.device.allocate(size) as buffer:
        before, data = rng.randbytes(size), rng.randbytes(length + 9)
        buffer.write(before)
        # From the middle of the host's bytes.
        transfers.update(buffer, offset, data[5 : 5 + length])
        assert buffer.read() == before[:offset] + data[5 : 5 + length] + before[offset + length :]


def test_update_through_a_subspan(transfers: Transfers) -> None:
    with transfers.device.allocate(32) as whole:
        whole.write(bytes(32))
        part = whole.subspan(8, 16)
        transfers.update(part, 4, b"abcd")
        assert part.read() == bytes(4) + b"abcd" + bytes(8)
        assert whole.read() == bytes(12) + b"abcd" + bytes(16)


def test_an_update_that_waits_has_the_bytes_of_its_call(device: Device) -> None:
    """Though the caller overwrites them before the wait is reached."""
    gate = device.semaphore()
    with device.allocate(8) as buffer:
        data = bytearray(b"original")
        operation = device.queue.update(buffer, data, wait=(gate, 1))
        data[:] = b"replaced"
        gate.signal(1)
        operation.wait(PATIENCE)
        assert buffer.read() == b"original"


# -- many ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fill", "copy"])
def test_many_short_submissions(transfers: Transfers, kind: str) -> None:
    device = transfers.device
    spans = device.statistics.spans
    with device.allocate(256) as a, device.allocate(256) as b:
        for turn in range(200):
            if kind == "fill":
                transfers.fill(b, 0, 256, turn.to_bytes(4, "little"))
                continue
            a.write(turn.to_bytes(4, "little") * 64)
            transfers.copy(a, 0, b, 0, 256)
            assert b.read(252) == turn.to_bytes(4, "little")
        assert b.read() == (199).to_bytes(4, "little") * 64
        assert device.statistics.spans == spans + 2, "submissions leave something behind"


@pytest.mark.parametrize("bind", ["direct", "slot"])
def test_many_commands_in_one(device: Device, bind: str) -> None:
    with device.allocate(4 * 512) as buffer:
        buffer.write(bytes(buffer.nbytes))
        commands = device.command_buffer("many")
        for number in range(512):
            target = Slot(0, 4 * number, 4) if bind == "slot" else buffer.subspan(4 * number, 4)
            commands.fill(target, number.to_bytes(4, "little"))
        program = commands.finish()
        device.submit(program, [buffer] if bind == "slot" else ())
        assert buffer.read() == b"".join(n.to_bytes(4, "little") for n in range(512))
        program.free()
