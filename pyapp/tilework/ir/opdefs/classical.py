"""What classical models need beside arithmetic: encoders, imputers, support vectors.

label_encoder(keys, values, default): each element's value, of any dtype, strings too
class_one_hot(classes): (…) -> (…, classes) float32, all 0 for what is no class
known_one_hot(classes): the same, InvalidArgument for what is no class
impute(replaced, imputed): (rows, features), the number `replaced` by a feature's own; NaN likewise
row_norm(norm "MAX"|"L1"|"L2"): rows divided by it, those of norm 0 left alone
distances(power) (rows, features), (others, features) -> (rows, others): the sum of the features'
    differences to a power, not its root
support_vectors(kind "LINEAR"|"POLY"|"RBF"|"SIGMOID", vectors, gamma, coef0, degree)
    (rows, features) -> (rows, vectors): the kernel's value with each vector
pairwise_classes(counts, coefficients, rho, prob_a, prob_b) (rows, vectors)
    -> votes (rows, classes), the pairs' scores or, with prob_a, the classes' probabilities
softmax_zero, probit: ai.onnx.ml's post transforms
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, from_numpy
from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import (
    FLOATS,
    NUMBERS,
    check_kind,
    infer_unary,
    one,
    quiet,
    sigmoid,
)
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

# -- labels ----------------------------------------------------------------------------------------


def _key(value: Any) -> Any:
    return None if value != value else value  # every NaN is the same key


def _infer_labels(node: Node, infos: Sequence[Info]) -> list[Info]:
    return [Info(from_numpy(node.attrs["values"].dtype), infos[0].shape)]


def _label_encoder(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    keys, values = attrs["keys"], attrs["values"]
    table = {_key(key): value for key, value in zip(keys.tolist(), values.tolist(), strict=True)}
    default = attrs["default"]
    found = np.empty(x.size, values.dtype)
    found[:] = [table.get(_key(value), default) for value in x.reshape(-1).tolist()]
    return (found.reshape(x.shape),)


define("label_encoder", 1, _infer_labels, _label_encoder)


def _infer_one_hot(node: Node, infos: Sequence[Info]) -> list[Info]:
    return [Info(FLOAT32, (*infos[0].shape, len(node.attrs["classes"])))]


def _class_one_hot(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    classes = np.empty(len(attrs["classes"]), x.dtype)
    classes[:] = attrs["classes"]
    return one(x[..., None] == classes, np.float32)


def _known_one_hot(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    (found,) = _class_one_hot(attrs, x)
    strange = ~found.any(axis=-1)
    if strange.any():
        first, classes = x[strange].reshape(-1).tolist()[0], list(attrs["classes"])
        raise InvalidArgument(f"{first!r} is none of the categories {classes}")
    return (found,)


define("class_one_hot", 1, _infer_one_hot, _class_one_hot)
define("known_one_hot", 1, _infer_one_hot, _known_one_hot)

# -- features --------------------------------------------------------------------------------------


def _infer_impute(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    (x,) = infos
    if not x.shape or len(node.attrs["imputed"]) not in (1, x.shape[-1]):
        raise fail(node, infos, f"{len(node.attrs['imputed'])} imputed values, one for each")
    return [Info(x.dtype, x.shape)]


def _impute(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    replaced = attrs["replaced"]
    missing = np.isnan(x) if replaced != replaced else x == replaced
    return one(np.where(missing, np.asarray(attrs["imputed"], x.dtype), x), x.dtype)


define("impute", 1, _infer_impute, quiet(_impute))


def _row_norm(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    size = np.abs(x)
    if attrs["norm"] == "MAX":
        norm = size.max(axis=-1, keepdims=True, initial=0)
    elif attrs["norm"] == "L1":
        norm = size.sum(axis=-1, keepdims=True)
    else:
        norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
    return one(x / np.where(norm == 0, 1, norm), x.dtype)


define("row_norm", 1, infer_unary(FLOATS), quiet(_row_norm))


def _softmax_zero(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    """Softmax, but what is 0 stays 0."""
    top = x.max(axis=-1, keepdims=True)
    small = np.abs(x) <= 1e-7
    power = np.where(small, x * np.exp(-top), np.exp(x - top))
    total = power.sum(axis=-1, keepdims=True)
    return one(np.where(total == 0, 0.5, power / np.where(total == 0, 1, total)), x.dtype)


def _probit(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    """sqrt(2) erfinv(2 x - 1), erfinv by Winitzki's formula, as onnxruntime has it."""
    y = 2 * x.astype(np.float64) - 1
    log = np.log((1 - y) * (1 + y))
    half = 2 / (np.pi * 0.147) + log / 2
    root = np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    return one(np.sqrt(2) * np.copysign(root, y), x.dtype)


define("softmax_zero", 1, infer_unary(FLOATS), quiet(_softmax_zero))
define("probit", 1, infer_unary(FLOATS), quiet(_probit))

# -- distances and support vectors -----------------------------------------------------------------


