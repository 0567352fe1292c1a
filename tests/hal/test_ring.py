"""The ring: several submissions in flight, in order; halting, cancelling, waiting."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Iterator, Sequence

import pytest

from tilework.core.errors import InvalidArgument, KernelFailure
from tilework.hal import Buffer, Device, Program, Slot
from tilework.hal._abi import TW_RING, Status
from tilework.hal.kernels.probe import (
    FAIL,
    NOP,
    TRACE,
    TRAP,
    WORK,
    FailParams,
    TraceParams,
    TrapParams,
    WorkParams,
)

COUNT = 40


class Bench:
    """Programs over one buffer of 40 numbers, and what they must leave in it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.ring = device.ring
        self.out = device.allocate(4 * COUNT, "out")
        self.seen = device.allocate(4 * COUNT, "seen")
        self.out.write(bytes(4 * COUNT))
        self.kept: list[Program | Buffer] = [self.out, self.seen]
        self.flying: list[tuple[Program, Sequence[Buffer], int]] = []

    def add(self, value: int, count: int = COUNT) -> Program:
        """out[:count] += value."""
        commands = self.device.command_buffer(f"add {value}")
        commands.dispatch(TRACE, (count, 1, 1), TraceParams(value), [self.out, self.seen])
        return self.keep(commands.finish())

    def set(self, value: int) -> Program:
        """out[:] = value; not the same in another order than `add`."""
        commands = self.device.command_buffer(f"set {value}")
        commands.fill(self.out, struct.pack("<I", value))
        return self.keep(commands.finish())

    def slow(self, tiles: int = 2000, steps: int = 20_000) -> Program:
        """Takes some tens of milliseconds."""
        target = self.device.allocate(4 * tiles, "slow")
        self.kept.append(target)
        commands = self.device.command_buffer("slow")
        commands.dispatch(WORK, (tiles, 1, 1), WorkParams(steps), [target])
        return self.keep(commands.finish())

    def fail(self, status: int = 50) -> Program:
        commands = self.device.command_buffer("fails")
        commands.dispatch(FAIL, (9, 1, 1), FailParams(5, status), [])
        return self.keep(commands.finish())

    def trap(self) -> Program:
        commands = self.device.command_buffer("traps")
        commands.dispatch(TRAP, (9, 1, 1), TrapParams(4), [])
        return self.keep(commands.finish())

    def empty(self) -> Program:
        return self.keep(self.device.command_buffer("empty").finish())

    def keep(self, program: Program) -> Program:
        self.kept.append(program)
        return program

    def push(self, program: Program, slots: Sequence[Buffer] = ()) -> int:
        program.begin(slots)
        table = program.bind(slots)
        self.flying.append((program, slots, table))
        return self.ring.push(program.image.address, program.state.address, table)

    def statuses(self, numbers: Sequence[int]) -> list[int]:
        return [self.ring.outcome(number).status for number in numbers]

    def settle(self) -> None:
        """Lets everything end, whatever has halted the ring."""
        while self.ring.wait(self.ring.pushed, 30) < self.ring.pushed:
            assert self.ring.halted, "nothing has halted the ring, and it does not end"
            self.ring.go_on()
        if self.ring.halted:
            self.ring.go_on()
        self.ring.retire(self.ring.pushed)
        for program, slots, table in self.flying:
            program.end(slots, table)
        self.flying.clear()

    @property
    def numbers(self) -> list[int]:
        return list(struct.unpack(f"<{COUNT}I", self.out.read()))


@pytest.fixture
def bench(device: Device) -> Iterator[Bench]:
    made = Bench(device)
    yield made
    made.settle()
    for thing in reversed(made.kept):
        thing.free()


def test_several_in_flight_run_in_order(bench: Bench) -> None:
    ring = bench.ring
    add, reset = bench.add(3), bench.set(10)
    numbers = [bench.push(program) for program in (add, add, reset, add, add, add)]
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [19] * COUNT
    assert bench.statuses(numbers) == [Status.ENDED] * 6
    ring.retire(ring.pushed)
    assert ring.free == TW_RING


