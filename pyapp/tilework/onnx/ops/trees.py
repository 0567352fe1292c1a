"""ai.onnx.ml: TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, FLOAT64
from tilework.ir.opdefs.trees import LEAF, MEMBER, MODES, Trees
from tilework.onnx.context import Array, Context, OnnxNode
from tilework.onnx.ops.classes import OneColumn, classified, post_transform
from tilework.onnx.ops.table import ML, operator

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def _floats(ctx: Context, x: str) -> str:
    """Rows as float32, or as float64 where they are."""
    kept = ctx.dtype(x) in (FLOAT32, FLOAT64)
    return x if kept else ctx.emit("cast", x, to=FLOAT32.name)


def _numbers(node: OnnxNode, name: str, default: Any = ()) -> Array:
    """A list of floats, or the tensor that may stand for it."""
    found = node.attrs.get(f"{name}_as_tensor")
    return np.asarray(node.attrs.get(name, default) if found is None else found, np.float64)


def _ints(node: OnnxNode, name: str) -> Array:
    return np.asarray(node.attrs.get(name, ()), np.int64)


def _numbered(ctx: Context, node: OnnxNode, votes: str, targets: int) -> Trees:
    """The form in which nodes are named by a tree's and a node's number."""
    tree, number = _ints(node, "nodes_treeids"), _ints(node, "nodes_nodeids")
    places = {key: i for i, key in enumerate(zip(tree.tolist(), number.tolist(), strict=True))}

    def place(trees: Array, numbers: Array) -> Array:
        keys = zip(trees.tolist(), numbers.tolist(), strict=True)
        return np.array([places.get(key, -1) for key in keys], np.int64)

    modes = np.array([MODES.index(one) for one in node.attrs["nodes_modes"]], np.int64)
    leaf, own = modes == LEAF, np.arange(len(modes))
    true = np.where(leaf, own, place(tree, _ints(node, "nodes_truenodeids")))
    false = np.where(leaf, own, place(tree, _ints(node, "nodes_falsenodeids")))
    _, first = np.unique(tree, return_index=True)
    voters = place(_ints(node, f"{votes}_treeids"), _ints(node, f"{votes}_nodeids"))
    targets_of = _ints(node, "class_ids" if votes == "class" else "target_ids")
    weights = _numbers(node, f"{votes}_weights")
    if targets == 1:  # a leaf has one weight; of more, which skl2onnx writes, the first counts
        _, kept = np.unique(voters, return_index=True)
        voters, targets_of, weights = voters[kept], targets_of[kept], weights[kept]
    base = _numbers(node, "base_values")
    missing = _ints(node, "nodes_missing_value_tracks_true").astype(bool)
    trees = Trees(
        roots=np.sort(first),
        modes=modes,
        features=np.where(leaf, 0, _ints(node, "nodes_featureids")),
        splits=_numbers(node, "nodes_values"),
        true=true,
        false=false,
        missing=missing if len(missing) else np.zeros(len(modes), bool),
        votes=(voters, targets_of, weights),
        targets=targets,
        base=base if len(base) else np.zeros(1),
        sets={},
    )
    trees.check()
    return trees


@operator("TreeEnsembleRegressor", 1, ML)
def tree_ensemble_regressor(ctx: Context, node: OnnxNode) -> str:
    trees = _numbered(ctx, node, "target", node.attrs.get("n_targets", 1))
    scores = ctx.emit(
        "tree_ensemble",
        _floats(ctx, node.inputs[0]),
        trees=trees,
        aggregate=node.attrs.get("aggregate_function", "SUM"),
    )
    scores = post_transform(ctx, scores, node.attrs.get("post_transform", "NONE"))
    return scores if ctx.dtype(scores) is FLOAT32 else ctx.emit("cast", scores, to=FLOAT32.name)


@operator("TreeEnsembleClassifier", 1, ML)
def tree_ensemble_classifier(ctx: Context, node: OnnxNode) -> Sequence[str]:
    labels = node.attrs.get("classlabels_int64s") or node.attrs.get("classlabels_strings") or ()
    trees = _numbered(ctx, node, "class", len(labels))
    one_sided = len(labels) == 2 and len(set(node.attrs.get("class_ids", ()))) == 1
    scores = ctx.emit("tree_ensemble", _floats(ctx, node.inputs[0]), trees=trees)
    if ctx.dtype(scores) is not FLOAT32:
        scores = ctx.emit("cast", scores, to=FLOAT32.name)
    if not one_sided:
        return classified(ctx, node, scores, labels)
    # All votes are for one class, whose score decides between two.
    voted = int(trees.votes[1][0])
    scores = ctx.emit("slice", scores, starts=(voted,), ends=(voted + 1,), axes=(1,))
    positive = bool((trees.votes[2] >= 0).all())
    return classified(ctx, node, scores, labels, OneColumn(0.5 if positive else 0.0, positive))


@operator("TreeEnsemble", 1, ML)
def tree_ensemble(ctx: Context, node: OnnxNode) -> str:
    """Inner nodes and leaves are numbered apart; the leaves come behind the nodes here."""
    inner = len(_ints(node, "nodes_featureids"))
    weights = np.asarray(node.attrs["leaf_weights"], np.float64)
    leaves = len(weights)
    own = np.arange(inner, inner + leaves)
    modes = np.concatenate([np.asarray(node.attrs["nodes_modes"], np.int64), [LEAF] * leaves])

    def children(side: str) -> Array:
        numbers = _ints(node, f"nodes_{side}nodeids")
        leaf = _ints(node, f"nodes_{side}leafs").astype(bool)
        return np.concatenate([np.where(leaf, numbers + inner, numbers), own])

    def widened(values: Array) -> Array:
        return np.concatenate([values if len(values) else np.zeros(inner), np.zeros(leaves)])

    trees = Trees(
        roots=_ints(node, "tree_roots"),
        modes=modes,
        features=widened(_ints(node, "nodes_featureids")).astype(np.int64),
        splits=widened(np.asarray(node.attrs["nodes_splits"], np.float64)),
        true=children("true"),
        false=children("false"),
        missing=widened(_ints(node, "nodes_missing_value_tracks_true")).astype(bool),
        votes=(own, _ints(node, "leaf_targetids"), weights),
        targets=node.attrs.get("n_targets", 1),
        base=np.zeros(1),
        sets=_sets(ctx, node, modes),
    )
    trees.check()
    scores = ctx.emit(
        "tree_ensemble",
        _floats(ctx, node.inputs[0]),
        trees=trees,
        aggregate=_AGGREGATES[node.attrs.get("aggregate_function", 1)],
    )
    return post_transform(ctx, scores, _TRANSFORMS[node.attrs.get("post_transform", 0)])


def _sets(ctx: Context, node: OnnxNode, modes: Array) -> dict[int, Array]:
    """The members of each membership node, which NaNs part in one list."""
    asked = np.flatnonzero(modes == MEMBER).tolist()
    if not asked:
        return {}
    values = np.asarray(node.attrs.get("membership_values", ()), np.float64)
    parts = np.split(values, np.flatnonzero(np.isnan(values)))
    if len(parts) < len(asked):
        raise ctx.invalid(f"{len(parts)} sets of members for {len(asked)} nodes that ask for one")
    return {place: part[~np.isnan(part)] for place, part in zip(asked, parts, strict=False)}