def _infer_distances(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    x, y = infos
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[1]:
        raise fail(node, infos, "both must be rows of one number of features")
    if x.dtype is not y.dtype:
        raise fail(node, infos, "both must be of one dtype")
    return [Info(x.dtype, (x.shape[0], y.shape[0]))]


def _distances(attrs: Attrs, x: Array, y: Array) -> tuple[Array, ...]:
    return one(_apart(x, y, attrs["power"]), x.dtype)


def _apart(x: Array, y: Array, power: float) -> Array:
    total = np.zeros((len(x), len(y)), x.dtype)
    for k in range(x.shape[1]):
        size = np.abs(np.subtract.outer(x[:, k], y[:, k]))
        total += size if power == 1 else size * size if power == 2 else size**power
    return total


define("distances", 2, _infer_distances, quiet(_distances))



def _infer_vectors(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    vectors: Array = node.attrs["vectors"]
    (x,) = infos
    if len(x.shape) != 2 or x.shape[1] != vectors.shape[1]:
        raise fail(node, infos, f"x must be rows of {vectors.shape[1]} features")
    return [Info(x.dtype, (x.shape[0], len(vectors)))]


def _support_vectors(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    kind, gamma, coef0 = attrs["kind"], attrs["gamma"], attrs["coef0"]
    vectors = attrs["vectors"].astype(x.dtype)
    if kind == "RBF":
        return one(np.exp(-gamma * _apart(x, vectors, 2)), x.dtype)
    product = x @ vectors.T
    if kind == "POLY":
        return one((gamma * product + coef0) ** attrs["degree"], x.dtype)
    if kind == "SIGMOID":
        return one(np.tanh(gamma * product + coef0), x.dtype)
    return one(product, x.dtype)


define("support_vectors", 1, _infer_vectors, quiet(_support_vectors))


def _infer_pairs(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    counts = node.attrs["counts"]
    (x,) = infos
    if len(x.shape) != 2 or x.shape[1] != sum(counts):
        raise fail(node, infos, f"expected a column for each of {sum(counts)} vectors")
    classes = len(counts)
    columns = classes if len(node.attrs["prob_a"]) else classes * (classes - 1) // 2
    return [Info(x.dtype, (x.shape[0], classes)), Info(x.dtype, (x.shape[0], columns))]


def _pairwise(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    counts: Sequence[int] = attrs["counts"]
    coefficients = np.asarray(attrs["coefficients"], x.dtype).reshape(len(counts) - 1, -1)
    ends = np.cumsum(counts)
    spans = [slice(int(end - n), int(end)) for end, n in zip(ends, counts, strict=True)]
    votes = np.zeros((len(x), len(counts)), x.dtype)
    scores = []
    for number, (i, j) in enumerate(combinations(range(len(counts)), 2)):
        score = x[:, spans[i]] @ coefficients[j - 1, spans[i]]
        score = score + x[:, spans[j]] @ coefficients[i, spans[j]] + attrs["rho"][number]
        scores.append(score)
        votes[:, i] += score > 0
        votes[:, j] += score <= 0
    pairs = np.stack(scores, axis=1)
    if len(attrs["prob_a"]):
        pairs = _coupled(attrs, pairs, len(counts))
    return votes, np.asarray(pairs, x.dtype)


def _coupled(attrs: Attrs, scores: Array, classes: int) -> Array:
    """The classes' probabilities from those of the pairs, by Wu, Lin and Weng's second method
    (JMLR 5, 2004), iterated as LIBSVM does, each row until it has settled."""
    known = np.zeros((len(scores), classes, classes))
    for number, (i, j) in enumerate(combinations(range(classes), 2)):
        value = scores[:, number] * attrs["prob_a"][number] + attrs["prob_b"][number]
        sure = np.clip(1 - sigmoid(value.astype(np.float64)), 1e-7, 1 - 1e-7)
        known[:, i, j], known[:, j, i] = sure, 1 - sure
    q = -known.transpose(0, 2, 1) * known
    axis = np.arange(classes)
    q[:, axis, axis] = np.square(known).sum(axis=1)
    p = np.full((len(scores), classes), 1 / classes)
    left = np.arange(len(scores))
    for _ in range(max(100, classes)):
        flow = (q[left] @ p[left, :, None])[..., 0]
        total = (p[left] * flow).sum(axis=1)
        going = np.abs(flow - total[:, None]).max(axis=1, initial=0) >= 0.005 / classes
        left, flow, total = left[going], flow[going], total[going]
        if not left.size:
            break
        own, row = q[left], p[left]
        for t in range(classes):
            change = (total - flow[:, t]) / own[:, t, t]
            row[:, t] += change
            moved = total + change * (change * own[:, t, t] + 2 * flow[:, t])
            total = moved / (1 + change) ** 2
            flow = (flow + change[:, None] * own[:, t]) / (1 + change[:, None])
            row /= 1 + change[:, None]
        p[left] = row
    return p


define("pairwise_classes", 1, _infer_pairs, quiet(_pairwise), outputs=2)