@pytest.mark.parametrize("seed", range(3))
def test_random_orders_agree_with_a_sequential_model(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    ring = bench.ring
    programs = [(bench.add(v, c), v, c) for v, c in ((1, 40), (5, 7), (9, 1))]
    programs += [(bench.set(v), v, 0) for v in (0, 77)]
    programs += [(bench.empty(), 0, -1)]
    model = [0] * COUNT
    for _ in range(400):
        for _ in range(rng.randint(1, 12)):
            if not ring.free:
                ring.retire(ring.wait(ring.retired + 1))
            program, value, count = rng.choice(programs)
            bench.push(program)
            if count == 0:
                model = [value] * COUNT
            for i in range(count):
                model[i] += value
        if rng.random() < 0.3:
            ring.retire(ring.wait(rng.randint(ring.retired, ring.pushed)))
        if rng.random() < 0.1:
            ring.retire(ring.wait(ring.pushed))
            assert bench.numbers == model
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == model


def test_more_than_the_ring_holds_is_refused(bench: Bench) -> None:
    ring = bench.ring
    add = bench.add(1)
    for _ in range(TW_RING):
        bench.push(add)
    assert ring.free == 0
    with pytest.raises(InvalidArgument, match="slots of the ring are taken"):
        bench.push(add)
    ring.retire(ring.wait(ring.retired + 1))
    assert ring.free >= 1
    bench.push(add)
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [TW_RING + 1] * COUNT


def test_slots_of_each_submission_are_its_own(bench: Bench) -> None:
    device, ring = bench.device, bench.ring
    commands = device.command_buffer("slots")
    commands.dispatch(TRACE, (5, 1, 1), TraceParams(3), [Slot(0, 0, 20), Slot(1, 0, 20)])
    programs = [bench.keep(commands.finish())]
    targets = [device.allocate(20) for _ in range(2)]
    bench.kept += targets
    for target in targets:
        target.write(bytes(20))
    # Where the slots are the same as before there is no table: the state of the one before holds.
    for target in (targets[0], targets[1], targets[1], targets[0], targets[1], targets[1]):
        bench.push(programs[0], [target, bench.seen])
    assert ring.wait(ring.pushed) == ring.pushed
    assert struct.unpack("<5I", targets[0].read()) == (6,) * 5
    assert struct.unpack("<5I", targets[1].read()) == (12,) * 5


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fail", "trap"])
def test_a_failure_halts_and_go_on_resumes(bench: Bench, kind: str) -> None:
    ring = bench.ring
    add = bench.add(1)
    bad = bench.fail() if kind == "fail" else bench.trap()
    numbers = [bench.push(program) for program in (add, add, bad, add, add)]
    assert ring.wait(ring.pushed) == numbers[2] + 1
    assert ring.halted
    assert bench.numbers == [2] * COUNT
    outcome = ring.outcome(numbers[2])
    assert outcome.status == (50 if kind == "fail" else Status.TRAPPED)
    assert outcome.tile == (5 if kind == "fail" else 4, 0, 0)
    # It rests, however often it is waited for or pushed to.
    assert ring.wait(ring.pushed) == numbers[2] + 1
    numbers.append(bench.push(add))
    assert ring.wait(ring.pushed, 0.01) == numbers[2] + 1
    assert bench.numbers == [2] * COUNT
    ring.go_on()
    assert ring.wait(ring.pushed) == ring.pushed
    assert not ring.halted
    assert bench.numbers == [5] * COUNT
    ended = [Status.ENDED] * 6
    ended[2] = Status(outcome.status) if kind == "trap" else 50
    assert bench.statuses(numbers) == ended


def test_several_failures_halt_one_by_one(bench: Bench) -> None:
    ring = bench.ring
    numbers = [bench.push(bench.fail(status)) for status in (60, 61, 62)]
    for i, number in enumerate(numbers):
        assert ring.wait(ring.pushed) == number + 1
        assert ring.halted
        assert ring.outcome(number).status == 60 + i
        ring.go_on()


def test_submit_works_again_after_failures(bench: Bench) -> None:
    add, bad = bench.add(1), bench.fail(70)
    for i in range(100):
        with pytest.raises(KernelFailure, match="returned 70"):
            bench.device.submit(bad)
        bench.device.submit(add)
        assert bench.numbers[0] == i + 1
    assert not bench.ring.halted


def test_what_the_ring_looks_at_is_no_copy_to_the_host(bench: Bench) -> None:
    before = bench.device.statistics.copied_out
    number = bench.push(bench.fail(70))
    bench.ring.wait(bench.ring.pushed)
    assert bench.ring.halted and bench.ring.outcome(number).status == 70
    assert bench.device.statistics.copied_out == before
    bench.ring.go_on()


# -- cancelling --------------------------------------------------------------------------------


def test_what_is_not_open_yet_never_runs(bench: Bench) -> None:
    ring = bench.ring
    add = bench.add(1)
    numbers = [bench.push(program) for program in (bench.slow(), add, add, add)]
    assert ring.cancel(numbers[2])
    assert not ring.cancel(numbers[2]), "a second time it is over"
    assert ring.wait(ring.pushed) == numbers[2] + 1
    assert ring.halted
    assert ring.outcome(numbers[2]).status == Status.CANCELLED
    ring.go_on()
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [2] * COUNT


def test_what_was_skipped_does_not_halt(bench: Bench) -> None:
    ring = bench.ring
    add = bench.add(1)
    numbers = [bench.push(program) for program in (bench.slow(), add, add, add)]
    assert ring.cancel(numbers[1], Status.SKIPPED)
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.statuses(numbers)[1] == Status.SKIPPED
    assert bench.numbers == [2] * COUNT


def test_a_cancelled_submission_still_resolves_its_bindings(bench: Bench) -> None:
    """The next replay with the same buffers is pushed without a table."""
    device, ring = bench.device, bench.ring
    commands = device.command_buffer("slots")
    commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(2), [Slot(0, 0, 160), Slot(1, 0, 160)])
    program = bench.keep(commands.finish())
    bench.push(bench.slow())
    first = bench.push(program, [bench.out, bench.seen])
    bench.push(program, [bench.out, bench.seen])
    assert ring.cancel(first, Status.SKIPPED)
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [2] * COUNT


