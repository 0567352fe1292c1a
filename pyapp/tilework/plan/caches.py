"""Caches: outputs that are an input with more rows behind it, and where they lie.

A decoder's keys and values. `find_caches` reads them off a graph; what a run knows of the memory
that they are fed in is `Laid`, what a plan has decided is `Shelved`. Touches no memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from tilework.core.dtypes import FLOAT16, DType
from tilework.ir.graph import Graph, Node

# Numbers of float16 as they lie in a cache with rows to spare: in float32, which is what attention
# reads. So a token widens its own rows, and not all of them.
WIDE_HALF = DType("float16 as float32", 4, "f", "float32", FLOAT16.onnx)


def lying(dtype: DType) -> DType:
    """How elements lie in such a cache."""
    return WIDE_HALF if dtype is FLOAT16 else dtype


@dataclass(frozen=True, slots=True)
class Cache:
    """`output` is the input `source` and new rows along `axis`. `checked`: only where lengths that
    are data say so; where they do not, a run in place fails with InvalidIndex."""

    source: str
    output: str
    axis: int
    checked: bool = False


class Laid(NamedTuple):
    """How an input lies: as the first rows along `axis` of memory with `rows`. `free`: what is
    behind them is nobody's, so this run may write there."""

    axis: int
    rows: int
    free: bool


class Shelved(NamedTuple):
    """How an output lies: the same. `source` is the input whose memory it has, or "" for its
    own."""

    axis: int
    rows: int
    source: str


def find_caches(graph: Graph) -> tuple[Cache, ...]:
    """The caches of a graph, those in the branches of an `if` included: what a branch gives that
    runs without them is a new one. No input and no output is in two of them."""
    fed = {value.name for value in graph.inputs}
    given = {value.name for value in graph.outputs}
    found: list[Cache] = []
    for node in graph.nodes:
        for cache in _branched(node) if node.op == "if" else _grown(node):
            if cache.source in fed and cache.output in given and cache.axis >= 0:
                fed.remove(cache.source)
                given.remove(cache.output)
                found.append(cache)
    return tuple(found)


def _branched(node: Node) -> list[Cache]:
    """The caches of both branches, by the names outside."""
    found = []
    for branch in (node.attrs["then"], node.attrs["else"]):
        outside = dict(zip([one.name for one in branch.inputs], node.inputs[1:], strict=True))
        outputs = dict(zip([one.name for one in branch.outputs], node.outputs, strict=False))
        found += [
            replace(one, source=outside[one.source], output=outputs.get(one.output, ""))
            for one in find_caches(branch)
        ]
    return found


def _grown(node: Node) -> list[Cache]:
    checked = node.op == "kv_append" and any(node.inputs[2:])
    return [Cache(*one, checked) for one in _appended(node)]


def _appended(node: Node) -> list[tuple[str, str, int]]:
    """(past, present, axis) of a node that puts rows behind others."""
    if node.op == "concat" and len(node.inputs) == 2:
        axis = node.attrs.get("axis")  # what lacks one is refused when it is planned
        return [(node.inputs[0], node.outputs[0], axis if isinstance(axis, int) else -1)]
    if node.op == "kv_append":
        return [(node.inputs[0], node.outputs[0], 2)]
    if node.op == "scaled_attention":
        return [(past, present, 2) for past, present in zip(node.inputs[4:6], node.outputs[1:3],
                                                            strict=False)]  # fmt: skip
    return []
