"""Control flow: operations whose attributes are graphs. What a graph reads from outside, captured,
is among the operation's last inputs and the graph's last inputs, in the same order.

if(then, else) (condition, captured...)
loop(body, carried) (count, condition, carried..., captured...) -> carried..., stacked...
    body (number, condition, carried..., captured...) -> condition, carried..., one of each stacked
scan(body, states, reverse_in, reverse_out) (states..., scanned..., captured...)
    -> states..., stacked...; takes and stacks along the first axis, from the end where reversed
    body (states..., one of each scanned, captured...) -> states..., one of each stacked
sequence_map(body, others) (sequence, others..., captured...) -> sequences
    body (one of the sequence and of every other that is a sequence, captured...)

Source: onnx/defs/controlflow and onnx/defs/sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.graph import UNTYPED, Value
from tilework.ir.opdefs.registry import Array, Attrs, define_dynamic
from tilework.ir.opdefs.sequence import listed
from tilework.ir.opdefs.subgraph import call


def _single(value: Any, kinds: str) -> bool:
    return isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in kinds


def truth(condition: Any) -> bool:
    """What a condition says. InvalidArgument for any other value."""
    if not _single(condition, "b"):
        raise InvalidArgument("the condition must be a tensor of one bool")
    return bool(condition.reshape(-1)[0])


def trips(count: Any) -> int | None:
    """How often a loop runs at most; None without a limit."""
    if count is None:
        return None
    if not _single(count, "iu"):
        raise InvalidArgument("the trip count must be a tensor of one integer")
    return int(count.reshape(-1)[0])


def nothing(value: Value) -> Array:
    """What a loop that never ran has stacked: no rows of what its body says it gives."""
    if value.dtype is UNTYPED:
        raise InvalidArgument(f"'{value.name}' was never computed and its dtype is not declared")
    shape = [extent if isinstance(extent, int) else 0 for extent in value.shape or ()]
    return np.zeros((0, *shape), value.dtype.numpy)


def stacked(rows: Sequence[Array], value: Value) -> Array:
    """Rows as one array; InvalidArgument when they differ or are none."""
    if not rows:
        return nothing(value)
    if not all(isinstance(row, np.ndarray) for row in rows):
        raise InvalidArgument(f"'{value.name}' is no tensor, and only those are stacked")
    if any((row.shape, row.dtype) != (rows[0].shape, rows[0].dtype) for row in rows):
        raise InvalidArgument(f"'{value.name}' is not of one type in all turns")
    return np.stack(rows)


def _if(attrs: Attrs, condition: Array, *captured: Any) -> tuple[Any, ...]:
    return tuple(call(attrs["then" if truth(condition) else "else"], captured))


def _loop(
    attrs: Attrs, count: Any = None, condition: Any = None, *values: Any
) -> tuple[Any, ...]:
    body, carried = attrs["body"], attrs["carried"]
    state, captured = list(values[:carried]), values[carried:]
    ends = body.outputs[1 + carried :]
    rows: list[list[Array]] = [[] for _ in ends]
    limit, go = trips(count), condition is None or truth(condition)
    turn = 0
    while go and (limit is None or turn < limit):
        number, flag = np.array(turn, dtype=np.int64), np.array(go)
        again, *results = call(body, [number, flag, *state, *captured])
        go, state = truth(again), results[:carried]
        for row, result in zip(rows, results[carried:], strict=True):
            row.append(result)
        turn += 1
    return (*state, *map(stacked, rows, ends))


def scan_length(scanned: Sequence[Any]) -> int:
    """The common extent of the first axis. InvalidArgument when there is none."""
    lengths = {one.shape[0] if getattr(one, "shape", ()) else -1 for one in scanned}
    if len(lengths) != 1 or -1 in lengths:
        raise InvalidArgument("what is scanned must have one length along its axis")
    return int(lengths.pop())


def _scan(attrs: Attrs, *values: Any) -> tuple[Any, ...]:
    body, states = attrs["body"], attrs["states"]
    reverse_in, reverse_out = attrs["reverse_in"], attrs["reverse_out"]
    state, rest = list(values[:states]), values[states:]
    scanned, captured = rest[: len(reverse_in)], rest[len(reverse_in) :]
    length = scan_length(scanned)
    ends = body.outputs[states:]
    rows: list[list[Array]] = [[] for _ in ends]
    for turn in range(length):
        ones = [
            one[length - 1 - turn if reverse else turn]
            for one, reverse in zip(scanned, reverse_in, strict=True)
        ]
        results = call(body, [*state, *map(np.asarray, ones), *captured])
        state = results[:states]
        for row, result in zip(rows, results[states:], strict=True):
            row.append(result)
    for row, reverse in zip(rows, reverse_out, strict=True):
        if reverse:
            row.reverse()
    return (*state, *map(stacked, rows, ends))


def turns_of(sequence: Any, others: Sequence[Any]) -> list[list[Any]]:
    """What each turn of a sequence_map takes. InvalidArgument for sequences of other lengths."""
    items = listed(sequence)
    if any(isinstance(one, list) and len(one) != len(items) for one in others):
        raise InvalidArgument("the sequences differ in length")
    return [
        [item, *(one[turn] if isinstance(one, list) else one for one in others)]
        for turn, item in enumerate(items)
    ]


def _sequence_map(attrs: Attrs, sequence: Any, *values: Any) -> tuple[list[Any], ...]:
    body, others = attrs["body"], attrs["others"]
    captured = values[others:]
    found = [call(body, [*one, *captured]) for one in turns_of(sequence, values[:others])]
    return tuple([row[index] for row in found] for index in range(len(body.outputs)))


define_dynamic("if", (1, -1), _if, outputs=-1)
define_dynamic("loop", (0, -1), _loop, outputs=-1)
define_dynamic("scan", (1, -1), _scan, outputs=-1)
define_dynamic("sequence_map", (1, -1), _sequence_map, outputs=-1)
