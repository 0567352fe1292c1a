"""Resize: every axis is resampled by itself, from a few elements with weights each.

resize (x) [1 holds roi, 2 scales, 3 sizes]: attrs axes (None: all), mode "nearest" | "linear" |
    "cubic", transform (how a place in the result becomes one in x), nearest (how that is rounded),
    cubic (the coefficient a), exclude_outside, extrapolation, antialias, aspect ("stretch" |
    "not_larger" | "not_smaller").
Resolved: `shape` is the result's, `scales` and `roi` (starts, then ends) have every axis.
Source: ONNX Resize-19; Keys 1981 for the cubic weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.core.shapes import normalize_axes
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

MODES = ("nearest", "linear", "cubic")
TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
ASPECTS = ("stretch", "not_larger", "not_smaller")


def _normalise(node: Node, infos: Sequence[Info]) -> Mapping[str, Any] | None:
    attrs: Any = node.attrs
    if "shape" in attrs:  # resolved already
        return None
    x = infos[0].shape
    axes = normalize_axes(attrs["axes"], len(x)) if attrs.get("axes") else tuple(range(len(x)))
    sizes, scales = attrs.get("sizes"), attrs.get("scales")
    roi = attrs.get("roi") if attrs["transform"] == "tf_crop_and_resize" else None
    given = tuple(sizes or scales or ())
    if bool(sizes) == bool(scales) or len(given) != len(axes):
        raise InvalidArgument(f"needs either scales or sizes, one for each of axes {axes}")
    if roi is not None and len(roi) != 2 * len(axes):
        raise InvalidArgument(f"needs a roi of {2 * len(axes)} numbers")
    starts, ends = [0.0] * len(x), [1.0] * len(x)
    if roi is not None:
        for i, axis in enumerate(axes):
            starts[axis], ends[axis] = float(roi[i]), float(roi[len(axes) + i])
    shape, factors = list(x), [1.0] * len(x)
    aspect = attrs.get("aspect", "stretch")
    ratios = [size / max(x[axis], 1) for size, axis in zip(given, axes, strict=True)]
    for axis, number, ratio in zip(axes, given, ratios, strict=True):
        if scales:
            factors[axis] = float(number)
            shape[axis] = math.floor(x[axis] * (ends[axis] - starts[axis]) * number)
        elif aspect == "stretch":
            factors[axis], shape[axis] = ratio, number
        else:
            factors[axis] = min(ratios) if aspect == "not_larger" else max(ratios)
            shape[axis] = math.floor(factors[axis] * x[axis] + 0.5)
    return {"shape": tuple(shape), "scales": tuple(factors), "roi": (*starts, *ends)}


def _infer(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    for name, allowed in (
        ("mode", MODES),
        ("transform", TRANSFORMS),
        ("nearest", ROUNDINGS),
        ("aspect", ASPECTS),
    ):
        if attrs.get(name, allowed[0]) not in allowed:
            raise fail(node, infos, f"{name} '{attrs[name]}' is not one of {', '.join(allowed)}")
    if min(attrs["shape"], default=0) < 0 or min(attrs["scales"], default=1) <= 0:
        raise fail(node, infos, f"cannot be resized to {list(attrs['shape'])}")
    if 0 in infos[0].shape and 0 not in attrs["shape"]:
        raise fail(node, infos, "has no elements to make others of")
    if infos[0].dtype.kind not in "fiu" + "b" * (attrs["mode"] == "nearest"):
        raise fail(node, infos, f"'{node.op}' takes numeric tensors")
    return [Info(infos[0].dtype, attrs["shape"])]


def places(attrs: Any, axis: int, extent: int) -> Array:
    """Where along `axis` of x, of `extent` elements, each element of the result lies; float64."""
    transform: str = attrs["transform"]
    count: int = attrs["shape"][axis]
    scale: float = attrs["scales"][axis]
    length: float = extent * scale  # of the result, which is cut to a whole number
    y: Array = np.arange(count, dtype=np.float64)
    if transform == "asymmetric":
        return y / scale
    if transform == "tf_half_pixel_for_nn":
        return (y + 0.5) / scale
    if transform == "align_corners":
        return np.zeros(count) if length == 1 else y * (extent - 1) / (length - 1)
    if transform == "tf_crop_and_resize":
        rank = len(attrs["shape"])
        start: float = attrs["roi"][axis]
        end: float = attrs["roi"][rank + axis]
        away = y / (length - 1) if length != 1 else np.full(count, 0.5)
        return (start + away * (end - start)) * (extent - 1)
    if transform == "pytorch_half_pixel" and length == 1:
        return np.full(count, -0.5)
    offset = extent / 2 * (1 - count / length) if transform == "half_pixel_symmetric" else 0.0
    return np.asarray(offset + (y + 0.5) / scale - 0.5)


def linear(away: Array, a: float) -> Array:
    """Weights of linear interpolation at these distances."""
    return np.asarray(np.clip(1 - np.abs(away), 0, 1))


def cubic(away: Array, a: float) -> Array:
    """Keys' weights with coefficient `a` at these distances."""
    x = np.abs(away)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def taps(attrs: Attrs, axis: int, extent: int) -> tuple[Array, Array]:
    """(indices, weights), each (result's extent, taps): y[i] = sum of weights[i] x[indices[i]]."""
    at = places(attrs, axis, extent)
    base = np.ceil(at) - 1  # the element before; a whole place counts as being one after it
    if attrs["mode"] == "nearest":
        index = _nearest(at, base, attrs, attrs["scales"][axis])
        return np.clip(index, 0, extent - 1).astype(np.int64)[:, None], np.ones((at.size, 1))
    reach, weigh = (1, linear) if attrs["mode"] == "linear" else (2, cubic)
    squeeze = min(attrs["scales"][axis], 1.0) if attrs.get("antialias", 0) else 1.0
    first = math.floor(-reach / squeeze) + 1
    index = base[:, None] + np.arange(first, 2 - first)
    weights = weigh((index - at[:, None]) * squeeze, attrs.get("cubic", -0.75))
    if attrs.get("antialias", 0):
        weights = weights / weights.sum(axis=1, keepdims=True)
    if attrs.get("exclude_outside", 0):
        weights = np.where((index < 0) | (index >= extent), 0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(index, 0, extent - 1).astype(np.int64), weights


def _nearest(at: Array, base: Array, attrs: Attrs, scale: float) -> Array:
    how = attrs.get("nearest", ROUNDINGS[0])
    if how == "simple":  # opset 10: up only when the result is smaller
        how = "ceil" if scale < 1 else "floor"
    part = at - base  # in (0, 1]
    if how == "floor":
        return np.floor(at)
    if how == "ceil":
        return np.ceil(at)
    up = part > 0.5 if how == "round_prefer_floor" else part >= 0.5
    return np.where(up, base + 1, base)


def _resize(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    nearest = attrs["mode"] == "nearest"
    y = x if nearest else x.astype(np.float64)
    outside: Array = np.zeros((), bool)
    for axis, extent in enumerate(x.shape):
        crop = attrs["transform"] == "tf_crop_and_resize"
        if attrs["shape"][axis] == extent and attrs["scales"][axis] == 1 and not crop:
            continue
        indices, weights = taps(attrs, axis, extent)
        line = [1] * x.ndim
        line[axis] = -1
        parts = (
            np.take(y, indices[:, i], axis) * weights[:, i].reshape(line)
            for i in range(indices.shape[1])
        )
        y = np.take(y, indices[:, 0], axis) if nearest else np.asarray(sum(parts))
        if crop:
            at = places(attrs, axis, extent)
            outside = outside | ((at < 0) | (at > extent - 1)).reshape(line)
    if outside.any():
        y = np.where(outside, attrs.get("extrapolation", 0.0), y)
    return one(y, x.dtype)


define(
    "resize",
    (1, 4),
    _infer,
    quiet(_resize),
    values={"roi": 1, "scales": 2, "sizes": 3},
    normalise=_normalise,
)
