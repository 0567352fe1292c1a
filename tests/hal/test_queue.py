"""The queue: order by semaphores only, several operations in flight, two sessions, await."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref

import pytest

from tests.hal.queued import PATIENCE, add, finish, long, words, zeros
from tilework.core.errors import (
    InvalidArgument,
    OutOfRange,
    TimedOut,
)
from tilework.hal import (
    Buffer,
    Device,
    Fence,
    Slot,
    all_reached,
    any_reached,
    wait_all,
    wait_any,
)
from tilework.hal.kernels.probe import (
    TRACE,
    TraceParams,
)

THREADED = pytest.mark.skipif(sys.platform == "emscripten", reason="Pyodide has no threads")


# -- one operation -----------------------------------------------------------------------------


def test_barrier(device: Device) -> None:
    semaphore = device.semaphore()
    operation = device.queue.barrier(signal=(semaphore, 1))
    assert operation.done and operation.failure is None
    assert semaphore.value == 1
    assert device.queue.barrier().done


@pytest.mark.parametrize(
    "case",
    ["signal", "wait, signal", "two waits, two signals", "value passed", "value jumped over"],
)
def test_execute(device: Device, case: str) -> None:
    a, b, done, too = (device.semaphore(label=name) for name in ("a", "b", "done", "too"))
    program = add(device, 3)
    out, seen = zeros(device), zeros(device)
    execute = device.queue.execute
    if case == "signal":
        execute(program, [out, seen], signal=(done, 1))
    elif case == "wait, signal":
        start = device.semaphore(100)
        execute(program, [out, seen], wait=(a, 1), signal=(start, 101))
        with pytest.raises(TimedOut):
            start.wait(101, 0.01)
        assert start.value == 100 and words(out) == [0] * 8
        a.signal(1)
        start.wait(101)
        done.signal(1)
    elif case == "two waits, two signals":
        execute(program, [out, seen], wait=[(a, 1), (b, 1)], signal=[(done, 1), (too, 5)])
        for semaphore in (b, a):
            with pytest.raises(TimedOut):
                wait_any([(done, 1), (too, 5)], 0.01)
            semaphore.signal(1)
        wait_all([(done, 1), (too, 5)])
    elif case == "value passed":
        a.signal(2)
        execute(program, [out, seen], wait=(a, 1), signal=(done, 1))
    else:
        execute(program, [out, seen], wait=(a, 1), signal=(done, 1))
        a.signal(2)
    done.wait(1)
    assert words(out) == [3] * 8
    program.free()


def test_an_operation_is_its_own_signal(device: Device) -> None:
    program = add(device, 1)
    out, seen = zeros(device), zeros(device)
    operations = [device.queue.execute(program, [out, seen]) for _ in range(5)]
    operations[4].wait()
    assert all(operation.done for operation in operations), "they need not, but the ring is a line"
    assert words(out) == [5] * 8
    for operation in operations:
        operation.wait(0)
        assert not operation.cancel()
    program.free()


@pytest.mark.parametrize("waiting", [False, True], ids=["now", "waiting"])
def test_dispatch(device: Device, waiting: bool) -> None:
    start, other, done = device.semaphore(), device.semaphore(), device.semaphore()
    out, seen = zeros(device), zeros(device)
    device.queue.dispatch(
        TRACE, (8, 1, 1), TraceParams(6), [out, seen],
        wait=(start, 1) if waiting else None, signal=(done, 1),
    )  # fmt: skip
    if waiting:
        # What waits holds nobody up.
        device.queue.dispatch(TRACE, (4, 1, 1), TraceParams(1), [out, seen], signal=(other, 1))
        other.wait(1)
        assert words(out) == [1] * 4 + [0] * 4
        assert done.value == 0
        start.signal(1)
    done.wait(1)
    assert words(out) == ([7] * 4 + [6] * 4 if waiting else [6] * 8)


@pytest.mark.parametrize("waiting", [False, True], ids=["now", "waiting"])
def test_dispatch_of_no_tiles(device: Device, waiting: bool) -> None:
    start, done = device.semaphore(), device.semaphore()
    out, seen = zeros(device), zeros(device)
    device.queue.dispatch(
        TRACE, (0, 1, 1), TraceParams(6), [out, seen],
        wait=(start, 1) if waiting else None, signal=(done, 1),
    )  # fmt: skip
    if waiting:
        with pytest.raises(TimedOut):
            done.wait(1, 0.01)
        start.signal(1)
    done.wait(1)
    assert words(out) == words(seen) == [0] * 8


def test_what_is_wrong_is_raised_at_once(device: Device) -> None:
    queue, semaphore = device.queue, device.semaphore(4, "frames")
    program = add(device, 1)
    out, seen = zeros(device), zeros(device)
    before = device.statistics.spans
    with pytest.raises(InvalidArgument, match=r"barrier: signal of 4 on <Semaphore frames at 4>"):
        queue.barrier(signal=(semaphore, 4))
    with pytest.raises(InvalidArgument, match="2 slots, 1 buffers"):
        queue.execute(program, [out])
    with pytest.raises(OutOfRange, match="slot 0"):
        queue.execute(program, [out.subspan(4), seen])
    with pytest.raises(InvalidArgument, match="takes 2 bindings"):
        queue.dispatch(TRACE, (1, 1, 1), TraceParams(1), [out])
    with pytest.raises(InvalidArgument, match="1, 2 or 4 bytes"):
        queue.fill(out, b"abc")
    with pytest.raises(InvalidArgument, match="overlap"):
        queue.copy(out.subspan(0, 8), out.subspan(4, 8))
    with pytest.raises(InvalidArgument, match="signal of 4"):
        queue.fill(out, b"a", signal=(semaphore, 4))
    with pytest.raises(InvalidArgument, match="cannot be called"):
        queue.host_call(3)  # type: ignore[arg-type]
    gc.collect()
    assert device.statistics.spans == before, "what was refused left something behind"
    queue.idle()
    assert semaphore.value == 4
    program.free()


# -- graphs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain",
    [
        ("fill", "copy"),
        ("update", "copy"),
        ("fill", "copy", "fill"),
        ("fill", "barrier", "copy"),
    ],
    ids=", ".join,
)
def test_chains(device: Device, chain: tuple[str, ...]) -> None:
    """Each waits for the one before; only the last is waited for."""
    source, target = zeros(device), zeros(device)
    line = device.semaphore()
    data = bytes(range(32))
    for number, what in enumerate(chain):
        points = {"wait": (line, number), "signal": (line, number + 1)}
        if what == "fill":
            device.queue.fill(source, b"\x0b" if number == 0 else b"\x0c", **points)
        elif what == "update":
            device.queue.update(source, data, **points)
        elif what == "copy":
            device.queue.copy(source, target, **points)
        else:
            device.queue.barrier(**points)
    line.wait(len(chain))
    assert target.read() == (data if chain[0] == "update" else b"\x0b" * 32)
    assert source.read() == (b"\x0c" * 32 if chain[-1] == "fill" else target.read())


def test_a_long_chain_runs_without_the_host(device: Device) -> None:
    """More than the ring holds, each promised by the one before."""
    program = add(device, 1)
    out, seen = zeros(device), zeros(device)
    line = device.semaphore()
    for number in range(300):
        device.queue.execute(
            program, [out, seen], wait=(line, number), signal=(line, number + 1)
        )
    line.wait(300)
    assert words(out) == [300] * 8
    program.free()


def test_wait_before_signal(device: Device) -> None:
    a, b = device.semaphore(), device.semaphore()
    first = device.queue.barrier(wait=(a, 1), signal=(b, 1))
    assert not first.done
    device.queue.barrier(signal=(a, 1))
    b.wait(1)
    assert first.done


@pytest.mark.parametrize(
    "case",
    [
        "chain, backwards",
        "fork, backwards",
        "two values",
        "device and party",
        "device to device and party",
    ],
)
def test_graphs(device: Device, case: str) -> None:
    queue = device.queue
    a, b, c, party = (device.semaphore(label=name) for name in ("a", "b", "c", "party"))
    one, ten = add(device, 1), add(device, 10)
    out, seen = zeros(device), zeros(device)
    both = [out, seen]
    if case == "chain, backwards":
        queue.execute(ten, both, wait=(a, 1), signal=(b, 1))
        assert not b.value
        queue.execute(one, both, signal=(a, 1))
        wait_all([(a, 1), (b, 1)])
    elif case == "fork, backwards":
        queue.execute(ten, both, wait=(a, 1), signal=(b, 1))
        queue.execute(ten, both, wait=(a, 1), signal=(c, 1))
        unrelated = queue.execute(one, both)
        unrelated.wait()
        assert words(out) == [1] * 8
        queue.execute(one, both, signal=(a, 1))
        wait_all([(b, 1), (c, 1)])
        assert words(out) == [22] * 8
        both = []
    elif case == "two values":
        queue.execute(ten, both, wait=(a, 1), signal=(b, 1))
        queue.execute(ten, both, wait=(a, 2), signal=(c, 1))
        queue.barrier(signal=(a, 3))
        wait_all([(b, 1), (c, 1)])
        assert words(out) == [20] * 8
        both = []
    elif case == "device and party":
        queue.execute(ten, both, wait=[(a, 1), (party, 1)], signal=(b, 1))
        queue.execute(one, both, signal=(a, 1))
        a.wait(1)
        with pytest.raises(TimedOut):
            b.wait(1, 0.01)
        assert words(out) == [1] * 8
        party.signal(1)
        b.wait(1)
    else:
        heard: list[int] = []
        queue.host_call(heard.append, 1, wait=(a, 1), signal=(party, 1))
        queue.execute(ten, both, wait=(a, 1), signal=(b, 1))
        queue.execute(one, both, signal=(a, 1))
        Fence([(b, 1), (party, 1)]).wait()
        assert heard == [1]
    if both:
        assert words(out) == [11] * 8
    one.free()
    ten.free()


@THREADED
@pytest.mark.parametrize("case", ["all", "device first", "party first"])
def test_host_and_device(device: Device, case: str) -> None:
    by_device, by_party, never = (device.semaphore() for _ in range(3))
    program = add(device, 1)
    held = (never, 1) if case == "party first" else None
    buffers = [zeros(device), zeros(device)]
    operation = device.queue.execute(program, buffers, wait=held, signal=(by_device, 1))
    points = [(by_device, 1), (by_party, 1)]
    party = threading.Thread(target=lambda: by_party.signal(1))
    if case != "device first":
        party.start()
    if case == "all":
        wait_all(points, PATIENCE)
    else:
        assert wait_any(points, PATIENCE) == (0 if case == "device first" else 1)
    operation.cancel()
    program.free()


@pytest.mark.parametrize("case", ["all", "device first", "party first"])
async def test_host_and_device_awaited(device: Device, case: str) -> None:
    by_device, by_party, never = (device.semaphore() for _ in range(3))
    program = add(device, 1)
    buffers = [zeros(device), zeros(device)]
    held = (never, 1) if case == "party first" else None
    operation = device.queue.execute(program, buffers, wait=held, signal=(by_device, 1))
    points = [(by_device, 1), (by_party, 1)]
    if case != "device first":
        asyncio.get_running_loop().call_later(0.01, by_party.signal, 1)
    if case == "all":
        await all_reached(points, PATIENCE)
    else:
        assert await any_reached(points, PATIENCE) == (0 if case == "device first" else 1)
    operation.cancel()
    program.free()


def test_a_burst(device: Device) -> None:
    sources = [zeros(device, 16) for _ in range(40)]
    targets = [zeros(device, 16) for _ in range(40)]
    for turn in range(5):
        semaphores = [device.semaphore() for _ in sources]
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            source.write(bytes([turn, number]) * 32)
            device.queue.copy(source, target, signal=(semaphores[number], 1))
        wait_all([(semaphore, 1) for semaphore in semaphores])
        for number, target in enumerate(targets):
            assert target.read() == bytes([turn, number]) * 32


def test_one_program_in_flight_with_several_buffers(device: Device) -> None:
    """Each submission has the slots that it was given, though the table is written early."""
    program = add(device, 1)
    seen = zeros(device)
    buffers = [zeros(device) for _ in range(10)]
    start = device.semaphore()
    for turn in range(10):
        for buffer in buffers[turn:]:
            device.queue.execute(program, [buffer, seen], wait=(start, 1))
    start.signal(1)
    device.queue.idle()
    assert [words(buffer) for buffer in buffers] == [[n + 1] * 8 for n in range(10)]
    program.free()


@pytest.mark.parametrize("what", ["copy", "dispatch"])
def test_what_waits_is_kept_alive(device: Device, what: str) -> None:
    start, done = device.semaphore(), device.semaphore()
    target = zeros(device)
    source = device.allocate(32)
    source.write(b"\x07\0\0\0" * 8)
    gone = weakref.ref(source)
    if what == "copy":
        commands = device.command_buffer()
        commands.copy(Slot(0, 0, 32), Slot(1, 0, 32))
        program = commands.finish()
        device.queue.execute(program, [source, target], wait=(start, 1), signal=(done, 1))
    else:
        program = add(device, 7)
        device.queue.execute(program, [target, source], wait=(start, 1), signal=(done, 1))
    program.free()
    source.free()
    del source, program
    if what == "copy":
        del commands
    gc.collect()
    others = [device.allocate(32) for _ in range(4)]  # would take the memory if it were free
    for other in others:
        other.write(b"\xff" * 32)
    start.signal(1)
    done.wait(1)
    assert words(target) == [7] * 8
    assert all(other.read() == b"\xff" * 32 for other in others)
    gc.collect()
    assert gone() is None, "the operation is over and still holds the buffer"


def test_two_sessions_interleave(device: Device) -> None:
    """Two lines of work, each in order, that know nothing of each other."""
    lines = [device.semaphore(label=name) for name in ("one", "two")]
    outs = [zeros(device), zeros(device)]
    seen = zeros(device)
    programs = [add(device, 1), add(device, 100)]
    for turn in range(60):
        for line, out, program in zip(lines, outs, programs, strict=True):
            device.queue.execute(
                program, [out, seen], wait=(line, turn), signal=(line, turn + 1)
            )
        if turn == 30:
            device.submit(programs[0], [outs[0], seen])  # a third, which blocks
    lines[1].wait(60)
    lines[0].wait(60)
    assert words(outs[0]) == [61] * 8
    assert words(outs[1]) == [6000] * 8
    for program in programs:
        program.free()


async def test_two_sessions_interleave_awaited(device: Device) -> None:
    """Each awaits its own work, and every other turn needs the other session's last one."""
    seen = zeros(device)
    one = add(device, 1)
    lines = [device.semaphore(), device.semaphore()]
    steps: list[int] = []

    async def session(me: int, out: Buffer) -> None:
        for turn in range(20):
            wait = (lines[1 - me], turn + me)
            await device.queue.execute(one, [out, seen], wait=wait, signal=(lines[me], turn + 1))
            steps.append(me)

    outs = [zeros(device), zeros(device)]
    await asyncio.gather(session(0, outs[0]), session(1, outs[1]))
    assert [words(out) for out in outs] == [[20] * 8] * 2
    # Neither can be ahead by more than the one turn whose end the other has not been told of yet.
    assert abs(steps[:20].count(0) - 10) <= 1, "one session waited for the other"
    one.free()


async def test_the_event_loop_stays_alive(device: Device) -> None:
    """Others have their turn while something computes, with workers or without."""
    seen = zeros(device, 100)
    program = long(device, seen, regions=40)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await device.queue.execute(program)
    task.cancel()
    assert turns > 3
    program.free()


async def test_a_blocking_wait_beside_an_await(device: Device) -> None:
    out, seen = zeros(device), zeros(device)
    one = add(device, 1)
    task = asyncio.create_task(finish(device.queue.execute(one, [out, seen])))
    device.queue.execute(one, [out, seen]).wait()
    device.submit(one, [out, seen])
    await task
    await device.queue.idled()
    assert words(out) == [3] * 8
    one.free()
