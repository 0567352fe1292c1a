"""Moving elements between axes, and around the middle of an image.

depth_to_space(block, crd 1|0)  space_to_depth(block, crd)    of (batch, channels, h, w)
center_crop_pad(shape, axes) (x) [1 holds shape]
col2im(image, block, strides, dilations, pads) (x) [1 holds image, 2 block]: blocks, added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.core.shapes import normalize_axes
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import NUMBERS, check_kind, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _infer_depth(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape, block = infos[0].shape, int(node.attrs["block"])
    if len(shape) != 4 or block < 1 or shape[1] % (block * block):
        raise fail(node, infos, f"channels must be a multiple of {block}², the rank 4")
    n, c, h, w = shape
    return [Info(infos[0].dtype, (n, c // (block * block), h * block, w * block))]


def _depth(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    n, c, h, w = x.shape
    block = attrs["block"]
    less = c // (block * block)
    if attrs.get("crd", 0):
        turned = x.reshape(n, less, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        turned = x.reshape(n, block, block, less, h, w).transpose(0, 3, 4, 1, 5, 2)
    return (turned.reshape(n, less, h * block, w * block),)


define("depth_to_space", 1, _infer_depth, _depth, raw=True)


def _infer_space(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape, block = infos[0].shape, int(node.attrs["block"])
    if len(shape) != 4 or block < 1 or shape[2] % block or shape[3] % block:
        raise fail(node, infos, f"height and width must be multiples of {block}, the rank 4")
    n, c, h, w = shape
    return [Info(infos[0].dtype, (n, c * block * block, h // block, w // block))]


def _space(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    n, c, h, w = x.shape
    block = attrs["block"]
    cut = x.reshape(n, c, h // block, block, w // block, block)
    cut = cut.transpose((0, 1, 3, 5, 2, 4) if attrs.get("crd", 0) else (0, 3, 5, 1, 2, 4))
    return (cut.reshape(n, c * block * block, h // block, w // block),)


define("space_to_depth", 1, _infer_space, _space, raw=True)


# -- center_crop_pad -------------------------------------------------------------------------------


def _normalise_crop(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    """`shape` in full."""
    attrs: Any = node.attrs
    rank = len(infos[0].shape)
    given = attrs.get("axes")
    axes = tuple(range(rank)) if given is None else normalize_axes(given, rank)
    if len(attrs["shape"]) != len(axes):
        raise InvalidArgument(f"shape has {len(attrs['shape'])} extents for axes {axes}")
    shape = list(infos[0].shape)
    for axis, extent in zip(axes, attrs["shape"], strict=True):
        shape[axis] = extent
    return {"shape": tuple(shape), "axes": None}


def _infer_crop(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape: Any = node.attrs["shape"]
    if min(shape, default=0) < 0:
        raise fail(node, infos, f"shape {list(shape)} has a negative extent")
    return [Info(infos[0].dtype, shape)]


def _crop(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    source, target = [], []
    for have, want in zip(x.shape, attrs["shape"], strict=True):
        cut, room = max(have - want, 0) // 2, max(want - have, 0) // 2
        kept = min(have, want)
        source.append(slice(cut, cut + kept))
        target.append(slice(room, room + kept))
    y: Array = np.zeros(attrs["shape"], x.dtype)
    y[tuple(target)] = x[tuple(source)]
    return (y,)


define(
    "center_crop_pad",
    (2, 2),
    _infer_crop,
    _crop,
    values={"shape": 1},
    normalise=_normalise_crop,
    raw=True,
)


# -- col2im ----------------------------------------------------------------------------------------


def _normalise_col2im(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    rank = len(attrs["image"])
    return {
        "strides": tuple(attrs.get("strides") or (1,) * rank),
        "dilations": tuple(attrs.get("dilations") or (1,) * rank),
        "pads": tuple(attrs.get("pads") or (0,) * (2 * rank)),
    }


def _counts(attrs: Attrs) -> list[int]:
    """How many blocks there are along each axis of the image."""
    rank = len(attrs["image"])
    return [
        (
            extent
            + attrs["pads"][i]
            + attrs["pads"][rank + i]
            - attrs["dilations"][i] * (attrs["block"][i] - 1)
            - 1
        )
        // attrs["strides"][i]
        + 1
        for i, extent in enumerate(attrs["image"])
    ]


def _infer_col2im(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    attrs: Any = node.attrs
    image, block, shape = attrs["image"], attrs["block"], infos[0].shape
    if len(block) != len(image) or len(shape) != 3 or min(block, default=1) < 1:
        raise fail(node, infos, "x must be (batch, channels · block, blocks)")
    if shape[1] % prod(block) or min(_counts(attrs)) < 1 or shape[2] != prod(_counts(attrs)):
        raise fail(node, infos, f"blocks of {list(block)} do not make up {list(image)}")
    return [Info(infos[0].dtype, (shape[0], shape[1] // prod(block), *image))]


def _col2im(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    image, block, counts = attrs["image"], attrs["block"], _counts(attrs)
    rank = len(image)
    pads, strides, dilations = attrs["pads"], attrs["strides"], attrs["dilations"]
    full = [extent + pads[i] + pads[rank + i] for i, extent in enumerate(image)]
    lead = (x.shape[0], x.shape[1] // prod(block))
    columns = x.reshape(*lead, *block, *counts)
    y: Array = np.zeros((*lead, *full), x.dtype)
    for place in product(*map(range, block)):
        window: Any = tuple(
            slice(p * d, p * d + s * (n - 1) + 1, s)
            for p, d, s, n in zip(place, dilations, strides, counts, strict=True)
        )
        one_each: Any = place
        y[(..., *window)] += columns[(slice(None), slice(None), *one_each)]
    inside: Any = tuple(slice(pads[i], pads[i] + extent) for i, extent in enumerate(image))
    return (y[(..., *inside)],)


define(
    "col2im",
    (3, 3),
    _infer_col2im,
    quiet(_col2im),
    values={"image": 1, "block": 2},
    normalise=_normalise_col2im,
)
