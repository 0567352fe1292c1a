"""ai.onnx.ml beside trees: linear models, support vectors, scalers, encoders, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, from_numpy
from tilework.onnx.context import Array, Context, OnnxNode
from tilework.onnx.ops.classes import OneColumn, classified, post_transform
from tilework.onnx.ops.table import ML, operator


def _float32(ctx: Context, x: str) -> str:
    return x if ctx.dtype(x) is FLOAT32 else ctx.emit("cast", x, to=FLOAT32.name)


def _row(values: Any) -> Array:
    return np.asarray(values, np.float32)


# -- features --------------------------------------------------------------------------------------


@operator("ArrayFeatureExtractor", 2, ML)
def array_feature_extractor(ctx: Context, node: OnnxNode) -> str:
    x, places = node.inputs
    flat = ctx.emit("reshape", places, ctx.constant(np.array([-1], np.int64)))
    found = ctx.emit("gather", x, flat, axis=-1)
    if ctx.rank(x) == 1:
        return ctx.emit("unsqueeze", found, axes=(0,))
    return found


@operator("Binarizer", 1, ML)
def binarizer(ctx: Context, node: OnnxNode) -> str:
    (x,) = node.inputs
    above = ctx.emit("greater", x, ctx.scalar(node.attrs.get("threshold", 0.0), x))
    return ctx.emit("cast", above, to=ctx.dtype(x).name)


@operator("Scaler", 1, ML)
def scaler(ctx: Context, node: OnnxNode) -> str:
    x = _float32(ctx, node.inputs[0])
    moved = ctx.emit("sub", x, ctx.constant(_row(node.attrs.get("offset", (0.0,)))))
    return ctx.emit("mul", moved, ctx.constant(_row(node.attrs.get("scale", (1.0,)))))


@operator("Normalizer", 1, ML)
def normalizer(ctx: Context, node: OnnxNode) -> str:
    norm = node.attrs.get("norm", "MAX")
    if norm not in ("MAX", "L1", "L2"):
        raise ctx.invalid(f"norm '{norm}'; MAX, L1 and L2 are known")
    return ctx.emit("row_norm", _float32(ctx, node.inputs[0]), norm=norm)


@operator("Imputer", 1, ML)
def imputer(ctx: Context, node: OnnxNode) -> str:
    floats = node.attrs.get("imputed_value_floats")
    imputed = floats or node.attrs.get("imputed_value_int64s")
    if not imputed:
        raise ctx.invalid("has no imputed values")
    name = "replaced_value_float" if floats else "replaced_value_int64"
    replaced = node.attrs.get(name, 0)
    return ctx.emit("impute", *node.inputs, replaced=replaced, imputed=imputed)


@operator("FeatureVectorizer", (1, -1), ML)
def feature_vectorizer(ctx: Context, node: OnnxNode) -> str:
    parts = []
    for name in node.inputs:
        part = _float32(ctx, name)
        parts.append(ctx.emit("unsqueeze", part, axes=(0,)) if ctx.rank(name) == 1 else part)
    return ctx.emit("concat", *parts, axis=1)


# -- labels ----------------------------------------------------------------------------------------


def _strings(values: Sequence[str]) -> Array:
    found = np.empty(len(values), object)
    found[:] = values
    return found


_LISTS: dict[str, Any] = {
    "floats": lambda values: np.asarray(values, np.float32),
    "int64s": lambda values: np.asarray(values, np.int64),
    "strings": _strings,
    "tensor": lambda values: values.reshape(-1),
}


def _listed(ctx: Context, node: OnnxNode, role: str) -> Array:
    for kind, make in _LISTS.items():
        values = node.attrs.get(f"{role}_{kind}")
        if values is not None:
            found: Array = make(values)
            return found
    raise ctx.invalid(f"has no {role}_floats, {role}_int64s, {role}_strings or {role}_tensor")


@operator("LabelEncoder", 1, ML)
def label_encoder(ctx: Context, node: OnnxNode) -> str:
    if node.version == 1:
        return _mapped(ctx, node, "classes_strings", _strings(node.attrs["classes_strings"]))
    keys, values = _listed(ctx, node, "keys"), _listed(ctx, node, "values")
    if len(keys) != len(values):
        raise ctx.invalid(f"{len(keys)} keys and {len(values)} values")
    given = node.attrs.get("default_tensor")
    if given is not None:
        default = given.reshape(-1)[0]
    elif values.dtype == object:
        default = node.attrs.get("default_string", "_Unused")
    elif values.dtype.kind == "f":
        default = node.attrs.get("default_float", -0.0)
    else:
        default = node.attrs.get("default_int64", -1)
    return _encoded(ctx, node.inputs[0], keys, values, default)


def _encoded(ctx: Context, x: str, keys: Array, values: Array, default: Any) -> str:
    found = ctx.emit("label_encoder", x, keys=keys, values=values, default=default)
    ctx.set_dtype(found, from_numpy(values.dtype))
    return found


@operator("CategoryMapper", 1, ML)
def category_mapper(ctx: Context, node: OnnxNode) -> str:
    strings = _strings(node.attrs["cats_strings"])
    return _mapped(ctx, node, "cats", strings, np.asarray(node.attrs["cats_int64s"], np.int64))


def _mapped(
    ctx: Context, node: OnnxNode, what: str, strings: Array, numbers: Array | None = None
) -> str:
    """Strings to numbers or back, whichever the input's dtype asks for."""
    if numbers is None:
        numbers = np.arange(len(strings), dtype=np.int64)
    if len(strings) != len(numbers):
        raise ctx.invalid(f"{what}: {len(strings)} strings and {len(numbers)} numbers")
    (x,) = node.inputs
    if ctx.dtype(x).kind == "s":
        default: Any = node.attrs.get("default_int64", -1)
        return _encoded(ctx, x, strings, numbers, default)
    default = node.attrs.get("default_string", "_Unused")
    return _encoded(ctx, x, numbers, strings, default)


