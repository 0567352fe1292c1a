"""Convolutions of bytes, channels last: windows gathered in the kernel, or one filter a channel.

Filters are packed once a session. kernels/conv/README.md has the reasons for the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, INT8, INT32, UINT8
from tilework.core.shapes import count
from tilework.hal.kernels.quant import (
    I8_CONV,
    I8_DEPTHWISE,
    I8_DEPTHWISE_PACK,
    ConvParams,
    DepthwisePackParams,
    Dot,
    Target,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import conv_window
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.layout import channels_last, first, last
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.conv import AXES, space
from tilework.plan.lowerings.quant import (
    ACTIVATIONS,
    MANY_ROWS,
    Follow,
    byte_target,
    limits,
    needed_zero,
    pack,
)
from tilework.plan.tensor import Tensor

LANES = 16  # TW_LANES of kernels/quant/depthwise.h
PACK_BLOCKS = 64  # blocks of 16 channels that a tile packs
ROW_WORK = 200_000  # multiply-adds of a tile of depthwise rows


def conv_integer(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums of int32."""
    x, w, x_zero, w_zero = [*inputs, None, None][:4]
    assert x is not None and w is not None
    follow = Follow(Target.INT, results[0].dtype, a_zero=x_zero, b_zero=w_zero)
    return _convolved(b, node, x, w, follow, results[0])


