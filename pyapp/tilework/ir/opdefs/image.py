"""image_decoder(pixels "RGB"|"BGR"|"Grayscale") (bytes of a file, uint8) -> (height, width,
channels) uint8, of no pixels when the file cannot be read."""

from __future__ import annotations

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.ir.opdefs.registry import Array, Attrs, define_dynamic


def _image_decoder(attrs: Attrs, data: Array) -> tuple[Array, ...]:
    if data.dtype != np.uint8 or data.ndim != 1:
        raise InvalidArgument(f"takes a vector of uint8, not {data.dtype}{list(data.shape)}")
    # Here, for the decoders are 6 % of what a page would import before its first session.
    from tilework.ir.images import decode, in_format

    pixels = attrs.get("pixels", "RGB")
    image = decode(data.tobytes())
    if image is None:
        return (np.zeros((0, 0, 1 if pixels == "Grayscale" else 3), np.uint8),)
    return (in_format(image, pixels),)


define_dynamic("image_decoder", 1, _image_decoder)
