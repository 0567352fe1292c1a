"""Random graphs of operations, host signals, failures and cancels against a sequential model.

The model knows semaphores, and operations as (waits, signals, what it does to a cell); it runs
whatever is ready until nothing is. A graph is made so that its outcome does not depend on the order
of what is ready at the same time: each operation has a timeline of its own to signal, and what it
leaves in its own cell is the sum over the operations that it waits for. So a wrong order, a lost or
repeated run and a failure that went astray all show in the cells, the values and the errors.
"""

from __future__ import annotations

import asyncio
import random
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hal.queued import words
from tilework.core.errors import Cancelled, Deadlock, KernelFailure, TileworkError
from tilework.hal import Buffer, Device, Operation, Program, Semaphore, Slot
from tilework.hal.kernels.probe import FAIL, TRACE, FailParams, TraceParams

KINDS = ("execute", "execute", "execute", "barrier", "host", "update", "read", "fails", "raises")
PARTIES = 3  # semaphores that only the host signals


@dataclass(slots=True)
class Node:
    """An operation: what it waits for, as numbers of earlier nodes and (party, value) pairs."""

    kind: str
    needs: tuple[int, ...]
    parties: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Graph:
    """Nodes in an order in which they could run, and in the order in which they are enqueued.

    `acts` happen in between, at a place in that order: a party's signal or failure, a cancel, a
    short wait.
    """

    nodes: list[Node]
    order: list[int]
    acts: list[tuple[int, str, int, int]] = field(default_factory=list)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 24))
    nodes = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        parties = draw(st.dictionaries(st.integers(0, PARTIES - 1), st.integers(1, 3), max_size=1))
        kind = draw(st.sampled_from(KINDS))
        nodes.append(Node(kind, tuple(sorted(needs)), tuple(parties.items())))
    order = draw(st.permutations(range(count)))
    acts = draw(
        st.lists(
            st.tuples(
                st.integers(0, count),
                st.sampled_from(("signal", "signal", "fail", "cancel", "wait", "look")),
                st.integers(0, count - 1),
                st.integers(1, 3),
            ),
            max_size=8,
        )
    )
    return Graph(nodes, list(order), sorted(acts, key=lambda act: act[0]))


class PartyFailed(Exception):
    """What a party fails its semaphore with."""


class Model:
    """What must come out, given what the parties did, and what was cancelled.

    `late` are the failures that a node has found when it was enqueued: a semaphore's failure takes
    the values reached before with it, but what had them already goes on.
    """

    def __init__(
        self,
        graph: Graph,
        values: list[int],
        failed: list[PartyFailed | None],
        cancelled: set[int],
        late: dict[int, list[object]],
    ) -> None:
        # "waits" for ever, "cancelled", a kind that fails, the party's error, or the cell's value.
        self.ends: list[object] = []
        for number, node in enumerate(graph.nodes):
            errors = late.get(number, [])
            self.ends.append(self._end(number, node, values, failed, cancelled, [*errors]))

    def _end(
        self,
        number: int,
        node: Node,
        values: list[int],
        failed: list[PartyFailed | None],
        cancelled: set[int],
        errors: list[object],
    ) -> object:
        waits = False
        total = 1
        for need in node.needs:
            end = self.ends[need]
            if isinstance(end, int):
                total += end
            elif end == "waits":
                waits = True
            else:
                errors.append(end)
        for party, value in node.parties:
            if values[party] >= value:
                continue
            if failed[party] is not None:
                errors.append(failed[party])
            else:
                waits = True
        if number in cancelled:
            return "cancelled"
        if errors:
            return tuple(errors)  # one of them: the first that the operation came to know
        if waits:
            return "waits"
        return node.kind if node.kind in ("fails", "raises") else total


