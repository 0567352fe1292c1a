"""Nodes in an order in which each comes behind what it reads.

ONNX asks for that of a file, but onnxruntime sorts what it loads, so there are files that are not
in order: its own float16 converter writes the casts of inputs last. Never decides whether a name is
known at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

from tilework.onnx.functions import Placed
from tilework.onnx.proto import NodeProto


def in_order(nodes: Sequence[Placed]) -> Sequence[Placed]:
    """`nodes` themselves where they are in order; else sorted, of those that may the first first.

    Cycles, and what hangs on them, come last as they were.
    """
    producer = {name: at for at, placed in enumerate(nodes) for name in placed.node.output if name}
    waits = [
        {producer[name] for name in reads(placed.node) if name in producer} for placed in nodes
    ]
    if all(max(behind, default=-1) < at for at, behind in enumerate(waits)):
        return nodes
    readers: list[list[int]] = [[] for _ in nodes]
    for at, behind in enumerate(waits):
        for one in behind:
            readers[one].append(at)
    lacking = [len(behind) for behind in waits]
    ready = [at for at, count in enumerate(lacking) if not count]
    order: list[int] = []
    while ready:
        at = heappop(ready)
        order.append(at)
        for reader in readers[at]:
            lacking[reader] -= 1
            if not lacking[reader]:
                heappush(ready, reader)
    rest = [at for at, count in enumerate(lacking) if count]
    return [nodes[at] for at in (*order, *rest)]


def reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those of the graphs inside it too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        if attribute.g is not None:
            yield from _captured(attribute.g.node)


def _captured(nodes: Iterable[NodeProto]) -> Iterator[str]:
    own: set[str] = set()
    for node in nodes:
        own.update(node.output)
        yield from (name for name in reads(node) if name not in own)
