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
from tilework.hal import Device
from tilework.ir.graph import Graph, Node, Value
from tilework.ir.opdefs.control import nothing, scan_length, stacked, trips, truth, turns_of

# Values and which outputs the host needs → the outputs.
Call: TypeAlias = Callable[[Sequence[Any], Collection[int]], list[Any]]
Control: TypeAlias = Callable[[Device, Node, Sequence[Any], Mapping[str, Call]], list[Any]]


def _host(value: Any) -> Any:
    return host_array(value) if isinstance(value, Resident) else value


def _if(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    return calls["then" if truth(_host(values[0])) else "else"](values[1:], ())


def _loop(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    carried: int = node.attrs["carried"]
    count, condition = (_host(value) for value in (*values, None, None)[:2])
    state = list(values[2 : 2 + carried])
    captured = _pinned(device, values[2 + carried :])
    ends = body.outputs[1 + carried :]
    rows: list[list[Any]] = [[] for _ in ends]
    limit, go = trips(count), condition is None or truth(condition)
    turn = 0
    while go and (limit is None or turn < limit):
        number, flag = np.array(turn, dtype=np.int64), np.array(go)
        again, *results = calls["body"]([number, flag, *state, *captured], (0,))
        go, state = truth(again), results[:carried]
        for row, result in zip(rows, results[carried:], strict=True):
            row.append(result)
        turn += 1
    return [*state, *(_stacked(device, row, end) for row, end in zip(rows, ends, strict=True))]


def _scan(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    states: int = node.attrs["states"]
    backward: Sequence[int] = node.attrs["reverse_in"]
    state, rest = list(values[:states]), values[states:]
    scanned, captured = rest[: len(backward)], _pinned(device, rest[len(backward) :])
    length = scan_length(scanned)
    ends = body.outputs[states:]
    rows: list[list[Any]] = [[] for _ in ends]
    for turn in range(length):
        ones = [
            _row(one, length - 1 - turn if reverse else turn)
            for one, reverse in zip(scanned, backward, strict=True)
        ]
        results = calls["body"]([*state, *ones, *captured], ())
        state = results[:states]
        for row, result in zip(rows, results[states:], strict=True):
            row.append(result)
    for row, reverse in zip(rows, node.attrs["reverse_out"], strict=True):
        if reverse:
            row.reverse()
    return [*state, *(_stacked(device, row, end) for row, end in zip(rows, ends, strict=True))]


def _sequence_map(
    device: Device, node: Node, values: Sequence[Any], calls: Mapping[str, Call]
) -> list[Any]:
    body: Graph = node.attrs["body"]
    others: int = node.attrs["others"]
    captured = _pinned(device, values[1 + others :])
    given = [_host(value) for value in values[: 1 + others]]
    everything = range(len(body.outputs))
    found = [
        calls["body"]([*one, *captured], everything) for one in turns_of(given[0], given[1:])
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


def _row(value: Any, index: int) -> Any:
    return value.row(index) if isinstance(value, Resident) else np.array(value[index])


def _stacked(device: Device, rows: Sequence[Any], value: Value) -> Any:
    """Rows as one value, on the device if one of them is there."""
    first = next((row for row in rows if isinstance(row, Resident)), None)
    if first is None:
        return stacked(rows, value) if rows else nothing(value)
    target = Resident.make(device, first.dtype, (len(rows), *first.shape), value.name)
    pairs = []
    for index, row in enumerate(rows):
        if row.shape != first.shape:
            raise InvalidArgument(f"'{value.name}' does not have one shape in all turns")
        place = target.row(index)
        if isinstance(row, Resident):
            pairs.append((row.buffer.subspan(0, row.nbytes), place.buffer))
        else:
            place.write(row)
    if first.nbytes:
        copy_on_device(device, pairs)
    return target