def test_what_runs_is_stopped_between_tiles(bench: Bench) -> None:
    ring = bench.ring
    slow = bench.slow(tiles=100_000)  # more than a second
    number = bench.push(slow)
    bench.push(bench.add(1))
    assert ring.wait(ring.pushed, tiles=1) == number, "one tile is not all of it"
    assert ring.cancel(number)
    assert ring.wait(ring.pushed) == number + 1
    assert ring.outcome(number).status == Status.CANCELLED
    ring.go_on()
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [1] * COUNT


def test_what_has_ended_cannot_be_cancelled(bench: Bench) -> None:
    ring = bench.ring
    number = bench.push(bench.add(1))
    assert ring.wait(ring.pushed) == ring.pushed
    assert not ring.cancel(number)
    assert not ring.halted
    assert ring.outcome(number).status == Status.ENDED
    ring.retire(ring.pushed)
    assert not ring.cancel(number)
    assert not ring.cancel(ring.pushed)
    with pytest.raises(InvalidArgument, match="not in the ring"):
        ring.outcome(number)


def test_what_is_cancelled_ends_at_once_however_many_tiles_it_has(bench: Bench) -> None:
    """Its remaining tiles are claimed together: 48 claims are not 16 million."""
    ring = bench.ring
    commands = bench.device.command_buffer("many")
    commands.dispatch(NOP, (4095, 4095, 1), None, [])
    many = bench.push(bench.keep(commands.finish()))
    ring.wait(ring.pushed, tiles=3)
    assert ring.cancel(many)
    for _ in range(48):
        if ring.wait(ring.pushed, tiles=1) == ring.pushed:
            break
    assert ring.look() == ring.pushed
    assert bench.statuses([many]) == [Status.CANCELLED]


@pytest.mark.parametrize("seed", range(3))
def test_cancel_and_end_agree(bench: Bench, seed: int) -> None:
    """Whoever wins: what was cancelled has not run to its end, what was not has."""
    ring, rng = bench.ring, random.Random(seed)
    add = bench.add(1)
    done = 0
    for _ in range(300):
        numbers = [bench.push(add) for _ in range(rng.randint(1, 6))]
        if rng.random() < 0.5:
            ring.wait(ring.pushed, tiles=rng.randint(1, 200))
        chosen = rng.choice(numbers)
        won = ring.cancel(chosen)
        while ring.wait(ring.pushed) < ring.pushed:
            assert ring.halted
            ring.go_on()
        assert ring.halted == (won and chosen == numbers[-1])
        if ring.halted:
            ring.go_on()
        expected = [Status.CANCELLED if won and n == chosen else Status.ENDED for n in numbers]
        assert bench.statuses(numbers) == expected
        ring.retire(ring.pushed)
        # A cancelled one may have run some of its tiles; the last element is its last tile's.
        done += len(numbers) - won
        assert all(value >= done for value in bench.numbers)
        if won:
            bench.out.write(struct.pack("<I", done) * COUNT)
        else:
            assert bench.numbers == [done] * COUNT


