"""Runs control flow whose graphs are planned: what a body leaves on the device its next turn reads.

Each function is given the node, its values (arrays, Residents, lists, None) and the node's graphs
as functions, and gives the node's outputs. What the operations mean is `ir.opdefs.control`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tilework.core.config import VALUE_LIMIT
from tilework.core.errors import InvalidArgument
from tilework.engine.resident import Resident, copy_on_device, host_array
from tilework.hal import Buffer, Device
from tilework.ir.graph import Graph, Node, Value
from tilework.ir.opdefs.control import nothing, scan_length, stacked, trips, truth, turns_of

# Values, which outputs the host needs, and where others may be written → the outputs.
Call: TypeAlias = Callable[[Sequence[Any], Collection[int], Mapping[int, Resident]], list[Any]]
# Rows that there is room for when nobody knows how many there will be, and copies made at once.
FEW = 64
# Bytes that rows get at once when that is enough for all that may come.
ENOUGH = 16 << 20

Control: TypeAlias = Callable[[Device, Node, Sequence[Any], Mapping[str, Call]], list[Any]]


def _host(value: Any) -> Any:
    return host_array(value) if isinstance(value, Resident) else value


def _if(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    return calls["then" if truth(_host(values[0])) else "else"](values[1:], (), {})


def _loop(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    carried: int = node.attrs["carried"]
    count, condition = (_host(value) for value in (*values, None, None)[:2])
    state = list(values[2 : 2 + carried])
    captured = _pinned(device, values[2 + carried :])
    limit, go = trips(count), condition is None or truth(condition)
    rows = [_Rows(device, end, limit) for end in body.outputs[1 + carried :]]
    turn = 0
    while go and (limit is None or turn < limit):
        number, flag = np.array(turn, dtype=np.int64), np.array(go)
        given = [number, flag, *state, *captured]
        again, *results = calls["body"](given, (0,), _places(rows, 1 + carried))
        go, state = truth(again), results[:carried]
        for row, result in zip(rows, results[carried:], strict=True):
            row.add(result)
        turn += 1
    return [*(_apart(device, one, rows) for one in state), *(row.stacked() for row in rows)]


def _scan(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    states: int = node.attrs["states"]
    backward: Sequence[int] = node.attrs["reverse_in"]
    state, rest = list(values[:states]), values[states:]
    scanned, captured = rest[: len(backward)], _pinned(device, rest[len(backward) :])
    length = scan_length(scanned)
    rows = [
        _Rows(device, end, length, bool(reverse))
        for end, reverse in zip(body.outputs[states:], node.attrs["reverse_out"], strict=True)
    ]
    for turn in range(length):
        ones = [
            _row(one, length - 1 - turn if reverse else turn)
            for one, reverse in zip(scanned, backward, strict=True)
        ]
        results = calls["body"]([*state, *ones, *captured], (), _places(rows, states))
        state = results[:states]
        for row, result in zip(rows, results[states:], strict=True):
            row.add(result)
    return [*(_apart(device, one, rows) for one in state), *(row.stacked() for row in rows)]


def _sequence_map(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    others: int = node.attrs["others"]
    captured = _pinned(device, values[1 + others :])
    given = [_host(value) for value in values[: 1 + others]]
    everything = range(len(body.outputs))
    found = [
        calls["body"]([*one, *captured], everything, {}) for one in turns_of(given[0], given[1:])
    ]
    return [[row[index] for row in found] for index in everything]


CONTROL: dict[str, Control] = {
    "if": _if, "loop": _loop, "scan": _scan, "sequence_map": _sequence_map,
}  # fmt: skip


def _pinned(device: Device, values: Sequence[Any]) -> list[Any]:
    """Values that every turn reads: arrays too large to be shapes go to the device once."""
    result = list(values)
    for index, value in enumerate(values):
        if isinstance(value, np.ndarray) and value.size > VALUE_LIMIT and value.dtype != object:
            result[index] = Resident.of(device, value)
    return result


def _apart(device: Device, value: Any, rows: Sequence[_Rows]) -> Any:
    """A last state that lies among the rows, in memory of its own."""
    if not isinstance(value, Resident) or not any(row.holds(value) for row in rows):
        return value
    target = Resident.make(device, value.dtype, value.shape)
    if value.nbytes:
        copy_on_device(device, [(value.buffer, target.buffer)])
    return target


def _row(value: Any, index: int) -> Any:
    return value.row(index) if isinstance(value, Resident) else np.array(value[index])


class _Rows:
    """What a loop stacks: one tensor on the device, to which the turns write their rows."""

    def __init__(
        self, device: Device, value: Value, length: int | None, reverse: bool | None = None
    ) -> None:
        """`length` is how many there will be at most, None when nobody knows; or exactly, with
        `reverse`, which says whether the last one comes first."""
        self._device = device
        self._value = value
        self._length = length
        self._exact = reverse is not None
        self._reverse = bool(reverse)
        self._arrays: list[Any] = []  # as long as the host computes them
        self._all: Resident | None = None
        self._count = 0
        self._pending: list[tuple[Buffer, Buffer]] = []  # copies

    def place(self) -> Resident | None:
        """Where the next row may be written; None before the first has told its shape."""
        if self._all is None:
            return None
        room = self._all.shape[0]
        if self._count == room:
            self._grow(2 * room)
        return self._all.row(room - 1 - self._count if self._reverse else self._count)

    def add(self, row: Any) -> None:
        """The next row, which may be in its place already. InvalidArgument for another shape."""
        if self._all is None and not isinstance(row, Resident):
            self._arrays.append(row)
            return
        if self._all is None:
            # All rows are of one kind, as the same stages make them; a few may be a turn late.
            length = self._length
            if length is None or (length * row.nbytes > ENOUGH and not self._exact):
                length = FEW
            self._all = Resident.make(
                self._device, row.dtype, (length, *row.shape), self._value.name
            )
            earlier, self._arrays = self._arrays, []
            for one in earlier:
                self.add(one)
        other = isinstance(row, Resident) and row.dtype is not self._all.dtype
        if other or getattr(row, "shape", None) != self._all.shape[1:]:
            raise InvalidArgument(f"'{self._value.name}' is not of one type in all turns")
        place = self.place()
        assert place is not None  # there are rows
        self._count += 1
        if not isinstance(row, Resident):
            place.write(row)
        elif row.nbytes and row.buffer.address != place.buffer.address:
            self._pending.append((row.buffer.subspan(0, row.nbytes), place.buffer))
            if len(self._pending) == FEW:
                self._copy()

    def holds(self, value: Resident) -> bool:
        """Whether the value is one of the rows."""
        return self._all is not None and self._all.buffer.root is value.buffer.root

    def stacked(self) -> Any:
        """All rows, where they are; none have the shape that the graph says."""
        if self._all is None:
            arrays = self._arrays[::-1] if self._reverse else self._arrays
            return stacked(arrays, self._value) if arrays else nothing(self._value)
        self._copy()
        return Resident(self._all.dtype, (self._count, *self._all.shape[1:]), self._all.buffer)

    def _copy(self) -> None:
        pairs, self._pending = self._pending, []
        copy_on_device(self._device, pairs)

    def _grow(self, room: int) -> None:
        self._copy()
        old = self._all
        assert old is not None and not self._reverse  # who goes backwards knows the length
        self._all = Resident.make(
            self._device, old.dtype, (room, *old.shape[1:]), self._value.name
        )
        if old.nbytes:
            copy_on_device(self._device, [(old.buffer, self._all.buffer.subspan(0, old.nbytes))])


def _places(rows: Sequence[_Rows], first: int) -> dict[int, Resident]:
    """Where a turn's outputs from number `first` on may be written."""
    places = ((index, row.place()) for index, row in enumerate(rows, first))
    return {index: place for index, place in places if place is not None}
