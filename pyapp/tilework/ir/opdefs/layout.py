"""Operations that move elements or rename axes without computing.

reshape(shape, allow_zero=0)  [input 1 may hold shape]      transpose(perm; default reversed)
unsqueeze(axes) [1]  squeeze(axes; default all of extent 1) [1]  flatten(axis)
concat(axis) (x...)  split(axis, sizes | parts) [1 holds sizes]
slice(starts, ends, axes, steps) [1-4]
expand(shape) [1]  tile(repeats) [1]  pad(pads, value, axes, mode) [1-3]
trilu(k, upper) [1 holds k]

Resolved: transpose has perm; unsqueeze, squeeze, slice have ascending or given axes counted from
the front; split has sizes; slice has axes and steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.errors import InvalidArgument
from tilework.core.growing import grows
from tilework.core.shapes import (
    broadcast_two,
    normalize_axes,
    normalize_axis,
    resolve_reshape,
    slice_bounds,
    with_extent,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import one, same_dtype
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def normalise_axis(node: Node, infos: Sequence[Info]) -> Mapping[str, Any] | None:
    """`axis` counted from the front of input 0."""
    axis = int(node.attrs.get("axis", 0))
    fixed = normalize_axis(axis, len(infos[0].shape))
    return None if fixed == axis and "axis" in node.attrs else {"axis": fixed}


# -- reshape and its kin -----------------------------------------------------------------------


def _infer_reshape(node: Node, infos: Sequence[Info]) -> list[Info]:
    asked: Any = node.attrs["shape"]
    shape = resolve_reshape(infos[0].shape, asked, bool(node.attrs.get("allow_zero", 0)))
    if shape is None:
        raise fail(node, infos, f"cannot be reshaped to {list(asked)}; the counts differ")
    return [Info(infos[0].dtype, shape)]


def _reshape(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    shape = resolve_reshape(x.shape, attrs["shape"], bool(attrs.get("allow_zero", 0)))
    assert shape is not None  # infer has refused it
    return (x.reshape(shape),)


define("reshape", (2, 2), _infer_reshape, _reshape, values={"shape": 1}, raw=True)


def _flatten_shape(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    rows = int(np.prod(shape[:axis], dtype=np.int64))
    return rows, int(np.prod(shape[axis:], dtype=np.int64))


def _normalise_flatten(node: Node, infos: Sequence[Info]) -> Mapping[str, Any] | None:
    axis = int(node.attrs.get("axis", 1))
    rank = len(infos[0].shape)
    return {"axis": rank if axis == rank else normalize_axis(axis, rank)}


define(
    "flatten",
    1,
    lambda node, infos: [Info(infos[0].dtype, _flatten_shape(infos[0].shape, node.attrs["axis"]))],
    lambda attrs, x: (x.reshape(_flatten_shape(x.shape, attrs["axis"])),),
    normalise=_normalise_flatten,
    raw=True,
)


def _axes(node: Node) -> tuple[int, ...]:
    axes: Any = node.attrs["axes"]
    return (axes,) if isinstance(axes, int) else tuple(axes)


def _normalise_unsqueeze(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    axes = _axes(node)
    return {"axes": tuple(sorted(normalize_axes(axes, len(infos[0].shape) + len(axes))))}


def _unsqueezed(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    result = list(shape)
    for axis in axes:
        result.insert(axis, 1)
    return tuple(result)


define(
    "unsqueeze",
    (2, 2),
    lambda node, infos: [Info(infos[0].dtype, _unsqueezed(infos[0].shape, node.attrs["axes"]))],
    lambda attrs, x: (x.reshape(_unsqueezed(x.shape, attrs["axes"])),),
    values={"axes": 1},
    normalise=_normalise_unsqueeze,
    raw=True,
)


def _normalise_squeeze(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    shape = infos[0].shape
    if node.attrs.get("axes") is None:
        return {"axes": tuple(i for i, extent in enumerate(shape) if extent == 1)}
    return {"axes": tuple(sorted(normalize_axes(_axes(node), len(shape))))}


def _infer_squeeze(node: Node, infos: Sequence[Info]) -> list[Info]:
    axes = _axes(node)
    shape = infos[0].shape
    for axis in axes:
        if shape[axis] != 1:
            raise fail(node, infos, f"axis {axis} has extent {shape[axis]}, only 1 can be dropped")
    return [Info(infos[0].dtype, tuple(e for i, e in enumerate(shape) if i not in axes))]


define(
    "squeeze",
    (1, 2),
    _infer_squeeze,
    lambda attrs, x: (np.squeeze(x, axis=tuple(attrs["axes"])),),
    values={"axes": 1},
    normalise=_normalise_squeeze,
    raw=True,
)


# -- transpose -------------------------------------------------------------------------------------


def _normalise_transpose(node: Node, infos: Sequence[Info]) -> Mapping[str, Any] | None:
    """Without perm the axes are reversed, or `move` (source, target) takes one elsewhere."""
    perm: Any = node.attrs.get("perm")
    if perm is not None:
        return None
    rank = len(infos[0].shape)
    move: Any = node.attrs.get("move")
    if move is None:
        return {"perm": tuple(range(rank))[::-1]}
    if any(not -rank <= axis < rank for axis in move):
        raise InvalidArgument(f"axes {list(move)} are outside [{-rank}, {rank})")
    axes = list(range(rank))
    axes.insert(move[1] % rank, axes.pop(move[0] % rank))
    return {"perm": tuple(axes)}


def _infer_transpose(node: Node, infos: Sequence[Info]) -> list[Info]:
    perm: Any = node.attrs["perm"]
    shape = infos[0].shape
    if sorted(perm) != list(range(len(shape))):
        raise fail(node, infos, f"perm {list(perm)} is not a permutation of its axes")
    return [Info(infos[0].dtype, tuple(shape[axis] for axis in perm))]


define(
    "transpose",
    1,
    _infer_transpose,
    lambda attrs, x: (np.transpose(x, attrs["perm"]),),
    normalise=_normalise_transpose,
    raw=True,
)


# -- concat and split ------------------------------------------------------------------------------


def _infer_concat(node: Node, infos: Sequence[Info]) -> list[Info]:
    axis: Any = node.attrs["axis"]
    first = infos[0].shape
    total = 0
    for info in infos:
        shape = info.shape
        if len(shape) != len(first) or any(
            extent != first[i] for i, extent in enumerate(shape) if i != axis
        ):
            raise fail(node, infos, f"shapes must agree except along axis {axis}")
        total += shape[axis]
    return [Info(same_dtype(node, infos), with_extent(first, axis, total))]


define(
    "concat",
    (1, -1),
    _infer_concat,
    lambda attrs, *xs: one(np.concatenate(xs, axis=attrs["axis"])),
    normalise=normalise_axis,
    raw=True,
)


def _normalise_split(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    axis = normalize_axis(int(attrs.get("axis", 0)), len(infos[0].shape))
    if attrs.get("sizes") is not None:
        sizes = attrs["sizes"]
        return {"axis": axis, "sizes": (sizes,) if isinstance(sizes, int) else tuple(sizes)}
    parts = int(attrs.get("parts") or len(node.outputs))
    extent = infos[0].shape[axis]
    if parts != len(node.outputs):
        raise InvalidArgument(f"{parts} parts, but {len(node.outputs)} outputs")
    each = -(-extent // parts)
    return {
        "axis": axis,
        "sizes": tuple(max(min(each, extent - each * i), 0) for i in range(parts)),
    }


def _infer_split(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    axis, sizes, shape = attrs["axis"], attrs["sizes"], infos[0].shape
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0 or len(sizes) != len(node.outputs):
        raise fail(
            node,
            infos,
            f"sizes {list(sizes)} must add up to {shape[axis]}, one for each of its"
            f" {len(node.outputs)} outputs",
        )
    return [Info(infos[0].dtype, with_extent(shape, axis, size)) for size in sizes]


define(
    "split",
    (1, 2),
    _infer_split,
    lambda attrs, x: tuple(
        np.split(x, np.cumsum(attrs["sizes"][:-1], dtype=np.int64), axis=attrs["axis"])
    ),
    outputs=-1,
    values={"sizes": 1},
    normalise=_normalise_split,
    raw=True,
)


# -- slice -----------------------------------------------------------------------------------------


def _normalise_slice(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    starts, ends = tuple(attrs["starts"]), tuple(attrs["ends"])
    axes = attrs.get("axes")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = attrs.get("steps")
    steps = (1,) * len(starts) if steps is None else tuple(steps)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise InvalidArgument("starts, ends, axes and steps must be of one length")
    if 0 in steps:
        raise InvalidArgument("a step is 0")
    axes = normalize_axes(axes, len(infos[0].shape))
    return {"starts": starts, "ends": ends, "axes": axes, "steps": steps}


def slice_plan(attrs: Attrs, shape: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """First index, step and extent along every axis of a resolved slice of `shape`."""
    firsts, steps, extents = [0] * len(shape), [1] * len(shape), list(shape)
    for start, end, axis, step in zip(
        attrs["starts"], attrs["ends"], attrs["axes"], attrs["steps"], strict=True
    ):
        firsts[axis], steps[axis], extents[axis] = slice_bounds(start, end, step, shape[axis])
    return firsts, steps, extents


def _slice(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    firsts, steps, extents = slice_plan(attrs, x.shape)
    index = []
    for first, step, extent in zip(firsts, steps, extents, strict=True):
        stop = first + step * extent
        index.append(slice(first, None if stop < 0 else stop, step) if extent else slice(0, 0))
    return (x[tuple(index)],)


define(
    "slice",
    (3, 5),
    lambda node, infos: [Info(infos[0].dtype, tuple(slice_plan(node.attrs, infos[0].shape)[2]))],
    _slice,
    values={"starts": 1, "ends": 2, "axes": 3, "steps": 4},
    normalise=_normalise_slice,
    raw=True,
)


# -- expand, tile, pad, trilu ----------------------------------------------------------------------


def _infer_expand(node: Node, infos: Sequence[Info]) -> list[Info]:
    asked: Any = node.attrs["shape"]
    shape = broadcast_two(infos[0].shape, tuple(asked))
    if shape is None:
        raise fail(node, infos, f"does not broadcast with {list(asked)}")
    return [Info(infos[0].dtype, shape)]


def _expand(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    shape = broadcast_two(x.shape, tuple(attrs["shape"]))
    assert shape is not None  # infer has refused it
    return (np.broadcast_to(x, shape),)


define("expand", (2, 2), _infer_expand, _expand, values={"shape": 1}, raw=True)


def _infer_tile(node: Node, infos: Sequence[Info]) -> list[Info]:
    repeats: Any = node.attrs["repeats"]
    shape = infos[0].shape
    if len(repeats) != len(shape) or min(repeats, default=0) < 0:
        raise fail(node, infos, f"repeats {list(repeats)} must be one non-negative number an axis")
    return [Info(infos[0].dtype, tuple(e * r for e, r in zip(shape, repeats, strict=True)))]


define(
    "tile",
    (2, 2),
    _infer_tile,
    lambda attrs, x: (np.tile(x, attrs["repeats"]),),
    values={"repeats": 1},
    raw=True,
)

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _normalise_pad(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    """`pads` in full: all begins, then all ends, for every axis; `axes` is dropped to None."""
    attrs: Any = node.attrs
    rank = len(infos[0].shape)
    pads, axes = tuple(attrs["pads"]), attrs.get("axes")
    if axes is not None:
        axes = normalize_axes(axes, rank)
        full = [0] * (2 * rank)
        if len(pads) != 2 * len(axes):
            raise InvalidArgument(f"{len(pads)} pads for {len(axes)} axes; two an axis are needed")
        for i, axis in enumerate(axes):
            full[axis], full[rank + axis] = pads[i], pads[len(axes) + i]
        pads = tuple(full)
    if len(pads) != 2 * rank:
        raise InvalidArgument(f"{len(pads)} pads; two an axis are needed, {2 * rank}")
    return {"pads": pads, "axes": None, "value": attrs.get("value") or 0}


def _infer_pad(node: Node, infos: Sequence[Info]) -> list[Info]:
    attrs: Any = node.attrs
    pads, shape = attrs["pads"], infos[0].shape
    if attrs.get("mode", "constant") not in _PAD_MODES:
        raise fail(node, infos, f"mode '{attrs.get('mode')}' is not one of {', '.join(_PAD_MODES)}")
    result = tuple(e + pads[i] + pads[len(shape) + i] for i, e in enumerate(shape))
    if min(result, default=0) < 0:
        raise fail(node, infos, f"pads {list(pads)} leave a negative extent")
    return [Info(infos[0].dtype, result)]


def _pad(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    pads, rank = attrs["pads"], x.ndim
    mode = attrs.get("mode", "constant")
    # Negative pads crop; NumPy's pad does not, so cropping comes first.
    crop = tuple(slice(max(-pads[i], 0), x.shape[i] - max(-pads[rank + i], 0)) for i in range(rank))
    widths = [(max(pads[i], 0), max(pads[rank + i], 0)) for i in range(rank)]
    if mode == "constant":
        fill = np.asarray(attrs["value"], dtype=x.dtype)
        return one(np.pad(x[crop], widths, mode="constant", constant_values=fill), x.dtype)
    return one(np.pad(x[crop], widths, mode=mode), x.dtype)


define(
    "pad",
    (2, 4),
    _infer_pad,
    _pad,
    values={"pads": 1, "value": 2, "axes": 3},
    normalise=_normalise_pad,
)


def _normalise_trilu(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    k: Any = node.attrs.get("k") or 0
    if len(infos[0].shape) < 2:
        raise InvalidArgument("needs a matrix or a stack of them")
    k = k[0] if isinstance(k, tuple) and k else k
    if not isinstance(k, int) and not grows(k):
        raise InvalidArgument(f"k, which diagonal, is {k!r}; expected an integer")
    return {"k": k, "upper": node.attrs.get("upper", 1)}


define(
    "trilu",
    (1, 2),
    lambda node, infos: [Info(infos[0].dtype, infos[0].shape)],
    lambda attrs, x: one(np.triu(x, attrs["k"]) if attrs["upper"] else np.tril(x, attrs["k"])),
    values={"k": 1},
    normalise=_normalise_trilu,
    raw=True,
)
