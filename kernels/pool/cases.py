"""Cases of the largest byte, and of the largest float and its place: tails, gaps, signs, edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.kernels.harness import Case, refused, short, up
from tests.kernels.windows import Three, gapped, outputs, values, windows
from tilework.hal.kernels.pool import (
    F32_MAX_POOL_PLACED,
    I8_MAX_POOL,
    U8_MAX_POOL,
    MaxPoolParams,
    PlacedParams,
)


def pool(
    signed: bool,
    note: str,
    extents: Three = (1, 6, 7),
    kernel: Three = (1, 3, 3),
    stride: Three = (1, 2, 2),
    dilation: Three = (1, 1, 1),
    padding: Three = (0, 1, 1),
    batch: int = 1,
    channels: int = 5,
    tile: tuple[int, int] = (2, 24),
    gaps: tuple[int, int] = (0, 0),
) -> Case:
    dtype = np.int8 if signed else np.uint8
    least = np.iinfo(dtype).min
    output = outputs(extents, kernel, stride, dilation, padding, padding)
    x = np.random.default_rng(channels).integers(0, 256, (batch, *extents, channels))
    x = x.astype(np.uint8).view(dtype)
    y = windows(x, kernel, stride, dilation, padding, output, float(least)).max(-2)
    y = y.reshape(-1, channels).astype(dtype)
    pixels = channels + gaps[0], channels + gaps[1]

    def apart(values: Any, pixel: int) -> Any:
        wide = np.full((len(values), pixel), 77, dtype)
        wide[:, :channels] = values
        return wide.ravel()[: (len(values) - 1) * pixel + channels]

    params = MaxPoolParams(
        batch, channels, extents, output, kernel, stride, dilation, padding, *pixels, *tile
    )
    counts = (up(channels, tile[1]), up(batch * output[0] * output[1], tile[0]), 1)
    bindings = [apart(x.reshape(-1, channels), pixels[0]), apart(np.zeros_like(y), pixels[1])]
    found = {1: apart(y, pixels[1])}
    return Case(I8_MAX_POOL if signed else U8_MAX_POOL, counts, params, bindings, found, note=note)


def placed(
    note: str, extents: Three = (1, 6, 7), kernel: Three = (1, 3, 3), stride: Three = (1, 2, 2),
    dilation: Three = (1, 1, 1), padding: Three = (0, 1, 1), batch: int = 2, channels: int = 5,
    tile: int = 2, gap: int = 0, turned: bool = False, special: bool = False,
) -> Case:  # fmt: skip
    output = outputs(extents, kernel, stride, dilation, padding, padding)
    x = values(batch, *extents, channels)
    if special:
        x[0, :, 1::2] = -np.inf
        x[0, 0, 2, ::3, 1] = np.nan
        x[1] = 7  # the first of equals
    place = (extents[1] * extents[2], extents[2], 1)
    if turned:
        place = (1, extents[0], extents[0] * extents[1])
    pixels = int(np.prod(extents))
    steps = np.meshgrid(*map(np.arange, extents), indexing="ij")
    inside = sum(s * p for s, p in zip(steps, place, strict=True))[None, ..., None]
    shape = (kernel, stride, dilation, padding, output)
    numbers = windows(np.asarray(inside), *shape, -1).astype(np.int64)
    seen = windows(x, *shape, -np.inf)
    # Padding is smaller than minus infinity.
    order = np.where(numbers < 0, 0, np.where(np.isnan(seen), 3, np.where(seen > -np.inf, 2, 1)))
    sized = np.where(order == 2, seen, 0)
    best = np.argmax(np.where(order == order.max(-2, keepdims=True), sized, -1e9), -2)[..., None, :]
    y = np.take_along_axis(seen, best, -2).reshape(-1, channels)
    where = np.take_along_axis(np.broadcast_to(numbers, seen.shape), best, -2)[..., 0, :]
    planes = np.arange(batch)[:, None, None, None, None] * channels + np.arange(channels)
    params = PlacedParams(
        batch, channels, extents, output, kernel, stride, dilation, padding, place,
        channels + gap, tile,
    )  # fmt: skip
    return Case(
        F32_MAX_POOL_PLACED, (up(batch * output[0] * output[1], tile), 1, 1), params,
        [gapped(x.reshape(-1, channels), channels + gap), np.zeros(y.size, np.float32),
         np.zeros(y.size, np.int64)],
        {1: y.ravel(), 2: (where + planes * pixels).ravel()}, note=note,
    )  # fmt: skip


PLACED = placed("placed")
WHOLE = pool(False, "whole", tile=(64, 64))
SIZES: dict[str, dict[str, Any]] = {
    "windows": {},
    "many channels": {"channels": 53},
    "two vectors": {"channels": 32, "tile": (3, 16)},
    "between gaps": {"gaps": (3, 2)},
    "dilation": {"dilation": (1, 2, 2), "stride": (1, 1, 1)},
    "three axes": {"extents": (3, 4, 5), "kernel": (2, 2, 3), "batch": 2},
    "windows outside": {"extents": (1, 1, 1), "kernel": (1, 1, 1), "stride": (1, 1, 1)},
}
CASES: list[Case] = [
    *(pool(signed, note, **more) for signed in (False, True) for note, more in SIZES.items()),
    refused(WHOLE, tile_rows=0),
    refused(WHOLE, tile_channels=0),
    refused(WHOLE, stride=(1, 0, 1)),
    *short(WHOLE),
    PLACED,
    placed("special", special=True),
    placed("gap and many channels", channels=22, gap=3, tile=3),
    placed("column-major", turned=True),
    placed("dilated", dilation=(1, 2, 2), stride=(1, 1, 1), special=True),
    placed("three axes", extents=(3, 4, 5), kernel=(2, 2, 3), special=True, turned=True),
    placed("nothing inside", extents=(1, 1, 1), kernel=(1, 1, 1), stride=(1, 1, 1)),
    refused(PLACED, tile_rows=0),
    refused(PLACED, kernel=(0, 1, 1)),
    refused(PLACED, stride=(1, 0, 1)),
    *short(PLACED),
]  # fmt: skip
