"""Reading images at places between their elements.

grid_sample (x, grid): attrs mode "nearest" | "linear" | "cubic", padding "zeros" | "border" |
    "reflection", align_corners. grid's last axis has a place for each spatial axis, the last axis'
    first, -1 to 1 over the image.
affine_grid(size, align_corners) (theta) [1 holds size]
roi_align (x, rois, batch): attrs mode "avg" | "max", height, width, ratio, scale, half_pixel.
max_roi_pool (x, rois): attrs height, width, scale; a roi is (batch, x1, y1, x2, y2).
Sources: Jaderberg et al. 2015 (grids), He et al. 2017 (RoIAlign), Girshick 2015 (RoI pooling).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import ceil, floor
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, NUMBERS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail
from tilework.ir.opdefs.resize import cubic, linear

PADDINGS = ("zeros", "border", "reflection")
MODES = ("nearest", "linear", "cubic")
_CUBIC_A = -0.75

# -- grid_sample -----------------------------------------------------------------------------------


def _infer_grid(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    x, grid = infos[0].shape, infos[1].shape
    attrs: Any = node.attrs
    if attrs["mode"] not in MODES or attrs["padding"] not in PADDINGS:
        raise fail(node, infos, f"mode must be one of {MODES}, padding one of {PADDINGS}")
    if len(x) < 3 or len(grid) != len(x) or grid[-1] != len(x) - 2 or grid[0] != x[0] or 0 in x:
        raise fail(node, infos, f"the grid must be ({x[0]}, ..., {len(x) - 2}) of x's rank")
    return [Info(infos[0].dtype, (*x[:2], *grid[1:-1]))]


def _reflected(at: Array, low: float, high: float) -> Array:
    """Places thrown back at the borders until they are within."""
    span = high - low
    if span <= 0:
        return np.full(at.shape, low)
    over = np.abs(at - low) if span else at
    turns = np.floor(over / span)
    rest = over - turns * span
    return np.where(turns % 2 == 0, low + rest, high - rest)


def _grid(attrs: Attrs, x: Array, grid: Array) -> tuple[Array, ...]:
    mode, padding, corners = attrs["mode"], attrs["padding"], bool(attrs.get("align_corners", 0))
    batch, spatial = x.shape[0], x.shape[2:]
    results: Array = np.zeros((*x.shape[:2], *grid.shape[1:-1]), np.float64)
    # One list of (index, weight, inside) for each spatial axis.
    axes = []
    for axis, extent in enumerate(spatial):
        way = grid[..., len(spatial) - 1 - axis].astype(np.float32)
        at = (way + 1) / 2 * (extent - 1) if corners else ((way + 1) * extent - 1) / 2
        if mode == "nearest":
            at = np.rint(at)
        low, high = (0.0, extent - 1.0) if corners else (-0.5, extent - 0.5)
        if padding == "border" and mode != "cubic":  # whose four elements are each clipped
            at = np.clip(at, 0, extent - 1)
        elif padding == "reflection":
            at = np.where((at < low) | (at > high), _reflected(at, low, high), at)
        at = np.clip(np.where(np.isnan(at), -1, at), -4, extent + 3)  # further makes no difference
        base = np.floor(at)
        offsets = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[mode]
        taps = []
        for offset in offsets:
            index = base + offset
            away = index - at
            weight = np.ones_like(at)
            if mode != "nearest":
                weight = (linear if mode == "linear" else cubic)(away, _CUBIC_A)
            inside = (index >= 0) & (index < extent)
            if padding == "reflection":
                index = np.where(inside, index, np.trunc(_reflected(index, low, high)))
            if padding != "zeros":
                inside = np.ones_like(inside)
            taps.append((np.clip(index, 0, extent - 1).astype(np.int64), weight, inside))
        axes.append(taps)
    which = np.arange(batch).reshape((-1,) + (1,) * len(spatial))
    channels_last = np.moveaxis(x, 1, -1)
    for chosen in product(*axes):
        weight = np.prod([w for _, w, _ in chosen], axis=0)
        picked = channels_last[(which, *(index for index, _, _ in chosen))]
        seen = np.all(np.broadcast_arrays(*(inside for _, _, inside in chosen)), axis=0)
        part = np.where(seen[..., None], picked * weight[..., None], 0)
        results += np.moveaxis(part, -1, 1)
    return one(results, x.dtype)


define("grid_sample", 2, _infer_grid, quiet(_grid))


# -- affine_grid -----------------------------------------------------------------------------------


def _infer_affine(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    size: Any = node.attrs["size"]
    spatial = tuple(size[2:])
    if len(spatial) not in (2, 3) or infos[0].shape != (size[0], len(spatial), len(spatial) + 1):
        raise fail(node, infos, f"theta must be (batch, 2, 3) or (batch, 3, 4) for {list(size)}")
    return [Info(infos[0].dtype, (size[0], *spatial, len(spatial)))]


def regular_places(attrs: Attrs) -> Array:
    """(..., axes + 1): the places of a regular grid, the last axis' first, and 1."""
    spatial = attrs["size"][2:]
    lines = []
    for extent in spatial:
        line: Array = np.arange(extent, dtype=np.float64)
        if attrs.get("align_corners", 0):
            lines.append(line * 2 / (extent - 1) - 1 if extent > 1 else line - 1)
        else:
            lines.append((line * 2 + 1) / extent - 1)
    mesh = np.meshgrid(*lines, indexing="ij")
    return np.stack([*reversed(mesh), np.ones(spatial)], axis=-1)


def _affine(attrs: Attrs, theta: Array) -> tuple[Array, ...]:
    places = regular_places(attrs)
    return one(np.einsum("...k,njk->n...j", places, theta.astype(np.float64)), theta.dtype)


