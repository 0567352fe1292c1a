"""WebP with loss: the container, VP8's frame, colours as libwebp makes them; not VP8L, not alpha.

Source: RFC 9649 (the container); libwebp's figures for its smooth upsampling (weights 9, 3, 3, 1 of
the four nearest samples) and for its integer conversion of colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilework.ir.images.vp8 import Frame
from tilework.ir.images.vp8_predict import Plane

Image = NDArray[np.uint8]


def read_webp(data: bytes) -> Image | None:
    """(height, width, 3); None for what has no frame with loss, or more than one."""
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8 ":
            frame = Frame(data[at + 8 : at + 8 + size])
            return _coloured(frame)
        if kind in (b"VP8L", b"ALPH", b"ANIM"):
            return None
        at += 8 + size + size % 2
    raise ValueError("no frame")


def _coloured(frame: Frame) -> Image:
    height, width = frame.height, frame.width
    brightness, *colours = frame.planes
    y = brightness[:height, :width] * 19077 >> 8
    halves = (-(-height // 2), -(-width // 2))
    u, v = (_upsampled(plane[: halves[0], : halves[1]], height, width) for plane in colours)
    red = y + (v * 26149 >> 8) - 14234
    green = y - (u * 6419 >> 8) - (v * 13320 >> 8) + 8708
    blue = y + (u * 33050 >> 8) - 17685
    image = np.stack([red, green, blue], axis=2)
    return np.asarray(np.clip(image >> 6, 0, 255), np.uint8)


def _upsampled(x: Plane, height: int, width: int) -> Plane:
    """Twice as high and wide: each from its nearest sample and the three next to it."""
    rows = np.concatenate([x[:1], x, x[-1:]])
    whole = np.concatenate([rows[:, :1], rows, rows[:, -1:]], axis=1)
    result = np.empty((2 * x.shape[0], 2 * x.shape[1]), np.int64)
    for down in (0, 1):
        for across in (0, 1):
            near = whole[1:-1, 1:-1]
            beside = whole[1:-1, 2 * across : whole.shape[1] - 2 + 2 * across]
            over = whole[2 * down : whole.shape[0] - 2 + 2 * down, 1:-1]
            slant = whole[
                2 * down : whole.shape[0] - 2 + 2 * down,
                2 * across : whole.shape[1] - 2 + 2 * across,
            ]
            total = near + beside + over + slant + 8
            mixed = total + 2 * (beside + over) >> 3
            result[down::2, across::2] = mixed + near >> 1
    return result[:height, :width]
