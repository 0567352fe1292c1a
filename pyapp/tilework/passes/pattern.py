"""Patterns: small trees of operations, matched against the graph from their root upwards.

A pattern is data; `match` finds what its names stand for, tries both orders of commutative
operations and makes sure that nothing outside reads the inner values. Rewriting is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any as AnyValue
from typing import TypeAlias

from tilework.ir.graph import Node
from tilework.passes.editor import Editor

COMMUTATIVE = frozenset({"add", "mul"})


@dataclass(frozen=True, slots=True)
class Any:
    """Any value; the same name twice means the same value."""

    name: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A constant of one element: near `value`, or, for None, any number, kept under `name`."""

    value: float | None = None
    name: str = ""
    tolerance: float = 1e-4  # relative; exporters round √2 differently


@dataclass(frozen=True, slots=True)
class Op:
    """A node of operation `op` with these inputs; `check` may refuse it, `name` keeps it."""

    op: str
    inputs: tuple[Pattern, ...]
    name: str = ""
    check: Callable[[Editor, Node], bool] | None = None


Pattern: TypeAlias = Any | Scalar | Op


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern's names stand for: values' names, numbers, and nodes."""

    values: Mapping[str, str]
    numbers: Mapping[str, float]
    nodes: Mapping[str, Node]


_Found: TypeAlias = dict[str, AnyValue]


def match(editor: Editor, root: Node, pattern: Op, shared: bool = False) -> Match | None:
    """The first way in which the pattern fits with its root at `root`, or None.

    With `shared` others may read the inner values, which stay for them.
    """
    if not _may_fit(editor, root, pattern):  # most do not, and this says so in no time
        return None
    for found in _node(editor, root, pattern, {}):
        inner: list[Node] = found["inner"]
        ids = {id(node) for node in inner}
        closed = shared or all(
            name not in editor.outputs and all(id(user) in ids for user in editor.users(name))
            for node in inner
            if node is not root
            for name in node.outputs
        )
        if closed:
            return Match(
                {k[1:]: v for k, v in found.items() if k[0] == "v"},
                {k[1:]: v for k, v in found.items() if k[0] == "n"},
                {k[1:]: v for k, v in found.items() if k[0] == "o"},
            )
    return None


def _may_fit(editor: Editor, node: Node | None, pattern: Op) -> bool:
    """Whether the operations are the pattern's, whatever its names stand for."""
    if node is None or node.op != pattern.op:
        return False
    for at, inner in enumerate(pattern.inputs):
        if isinstance(inner, Op):
            names = node.inputs if node.op in COMMUTATIVE else node.inputs[at : at + 1]
            if not any(_may_fit(editor, editor.producer(name), inner) for name in names):
                return False
    return True


def _node(editor: Editor, node: Node, pattern: Op, found: _Found) -> Iterator[_Found]:
    if node.op != pattern.op or len(node.inputs) < len(pattern.inputs):
        return
    if any(node.inputs[len(pattern.inputs) :]):
        return
    if pattern.check is not None and not pattern.check(editor, node):
        return
    inner = [*found.get("inner", ()), node]
    found = {**found, "inner": inner}
    if pattern.name:
        found["o" + pattern.name] = node
    orders = [node.inputs]
    if node.op in COMMUTATIVE and node.inputs[0] != node.inputs[1]:
        orders.append((node.inputs[1], node.inputs[0]))
    for order in orders:
        yield from _inputs(editor, order, pattern.inputs, 0, found)


def _inputs(
    editor: Editor, names: tuple[str, ...], patterns: tuple[Pattern, ...], at: int, found: _Found
) -> Iterator[_Found]:
    if at == len(patterns):
        yield found
        return
    for one in _value(editor, names[at], patterns[at], found):
        yield from _inputs(editor, names, patterns, at + 1, one)


def _value(editor: Editor, name: str, pattern: Pattern, found: _Found) -> Iterator[_Found]:
    if isinstance(pattern, Any):
        key = "v" + pattern.name
        if name and found.get(key, name) == name:
            yield {**found, key: name}
    elif isinstance(pattern, Scalar):
        number = editor.scalar(name)
        if number is None:
            return
        if pattern.value is None:
            yield {**found, "n" + pattern.name: number, "v" + pattern.name: name}
        elif math.isclose(number, pattern.value, rel_tol=pattern.tolerance, abs_tol=1e-12):
            yield found
    else:
        node = editor.producer(name)
        if node is not None and node.outputs[0] == name:
            yield from _node(editor, node, pattern, found)