def quantized_conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Scaled sums of float32, with what follows them."""
    x, w, x_scale, w_scale, x_zero, w_zero, bias, residual = [*inputs, *[None] * 4][:8]
    assert x is not None and w is not None
    follow = Follow(
        Target.FLOAT,
        FLOAT32,
        x_zero,
        w_zero,
        x_scale,
        w_scale,
        bias=bias,
        residual=residual,
        activation=ACTIVATIONS[str(node.attrs.get("activation", "none"))],
    )
    return _convolved(b, node, x, w, follow, results[0])


def qlinear_conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums made bytes again."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = [*inputs, None][:9]
    assert x is not None and w is not None and x_scale is not None and y_scale is not None
    if x_scale.dtype is not FLOAT32:
        return f"no kernel for scales of {x_scale.dtype}"
    to = results[0].dtype
    follow = Follow(
        byte_target(to), to, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias,
        limits=limits(node.attrs, to),
    )  # fmt: skip
    return _convolved(b, node, x, w, follow, results[0])


def _convolved(
    b: Builder, node: Node, x: Tensor, w: Tensor, follow: Follow, result: Info
) -> Lowered:
    attrs: Any = node.attrs
    shape, filters = result.shape, w.shape[0]
    if len(x.shape) > AXES + 2:
        return f"no kernel for {len(x.shape) - 2} spatial axes"
    if 0 in shape or 0 in w.shape:
        return "nothing to sum"
    for one, most in (
        (follow.a_zero, 1), (follow.a_scale, 1), (follow.y_scale, 1), (follow.y_zero, 1),
        (follow.b_zero, filters), (follow.b_scale, filters),
    ):  # fmt: skip
        if one is not None and one.size not in (1, most):
            return f"{one.size} scales or zeros for {most}"
    if follow.bias is not None and follow.target is not Target.FLOAT:
        if follow.bias.dtype is not INT32:
            return f"no kernel for a bias of {follow.bias.dtype}"
    groups, taps = int(attrs.get("group", 1)), count(w.shape[2:])
    depthwise = groups > 1 and w.shape[1] == 1 and filters == groups
    inner = taps * w.shape[1]
    needed = _deep_scratch(filters, taps) if depthwise else tiles.quant_scratch(1, inner)
    if needed > SCRATCH:
        return f"sums of {inner} products do not fit scratch memory"
    made = conv_window(attrs, x.shape, w.shape)
    source = channels_last(b, x)
    residual = None if follow.residual is None else channels_last(b, follow.residual)
    y = b.new(follow.dtype, tuple(shape[axis] for axis in last(len(shape))))
    pixels = shape[0] * count(made.outputs)
    zero = needed_zero(b, follow.b_zero, w.dtype)
    params = ConvParams(
        batch=shape[0],
        groups=groups,
        channels=w.shape[1],
        filters=filters // groups,
        **space(made, made.inputs, made.outputs),
        x_pixel=source.pixel,
        y_pixel=filters,
        residual_pixel=0 if residual is None else residual.pixel,
        tile_pixels=1,
        tile_filters=tiles.PANEL,
        x_signed=int(x.dtype is INT8),
        w_signed=int(w.dtype is INT8),
        target=follow.target,
        activation=follow.activation,
        least=follow.limits[0],
        most=follow.limits[1],
    )
    after = [
        None if one is None else b.dense(one)
        for one in (follow.a_scale, follow.b_scale, follow.y_scale, follow.y_zero, follow.bias)
    ]
    more = None if residual is None else residual.tensor
    start = None if follow.a_zero is None else b.dense(follow.a_zero)
    if depthwise:
        packed = _packed_blocks(b, w, zero)
        rows, width = pixels // made.outputs[-1], made.outputs[-1]
        each = max(ROW_WORK // (width * filters * taps), 1)
        if pixels * filters * taps >= b.threads * ROW_WORK // 4:
            each = tiles.share(rows, min(each, -(-rows // b.threads)), b.threads)
        params = params._replace(tile_pixels=each)
        operands = (source.tensor, packed, start, *after, more, y)
        scratch = _deep_scratch(filters, taps)
        b.emit(I8_DEPTHWISE, (1, -(-rows // each), 1), params, operands, scratch)
    else:
        looked = is_constant(w) or pixels >= MANY_ROWS
        packed = _packed_filters(b, w, groups, Dot.PROBED if looked else Dot.LIVE)
        cut = tiles.quant_tiles(pixels, filters // groups, inner, b.threads, groups)
        params = params._replace(tile_pixels=cut.tile_m, tile_filters=cut.tile_n)
        operands = (source.tensor, packed, start, zero, *after, more, y)
        across, down, _ = cut.counts(pixels, filters // groups)
        b.emit(I8_CONV, (across, groups, down), params, operands, cut.scratch)
    return [y.transposed(first(len(shape)))]


def _packed_filters(b: Builder, w: Tensor, groups: int, dot: Dot) -> Tensor:
    """A matrix (taps channels, filters) a group, in panels."""
    rank = len(w.shape)
    filters, channels = w.shape[0] // groups, w.shape[1]
    parts = replace(
        w,
        shape=(groups, filters, *w.shape[1:]),
        strides=(filters * w.strides[0], *w.strides),
    )
    turned = b.dense(parts.transposed((0, *range(3, rank + 1), 2, 1)))
    matrices = turned.reshaped((groups, count(w.shape[2:]) * channels, filters))
    assert matrices is not None  # dense
    packed, _ = pack(b, matrices, dot)
    return packed


def _packed_blocks(b: Builder, w: Tensor, zero: Tensor | None) -> Tensor:
    """Filters of one channel, less their zero, in blocks of 16; one where all are alike."""
    channels, taps = w.shape[0], count(w.shape[2:])
    array = b.arrays.get(w.storage)
    if array is not None and array.size and (array == array.flat[0]).all() and channels > LANES:
        if zero is None or zero.size == 1:  # an average's: the kernel takes one block for all
            channels = LANES
            w = replace(w, shape=(channels, *w.shape[1:]))
    blocks = -(-channels // LANES)
    shape = (blocks * (64 + -(-taps // 2) * 64),)
    fresh = True
    if is_constant(w) and (zero is None or is_constant(zero)):
        moved = "" if zero is None else view_key(zero)
        packed, fresh = b.prepared(f"byte blocks({view_key(w)},{moved})", UINT8, shape)
    else:
        packed = b.transient(UINT8, shape)
    if fresh:
        each = min(PACK_BLOCKS, blocks)
        params = DepthwisePackParams(channels, taps, int(w.dtype is INT8), each)
        vector = None if zero is None else b.dense(zero)
        b.emit(I8_DEPTHWISE_PACK, (-(-blocks // each), 1, 1), params, (b.dense(w), vector, packed))
    return packed


def _deep_scratch(channels: int, taps: int) -> int:
    """Bytes that i8_depthwise needs, by quant.wit."""
    return 13 * -(-channels // LANES) * LANES + 8 * taps + 64


PLAIN: dict[str, Lowering] = {
    "conv_integer": conv_integer,
    "qlinear_conv": qlinear_conv,
    "quantized_conv": quantized_conv,
}
