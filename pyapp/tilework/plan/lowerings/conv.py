"""Convolutions, channels last: filters are packed once a session, windows gathered in the kernel.

kernels/conv/README.md has the reasons for the layout and the tile sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32
from tilework.core.shapes import count
from tilework.hal.kernels.conv import (
    F32_CONV,
    F32_CONV_PACK,
    F32_CONV_SCATTER,
    F32_DEPTHWISE,
    F32_WINOGRAD,
    F32_WINOGRAD_PACK,
    Activation,
    ConvPackParams,
    ConvParams,
    ConvScatterParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import conv_window, transposed_window
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.window import Window
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.layout import Pixels, channels_last, first, last
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor

BLOCK = 1536  # BLOCK of kernels/conv/f32_conv.c
PACK_ELEMENTS = 32768  # of filters that a tile packs
ROW_WORK = 100_000  # multiply-adds of a tile of depthwise rows
SQUARE, PRODUCTS = 4, 36  # of kernels/conv/winograd.h
FEWEST_CHANNELS, MOST_CHANNELS = 16, 256  # for which f32_winograd is used
FEWEST_SQUARES = 9
SCATTER_WORK = 65536  # elements that a tile of a transposed convolution adds up

ACTIVATIONS = {name.lower(): value for name, value in Activation.__members__.items()}
AXES = 3


def three(values: Sequence[int], fill: int) -> tuple[int, int, int]:
    """One number for each of three spatial axes, the missing ones first."""
    padded = (*(fill,) * (AXES - len(values)), *values)
    assert len(padded) == AXES  # the lowering has checked
    return padded  # type: ignore[return-value]


def epilogue(attrs: Any) -> dict[str, Any]:
    """What a kernel is told of the node's activation."""
    return {
        "activation": ACTIVATIONS[attrs.get("activation", "none")],
        "alpha": float(attrs.get("alpha", 0.0)),
        "beta": float(attrs.get("beta", 0.0)),
    }


def space(made: Window, inputs: Sequence[int], outputs: Sequence[int]) -> dict[str, Any]:
    """What a kernel is told of windows."""
    return {
        "input": three(inputs, 1),
        "output": three(outputs, 1),
        "kernel": three(made.kernel, 1),
        "stride": three(made.strides, 1),
        "dilation": three(made.dilations, 1),
        "padding": three(made.begin, 0),
    }


def conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """conv and fused_conv of float32 over one to three spatial axes."""
    x, w, bias, residual, scale = [*inputs, None, None, None][:5]
    assert x is not None and w is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if len(x.shape) > AXES + 2:
        return f"no kernel for {len(x.shape) - 2} spatial axes"
    attrs: Any = node.attrs
    shape = results[0].shape
    made = conv_window(attrs, x.shape, w.shape)
    groups = attrs.get("group", 1)
    if 0 in shape or 0 in w.shape:
        return "nothing to sum"
    filters, channels = w.shape[0] // groups, w.shape[1]
    depthwise = groups > 1 and filters == channels == 1
    taps = count(made.kernel)
    source = channels_last(b, x)
    constant = is_constant(w) and (scale is None or is_constant(scale))
    squares = _squares(shape, channels, made) if groups == 1 and constant else 0
    packed = _packed(b, w, scale, 1 if depthwise else groups, bool(squares))
    added = None if residual is None else channels_last(b, residual)
    y = _result(b, shape, source, added)
    pixels = shape[0] * count(made.outputs)
    scratch = 0
    if depthwise:
        tile_pixels, tile_filters, counts = _rows(b, pixels, made.outputs[-1], groups * taps)
    elif squares:
        square = tiles.square_tiles(squares, filters, channels, b.threads)
        tile_pixels, tile_filters, scratch = square.squares, square.filters, square.scratch
        counts = square.counts(squares, filters)
    else:
        cut = tiles.gemm_tiles(pixels, filters, taps * channels, groups, b.threads)
        tile_pixels, tile_filters = cut.tile_m, cut.tile_n
        if not _single(made):
            block = min(BLOCK, taps * channels) + 3
            most = SCRATCH // 2 // (4 * block) // tiles.ROWS * tiles.ROWS
            tile_pixels = min(tile_pixels, max(most, tiles.ROWS))
            scratch = 4 * tile_pixels * block
        counts = (-(-filters // tile_filters), groups, -(-pixels // tile_pixels))
    params = ConvParams(
        batch=shape[0],
        groups=groups,
        channels=channels,
        filters=filters,
        **space(made, made.inputs, made.outputs),
        x_pixel=source.pixel,
        y_pixel=shape[1],
        residual_pixel=0 if added is None else added.pixel,
        tile_pixels=tile_pixels,
        tile_filters=tile_filters,
        **epilogue(attrs),
    )
    vector = None if bias is None else b.dense(bias)
    operands = (source.tensor, packed, vector, None if added is None else added.tensor, y)
    kernel = F32_DEPTHWISE if depthwise else F32_WINOGRAD if squares else F32_CONV
    b.emit(kernel, counts, params, operands, scratch)
    return [y.transposed(first(len(shape)))]


def _single(made: Window) -> bool:
    """Whether windows are single pixels that lie where their results do."""
    return (
        count(made.kernel) == 1
        and made.inputs == made.outputs
        and set(made.strides) == {1}
        and not any(made.begin)
    )


def _squares(shape: tuple[int, ...], channels: int, made: Window) -> int:
    """Squares of 4 x 4 outputs where f32_winograd is faster than f32_conv; else 0."""
    if made.kernel != (3, 3) or set(made.strides) != {1} or set(made.dilations) != {1}:
        return 0
    if channels % 4 or not FEWEST_CHANNELS <= channels <= MOST_CHANNELS:
        return 0
    if shape[1] < FEWEST_CHANNELS:
        return 0
    squares = shape[0] * count(-(-extent // SQUARE) for extent in shape[2:])
    # What hangs over the edge is computed too.
    wasted = squares * SQUARE * SQUARE > 1.8 * shape[0] * count(shape[2:])
    return 0 if squares < FEWEST_SQUARES or wasted else squares


def _packed(
    b: Builder, w: Tensor, scale: Tensor | None, groups: int, winograd: bool = False
) -> Tensor:
    """Filters as the kernels read them, times `scale`."""
    filters, channels, taps = w.shape[0] // groups, w.shape[1], count(w.shape[2:])
    panels = -(-filters // tiles.PANEL) * groups
    shape = (panels * tiles.PANEL * channels * (PRODUCTS if winograd else taps),)
    fresh = True
    if is_constant(w) and (scale is None or is_constant(scale)):
        factor = "" if scale is None else view_key(scale)
        kind = "squares" if winograd else "filters"
        key = f"{kind}({view_key(w)},{groups},{factor})"
        packed, fresh = b.prepared(key, FLOAT32, shape)
    else:
        packed = b.transient(FLOAT32, shape)
    if fresh:
        each = max(PACK_ELEMENTS // (tiles.PANEL * channels * taps), 1)
        params = ConvPackParams(groups, filters, channels, taps, each)
        operands = (b.dense(w), None if scale is None else b.dense(scale), packed)
        kernel = F32_WINOGRAD_PACK if winograd else F32_CONV_PACK
        b.emit(kernel, (-(-panels // each), 1, 1), params, operands)
    return packed


def _result(
    b: Builder, shape: tuple[int, ...], x: Pixels, residual: Pixels | None
) -> Tensor:
    """(n, ..., c), over the residual where nothing else needs that one."""
    turned = tuple(shape[axis] for axis in last(len(shape)))
    if residual is None or residual.tensor.storage is x.tensor.storage:
        return b.new(FLOAT32, turned)
    return b.result(FLOAT32, turned, residual.tensor)


def _rows(
    b: Builder, pixels: int, width: int, each: int
) -> tuple[int, int, tuple[int, int, int]]:
    """(rows a tile, filters a tile, tile counts) of a depthwise convolution."""
    rows = pixels // width
    tile = max(ROW_WORK // (width * each), 1)
    if pixels * each >= b.threads * ROW_WORK // 4:
        tile = tiles.share(rows, min(tile, -(-rows // b.threads)), b.threads)
    return tile, tiles.PANEL, (1, -(-rows // tile), 1)


def conv_transpose(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """A product of pixels and filters, then each pixel's sum of what reaches it."""
    x, w, bias = [*inputs, None][:3]
    assert x is not None and w is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if len(x.shape) > AXES + 2:
        return f"no kernel for {len(x.shape) - 2} spatial axes"
    attrs: Any = node.attrs
    shape = results[0].shape
    if 0 in shape or 0 in w.shape or 0 in x.shape:
        return "nothing to sum"
    made, outputs = transposed_window(attrs, x.shape, w.shape)
    groups = attrs.get("group", 1)
    channels, own, taps = w.shape[0] // groups, w.shape[1], count(made.kernel)
    source = channels_last(b, x)
    # Each tap of each of a group's results is a filter of one pixel: (group, taps, own, channels).
    parts = replace(
        w,
        shape=(groups, channels, *w.shape[1:]),
        strides=(channels * w.strides[0], *w.strides),
    )
    rank = len(made.kernel)
    turned = parts.transposed((0, *range(3, 3 + rank), 2, 1))
    dense = b.dense(turned).reshaped((groups * taps * own, channels, *(1,) * rank))
    assert dense is not None
    packed = _packed(b, dense, None, groups)
    pixels, filters = x.shape[0] * count(x.shape[2:]), taps * own
    columns = b.transient(FLOAT32, (pixels, groups * filters))
    b.live[columns.storage] = 0
    cut = tiles.gemm_tiles(pixels, filters, channels, groups, b.threads)
    unit = Window(x.shape[2:], *((1,) * rank,) * 3, *((0,) * rank,) * 2, x.shape[2:])
    params = ConvParams(
        batch=x.shape[0],
        groups=groups,
        channels=channels,
        filters=filters,
        **space(unit, x.shape[2:], x.shape[2:]),
        x_pixel=source.pixel,
        y_pixel=groups * filters,
        residual_pixel=0,
        tile_pixels=cut.tile_m,
        tile_filters=cut.tile_n,
        **epilogue({}),
    )
    b.emit(
        F32_CONV,
        (-(-filters // cut.tile_n), groups, -(-pixels // cut.tile_m)),
        params,
        (source.tensor, packed, None, None, columns),
    )
    y = b.new(FLOAT32, tuple(shape[axis] for axis in last(len(shape))))
    rows = shape[0] * count(outputs[:-1])
    each = min(max(SCATTER_WORK // (outputs[-1] * shape[1] * taps), 1), -(-rows // b.threads))
    scatter = ConvScatterParams(
        batch=shape[0],
        channels=shape[1],
        group_channels=own,
        **space(made, x.shape[2:], outputs),
        y_pixel=shape[1],
        tile_rows=each,
        **epilogue(attrs),
    )
    vector = None if bias is None else b.dense(bias)
    b.emit(F32_CONV_SCATTER, (-(-rows // each), 1, 1), scatter, (columns, vector, y))
    return [y.transposed(first(len(shape)))]


FLOATS: dict[str, Lowering] = {
    "conv": conv,
    "fused_conv": conv,
    "conv_transpose": conv_transpose,
}
