"""Images read between their pixels: grids, regions of interest, deformable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, INT64
from tilework.core.shapes import count
from tilework.hal.kernels import sample as kernels
from tilework.hal.kernels.sample import Beyond, Interpolation, Summary
from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import conv_window
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.sample import regular_places
from tilework.plan.builder import Builder, is_constant
from tilework.plan.layout import Pixels, channels_last, first, is_channels_last
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.conv import conv, three
from tilework.plan.lowerings.matmul import matmul

GRID_WORK = 65536  # by sample.wit
BIN_WORK = 8192
DEFORM_WORK = 16384
PLANES = 6  # channels for which turning an image around costs more than it saves
AXES = 3
MOST_SAMPLES = 4096


def _tile(b: Builder, items: int, work: int, each: int) -> tuple[int, int]:
    """(items a tile, tiles)."""
    most = max(work // max(each, 1), 1)
    most = max(min(most, -(-items // b.threads)), 1)
    return most, -(-items // most)


def grid_sample(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Samples at a grid's places, channels last but where there are few."""
    x, grid = inputs
    assert x is not None and grid is not None
    if x.dtype is not FLOAT32 or grid.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype} at places of {grid.dtype}"
    attrs: Any = node.attrs
    shape, rank = results[0].shape, len(x.shape) - 2
    if rank > AXES:
        return f"no kernel for {rank} spatial axes"
    mode = Interpolation[attrs["mode"].upper()]
    planes = shape[1] <= PLANES and not is_channels_last(x)
    grid = b.dense(grid)
    source = Pixels(b.dense(x), 1) if planes else channels_last(b, x)
    y = b.new(FLOAT32, shape if planes else (shape[0], *shape[2:], shape[1]))
    points = count(shape[2:])
    pixels = {"nearest": 1, "linear": 2, "cubic": 4}[attrs["mode"]] ** rank
    each, tiles = _tile(b, shape[0] * points, GRID_WORK, (shape[1] + 32) * pixels)
    params = kernels.GridSampleParams(
        batch=shape[0],
        channels=shape[1],
        points=points,
        axes=rank,
        input=three(x.shape[2:], 1),
        x_pixel=source.pixel,
        planes=int(planes),
        tile_points=each,
        mode=mode,
        outside=Beyond[attrs["padding"].upper()],
        align_corners=int(bool(attrs.get("align_corners", 0))),
    )
    counts = (tiles if y.size else 0, 1, 1)
    b.emit(kernels.F32_GRID_SAMPLE, counts, params, (source.tensor, grid, y))
    return [y if planes else y.transposed(first(len(shape)))]


def roi_align(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Means, or the largest, of regions' bins, channels last."""
    x, rois, images = inputs
    assert x is not None and rois is not None and images is not None
    if x.dtype is not FLOAT32 or rois.dtype is not FLOAT32 or images.dtype is not INT64:
        return f"no kernel for {node.op} of {x.dtype}, {rois.dtype} and {images.dtype}"
    attrs: Any = node.attrs
    ratio = max(attrs.get("ratio", 0), 0)
    if ratio > MOST_SAMPLES:
        return f"{ratio} samples along a bin"
    shape = results[0].shape
    source = channels_last(b, x)
    y = b.new(FLOAT32, (shape[0], *shape[2:], shape[1]))
    each, tiles = _tile(b, shape[0] * count(shape[2:]), BIN_WORK, shape[1] * max(ratio**2, 1))
    params = kernels.RoiAlignParams(
        batch=x.shape[0],
        channels=shape[1],
        input=(x.shape[2], x.shape[3]),
        regions=shape[0],
        output=(shape[2], shape[3]),
        x_pixel=source.pixel,
        tile_bins=each,
        samples=ratio,
        scale=float(attrs.get("scale", 1.0)),
        mode=Summary.AVERAGE if attrs["mode"] == "avg" else Summary.LARGEST,
        half_pixel=int(bool(attrs.get("half_pixel", 1))),
    )
    operands = (source.tensor, b.dense(rois), b.dense(images), y)
    b.emit(kernels.F32_ROI_ALIGN, (tiles if y.size else 0, 1, 1), params, operands)
    return [y.transposed(first(4))]


def deform_conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """What the taps read, as the channels of an image, and a convolution of single pixels."""
    x, w, offset, bias, mask = [*inputs, None, None][:5]
    assert x is not None and w is not None and offset is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    attrs: Any = node.attrs
    shape = results[0].shape
    if 0 in shape or 0 in w.shape or 0 in x.shape:
        return "nothing to sum"
    made = conv_window(attrs, x.shape, w.shape)
    groups, taps = attrs.get("group", 1), count(made.kernel)
    source, moves = channels_last(b, x), channels_last(b, offset)
    masks = None if mask is None else channels_last(b, mask)
    channels, pixels = x.shape[1], shape[0] * count(shape[2:])
    columns = b.new(FLOAT32, (shape[0], *shape[2:], taps * channels))
    b.live[columns.storage] = 0
    each, tiles = _tile(b, pixels, DEFORM_WORK, taps * (channels + 16))
    params = kernels.DeformParams(
        batch=shape[0],
        channels=channels,
        input=(x.shape[2], x.shape[3]),
        output=(shape[2], shape[3]),
        kernel=(made.kernel[0], made.kernel[1]),
        stride=(made.strides[0], made.strides[1]),
        dilation=(made.dilations[0], made.dilations[1]),
        padding=(made.begin[0], made.begin[1]),
        offset_groups=attrs.get("offset_group", 1),
        groups=groups,
        x_pixel=source.pixel,
        offset_pixel=moves.pixel,
        mask_pixel=0 if masks is None else masks.pixel,
        tile_pixels=each,
    )
    operands = (source.tensor, moves.tensor, None if masks is None else masks.tensor, columns)
    b.emit(kernels.F32_DEFORM, (tiles, 1, 1), params, operands)
    filters = b.dense(w.transposed((0, 2, 3, 1))).reshaped((w.shape[0], taps * w.shape[1], 1, 1))
    assert filters is not None  # a dense tensor takes any shape
    single = replace(node, op="conv", attrs={"kernel_shape": (1, 1), "group": groups})
    wide = columns.transposed(first(4))
    return conv(b, single, (wide, filters, bias), results)


def affine_grid(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """The regular places times each image's matrix."""
    theta = inputs[0]
    assert theta is not None
    if theta.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {theta.dtype}"
    if is_constant(theta):  # what is computed once does not see the places, which are the plan's
        return "computed once"
    shape = results[0].shape
    places = regular_places(node.attrs).reshape(-1, theta.shape[2]).astype(np.float32)
    product = Info(FLOAT32, (shape[0], len(places), shape[-1]))
    operands = (b.local(places, FLOAT32), theta.transposed((0, 2, 1)))
    made = matmul(b, Node("matmul", (), ()), operands, [product])
    return made if isinstance(made, str) else [b.shaped(made[0], shape)]


FLOATS: dict[str, Lowering] = {
    "affine_grid": affine_grid,
    "grid_sample": grid_sample,
    "roi_align": roi_align,
    "deform_conv": deform_conv,
}
