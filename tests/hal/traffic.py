"""Modules that come and go while submissions run on all threads; what that costs and leaves.

`test_executables.py` runs a few dozen rounds on every driver, `build.py soak` as many as are asked
for. Nothing here is of the desktop or of a browser.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.hal.modules import puts
from tilework.hal import Buffer, Device, Program
from tilework.hal._abi import THREAD_TILES, Status
from tilework.hal.kernels.probe import WORK, WorkParams

_AHEAD = 6  # submissions in flight while a module is loaded or freed
_TILES = 64
_COUNT = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """What `come_and_go` did. Bytes, spans and slots are those that did not come back."""

    rounds: int
    seconds: float
    submissions: int
    threads: int  # that ran tiles
    load_us: float  # on average, on the submitting thread
    free_us: float
    top: int  # the highest table slot that was ever taken
    waiting: int  # freed modules that waited for workers, at most at once
    in_flight: int  # submissions in flight during loads and frees, at most
    bytes_kept: int
    spans_kept: int
    slots_kept: int
    reserved: int  # bytes by which the device's memory grew

    def __str__(self) -> str:
        kept = f"{self.bytes_kept} bytes, {self.spans_kept} spans, {self.slots_kept} slots kept"
        return (
            f"{self.rounds} loads and unloads in {self.seconds:.1f} s beside {self.submissions} "
            f"submissions, {self.in_flight} in flight, tiles on {self.threads} threads; load "
            f"{self.load_us:.0f} us, unload {self.free_us:.0f} us; {kept}; memory grew by "
            f"{self.reserved}; highest slot {self.top}; {self.waiting} waited at most"
        )


class _Flights:
    """Submissions in flight, straight into the ring."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.flying: list[tuple[Program, int, int]] = []  # program, table, number
        self.pushed = 0

    def push(self, program: Program) -> int:
        program.begin()
        table = program.bind()
        number = self.device.ring.push(program.image.address, program.state.address, table)
        self.flying.append((program, table, number))
        self.pushed += 1
        return number

    def land(self, target: int) -> None:
        """Waits until `target` submissions have ended; each must have succeeded."""
        ring = self.device.ring
        while ring.wait(target, 30) < target:
            assert not ring.halted, f"{ring.outcome(ring.look() - 1)}"
        ended = ring.look()
        while self.flying and self.flying[0][2] < ended:
            program, table, number = self.flying.pop(0)
            assert ring.outcome(number).status == Status.ENDED
            program.end((), table)
        ring.retire(ended)


def _tiles(device: Device) -> list[int]:
    return [struct.unpack("<I", t.read(THREAD_TILES, 4))[0] for t in device._threads]


def _held(device: Device) -> tuple[int, int, int]:
    deadline = time.monotonic() + 30
    while device.executables.leaving and time.monotonic() < deadline:
        time.sleep(0.001)
    now = device.statistics
    return now.in_use, now.spans, device.executables.table.taken


def come_and_go(
    device: Device, rounds: int, tell: Callable[[str], None] = lambda text: None
) -> Figures:
    """`rounds` modules, each different, each loaded, run and freed with others in flight.

    Every result is checked, those of a module that stays as well: its data must not be touched by
    a load that a worker carries out late. AssertionError says which round was wrong.
    """
    device.kernel(WORK)  # a family, once loaded, stays
    flights = _Flights(device)
    held, tiles, reserved = _held(device), _tiles(device), device.statistics.reserved
    began, loading, freeing = time.perf_counter(), 0.0, 0.0
    top = waiting = in_flight = 0
    stays = device.load(puts(0xABCD), "stays")
    with device.allocate(4 * _TILES) as busy, device.allocate(4 * _COUNT) as out:
        commands = device.command_buffer("busy")
        commands.dispatch(WORK, (_TILES, 1, 1), WorkParams(3000), [busy])
        load = commands.finish()
        for number in range(rounds):
            while len(flights.flying) < _AHEAD:
                flights.push(load)
            in_flight = max(in_flight, len(flights.flying))
            before = time.perf_counter()
            comes = device.load(puts(number), f"module {number}")
            loading += time.perf_counter() - before
            for executable, value in ((comes, number), (stays, 0xABCD)):
                commands = device.command_buffer("own")
                commands.dispatch(executable["put"], (_COUNT, 1, 1), None, [out])
                own = commands.finish()
                pushed = flights.push(own)
                flights.push(load)
                flights.land(pushed + 1)
                own.free()
                _check(out, value, number)
            before = time.perf_counter()
            comes.free()
            freeing += time.perf_counter() - before
            top = max(top, device.executables.table.top)
            waiting = max(waiting, device.executables.leaving)
            if number % 50 == 49:
                tell(f"{number + 1} of {rounds} loads and unloads, {flights.pushed} submissions")
        flights.land(device.ring.pushed)
        load.free()
    stays.free()
    seconds = time.perf_counter() - began
    now = _held(device)
    helped = sum(a != b for a, b in zip(tiles, _tiles(device), strict=True))
    return Figures(
        rounds=rounds,
        seconds=seconds,
        submissions=flights.pushed,
        threads=helped,
        load_us=loading / rounds * 1e6,
        free_us=freeing / rounds * 1e6,
        top=top,
        waiting=waiting,
        in_flight=in_flight,
        bytes_kept=now[0] - held[0],
        spans_kept=now[1] - held[1],
        slots_kept=now[2] - held[2],
        reserved=device.statistics.reserved - reserved,
    )


def _check(out: Buffer, value: int, number: int) -> None:
    got = struct.unpack(f"<{_COUNT}I", out.read())
    assert got == (value,) * _COUNT, f"round {number}: {got[:4]}... instead of {value}"
