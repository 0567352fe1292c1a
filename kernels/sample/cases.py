"""Cases of reading between pixels: every mode, places outside, tails, gaps, damaged numbers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import OUT_OF_RANGE, Case, Tolerance, refused, short, up
from tests.kernels.windows import gapped, values
from tilework.hal.kernels.sample import (
    F32_DEFORM,
    F32_GRID_SAMPLE,
    F32_ROI_ALIGN,
    Beyond,
    DeformParams,
    GridSampleParams,
    Interpolation,
    RoiAlignParams,
    Summary,
)
from tilework.ir.opdefs.registry import OPS

Array = NDArray[Any]
CLOSE = Tolerance(8, 4e-6)


def last(x: Array) -> Array:
    """(n, c, ...) as rows of channels."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


def blank(count: int) -> Array:
    return np.full(count, np.nan, np.float32)


def grid_sample(
    mode: str, padding: str, corners: int, shape: tuple[int, ...] = (2, 5, 4, 6),
    out: tuple[int, ...] = (3, 7), gap: int = 0, tile: int = 5, special: bool = False,
    planes: int = 0,
) -> Case:  # fmt: skip
    rank = len(shape) - 2
    x = values(*shape)
    grid = values(shape[0], *out, rank, seed=3) * np.float32(1.2)
    grid.reshape(-1)[:4] = (1, -1, 0, 1)
    if special:
        grid.reshape(-1)[4:8] = (np.nan, np.inf, -np.inf, 1e30)
        x[(0, 0, *(0,) * rank)] = np.inf
    attrs = {"mode": mode, "padding": padding, "align_corners": corners}
    y = OPS["grid_sample"].reference(attrs, x, grid)[0]
    points, extents = int(np.prod(out)), (*(1,) * (3 - rank), *shape[2:])
    params = GridSampleParams(
        shape[0], shape[1], points, rank, extents, shape[1] + gap, planes,
        tile, Interpolation[mode.upper()], Beyond[padding.upper()], corners,
    )  # type: ignore[arg-type]  # fmt: skip
    return Case(
        F32_GRID_SAMPLE, (up(shape[0] * points, tile), 1, 1), params,
        [x.ravel() if planes else gapped(last(x), shape[1] + gap), grid.ravel(), blank(y.size)],
        {2: y.ravel() if planes else last(y).ravel()}, CLOSE,
        note=f"{mode} {padding} {corners} {shape} {special} {planes}",
    )  # fmt: skip


def roi_align(
    mode: str = "avg", ratio: int = 2, half: int = 1, channels: int = 6, gap: int = 0,
    rois: Any = ((0, 0, 9, 9), (-3.5, 1, 4, 20), (7, 7, 3, 3), (2.5, 2.5, 2.5, 2.5)),
    tile: int = 7, images: Any = (0, 1, 1, 0), status: int = 0, note: str = "",
) -> Case:  # fmt: skip
    x = values(2, channels, 8, 9)
    boxes, which = np.array(rois, np.float32), np.array(images, np.int64)
    attrs = {"mode": mode, "height": 3, "width": 2, "ratio": ratio, "scale": 0.5,
             "half_pixel": half}  # fmt: skip
    y = np.zeros((len(boxes), channels, 3, 2))
    if not status:
        y = OPS["roi_align"].reference(attrs, x, boxes, which)[0]
    params = RoiAlignParams(
        2, channels, (8, 9), len(boxes), (3, 2), channels + gap, tile, ratio, 0.5,
        Summary.AVERAGE if mode == "avg" else Summary.LARGEST, half,
    )  # fmt: skip
    return Case(
        F32_ROI_ALIGN, (up(len(boxes) * 6, tile), 1, 1), params,
        [gapped(last(x), channels + gap), boxes.ravel(), which, blank(y.size)],
        {3: last(y).ravel()}, CLOSE, status, note=note or f"{mode} {ratio} {half} {channels}",
    )  # fmt: skip


