"""Cases of suppression: equal scores, empty and odd boxes, limits, several images and classes."""

from __future__ import annotations

import numpy as np

from tests.kernels.harness import SCRATCH, Case, refused, short, up
from tilework.hal.kernels.boxes import F32_SUPPRESS, SuppressParams
from tilework.ir.opdefs.registry import OPS


def suppress(
    boxes: int, kept: int = 9, batch: int = 1, classes: int = 2, center: int = 0, tile: int = 1,
    iou: float | None = 0.4, least: float | None = 0.3, odd: bool = False, note: str = "",
) -> Case:  # fmt: skip
    rng = np.random.default_rng(boxes + kept)
    where = rng.random((batch, boxes, 4)).astype(np.float32)
    scores = np.round(rng.random((batch, classes, boxes)), 1).astype(np.float32)
    if odd:
        where[:, ::7] = np.nan
        where[:, 1::7, 2:] = where[:, 1::7, :2]  # empty
        where[:, 2::7, 2:] = np.inf
        scores[..., ::5] = np.nan
        scores[..., 1::5], scores[..., 2::5] = -0.0, -np.inf
    limits = [None if one is None else np.array([one], np.float32) for one in (iou, least)]
    attrs = {"most": kept, "center": center}
    chosen = OPS["suppress"].reference(attrs, where, scores, *limits)[0]
    params = SuppressParams(batch, classes, boxes, kept, tile, center)
    expected = np.full((batch, classes, kept), -1, np.int32)
    expected[..., : chosen.shape[-1]] = chosen
    return Case(
        F32_SUPPRESS, (up(batch * classes, tile), 1, 1), params,
        [where.ravel(), scores.ravel(), *limits, np.full(expected.size, 7, np.int32)],
        {4: expected.ravel()}, scratch=8 * boxes + 20 * (kept + 4),
        note=note or f"{boxes} {kept} {batch} {classes} {center} {iou} {least} {odd}",
    )  # fmt: skip


WHOLE = suppress(30)
CASES: list[Case] = [
    WHOLE,
    *(suppress(boxes) for boxes in (0, 1, 2, 3, 4, 5, 9, 200)),
    *(suppress(60, kept) for kept in (0, 1, 4, 5, 60)),
    *(suppress(50, 20, 2, 3, center, tile) for center in (0, 1) for tile in (1, 4)),
    *(suppress(40, 40, iou=iou, least=least)
      for iou in (None, 0.0, 0.7, 1.0, np.nan) for least in (None, 0.5, 2.0)),
    *(suppress(70, 70, center=center, least=least, odd=True)
      for center in (0, 1) for least in (None, -1.0)),
    refused(WHOLE, tile_classes=0),
    refused(WHOLE, SCRATCH, scratch=WHOLE.scratch - 4),
    *short(WHOLE, 0, 1, 4),
]  # fmt: skip
