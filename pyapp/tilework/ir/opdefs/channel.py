"""Normalisation channel by channel. x is (n, c, ...), a vector has one number a channel.

batch_normalization (x, scale, bias, mean, variance) -> y [, mean, variance]: epsilon, momentum,
    training (then the statistics are x's and the outputs the running ones)
channel_affine (x, scale, bias): activation, alpha, beta; activation(x scale + bias). Passes make it
    of what is left of batch normalisations.
instance_normalization (x, scale, bias): epsilon
group_normalization (x, scale, bias): epsilon, groups
    Passes give both an activation (NORM_ACTIVATIONS), which comes last.
lrn (x): size, alpha, beta, bias
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import activate, check_activation
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet, same_dtype
from tilework.ir.opdefs.fused import ACTIVATIONS as NORM_ACTIVATIONS
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def along_channels(vector: Array, rank: int) -> Array:
    """A vector over the channels as it broadcasts against a tensor of that rank."""
    return vector.reshape(-1, *(1,) * (rank - 2))


def _infer(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    x = infos[0]
    assert x is not None
    channels = x.shape[1:2] or (1,)
    if len(x.shape) < 2 and node.op != "batch_normalization":
        raise fail(node, infos, "x must be (n, c, ...)")
    for info in infos[1:]:
        if info is not None and info.shape != channels:
            raise fail(node, infos, f"scale, bias and statistics must be {list(channels)}")
    if node.op == "channel_affine":
        check_activation(node, infos)
    elif node.attrs.get("activation", "none") not in NORM_ACTIVATIONS:
        raise fail(node, infos, f"activation {node.attrs['activation']!r} is not one of the kernel")
    groups: Any = node.attrs.get("groups", 1)
    if groups < 1 or channels[0] % groups:
        raise fail(node, infos, f"{channels[0]} channels are not {groups} groups")
    return [Info(x.dtype, x.shape)]


def _infer_batch(node: Node, infos: Sequence[Info]) -> list[Info]:
    (result,) = _infer(node, infos)
    vectors = [Info(info.dtype, info.shape) for info in infos[3:5]]
    return [result, *vectors][: len(node.outputs)]


def _batch(
    attrs: Attrs, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> tuple[Array, ...]:
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    running: tuple[Array, ...] = (mean, variance)
    if attrs.get("training", 0):
        axes = (0, *range(2, x.ndim))
        own = np.mean(wide, axis=axes), np.var(wide, axis=axes)
        keep = attrs.get("momentum", 0.9)
        running = tuple(
            np.asarray(old * keep + new * (1 - keep), old.dtype)
            for old, new in zip((mean, variance), own, strict=True)
        )
        mean, variance = own
    rank = max(x.ndim, 2)
    shift, spread, gain, base = (
        along_channels(v.astype(wide.dtype), rank) for v in (mean, variance, scale, bias)
    )
    epsilon = wide.dtype.type(attrs.get("epsilon", 1e-5))
    y = gain * (wide - shift) / np.sqrt(spread + epsilon) + base
    return np.asarray(y, x.dtype), *running


define("batch_normalization", 5, _infer_batch, quiet(_batch), outputs=3)


def _affine(attrs: Attrs, x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
    y = x * along_channels(scale, x.ndim) + along_channels(bias, x.ndim)
    return one(activate(attrs, y), x.dtype)


define("channel_affine", 3, _infer, quiet(_affine))


def _grouped(attrs: Attrs, x: Array, groups: int, scale: Array, bias: Array) -> Array:
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    flat = wide.reshape(x.shape[0], groups, -1)
    away = flat - np.mean(flat, axis=-1, keepdims=True)
    variance = np.mean(away * away, axis=-1, keepdims=True)
    epsilon = flat.dtype.type(attrs.get("epsilon", 1e-5))
    y = (away / np.sqrt(variance + epsilon)).reshape(x.shape)
    y = y * along_channels(scale, x.ndim) + along_channels(bias, x.ndim)
    return np.asarray(NORM_ACTIVATIONS[attrs.get("activation", "none")](y))


define(
    "instance_normalization",
    3,
    _infer,
    quiet(lambda attrs, x, scale, bias: one(_grouped(attrs, x, x.shape[1], scale, bias), x.dtype)),
)
define(
    "group_normalization",
    3,
    _infer,
    quiet(
        lambda attrs, x, scale, bias: one(
            _grouped(attrs, x, attrs.get("groups", 1), scale, bias), x.dtype
        )
    ),
)


def _infer_lrn(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    size: Any = node.attrs["size"]
    if len(infos[0].shape) < 2 or size < 1:
        raise fail(node, infos, f"x must be (n, c, ...), size {size} at least 1")
    same_dtype(node, infos)
    return [Info(infos[0].dtype, infos[0].shape)]


def _lrn(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    size = attrs["size"]
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    room = [(0, 0), (before, after), *((0, 0) for _ in x.shape[2:])]
    squares = np.pad(wide * wide, room)
    total = np.zeros_like(wide)
    for i in range(size):
        total += squares[:, i : i + x.shape[1]]
    kind = wide.dtype.type
    factor = kind(attrs.get("bias", 1.0)) + kind(attrs.get("alpha", 1e-4) / size) * total
    return one(wide / factor ** kind(attrs.get("beta", 0.75)), x.dtype)


define("lrn", 1, _infer_lrn, quiet(_lrn))