@operator("OneHotEncoder", 1, ML)
def one_hot_encoder(ctx: Context, node: OnnxNode) -> str:
    (x,) = node.inputs
    classes = node.attrs.get("cats_int64s") or node.attrs.get("cats_strings")
    if not classes:
        raise ctx.invalid("has neither cats_int64s nor cats_strings")
    if node.attrs.get("zeros", 1):
        return ctx.emit("class_one_hot", x, classes=classes)
    # Here what is no class is an error, so the host looks at what comes.
    return ctx.emit("known_one_hot", x, classes=classes)


# -- linear models and support vectors -------------------------------------------------------------


def _linear(ctx: Context, x: str, coefficients: Array, intercepts: Any) -> str:
    """x times each row of coefficients, and the rows' intercepts."""
    weights = ctx.constant(np.ascontiguousarray(coefficients.T))
    product = ctx.emit("matmul", x, weights)
    return ctx.emit("add", product, ctx.constant(_row(intercepts))) if intercepts else product


@operator("LinearRegressor", 1, ML)
def linear_regressor(ctx: Context, node: OnnxNode) -> str:
    coefficients = _row(node.attrs["coefficients"]).reshape(node.attrs.get("targets", 1), -1)
    x = _float32(ctx, node.inputs[0])
    scores = _linear(ctx, x, coefficients, node.attrs.get("intercepts"))
    return post_transform(ctx, scores, node.attrs.get("post_transform", "NONE"))


@operator("LinearClassifier", 1, ML)
def linear_classifier(ctx: Context, node: OnnxNode) -> Sequence[str]:
    labels = node.attrs.get("classlabels_ints") or node.attrs.get("classlabels_strings") or ()
    intercepts = node.attrs.get("intercepts")
    classes = len(intercepts) if intercepts else max(len(labels), 1)
    coefficients = _row(node.attrs["coefficients"]).reshape(classes, -1)
    scores = _linear(ctx, _float32(ctx, node.inputs[0]), coefficients, intercepts)
    alone = classes == 1 and len(labels) == 2
    return classified(ctx, node, scores, labels, OneColumn(0.0, True) if alone else None)


def _kernel(ctx: Context, node: OnnxNode, vectors: int) -> str:
    """(rows, vectors): the kernel with each support vector."""
    gamma, coef0, degree = (*node.attrs.get("kernel_params", ()), 0.0, 0.0, 0.0)[:3]
    return ctx.emit(
        "support_vectors",
        _float32(ctx, node.inputs[0]),
        kind=node.attrs.get("kernel_type", "LINEAR"),
        vectors=_row(node.attrs["support_vectors"]).reshape(vectors, -1),
        gamma=gamma,
        coef0=coef0,
        degree=degree,
    )


@operator("SVMRegressor", 1, ML)
def svm_regressor(ctx: Context, node: OnnxNode) -> str:
    vectors = node.attrs.get("n_supports", 0)
    coefficients = _row(node.attrs["coefficients"]).reshape(1, -1)
    x = _kernel(ctx, node, vectors) if vectors else _float32(ctx, node.inputs[0])
    scores = _linear(ctx, x, coefficients, node.attrs["rho"][:1])
    if node.attrs.get("one_class", 0):
        inside = ctx.emit("greater", scores, ctx.scalar(0.0, scores))
        return ctx.emit("where", inside, ctx.scalar(1.0, scores), ctx.scalar(-1.0, scores))
    return post_transform(ctx, scores, node.attrs.get("post_transform", "NONE"))


@operator("SVMClassifier", 1, ML)
def svm_classifier(ctx: Context, node: OnnxNode) -> Sequence[str]:
    labels = node.attrs.get("classlabels_ints") or node.attrs.get("classlabels_strings") or ()
    counts = node.attrs.get("vectors_per_class", ())
    if not sum(counts):
        coefficients = _row(node.attrs["coefficients"]).reshape(max(len(labels), 1), -1)
        x = _float32(ctx, node.inputs[0])
        scores = _linear(ctx, x, coefficients, node.attrs["rho"][:1])
        return classified(ctx, node, scores, labels)
    votes, scores = ctx.emit_many(
        "pairwise_classes",
        (_kernel(ctx, node, sum(counts)),),
        2,
        {
            "counts": counts,
            "coefficients": node.attrs["coefficients"],
            "rho": node.attrs["rho"],
            "prob_a": node.attrs.get("prob_a", ()),
            "prob_b": node.attrs.get("prob_b", ()),
        },
    )
    label, _ = classified(ctx, node, votes, labels)  # as LIBSVM's predict, with or without prob_a
    transform = node.attrs.get("post_transform", "NONE")
    if len(counts) == 2 and not node.attrs.get("prob_a"):  # one score for two classes
        # Its sign is turned, as onnxruntime gives it: above 0 for the second class.
        scores = ctx.emit("concat", ctx.emit("neg", scores), scores, axis=1)
    return label, post_transform(ctx, scores, transform)