# -- waiting -----------------------------------------------------------------------------------


def test_a_wait_ends_when_its_time_is_over(bench: Bench) -> None:
    ring = bench.ring
    number = bench.push(bench.slow(tiles=100_000))
    assert ring.wait(ring.pushed, 0) == number
    before = time.monotonic()
    assert ring.wait(ring.pushed, 0.02) == number
    assert time.monotonic() >= before + 0.02
    ring.cancel(number)


def test_waiting_in_pieces_gets_there(bench: Bench) -> None:
    ring = bench.ring
    bench.push(bench.slow(tiles=500))
    bench.push(bench.add(1))
    calls = 0
    while ring.wait(ring.pushed, tiles=16) < ring.pushed:
        calls += 1
    if bench.device.threads == 1:
        assert calls >= 500 // 16
    assert bench.numbers == [1] * COUNT


def test_a_wait_for_an_early_one_runs_no_more_than_it(bench: Bench) -> None:
    """Where only this thread computes; where others do, nobody can say how far they have come."""
    ring = bench.ring
    add = bench.add(1)
    numbers = [bench.push(add) for _ in range(3)]
    if bench.device.threads == 1:
        assert ring.wait(numbers[1] + 1) == numbers[1] + 1
        assert bench.numbers == [2] * COUNT
    assert ring.look() >= numbers[0]
    assert ring.wait(ring.pushed) == ring.pushed
    assert bench.numbers == [3] * COUNT


def test_time_outs_of_a_wait_that_is_over_do_not_matter(bench: Bench) -> None:
    ring = bench.ring
    for _ in range(50):
        bench.push(bench.add(1))
        assert ring.wait(ring.pushed) == ring.wait(ring.pushed, 0) == ring.look() == ring.pushed
        ring.retire(ring.pushed)


def test_empty_programs_end_at_once(bench: Bench) -> None:
    ring, empty = bench.ring, bench.empty()
    commands = bench.device.command_buffer("no tiles")
    commands.dispatch(NOP, (0, 4, 4), None, [])
    none = bench.keep(commands.finish())
    for _ in range(TW_RING // 2):
        bench.push(empty)
        bench.push(none)
    assert ring.look() == ring.pushed


async def test_an_event_loop_waits_beside_other_tasks(device: Device) -> None:
    bench = Bench(device)
    ring = bench.ring
    turns = 0
    bench.push(bench.slow())
    waiting = asyncio.ensure_future(ring.ended(ring.pushed))
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0)
    assert await waiting == ring.pushed
    assert turns > 1
    number = bench.push(bench.slow(tiles=100_000))
    assert await ring.ended(ring.pushed, 0.02) == number
    ring.cancel(number)
    assert await ring.ended(ring.pushed) == ring.pushed
    bench.settle()
    for thing in reversed(bench.kept):
        thing.free()


async def test_a_count_that_an_await_brings_late_is_no_step_back(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have looked meanwhile: taken for a step forward it would be one of 2³² less a few."""
    bench = Bench(device)
    ring, driver = bench.ring, device.heap.driver
    before = ring.look()

    async def late(queue: int, target: int, seconds: float) -> int:
        assert ring.wait(ring.pushed, 30) == ring.pushed
        return before % (1 << 32)

    monkeypatch.setattr(driver, "ended", late)
    monkeypatch.setattr(driver, "is_ready", lambda thread: True)
    bench.push(bench.add(1))
    bench.push(bench.add(1))
    assert await ring.ended(ring.pushed, 30) == ring.pushed
    monkeypatch.undo()
    bench.settle()
    assert bench.numbers == [2] * COUNT
    for thing in reversed(bench.kept):
        thing.free()
