"""Window: where the windows of convolutions and pooling lie over the spatial axes.

Pure arithmetic on attributes and shapes, shared by inference, references and lowerings. Formulas
are those of the ONNX standard's Conv and MaxPool; padding "SAME_*" and ceil_mode are resolved here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tilework.core.config import LARGEST_TENSOR
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import count
from tilework.ir.opdefs.registry import Array, Attrs

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Window:
    """One entry a spatial axis. Output i of an axis covers inputs i stride - begin + j dilation.

    `begin` and `end` are the padding that was asked for; with ceil_mode the last window may reach
    beyond `end`.
    """

    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    outputs: tuple[int, ...]

    def reach(self) -> tuple[int, ...]:
        """Padding behind the input that the last window needs, at least `end`."""
        return tuple(
            max(e, (o - 1) * s - b + (k - 1) * d + 1 - i)
            for i, k, s, d, b, e, o in zip(
                self.inputs, self.kernel, self.strides, self.dilations, self.begin, self.end,
                self.outputs, strict=True,
            )
        )  # fmt: skip

    def view(self, x: Array, fill: Any, dtype: Any = None) -> Array:
        """(n, c, *outputs, *kernel) of x (n, c, *inputs) padded with `fill`, without copies."""
        wide = padded(x, self.begin, self.reach(), fill, dtype)
        lead, step = wide.strides[:2], wide.strides[2:]
        return as_strided(
            wide,
            (*x.shape[:2], *self.outputs, *self.kernel),
            (
                *lead,
                *(a * s for a, s in zip(step, self.strides, strict=True)),
                *(a * d for a, d in zip(step, self.dilations, strict=True)),
            ),
            writeable=False,
        )


def padded(
    x: Array, begin: Sequence[int], end: Sequence[int], fill: Any, dtype: Any = None
) -> Array:
    """x with `fill` around its spatial axes; a negative `end` cuts."""
    cut = tuple(slice(0, n + min(e, 0)) for n, e in zip(x.shape[2:], end, strict=True))
    kept = x[(slice(None), slice(None), *cut)]
    extents = [b + n + max(e, 0) for b, n, e in zip(begin, kept.shape[2:], end, strict=True)]
    shape = (*x.shape[:2], *extents)
    if count(shape) * x.dtype.itemsize > LARGEST_TENSOR:
        raise InvalidArgument(f"padding makes it {list(shape)}, more than a tensor may have")
    wide: Array = np.full(shape, fill, dtype or x.dtype)
    inside = tuple(slice(b, b + n) for b, n in zip(begin, kept.shape[2:], strict=True))
    wide[(slice(None), slice(None), *inside)] = kept
    return wide


def spread(attrs: Attrs, name: str, rank: int, default: int) -> tuple[int, ...]:
    """An attribute with a number for each spatial axis (`pads`: two); InvalidArgument otherwise."""
    value = attrs.get(name)
    length = 2 * rank if name == "pads" else rank
    found = (default,) * length if not value else tuple(int(v) for v in value)
    if len(found) != length:
        raise InvalidArgument(f"{name} has {len(found)} numbers, {length} are needed")
    least = 0 if name in ("pads", "output_padding") else 1
    if min(found, default=least) < least:
        raise InvalidArgument(f"{name} {list(found)} must not be below {least}")
    return found


def window(attrs: Attrs, shape: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The windows over an input (n, c, ...); InvalidArgument where attributes do not fit it.

    Attributes: strides, dilations, pads, auto_pad, ceil_mode, as the ONNX standard has them.
    """
    rank = len(shape) - 2
    if rank < 1 or len(kernel) != rank:
        raise InvalidArgument(
            f"a kernel of {len(kernel)} axes over an input of {max(rank, 0)} spatial axes"
        )
    if min(kernel) < 1:
        raise InvalidArgument(f"kernel {list(kernel)} has an extent below 1")
    strides = spread(attrs, "strides", rank, 1)
    dilations = spread(attrs, "dilations", rank, 1)
    pads = spread(attrs, "pads", rank, 0)
    auto = attrs.get("auto_pad") or "NOTSET"
    if auto not in AUTO_PADS:
        raise InvalidArgument(f"auto_pad {auto!r} is none of {', '.join(AUTO_PADS)}")
    begin, end, outputs = [], [], []
    for axis in range(rank):
        extent, stride = shape[2 + axis], strides[axis]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        first, last = (0, 0) if auto == "VALID" else (pads[axis], pads[rank + axis])
        if auto.startswith("SAME"):
            made = -(-extent // stride)
            total = max((made - 1) * stride + reach - extent, 0)
            half = total // 2
            first, last = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        else:
            free = extent + first + last - reach
            made = (-(-free // stride) if attrs.get("ceil_mode") else free // stride) + 1
            if attrs.get("ceil_mode") and (made - 1) * stride >= extent + first:
                made -= 1  # a window that starts in the padding behind the input is none
            if free < 0 or made < 0:
                made = 0
        begin.append(first)
        end.append(last)
        outputs.append(made)
    return Window(
        shape[2:], kernel, strides, dilations, tuple(begin), tuple(end), tuple(outputs)
    )
