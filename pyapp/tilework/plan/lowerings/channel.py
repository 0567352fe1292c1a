"""Pooling and what goes channel by channel: affine, local response and instance normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, FLOAT64, INT8, INT64, UINT8
from tilework.core.shapes import count, row_major_strides
from tilework.hal.kernels import norm
from tilework.hal.kernels.conv import (
    F32_AFFINE,
    F32_LRN,
    F32_POOL,
    AffineParams,
    LrnParams,
    Pooling,
    PoolParams,
)
from tilework.hal.kernels.pool import (
    F32_MAX_POOL_PLACED,
    I8_MAX_POOL,
    U8_MAX_POOL,
    MaxPoolParams,
    PlacedParams,
)
from tilework.ir.graph import Node
from tilework.ir.narrow import convert
from tilework.ir.opdefs.pool import pool_window
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.window import Window
from tilework.plan.builder import Builder, is_constant
from tilework.plan.layout import channels_last, first, last, pixel_stride
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings import half
from tilework.plan.lowerings.conv import AXES, epilogue, space, three
from tilework.plan.tensor import Tensor

POOL_WORK = 32768  # elements that a tile of pooling reads
AFFINE = 16384  # elements a tile
LRN = 4096
NORM = 16384
SLICE = 131072  # elements of a tile of channels side by side: half of L2
NARROW = 32  # channels; fewer read lines of which they need the half
LINE = 16  # channels; fewer leave lines to two threads
FUNCTIONS = {name.lower(): value for name, value in norm.Activation.__members__.items()}

MAX_POOL = {FLOAT32: F32_POOL, UINT8: U8_MAX_POOL, INT8: I8_MAX_POOL}
POOLINGS = {"max_pool": Pooling.MAX, "average_pool": Pooling.AVERAGE}
POOLINGS |= {f"global_{name}": kind for name, kind in POOLINGS.items()}


def pool(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Pooling of float32, and max of bytes, over one to three axes, windowed or global."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    kernel = F32_POOL if x.dtype is FLOAT32 else None
    if node.op in ("max_pool", "global_max_pool"):
        kernel = MAX_POOL.get(x.dtype)
    if kernel is None:
        return f"no kernel for {node.op} of {x.dtype}"
    if not 3 <= len(x.shape) <= AXES + 2:
        return f"no kernel for {len(x.shape) - 2} spatial axes"
    placed = any(b.uses(name) for name in node.outputs[1:])
    if placed and kernel is not F32_POOL:
        return f"no kernel for places of the largest {x.dtype}"
    kind = POOLINGS.get(node.op)
    if kind is None:
        kind = {1: Pooling.LP1, 2: Pooling.LP2}.get(attrs.get("p", 2))
    if kind is None:
        return f"no kernel for the norm {attrs['p']}"
    shape = results[0].shape
    if 0 in shape or 0 in x.shape:
        return "nothing to pool"
    if node.op.startswith("global"):
        ones, zeros = (1,) * len(x.shape[2:]), (0,) * len(x.shape[2:])
        made = Window(x.shape[2:], x.shape[2:], ones, ones, zeros, zeros, ones)
    else:
        made = pool_window(attrs, x.shape)
    if placed:
        return _placed(b, x, made, shape, bool(attrs.get("storage_order", 0)))
    source = channels_last(b, x)
    y = b.new(x.dtype, tuple(shape[axis] for axis in last(len(shape))))
    rows, each = shape[0] * count(shape[2:-1]), shape[-1] * count(made.kernel)
    tile_rows = min(max(POOL_WORK // (each * shape[1]), 1), -(-rows // b.threads))
    channels = max(-(-POOL_WORK // (each * tile_rows) // 16) * 16, 16)
    if rows >= b.threads:
        channels = -(-shape[1] // 4) * 4
    common = {
        "batch": shape[0],
        "channels": shape[1],
        **space(made, made.inputs, made.outputs),
        "x_pixel": source.pixel,
        "y_pixel": shape[1],
        "tile_rows": tile_rows,
        "tile_channels": channels,
    }
    params: PoolParams | MaxPoolParams
    if kernel is F32_POOL:
        counted = int(bool(attrs.get("count_include_pad", 0)))
        end = three(made.end, 0)
        params = PoolParams(**common, padding_end=end, pooling=kind, count_padding=counted)
    else:
        params = MaxPoolParams(**common)
    counts = (-(-shape[1] // channels), -(-rows // tile_rows), 1)
    b.emit(kernel, counts, params, (source.tensor, y))
    return [y.transposed(first(len(shape))), *(y for _ in node.outputs[1:])]


def _placed(
    b: Builder, x: Tensor, made: Window, shape: tuple[int, ...], turned: bool
) -> list[Tensor]:
    """The largest and their places, row- or column-major."""
    source, rank = channels_last(b, x), len(shape)
    outputs = tuple(shape[axis] for axis in last(rank))
    y, places = b.new(FLOAT32, outputs), b.new(INT64, outputs)
    steps = row_major_strides(made.inputs)
    if turned:
        steps = row_major_strides(made.inputs[::-1])[::-1]
    rows, each = shape[0] * count(shape[2:-1]), shape[-1] * count(made.kernel) * shape[1]
    tile_rows = min(max(POOL_WORK // each, 1), -(-rows // b.threads))
    params = PlacedParams(
        batch=shape[0],
        channels=shape[1],
        **space(made, made.inputs, made.outputs),
        place=three(steps, 0),
        x_pixel=source.pixel,
        tile_rows=tile_rows,
    )
    operands = (source.tensor, y, places)
    b.emit(F32_MAX_POOL_PLACED, (-(-rows // tile_rows), 1, 1), params, operands)
    return [one.transposed(first(rank)) for one in (y, places)]


def affine(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """activation(x scale + bias), channel by channel, in whichever layout x has."""
    x, scale, bias = inputs
    assert x is not None and scale is not None and bias is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    return [_affine(b, x, b.dense(scale), b.dense(bias), node.attrs)]


def _affine(b: Builder, x: Tensor, scale: Tensor, bias: Tensor, attrs: Any) -> Tensor:
    rank, channels = len(x.shape), x.shape[1]
    pixel = None if x.dense else pixel_stride(x)
    if pixel is not None:
        outer, inner = count(x.shape) // channels, 1
        x = x.transposed(last(rank))
    else:
        x = b.dense(x)
        outer, inner = x.shape[0], count(x.shape[2:])
    y = b.result(FLOAT32, x.shape, x)
    lines = outer if inner == 1 else outer * channels
    each = max(AFFINE // (channels if inner == 1 else inner), 1)
    if y.size >= b.threads * 1024:
        each = min(each, -(-lines // b.threads))
    params = AffineParams(
        outer=outer,
        channels=channels,
        inner=inner,
        x_pixel=pixel or channels,
        tile_lines=each,
        **epilogue(attrs),
    )
    b.emit(F32_AFFINE, (-(-lines // each) if y.size else 0, 1, 1), params, (x, scale, bias, y))
    return y if pixel is None else y.transposed(first(rank))


def lrn(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Local response normalisation, channels last."""
    x = inputs[0]
    assert x is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    source = channels_last(b, x)
    channels, pixels = x.shape[1], x.size // max(x.shape[1], 1)
    y = b.result(FLOAT32, source.tensor.shape, source.tensor)
    each = max(LRN // max(channels, 1), 1)
    params = LrnParams(
        pixels=pixels,
        channels=channels,
        x_pixel=source.pixel,
        span=attrs["size"],
        tile_pixels=each,
        alpha=float(attrs.get("alpha", 1e-4)),
        beta=float(attrs.get("beta", 0.75)),
        bias=float(attrs.get("bias", 1.0)),
    )
    scratch = 4 * (channels + attrs["size"] + 8)
    b.emit(
        F32_LRN, (-(-pixels // each) if y.size else 0, 1, 1), params, (source.tensor, y), scratch
    )
    return [y.transposed(first(len(x.shape)))]


def grouped_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """instance_normalization and group_normalization, in whichever layout x has."""
    x, scale, bias = inputs
    assert x is not None and scale is not None and bias is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if 0 in x.shape:
        return "nothing to normalise"
    attrs: Any = node.attrs
    batch, channels = x.shape[:2]
    groups = attrs.get("groups", 1) if node.op == "group_normalization" else channels
    own, pixels = channels // groups, count(x.shape[2:])
    pixel = None if x.dense else pixel_stride(x)
    x = b.dense(x) if pixel is None else x.transposed(last(len(x.shape)))
    y = b.result(FLOAT32, x.shape, x)
    each = max(NORM // (own * pixels), 1)
    scratch = 0
    if pixel is not None:
        each = max(SLICE // (own * pixels), -(-NARROW // own))
    if y.size >= b.threads * 1024:
        least = 1 if pixel is None else -(-LINE // own)
        each = min(each, max(-(-batch * groups // b.threads), least))
    each = min(each, groups)
    if pixel is not None:
        scratch = 20 * -(-each * own // 4) * 4
    params = norm.GroupNormParams(
        batch=batch,
        channels=channels,
        groups=groups,
        pixels=pixels,
        x_pixel=pixel or 0,
        tile_groups=each,
        epsilon=float(attrs.get("epsilon", 1e-5)),
        activation=FUNCTIONS[attrs.get("activation", "none")],
    )
    counts = (-(-groups // each), batch, 1)
    operands = (x, b.dense(scale), b.dense(bias), y)
    b.emit(norm.F32_GROUP_NORM, counts, params, operands, scratch)
    return [y if pixel is None else y.transposed(first(len(y.shape)))]


def batch_norm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """What the passes left, which open those of float32: a scale and a bias a channel, of
    constants, computed here once."""
    x, *vectors = inputs
    assert x is not None
    if node.attrs.get("training", 0) or any(map(b.uses, node.outputs[1:])):
        return "it learns"
    if is_constant(x):
        return "computed once"  # where the plan's constants do not reach
    known = []
    for vector in vectors:
        array = None if vector is None else b.arrays.get(vector.storage)
        if vector is None or array is None or array.shape != vector.shape or not vector.dense:
            return "its numbers are computed"
        known.append(convert(array, FLOAT64))
    gain, base, mean, variance = known
    attrs: Any = node.attrs
    scale = gain / np.sqrt(variance + attrs.get("epsilon", 1e-5))
    numbers = [b.local(values, FLOAT32) for values in (scale, base - mean * scale)]
    return half.through_float32(affine)(b, node, (x, *numbers), results)


PLAIN: dict[str, Lowering] = {
    "batch_normalization": batch_norm,
}
FLOATS: dict[str, Lowering] = {
    **dict.fromkeys((*POOLINGS, "lp_pool", "global_lp_pool"), pool),
    "channel_affine": affine,
    "lrn": lrn,
    "instance_normalization": grouped_norm,
    "group_normalization": grouped_norm,
}
