"""Ensembles of trees: their nodes as the kernels walk them, level by level, pairs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, FLOAT64, INT32, UINT8, DType
from tilework.hal.kernels.trees import F32_TREES, F64_TREES, Aggregate, TreesParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Info
from tilework.ir.opdefs.trees import LEAF, MEMBER, Trees
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands

VISITS = 65536  # of nodes, a tile, by trees.wit
BLOCK = 64  # of kernels/trees/walk.h
INNER, NAN_FIRST = 1, 2
LAST, NOBODY = 1 << 31, (1 << 31) - 1
MOST_VOTES = 1 << 30
AGGREGATES = {
    "SUM": Aggregate.SUM,
    "AVERAGE": Aggregate.AVERAGE,
    "MIN": Aggregate.LEAST,
    "MAX": Aggregate.LARGEST,
}
LEQ, LT, GTE, GT, EQ, NEQ = range(6)  # of ir.opdefs.trees.MODES


@dataclass(slots=True)
class _Asked:
    """Nodes that all ask "is it at most": where to go first, and NaN's way. Leaves are their own
    children."""

    split: Array
    feature: Array
    first: Array
    second: Array
    nan: Array  # whether it goes first
    inner: Array

    def add(self, split: Array, feature: Array, first: Array, second: Array, nan: Array) -> Array:
        """The numbers of further inner nodes."""
        start = len(self.split)
        self.split = np.concatenate([self.split, split])
        self.feature = np.concatenate([self.feature, feature])
        self.first = np.concatenate([self.first, first])
        self.second = np.concatenate([self.second, second])
        self.nan = np.concatenate([self.nan, nan])
        self.inner = np.concatenate([self.inner, np.ones(len(split), bool)])
        return np.arange(start, len(self.split))


def _most(splits: Array, dtype: Any) -> tuple[Array, Array]:
    """The largest numbers of `dtype` that are at most, and below, a split; NaN where none is."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = splits.astype(dtype)
    below = np.nextafter(near, np.array(-np.inf, dtype))
    at_most = np.where(near.astype(np.float64) > splits, below, near)
    less = np.where(near.astype(np.float64) < splits, near, below)
    return at_most, np.where(splits == -np.inf, np.nan, less).astype(dtype)


def _asked(trees: Trees, dtype: Any) -> _Asked:
    """Every mode as questions of one kind; comparing for equality takes two of them."""
    modes, missing = trees.modes, trees.missing
    at_most, less = _most(trees.splits, dtype)
    turned = np.isin(modes, (GTE, GT, NEQ))
    strict = np.isin(modes, (LT, GTE))
    made = _Asked(
        split=np.where(strict, less, at_most),
        feature=trees.features,
        first=np.where(turned, trees.false, trees.true),
        second=np.where(turned, trees.true, trees.false),
        nan=missing != turned,
        inner=modes != LEAF,
    )
    # x = s: x at most s, and then not below it.
    equal = np.flatnonzero(np.isin(modes, (EQ, NEQ)))
    yes, no = made.first[equal], made.second[equal]
    nan = missing[equal] & (modes[equal] == EQ)
    below = made.add(less[equal], trees.features[equal], no, yes, ~nan)
    made.first[equal], made.second[equal], made.nan[equal] = below, no, nan
    for node in np.flatnonzero(modes == MEMBER).tolist():
        _member(made, trees, node, dtype)
    return made


def _member(made: _Asked, trees: Trees, node: int, dtype: Any) -> None:
    """x in a set: equal to one of its members, which are asked for one after the other."""
    at_most, less = _most(np.unique(trees.sets[node]), dtype)
    yes, no = trees.true[[node]], trees.false[[node]]
    feature, nan = trees.features[[node]], trees.missing[[node]]
    other = no  # where to go when a member is not met
    for i in range(len(at_most) - 1, -1, -1):
        below = made.add(less[[i]], feature, other, yes, ~nan)
        if i:
            other = made.add(at_most[[i]], feature, below, other, nan)
        else:
            made.split[node], made.first[node], made.second[node] = at_most[0], below[0], other[0]
    if not len(at_most):  # nothing is a member
        made.split[node], made.first[node], made.second[node] = np.nan, yes[0], no[0]
    made.nan[node] = nan[0]


@dataclass(frozen=True, slots=True)
class Packed:
    """What the kernels read, by trees.wit."""

    roots: Array
    nodes: Array
    votes: Array
    depth: int  # steps at most
    levels: int  # steps as a rule