define("affine_grid", (2, 2), _infer_affine, quiet(_affine), values={"size": 1})


# -- regions of interest ---------------------------------------------------------------------------


def _infer_roi_align(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, rois, batch = infos
    check_kind(node, [x, rois], FLOATS)
    attrs: Any = node.attrs
    if attrs["mode"] not in ("avg", "max"):
        raise fail(node, infos, f"mode '{attrs['mode']}' is neither avg nor max")
    if len(x.shape) != 4 or rois.shape[1:] != (4,) or batch.shape != rois.shape[:1] or 0 in x.shape:
        raise fail(node, infos, "x must be (batch, channels, h, w), rois (n, 4), batch (n)")
    return [Info(x.dtype, (rois.shape[0], x.shape[1], attrs["height"], attrs["width"]))]


_MOST_SAMPLES = 4096  # along a bin; more than an image has pixels tells a damaged file


def _samples(start: float, length: float, bins: int, ratio: int) -> tuple[Array, int]:
    """(bins, samples) places along one axis of a region."""
    each = length / bins
    asked = ratio if ratio > 0 else each
    if asked > _MOST_SAMPLES:
        raise InvalidArgument(f"{asked:g} samples along a bin; {_MOST_SAMPLES} are possible")
    count = ratio if ratio > 0 else ceil(each) if each > 0 else 0
    step = (np.arange(count) + 0.5) / max(count, 1)
    return start + (np.arange(bins)[:, None] + step) * each, count


def _corners(at: Array, extent: int) -> tuple[Array, Array, Array]:
    """Lower and upper index and the upper one's weight; the weight is NaN outside the image."""
    outside = ~((at >= -1) & (at <= extent))
    at = np.where(outside, 0, np.clip(at, 0, extent - 1))
    low = np.minimum(np.floor(at).astype(np.int64), extent - 1)
    return low, np.minimum(low + 1, extent - 1), np.where(outside, np.nan, at - low)


def _roi_align(attrs: Attrs, x: Array, rois: Array, batch: Array) -> tuple[Array, ...]:
    height, width = attrs["height"], attrs["width"]
    y: Array = np.zeros((rois.shape[0], x.shape[1], height, width), np.float64)
    half = 0.5 if attrs.get("half_pixel", 1) else 0.0
    if batch.size and (int(batch.min()) < 0 or int(batch.max()) >= x.shape[0]):
        raise InvalidArgument(f"a batch index is outside [0, {x.shape[0]})")
    for n in range(rois.shape[0]):
        x1, y1, x2, y2 = (float(v) * attrs.get("scale", 1.0) - half for v in rois[n])
        smallest = 0.0 if half else 1.0  # malformed regions became 1 × 1
        tall, wide = (max(b - a, smallest) if not half else b - a for a, b in ((y1, y2), (x1, x2)))
        down, rows = _samples(y1, tall, height, attrs.get("ratio", 0))
        across, columns = _samples(x1, wide, width, attrs.get("ratio", 0))
        top, bottom, v = _corners(down[:, None, :, None], x.shape[2])
        left, right, u = _corners(across[None, :, None, :], x.shape[3])
        image = x[int(batch[n])].astype(np.float64)
        parts = np.stack(
            np.broadcast_arrays(
                (1 - v) * (1 - u) * image[:, top, left],
                (1 - v) * u * image[:, top, right],
                v * (1 - u) * image[:, bottom, left],
                v * u * image[:, bottom, right],
            )
        )
        parts = np.where(np.isnan(u) | np.isnan(v), 0, parts)
        if not rows * columns:
            continue
        if attrs["mode"] == "avg":
            y[n] = parts.sum(axis=0).sum(axis=(-1, -2)) / (rows * columns)
        else:  # of the weighted corners, as the standard and onnxruntime have it
            y[n] = parts.max(axis=0).max(axis=(-1, -2))
    return one(y, x.dtype)


define("roi_align", 3, _infer_roi_align, quiet(_roi_align))


def _infer_roi_pool(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, rois = infos
    check_kind(node, infos, FLOATS)
    attrs: Any = node.attrs
    if len(x.shape) != 4 or len(rois.shape) != 2 or rois.shape[1] != 5:
        raise fail(node, infos, "x must be (batch, channels, h, w) and rois (n, 5)")
    return [Info(x.dtype, (rois.shape[0], x.shape[1], attrs["height"], attrs["width"]))]


def _bins(first: int, last: int, bins: int, extent: int) -> list[slice]:
    each = max(last - first + 1, 1) / bins
    clip: Callable[[int], int] = lambda at: min(max(at + first, 0), extent)  # noqa: E731
    return [slice(clip(floor(i * each)), clip(ceil((i + 1) * each))) for i in range(bins)]


def _roi_pool(attrs: Attrs, x: Array, rois: Array) -> tuple[Array, ...]:
    y: Array = np.zeros((rois.shape[0], x.shape[1], attrs["height"], attrs["width"]), x.dtype)
    for n, roi in enumerate(rois):
        batch = int(roi[0])
        if not 0 <= batch < x.shape[0]:
            raise InvalidArgument(f"batch index {batch} is outside [0, {x.shape[0]})")
        x1, y1, x2, y2 = (floor(float(v) * attrs.get("scale", 1.0) + 0.5) for v in roi[1:])
        rows = _bins(y1, y2, attrs["height"], x.shape[2])
        columns = _bins(x1, x2, attrs["width"], x.shape[3])
        for i, j in product(range(len(rows)), range(len(columns))):
            window = x[batch][:, rows[i], columns[j]]
            if window.size:
                y[n, :, i, j] = window.max(axis=(1, 2))
    return (y,)


define("max_roi_pool", 2, _infer_roi_pool, _roi_pool)
