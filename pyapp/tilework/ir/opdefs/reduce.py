"""Reductions along axes, and the positions of extrema.

reduce_sum reduce_mean reduce_max reduce_min reduce_prod reduce_l1 reduce_l2 reduce_sum_square
reduce_log_sum reduce_log_sum_exp: (x [, axes]), attrs axes (None: all), keepdims 1|0,
noop_with_empty_axes; argmax argmin(axis, keepdims, select_last_index) -> int64;
cumsum(axis, exclusive, reverse) [input 1 holds axis]; sum_to (x, like): what undoes broadcasting.
cumsum cumprod(axis, exclusive, reverse) [input 1 holds axis].

Resolved: axes is a tuple of ascending axes counted from the front; () copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT64
from tilework.core.shapes import broadcast_two, normalize_axes
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import NUMBERS, check_kind, one, quiet
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _normalise(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    axes: Any = node.attrs.get("axes")
    rank = len(infos[0].shape)
    if isinstance(axes, int):
        axes = (axes,)
    if not axes:
        keep = (axes is not None and not rank) or node.attrs.get("noop_with_empty_axes", 0)
        axes = () if keep else range(rank)
    return {"axes": tuple(sorted(normalize_axes(axes, rank)))}


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape left when `axes` are reduced."""
    if keepdims:
        return tuple(1 if i in axes else extent for i, extent in enumerate(shape))
    return tuple(extent for i, extent in enumerate(shape) if i not in axes)


def _keepdims(attrs: Attrs) -> bool:
    return bool(attrs.get("keepdims", 1))


def _infer(kinds: str) -> Callable[[Node, Sequence[Info]], list[Info]]:
    def infer(node: Node, infos: Sequence[Info]) -> list[Info]:
        check_kind(node, infos, kinds)
        axes: Any = node.attrs["axes"]
        return [Info(infos[0].dtype, reduced_shape(infos[0].shape, axes, _keepdims(node.attrs)))]

    return infer


def _sum(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
    return np.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _mean(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
    if x.dtype.kind == "f":
        return np.mean(x, axis=axes, keepdims=keep, dtype=x.dtype)
    total = np.sum(x, axis=axes, keepdims=keep, dtype=np.int64)
    extent = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    return np.trunc(total / max(extent, 1))


def _extreme(function: Callable[..., Any], least: bool) -> Callable[..., Any]:
    def run(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
        # Over no elements the result is the operation's neutral element, which NumPy asks for.
        if x.dtype.kind == "b":
            start: Any = least
        elif x.dtype.kind == "f":
            start = np.inf if least else -np.inf
        else:
            limits = np.iinfo(x.dtype)
            start = limits.max if least else limits.min
        return function(x, axis=axes, keepdims=keep, initial=start)

    return run


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
    if x.size == 0:
        return np.log(np.sum(np.exp(x), axis=axes, keepdims=keep))
    top = np.max(x, axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return total if keep else np.squeeze(total, axis=axes)


REDUCTIONS: dict[str, tuple[str, Callable[[Array, tuple[int, ...], bool], Any]]] = {
    "reduce_sum": (NUMBERS, _sum),
    "reduce_mean": (NUMBERS, _mean),
    "reduce_max": ("fiub", _extreme(np.max, least=False)),
    "reduce_min": ("fiub", _extreme(np.min, least=True)),
    "reduce_prod": (NUMBERS, lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep)),
    "reduce_l1": (NUMBERS, lambda x, axes, keep: _sum(np.abs(x), axes, keep)),
    "reduce_l2": (NUMBERS, lambda x, axes, keep: np.sqrt(_sum(x * x, axes, keep))),
    "reduce_sum_square": (NUMBERS, lambda x, axes, keep: _sum(x * x, axes, keep)),
    "reduce_log_sum": (NUMBERS, lambda x, axes, keep: np.log(_sum(x, axes, keep))),
    "reduce_log_sum_exp": (NUMBERS, _log_sum_exp),
}


def _reference(
    function: Callable[[Array, tuple[int, ...], bool], Any], noop: bool
) -> Callable[..., tuple[Array, ...]]:
    def run(attrs: Attrs, x: Array) -> tuple[Array, ...]:
        axes = tuple(attrs["axes"])
        if not axes and noop:
            return (x,)
        result: Any = function(x, axes, _keepdims(attrs))
        return one(np.asarray(result).astype(x.dtype))

    return quiet(run)


for _name, (_kinds, _function) in REDUCTIONS.items():
    # Over no axes these still compute (|x|, x*x, log x) while sum, mean and extrema copy.
    _plain = _name in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod")
    define(
        _name,
        (1, 2),
        _infer(_kinds),
        _reference(_function, _plain),
        values={"axes": 1},
        normalise=_normalise,
    )


# -- argmax, argmin, cumsum --------------------------------------------------------------------


def _infer_arg(node: Node, infos: Sequence[Info]) -> list[Info]:
    axis: Any = node.attrs["axis"]
    if infos[0].shape[axis] == 0:
        raise fail(node, infos, f"axis {axis} has no elements")
    return [Info(INT64, reduced_shape(infos[0].shape, (axis,), _keepdims(node.attrs)))]


def _arg(function: Callable[..., Any]) -> Callable[..., tuple[Array, ...]]:
    def run(attrs: Attrs, x: Array) -> tuple[Array, ...]:
        axis = attrs["axis"]
        if attrs.get("select_last_index", 0):
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis)
        else:
            found = function(x, axis=axis)
        return one(np.expand_dims(found, axis) if _keepdims(attrs) else found, np.int64)

    return run


define("argmax", 1, _infer_arg, _arg(np.argmax), normalise=normalise_axis)
define("argmin", 1, _infer_arg, _arg(np.argmin), normalise=normalise_axis)


def _normalise_cumsum(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    axis: Any = node.attrs["axis"]
    axis = axis[0] if isinstance(axis, tuple) else axis
    return {"axis": normalize_axes((axis,), len(infos[0].shape))[0]}


def _running(function: Callable[..., Any], neutral: int) -> Callable[..., tuple[Array, ...]]:
    def run(attrs: Attrs, x: Array) -> tuple[Array, ...]:
        axis = attrs["axis"]
        y = np.flip(x, axis) if attrs.get("reverse", 0) else x
        if attrs.get("exclusive", 0) and y.shape[axis]:
            first = np.full_like(y.take([0], axis), neutral)
            y = np.concatenate([first, y.take(range(y.shape[axis] - 1), axis)], axis)
        total = function(y, axis=axis, dtype=x.dtype)
        return one(np.flip(total, axis) if attrs.get("reverse", 0) else total, x.dtype)

    return quiet(run)


for _name, _totals, _neutral in (("cumsum", np.cumsum, 0), ("cumprod", np.cumprod, 1)):
    define(
        _name,
        (2, 2),
        lambda node, infos: [Info(infos[0].dtype, infos[0].shape)],
        _running(_totals, _neutral),
        values={"axis": 1},
        normalise=_normalise_cumsum,
    )


def _infer_sum_to(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    if broadcast_two(infos[0].shape, infos[1].shape) != infos[0].shape:
        raise fail(node, infos, "the second operand does not broadcast to the first")
    return [Info(infos[0].dtype, infos[1].shape)]


def _sum_to(attrs: Attrs, x: Array, like: Array) -> tuple[Array, ...]:
    more = x.ndim - like.ndim
    axes = [*range(more), *(more + axis for axis, n in enumerate(like.shape) if n == 1)]
    return one(np.sum(x, axis=tuple(axes), dtype=x.dtype).reshape(like.shape))


define("sum_to", 2, _infer_sum_to, quiet(_sum_to))
