"""Random numbers, drawn anew at every run; with a seed the same ones at every run.

random_uniform(low, high, shape, seed, dtype) [0 holds shape]
random_normal(mean, scale, shape, seed, dtype) [0 holds shape]
multinomial(count, seed, dtype) (x) -> class numbers; x is (batch, classes), logarithms
Which numbers a seed stands for is not the standard's to say; here it is NumPy's default generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME
from tilework.ir.graph import Node
from tilework.ir.narrow import numpy_of
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _generator(attrs: Attrs) -> np.random.Generator:
    seed = attrs.get("seed")
    # ONNX's seeds are floats: each has a stream of its own, 0.25 and 0.75 too.
    return np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))


def _infer_drawn(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    if min(attrs["shape"], default=0) < 0 or BY_NAME[attrs["dtype"]].kind != "f":
        raise fail(node, infos, f"cannot draw {attrs['dtype']}{list(attrs['shape'])}")
    return [Info(BY_NAME[attrs["dtype"]], tuple(attrs["shape"]))]


def _uniform(attrs: Attrs) -> tuple[Array, ...]:
    low, high = attrs.get("low", 0.0), attrs.get("high", 1.0)
    drawn = low + (high - low) * _generator(attrs).random(tuple(attrs["shape"]))
    return one(drawn, numpy_of(attrs["dtype"]))


def _normal(attrs: Attrs) -> tuple[Array, ...]:
    drawn = _generator(attrs).standard_normal(tuple(attrs["shape"]))
    return one(attrs.get("mean", 0.0) + attrs.get("scale", 1.0) * drawn, numpy_of(attrs["dtype"]))


define("random_uniform", (1, 1), _infer_drawn, _uniform, values={"shape": 0}, random=True)
define("random_normal", (1, 1), _infer_drawn, _normal, values={"shape": 0}, random=True)


def _infer_multinomial(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    attrs: Any = node.attrs
    shape = infos[0].shape
    if len(shape) != 2 or not shape[1] or BY_NAME[attrs["dtype"]].kind != "i":
        raise fail(node, infos, "x must be (batch, classes) and the result integers")
    return [Info(BY_NAME[attrs["dtype"]], (shape[0], attrs.get("count", 1)))]


def _multinomial(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    power = np.exp(x.astype(np.float64) - np.max(x, axis=1, keepdims=True))
    edges = np.cumsum(power, axis=1)
    drawn = _generator(attrs).random((x.shape[0], attrs.get("count", 1))) * edges[:, -1:]
    chosen = (drawn[:, :, None] >= edges[:, None, :]).sum(axis=2)
    return one(np.minimum(chosen, x.shape[1] - 1), numpy_of(attrs["dtype"]))


define("multinomial", 1, _infer_multinomial, quiet(_multinomial), random=True)
