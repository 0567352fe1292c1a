"""What the convolution kernels must give, by NumPy in float64, and their operands' layouts.

kernels/conv/cases.py makes its cases of these.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import up
from tilework.hal.kernels.conv import Activation

Array = NDArray[Any]
Three = tuple[int, int, int]


def values(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed + sum(shape))
    return rng.standard_normal(shape).astype(np.float32)


ERF = np.vectorize(math.erf, otypes=[float])


def gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(x * 0.5 * (1 + np.tanh(inner)))


def activated(x: Array, kind: Activation, alpha: float, beta: float) -> Array:
    sigmoid = 1 / (1 + np.exp(-x))
    found = {
        Activation.NONE: x,
        Activation.RELU: np.maximum(x, 0),
        Activation.LEAKY_RELU: np.where(x < 0, x * alpha, x),
        Activation.CLIP: np.clip(x, alpha, beta),
        Activation.SIGMOID: sigmoid,
        Activation.SILU: x * sigmoid,
        Activation.HARD_SWISH: x * np.clip(x / 6 + 0.5, 0, 1),
        Activation.HARD_SIGMOID: np.clip(x * alpha + beta, 0, 1),
        Activation.TANH: np.tanh(x),
        Activation.GELU: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
        Activation.GELU_TANH: gelu_tanh(x),
        Activation.QUICK_GELU: x / (1 + np.exp(-1.702 * x)),
    }
    return np.asarray(found[kind])


def gapped(x: Array, pixel: int) -> Array:
    """(pixels, c) flattened with `pixel` elements between pixels; what is between is NaN."""
    wide = np.full((len(x), pixel), np.nan, np.float32)
    wide[:, : x.shape[1]] = x
    return wide.ravel()[: (len(x) - 1) * pixel + x.shape[1]] if len(x) else wide.ravel()


def packed(w: Array, groups: int) -> Array:
    """w (groups filters, channels, taps) as the kernels read it."""
    count, channels, taps = w.shape
    filters = count // groups
    panels = up(filters, 8)
    wide = np.zeros((groups, panels * 8, channels, taps), np.float32)
    wide[:, :filters] = w.reshape(groups, filters, channels, taps)
    turned = wide.reshape(groups, panels, 8, channels, taps).transpose(0, 1, 4, 3, 2)
    return np.ascontiguousarray(turned).ravel()


def transformed(w: Array) -> Array:
    """w (filters, channels, 9) as f32_winograd reads it."""
    count, channels, _ = w.shape
    points = (0.0, 0.75, -0.75, 1.5, -1.5)
    rows = [
        np.array([1.0, p, p * p]) / np.prod([p - q for q in points if q != p]) for p in points
    ]
    g = np.array([*rows, [0.0, 0.0, 1.0]])
    u = np.einsum("ea,fcab,gb->fceg", g, w.reshape(count, channels, 3, 3).astype(np.float64), g)
    wide = np.zeros((up(count, 8) * 8, channels, 36))
    wide[:count] = u.reshape(count, channels, 36)
    turned = wide.reshape(-1, 8, channels, 36).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(turned).astype(np.float32).ravel()


def outputs(
    extents: Three, kernel: Three, stride: Three, dilation: Three, padding: Three, end: Three
) -> Three:
    made = (
        (n + a + e - (k - 1) * d - 1) // s + 1
        for n, k, s, d, a, e in zip(extents, kernel, stride, dilation, padding, end, strict=True)
    )
    return tuple(made)


def windows(
    x: Array, kernel: Three, stride: Three, dilation: Three, padding: Three, output: Three,
    fill: float,
) -> Array:  # fmt: skip
    """(batch, *output, taps, c) of x (batch, d, h, w, c) in float64."""
    room = [
        (p, max(0, (o - 1) * s + (k - 1) * d + 1 - p - n))
        for p, o, s, k, d, n in zip(
            padding, output, stride, kernel, dilation, x.shape[1:4], strict=True
        )
    ]
    wide = np.pad(x.astype(np.float64), [(0, 0), *room, (0, 0)], constant_values=fill)
    parts = []
    for tap in product(*map(range, kernel)):
        where = tuple(
            slice(k * d, k * d + (o - 1) * s + 1, s)
            for k, d, o, s in zip(tap, dilation, output, stride, strict=True)
        )
        parts.append(wide[(slice(None), *where)])
    return np.stack(parts, axis=-2)