def deform(
    channels: int = 6, groups: int = 1, offset_groups: int = 1, masked: bool = True,
    kernel: tuple[int, int] = (3, 2), stride: tuple[int, int] = (1, 2), tile: int = 3,
    dilation: tuple[int, int] = (1, 1), padding: tuple[int, int] = (1, 0), gap: int = 0,
    reach: float = 2.0,
) -> Case:  # fmt: skip
    x = values(2, channels, 5, 7)
    out = tuple(
        (n + 2 * p - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip(x.shape[2:], padding, kernel, dilation, stride, strict=True)
    )
    taps = kernel[0] * kernel[1]
    offset = values(2, 2 * offset_groups * taps, *out, seed=1) * np.float32(reach)
    mask = values(2, offset_groups * taps, *out, seed=2)
    # One filter for each channel and tap gives the columns themselves.
    own = channels // groups
    w = np.zeros((groups * own * taps, own, *kernel), np.float32)
    for g, k, c in product(range(groups), range(taps), range(own)):
        w[(g * taps + k) * own + c, c, k // kernel[1], k % kernel[1]] = 1
    attrs = {
        "kernel_shape": kernel, "strides": stride, "dilations": dilation, "group": groups,
        "pads": (*padding, *padding), "offset_group": offset_groups,
    }  # fmt: skip
    y = OPS["deform_conv"].reference(attrs, x, w, offset, None, mask if masked else None)[0]
    params = DeformParams(
        2, channels, (5, 7), out, kernel, stride, dilation, padding, offset_groups, groups,
        channels + gap, offset.shape[1] + gap, mask.shape[1] + gap, tile,
    )  # type: ignore[arg-type]  # fmt: skip
    return Case(
        F32_DEFORM, (up(2 * out[0] * out[1], tile), 1, 1), params,
        [gapped(last(x), channels + gap), gapped(last(offset), offset.shape[1] + gap),
         gapped(last(mask), mask.shape[1] + gap) if masked else None, blank(y.size)],
        {3: last(y).ravel()}, CLOSE,
        note=f"{channels} {groups} {offset_groups} {masked} {kernel} {stride} {dilation} {reach}",
    )  # fmt: skip


def unbounded() -> Case:
    """Offsets that are no numbers make NaN, those that are too far 0."""
    case = deform(channels=4, kernel=(1, 1), stride=(1, 1), padding=(0, 0), masked=False)
    bindings = [None if b is None else b.copy() for b in case.bindings]
    offset, y = bindings[1], case.expected[3].copy()
    assert offset is not None
    offset[:6] = (np.nan, 0, np.inf, 0, 1e30, 0)
    y[:12] = np.repeat([np.nan, np.nan, 0], 4)
    return Case(F32_DEFORM, case.counts, case.params, bindings, {3: y}, CLOSE, note="unbounded")


GRID, ROI, DEFORM = grid_sample("linear", "zeros", 0), roi_align(), deform()


MODES = list(product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (0, 1)))
CASES: list[Case] = [
    *(grid_sample(*mode) for mode in MODES),
    *(grid_sample(*mode, special=True) for mode in MODES[::3]),
    *(grid_sample(*mode, special=True, planes=1) for mode in MODES[1::3]),
    grid_sample("linear", "zeros", 0, shape=(2, 3, 3, 4, 5), out=(2, 3, 2), planes=1),
    grid_sample("linear", "border", 0, shape=(3, 1, 4, 5), planes=1, tile=100),
    *(grid_sample(*mode, shape=(1, 3, 3, 4, 5), out=(2, 3, 2)) for mode in MODES[::2]),
    *(grid_sample("linear", outside, 1, shape=(2, 2, 9), out=(5,))
      for outside in ("zeros", "border", "reflection")),
    *(grid_sample("linear", "zeros", 0, shape=(1, c, 4, 4), gap=3) for c in (1, 2, 3, 4, 16, 23)),
    *(grid_sample("cubic", outside, 1, shape=(1, 2, 1, 1)) for outside in ("border", "reflection")),
    *(roi_align(*one) for one in product(("avg", "max"), (0, 1, 2, 5), (0, 1))),
    *(roi_align(channels=c, gap=2) for c in (1, 3, 4, 17, 40)),
    *(roi_align(mode, ratio, rois=((np.nan, 0, 4, 4), (0, np.nan, 4, np.nan), (90, 90, 95, 99),
                                   (5, 5, 2, 1)), note=f"odd regions {mode} {ratio}")
      for mode, ratio in product(("avg", "max"), (0, 2))),
    roi_align(images=(0, 1, 2, 0), status=OUT_OF_RANGE, note="image 2 of 2"),
    roi_align(images=(0, -1, 0, 0), status=OUT_OF_RANGE, note="image -1"),
    roi_align(ratio=0, rois=((0, 0, 9e7, 9),) * 4, status=OUT_OF_RANGE, note="a huge region"),
    *(deform(masked=masked) for masked in (False, True)),
    *(deform(channels=c, gap=1) for c in (1, 3, 4, 21)),
    *(deform(12, groups, offsets) for groups, offsets in product((1, 2, 3), (1, 2, 4))),
    deform(dilation=(2, 1), stride=(1, 1), padding=(2, 1)),
    deform(reach=30),
    unbounded(),
    *(refused(GRID, **one) for one in (
        {"tile_points": 0}, {"axes": 0}, {"axes": 4},
        {"input": (1, 0, 6)})),
    *(refused(ROI, **one) for one in (
        {"tile_bins": 0}, {"samples": 5000}, {"input": (0, 9)})),
    *(refused(DEFORM, **one) for one in (
        {"tile_pixels": 0}, {"groups": 0}, {"groups": 4}, {"offset_groups": 4})),
    *short(GRID, 0, 1, 2), *short(ROI, 0, 1, 2, 3), *short(DEFORM, 0, 1, 2, 3),
]  # fmt: skip
