"""Cases of the largest byte: signs, tails, gaps between pixels, windows outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, up
from tests.kernels.windows import Three, outputs, windows
from tilework.hal.kernels.pool import I8_MAX_POOL, U8_MAX_POOL, MaxPoolParams


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
    *(Case(U8_MAX_POOL, (1, 1, 1), WHOLE.params._replace(**changes), WHOLE.bindings,
           status=INVALID_PARAMS, note=f"{changes}")
      for changes in ({"tile_rows": 0}, {"tile_channels": 0}, {"stride": (1, 0, 1)})),
    *(Case(U8_MAX_POOL, (1, 1, 1), WHOLE.params,
           [b if i != cut or b is None else b[:-1] for i, b in enumerate(WHOLE.bindings)],
           status=TOO_SHORT, note=f"binding {cut} too short") for cut in range(2)),
]  # fmt: skip