class Run:
    """The graph on a device. Cell n of `cells` belongs to node n; `seen` is the kernel's own."""

    def __init__(self, device: Device, graph: Graph) -> None:
        self.device, self.graph = device, graph
        count = len(graph.nodes)
        self.lines = [device.semaphore(label=f"line {n}") for n in range(count)]
        self.parties = [device.semaphore(label=f"party {n}") for n in range(PARTIES)]
        self.failed: list[PartyFailed | None] = [None] * PARTIES
        self.reached = [0] * PARTIES
        self.late: dict[int, list[object]] = {}
        self.operations: dict[int, Operation] = {}
        self.cancelled: set[int] = set()
        self.cells: list[Buffer] = [device.allocate(4) for _ in range(count)]
        self.seen = device.allocate(4)
        for cell in self.cells:
            cell.write(bytes(4))
        self.programs: list[Program] = []
        commands = device.command_buffer("fails")
        commands.dispatch(FAIL, (3, 1, 1), FailParams(1, 88), [])
        self.failing = commands.finish()
        self.programs.append(self.failing)

    def program(self, node: Node, total: int) -> Program:
        """cell += its own share, by a kernel; the model's total, when all it needs has run."""
        commands = self.device.command_buffer("node")
        commands.dispatch(TRACE, (1, 1, 1), TraceParams(total), [Slot(0, 0, 4), Slot(1, 0, 4)])
        program = commands.finish()
        self.programs.append(program)
        return program

    def enqueue(self, number: int) -> None:
        node, queue, cell = self.graph.nodes[number], self.device.queue, self.cells[number]
        wait: list[tuple[Semaphore, int]] = [(self.lines[need], 1) for need in node.needs]
        wait += [(self.parties[party], value) for party, value in node.parties]
        self.late[number] = [e for party, _ in node.parties if (e := self.failed[party])]
        signal = (self.lines[number], 1)
        total = self.totals[number]
        data = struct.pack("<I", total)
        if node.kind == "execute":
            program = self.program(node, total)
            operation = queue.execute(program, [cell, self.seen], wait=wait, signal=signal)
        elif node.kind == "barrier":
            # Its cell is written by who enqueues it: a barrier touches nothing.
            cell.write(data)
            operation = queue.barrier(wait=wait, signal=signal)
        elif node.kind == "host":
            operation = queue.host_call(self.check, number, wait=wait, signal=signal)
        elif node.kind == "update":
            operation = queue.update(cell, data, wait=wait, signal=signal)
        elif node.kind == "read":
            operation = queue.read(data, 0, cell, wait=wait, signal=signal)
        elif node.kind == "fails":
            operation = queue.execute(self.failing, wait=wait, signal=signal)
        else:
            operation = queue.host_call(self.refuse, number, wait=wait, signal=signal)
        self.operations[number] = operation

    @property
    def totals(self) -> list[int]:
        totals: list[int] = []
        for node in self.graph.nodes:
            totals.append(1 + sum(totals[need] for need in node.needs))
        return totals

    def check(self, number: int) -> None:
        """A host call sees what everything that it waits for has left."""
        node, totals = self.graph.nodes[number], self.totals
        for need in node.needs:
            assert words(self.cells[need]) == [totals[need]], f"{number} ran before {need}"
        cell = self.cells[number]
        cell.write(struct.pack("<I", words(cell)[0] + totals[number]))

    def refuse(self, number: int) -> None:
        raise ValueError(f"node {number}")

    def act(self, what: str, number: int, value: int) -> None:
        party = number % PARTIES
        semaphore = self.parties[party]
        if what == "signal" and self.failed[party] is None:
            if value > semaphore.value:
                semaphore.signal(value)
                self.reached[party] = value
        elif what == "fail" and self.failed[party] is None:
            self.failed[party] = error = PartyFailed(f"party {party}")
            semaphore.fail(error)
        elif what == "cancel" and number in self.operations:
            operation = self.operations[number]
            if operation.cancel():
                self.cancelled.add(number)
        elif what == "wait" and number in self.operations:
            with suppress(TileworkError, ValueError, PartyFailed):
                self.operations[number].wait(0.0002)
        elif what == "look" and number in self.operations:
            assert self.operations[number].done in (True, False)

    def play(self) -> None:
        acts = list(self.graph.acts)
        for place, number in enumerate(self.graph.order):
            while acts and acts[0][0] <= place:
                self.act(*acts.pop(0)[1:])
            self.enqueue(number)
        for _, what, target, value in acts:
            self.act(what, target, value)

    def verify(self) -> None:
        """After `play`: everything that can end has ended, as the model says."""
        model = Model(self.graph, self.reached, self.failed, self.cancelled, self.late)
        for number, end in enumerate(model.ends):
            operation, line = self.operations[number], self.lines[number]
            what = f"node {number} ({self.graph.nodes[number]}) should end as {end}: {operation!r}"
            if end == "waits":
                assert not operation.done, what
                assert line.value == 0
                continue
            assert operation.done, what
            failure = operation.failure
            assert failure is line.failure, what
            if isinstance(end, int):
                assert failure is None, what
                assert words(self.cells[number]) == [end], what
                assert line.value == 1
            else:
                assert self.is_of(failure, end), what

    def is_of(self, failure: BaseException | None, end: object) -> bool:
        if isinstance(end, tuple):
            return any(self.is_of(failure, one) for one in end)
        if isinstance(end, Exception):
            return failure is end
        kinds = {"cancelled": Cancelled, "fails": KernelFailure, "raises": ValueError}
        return isinstance(failure, kinds[str(end)])

    def close(self) -> None:
        for operation in self.operations.values():
            operation.cancel()
        self.device.queue.idle()
        for program in self.programs:
            program.free()
        for buffer in (*self.cells, self.seen):
            buffer.free()


EXAMPLES = settings(
    max_examples=120 if sys.platform != "emscripten" else 30,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@EXAMPLES
@given(graph=graphs())
def test_random_graphs(device: Device, graph: Graph) -> None:
    run = Run(device, graph)
    try:
        run.play()
        with suppress(Deadlock):  # what is left waits for a party that never signals
            device.queue.idle()
        run.verify()
    finally:
        run.close()


@pytest.mark.parametrize("seed", range(3))
async def test_random_graphs_awaited(device: Device, seed: int) -> None:
    """A fixed few, awaited: what Hypothesis draws cannot cross an event loop."""
    rng = random.Random(seed)
    count = 30
    nodes = [
        Node(
            rng.choice(KINDS[:7]),
            tuple(sorted(rng.sample(range(n), min(n, rng.randint(0, 3))))),
            ((rng.randrange(PARTIES), rng.randint(1, 3)),) if rng.random() < 0.3 else (),
        )
        for n in range(count)
    ]
    order = rng.sample(range(count), count)
    run = Run(device, Graph(nodes, order))
    try:
        run.play()
        for value in (1, 2, 3):
            for party in run.parties:
                asyncio.get_running_loop().call_later(0.002 * value, party.signal, value)
        run.reached = [3] * PARTIES
        await asyncio.gather(*(operation.finished(60) for operation in run.operations.values()))
        run.verify()
    finally:
        run.close()