def packed(trees: Trees, dtype: Any) -> Packed:
    """All trees, a level after the other; whoever two nodes lead to is there twice, but its
    children are not."""
    asked = _asked(trees, dtype)
    pairs = np.full(len(asked.split), -1, np.int64)  # the place of a node's first child
    placed = [trees.roots]
    level, count, levels = trees.roots, len(trees.roots), 0
    while True:
        fresh = np.unique(level[asked.inner[level] & (pairs[level] < 0)])
        if not len(fresh):
            break
        pairs[fresh] = count + 2 * np.arange(len(fresh))
        level = np.stack([asked.first[fresh], asked.second[fresh]], 1).reshape(-1)
        placed.append(level)
        count += len(level)
        levels += 1
    source = np.concatenate(placed)
    first, votes = _votes(trees, len(asked.split), dtype)
    inner = asked.inner[source]
    nodes = np.zeros(count, _node(dtype))
    nodes["split"] = asked.split[source]
    nodes["feature"] = np.where(inner, asked.feature[source], 0)
    nodes["child"] = np.where(inner, pairs[source], np.arange(count))
    flags = INNER + NAN_FIRST * asked.nan[source].astype(np.int64)
    nodes["flags"] = np.where(inner, flags, 4 * first[source])
    # What two nodes lead to may be met later than where it lies.
    shared = len(asked.split) > len(trees.modes)
    depth = int(inner.sum()) if shared else levels
    return Packed(np.arange(len(trees.roots), dtype=np.int32), nodes, votes, depth, levels)


def _node(dtype: Any) -> Any:
    return np.dtype(
        [("split", dtype), ("feature", "<u4"), ("child", "<u4"), ("flags", "<u4")], align=True
    )


def _votes(trees: Trees, count: int, dtype: Any) -> tuple[Array, Array]:
    """The number of each node's first vote, and the votes; number 0 is nobody's."""
    nodes, targets, weights = trees.votes
    order = np.argsort(nodes, kind="stable")
    votes = np.zeros(len(nodes) + 1, np.dtype([("weight", dtype), ("target", "<u4")], align=True))
    voters = nodes[order]
    last = np.append(voters[1:] != voters[:-1], True) if len(voters) else np.zeros(0, bool)
    votes["weight"][1:] = weights[order]
    votes["target"][0] = LAST | NOBODY
    votes["target"][1:] = targets[order] + np.where(last, LAST, 0)
    first = np.zeros(count, np.int64)
    first[voters[::-1]] = np.arange(len(voters), 0, -1)
    return first, votes


def tree_ensemble(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """All trees of all rows in one dispatch."""
    x = inputs[0]
    assert x is not None
    if x.dtype not in (FLOAT32, FLOAT64):
        return f"no kernel for {node.op} of {x.dtype}"
    trees: Any = node.attrs["trees"]
    base = np.asarray(trees.base, x.dtype.numpy).reshape(-1)
    if is_constant(x):  # what is computed once does not see the trees, which are the plan's
        return "computed once"
    if len(base) not in (1, trees.targets):
        return f"{len(base)} base values for {trees.targets} targets"
    if 8 * BLOCK * trees.targets > SCRATCH or len(trees.votes[0]) >= MOST_VOTES:
        return f"{trees.targets} targets are more than scratch holds"
    if np.isnan(trees.splits[trees.modes < MEMBER]).any():
        return "a split is no number"
    made = packed(trees, x.dtype.numpy)
    rows, features = x.shape
    x = b.dense(x)
    y = b.new(x.dtype, results[0].shape)
    each = max(VISITS // max(len(made.roots) * made.levels, 1), BLOCK)
    each = max(min(each, -(-rows // b.threads)), 1)
    params = TreesParams(
        rows=rows,
        features=features,
        trees=len(made.roots),
        nodes=len(made.nodes),
        votes=len(made.votes),
        targets=trees.targets,
        depth=made.depth,
        tile_rows=each,
        op=AGGREGATES[str(node.attrs.get("aggregate", "SUM"))],
    )
    operands = (
        x,
        b.local(made.roots, INT32),
        _bytes(b, made.nodes),
        _bytes(b, made.votes),
        b.local(np.broadcast_to(base, (trees.targets,)).copy(), x.dtype),
        y,
    )
    kernel = F32_TREES if x.dtype is FLOAT32 else F64_TREES
    counts = (-(-rows // each) if y.size else 0, 1, 1)
    b.emit(kernel, counts, params, operands, 8 * BLOCK * trees.targets)
    return [y]


def _bytes(b: Builder, records: Array) -> Any:
    dtype: DType = UINT8
    return b.local(np.ascontiguousarray(records).view(np.uint8), dtype)


PLAIN: dict[str, Lowering] = {
    "tree_ensemble": tree_ensemble,
}
