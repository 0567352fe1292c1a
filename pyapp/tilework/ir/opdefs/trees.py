"""Ensembles of decision trees.

tree_ensemble(trees, aggregate "SUM"|"AVERAGE"|"MIN"|"MAX") (x of (rows, features) float32 or
float64) -> (rows, targets) of x's dtype. All trees are walked at once, a level a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilework.core.errors import InvalidGraph
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

_ELEMENTS = 1 << 20  # of the arrays that a step works on: rows are taken so many at a time

# What a node asks of its feature; a leaf asks nothing.
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
         "BRANCH_MEMBER", "LEAF")  # fmt: skip
MEMBER, LEAF = 6, 7


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Nodes of all trees in arrays, leaves among them; a leaf's children are itself.

    `votes` are the leaves' (node, target, weight), `sets` the members of a MEMBER node's set.
    """

    roots: Array
    modes: Array
    features: Array
    splits: Array
    true: Array
    false: Array
    missing: Array  # whether NaN goes the true way
    votes: tuple[Array, Array, Array]
    targets: int
    base: Array
    sets: dict[int, Array]

    def __repr__(self) -> str:
        return f"{len(self.roots)} trees of {len(self.modes)} nodes"

    def check(self) -> None:
        """InvalidGraph when a number points nowhere, or a tree does not end."""
        count = len(self.modes)
        places = np.concatenate([self.roots, self.true, self.false, self.votes[0]])
        if count == 0 or len(places) == 0 or places.min() < 0 or places.max() >= count:
            raise InvalidGraph(f"a tree refers to a node that is none of its {count}")
        if len(self.votes[1]) and not 0 <= self.votes[1].min() <= self.votes[1].max() < (
            self.targets
        ):
            raise InvalidGraph(f"a leaf votes for a target that is none of the {self.targets}")
        if self.features.min() < 0 or self.modes.min() < 0 or self.modes.max() > LEAF:
            raise InvalidGraph("a tree's node has no such feature or mode")
        level, seen = np.unique(self.roots), 0
        while len(level):
            seen += len(level)
            if seen > count:
                raise InvalidGraph("a node of a tree is its own ancestor, or is in two trees")
            level = level[self.modes[level] != LEAF]
            level = np.concatenate([self.true[level], self.false[level]])

    def leaves(self, x: Array) -> Array:
        """The leaf of each row in each tree: (rows, trees)."""
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        rows = np.arange(len(x))[:, None]
        while True:
            modes = self.modes[at]
            if (modes == LEAF).all():
                return at
            value, split = x[rows, self.features[at]], self.splits[at]
            yes = np.zeros(at.shape, bool)
            for mode in np.unique(modes):
                if mode < MEMBER:
                    yes |= (modes == mode) & _COMPARE[mode](value, split)
            for node in np.unique(at[modes == MEMBER]):
                yes |= (at == node) & np.isin(value, self.sets[int(node)])
            yes |= np.isnan(value) & self.missing[at]
            at = np.where(yes, self.true[at], self.false[at])


_COMPARE: Sequence[Any] = (
    np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal
)  # fmt: skip


def _infer(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    trees: Trees = node.attrs["trees"]
    (x,) = infos
    if len(x.shape) != 2 or x.shape[1] <= trees.features.max():
        raise fail(node, infos, f"x must be rows of more than {trees.features.max()} features")
    return [Info(x.dtype, (x.shape[0], trees.targets))]


def _reference(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    trees: Trees = attrs["trees"]
    aggregate = attrs.get("aggregate", "SUM")
    nodes, targets, weights = trees.votes
    fill = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    table = np.full((len(trees.modes), trees.targets), fill)
    gather = {"MIN": np.minimum, "MAX": np.maximum}.get(aggregate, np.add)
    gather.at(table, (nodes, targets), weights)
    result = np.empty((len(x), trees.targets), x.dtype)
    step = max(1, _ELEMENTS // max(1, len(trees.roots) * trees.targets))
    for first in range(0, len(x), step):
        votes = table[trees.leaves(x[first : first + step])]
        total = gather.reduce(votes, axis=1)
        if aggregate == "AVERAGE":
            total = total / len(trees.roots)
        total = np.where(np.isinf(total), 0, total) if fill else total  # nobody has voted
        result[first : first + step] = total + trees.base
    return one(result, x.dtype)


define("tree_ensemble", 1, _infer, quiet(_reference))
