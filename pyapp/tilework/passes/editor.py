"""Editor: a graph opened for rewriting, with producers and uses indexed.

A pass reads through it and calls `replace`; `finish` gives the new frozen graph. Nodes that lose
their last use go away at once, so uses are exact at any time. Never decides what to rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilework.core.dtypes import DType, from_numpy
from tilework.ir.graph import Constant, Extent, Graph, Node, Value
from tilework.ir.narrow import widen
from tilework.ir.opdefs.registry import Array

SMALL = 4096  # elements; a constant that a pass may look into


class Editor:
    """The passes' working copy. A node's place is a number that stays its own while it lives."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants: dict[str, Constant] = dict(graph.constants)
        self.values: dict[str, Value] = {value.name: value for value in graph.inputs}
        self.values.update(graph.values)
        self.outputs = {value.name for value in graph.outputs}
        self.fired: dict[str, int] = {}
        self._slots: list[list[Node]] = [[node] for node in graph.nodes]
        self._producer: dict[str, tuple[Node, int]] = {}
        self._users: dict[str, list[Node]] = {}
        self._place: dict[int, int] = {}  # id(node) → slot
        self._changed = False
        for place, node in enumerate(graph.nodes):
            self._enter(node, place)

    # -- reading ------------------------------------------------------------

    def __iter__(self) -> Iterator[Node]:
        """Nodes in order; those replaced while iterating are skipped, new ones are not visited."""
        for slot in list(self._slots):
            for node in list(slot):
                if id(node) in self._place:
                    yield node

    def producer(self, name: str) -> Node | None:
        """The node that computes `name`, or None for an input, a constant or an absent one."""
        found = self._producer.get(name)
        return found[0] if found else None

    def users(self, name: str) -> Sequence[Node]:
        """The nodes that read `name`, once for each input position."""
        return self._users.get(name, ())

    def used_once(self, name: str) -> bool:
        """Whether exactly one input position reads `name`, and the graph does not return it."""
        return name not in self.outputs and len(self._users.get(name, ())) == 1

    def reads(self, name: str) -> bool:
        """Whether any node reads `name`, or the graph returns it."""
        return name in self.outputs or bool(self._users.get(name))

    def shape(self, name: str) -> tuple[Extent, ...] | None:
        """The shape as far as known; None when not even the rank is."""
        constant = self.constants.get(name)
        if constant is not None:
            return constant.shape
        value = self.values.get(name)
        return value.shape if value is not None else None

    def concrete(self, name: str) -> tuple[int, ...] | None:
        """The shape when every extent is a number."""
        shape = self.shape(name)
        if shape is None or any(isinstance(extent, str) for extent in shape):
            return None
        return shape  # type: ignore[return-value]

    def dtype(self, name: str) -> DType | None:
        """The dtype, or None when nobody declared it."""
        constant = self.constants.get(name)
        if constant is not None:
            return constant.dtype
        value = self.values.get(name)
        return value.dtype if value is not None else None

    def array(self, name: str) -> Array | None:
        """The elements of a small constant that the host has; else None."""
        constant = self.constants.get(name)
        if constant is None or constant.array is None or constant.array.size > SMALL:
            return None
        return constant.array

    def scalar(self, name: str) -> float | None:
        """The number that a constant of one element holds; else None."""
        array = self.array(name)
        if array is None or array.size != 1 or array.dtype.kind in "cO":
            return None
        return float(widen(array).reshape(-1)[0])

    # -- writing ------------------------------------------------------------

    def replace(self, old: Node, new: Sequence[Node], rule: str) -> None:
        """Puts `new` where `old` was. They must give all outputs of `old` that are used."""
        place = self._place[id(old)]
        slot = self._slots[place]
        position = next(i for i, node in enumerate(slot) if node is old)
        self._leave(old)
        slot[position : position + 1] = list(new)
        for node in new:
            self._enter(node, place)
        self._fire(rule)
        for name in old.inputs:
            self._drop_unused(name)

    def redirect(self, old: str, new: str, rule: str) -> bool:
        """Makes every reader of `old` read `new`; False (and nothing done) for a graph output."""
        if old in self.outputs:
            return False
        for node in dict.fromkeys(map(id, self._users.get(old, ()))):
            reader = next(user for user in self._users[old] if id(user) == node)
            place = self._place[node]
            slot = self._slots[place]
            position = next(i for i, other in enumerate(slot) if other is reader)
            self._leave(reader)
            changed = Node(
                reader.op,
                tuple(new if name == old else name for name in reader.inputs),
                reader.outputs,
                reader.attrs,
                reader.origin,
            )
            slot[position] = changed
            self._enter(changed, place)
        self._fire(rule)
        self._drop_unused(old)
        return True

    def add_constant(self, name: str, array: Array) -> str:
        """Enters a constant under `name`, or under a free name made from it."""
        unique, number = name, 0
        while unique in self.constants or unique in self._producer or unique in self.values:
            number += 1
            unique = f"{name}.{number}"
        self.constants[unique] = Constant(from_numpy(array.dtype), array.shape, array)
        return unique

    def has(self, name: str) -> bool:
        """Whether a node, a constant or an input has this name."""
        return name in self._producer or name in self.constants or name in self.values

    def set_constant(self, name: str, array: Array) -> None:
        """Makes `name`, which no node computes any more, a constant."""
        self.constants[name] = Constant(from_numpy(array.dtype), array.shape, array)
        self._changed = True

    def declare(self, name: str, like: str, shape: Sequence[Extent] | None = None) -> str:
        """Declares a new value of the dtype (and, unless given, the shape) of `like`."""
        dtype = self.dtype(like)
        if dtype is not None:
            known = self.shape(like) if shape is None else tuple(shape)
            self.values[name] = Value(name, dtype, known)
        return name

    def finish(self) -> Graph:
        """The rewritten graph; the very graph that was opened when nothing changed."""
        if not self._changed:
            return self.graph
        nodes = tuple(node for slot in self._slots for node in slot)
        used = {name for node in nodes for name in node.inputs} | self.outputs
        constants = {name: c for name, c in self.constants.items() if name in used}
        made = used.union(*(node.outputs for node in nodes)) if nodes else used
        values = {name: value for name, value in self.values.items() if name in made}
        return Graph(
            self.graph.name, self.graph.inputs, self.graph.outputs, nodes, constants, values
        )

    # -- the index ------------------------------------------------------------

    def drop_dead(self) -> None:
        """Removes every node that nothing uses."""
        for slot in reversed(self._slots):
            for node in list(slot):
                if id(node) in self._place and not self._alive(node):
                    self._remove(node, "dead code")

    def _alive(self, node: Node) -> bool:
        return any(name in self.outputs or self._users.get(name) for name in node.outputs)

    def _fire(self, rule: str) -> None:
        self._changed = True
        if rule:
            self.fired[rule] = self.fired.get(rule, 0) + 1

    def _enter(self, node: Node, place: int) -> None:
        self._place[id(node)] = place
        for index, name in enumerate(node.outputs):
            if name:
                self._producer[name] = (node, index)
        for name in node.inputs:
            if name:
                self._users.setdefault(name, []).append(node)

    def _leave(self, node: Node) -> None:
        del self._place[id(node)]
        for name in node.outputs:
            found = self._producer.get(name)
            if found is not None and found[0] is node:
                del self._producer[name]
        for name in node.inputs:
            if name:
                users = self._users[name]
                for i, user in enumerate(users):
                    if user is node:
                        del users[i]
                        break

    def _remove(self, node: Node, rule: str) -> None:
        slot = self._slots[self._place[id(node)]]
        self._leave(node)
        for i, other in enumerate(slot):
            if other is node:
                del slot[i]
                break
        self._fire(rule)
        for name in node.inputs:
            self._drop_unused(name)

    def _drop_unused(self, name: str) -> None:
        node = self.producer(name)
        if node is not None and not self._alive(node):
            self._remove(node, "")
