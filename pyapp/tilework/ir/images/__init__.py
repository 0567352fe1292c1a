"""Image files to arrays: BMP, portable anymaps, PNG, TIFF, JPEG, JPEG 2000, WebP.

`decode` finds the format by the first bytes. What a decoder does not know is None, never a guess.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilework.ir.images.bitmap import read_bmp, read_pnm, read_tiff
from tilework.ir.images.jpeg import read_jpeg
from tilework.ir.images.jpeg2000 import read_jpeg2000
from tilework.ir.images.png import read_png
from tilework.ir.images.webp import read_webp

Image: TypeAlias = NDArray[np.uint8]

_READERS: Mapping[bytes, Callable[[bytes], Image | None]] = {
    b"BM": read_bmp,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
    b"\0\0\0\x0cjP  \r\n\x87\n": read_jpeg2000,
    b"\xff\x4f\xff\x51": read_jpeg2000,
    b"RIFF": read_webp,
    b"II*\x00": read_tiff,
    b"MM\x00*": read_tiff,
    **{b"P%d" % kind: read_pnm for kind in range(1, 7)},
}
_DAMAGED: tuple[type[Exception], ...] = (ValueError, LookupError, struct.error, zlib.error)


def decode(data: bytes) -> Image | None:
    """(height, width, channels) with one, three or four channels; None when it cannot be read."""
    for begin, read in _READERS.items():
        if data.startswith(begin):
            try:
                return read(data)
            except _DAMAGED:
                return None
    return None


def in_format(image: Image, pixels: str) -> Image:
    """The image as "RGB", "BGR" or "Grayscale"; an alpha channel is left out."""
    colour = image[..., :3] if image.shape[2] > 2 else np.repeat(image[..., :1], 3, axis=2)
    if pixels == "BGR":
        return np.ascontiguousarray(colour[..., ::-1])
    if pixels != "Grayscale":
        return np.ascontiguousarray(colour)
    if image.shape[2] < 3:
        return np.ascontiguousarray(image[..., :1])
    # ITU-R BT.601 luma in 16 bits after the point.
    weights: Any = np.array([19595, 38470, 7471], np.uint32)
    luma = (colour.astype(np.uint32) * weights).sum(axis=2, keepdims=True) + 0x8000 >> 16
    return np.asarray(luma, np.uint8)
