"""Operations that make a tensor from shapes and numbers.

shape(start, end) (x) -> int64, known at once     size (x) -> int64 scalar
constant_of_shape(shape, value, dtype) [input 0 holds shape]   value a number, dtype a name
range(start, limit, delta, dtype) [0-2]; dtype is the inputs' when they are inputs
eye_like(k, dtype) (x)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME, INT64
from tilework.core.errors import InvalidArgument
from tilework.core.growing import Growing, grows
from tilework.core.shapes import count
from tilework.ir.graph import Node
from tilework.ir.narrow import numpy_of
from tilework.ir.opdefs.elementwise import one
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _shape_of(attrs: Attrs, shape: tuple[int, ...]) -> Array:
    # ONNX clamps start and end to the rank, exactly as a Python slice does.
    return whole_numbers(shape[attrs.get("start", 0) : attrs.get("end")])


def whole_numbers(numbers: Sequence[int]) -> Array:
    """An int64 array, or one of objects where a number is growing."""
    if not grows(*numbers):
        return np.array(numbers, dtype=np.int64)
    found = np.empty(len(numbers), dtype=object)
    found[:] = numbers
    return found


def _infer_shape(node: Node, infos: Sequence[Info]) -> list[Info]:
    value = _shape_of(node.attrs, infos[0].shape)
    return [Info(INT64, value.shape, value)]


define("shape", 1, _infer_shape, lambda attrs, x: (_shape_of(attrs, x.shape),))
define(
    "size",
    1,
    lambda node, infos: [Info(INT64, (), np.array(count(infos[0].shape), dtype=np.int64))],
    lambda attrs, x: one(x.size, np.int64),
)


def _infer_filled(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape: Any = node.attrs["shape"]
    if min(shape, default=0) < 0:
        raise fail(node, infos, f"shape {list(shape)} has a negative extent")
    return [Info(BY_NAME[str(node.attrs["dtype"])], tuple(shape))]


define(
    "constant_of_shape",
    (1, 1),
    _infer_filled,
    lambda attrs: (np.full(attrs["shape"], attrs["value"], numpy_of(attrs["dtype"])),),
    values={"shape": 0},
)


def _range_count(attrs: Attrs) -> int:
    start: Any
    start, limit, delta = attrs["start"], attrs["limit"], attrs["delta"]
    if all(isinstance(one, (int, Growing)) for one in (start, limit, delta)):
        whole: int = max(-(-(limit - start) // delta), 0)
        return whole
    steps: int = math.ceil((limit - start) / delta)
    return max(steps, 0)


def _normalise_range(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    scalars = {
        name: attrs[name][0] if isinstance(attrs[name], tuple) else attrs[name]
        for name in ("start", "limit", "delta")
    }
    if scalars["delta"] == 0:
        raise InvalidArgument("delta is 0")
    if "dtype" not in attrs:
        scalars["dtype"] = infos[0].dtype.name
    return scalars


def _infer_range(node: Node, infos: Sequence[Info]) -> list[Info]:
    return [Info(BY_NAME[str(node.attrs["dtype"])], (_range_count(node.attrs),))]


def _range(attrs: Attrs) -> tuple[Array, ...]:
    dtype = numpy_of(attrs["dtype"])
    steps = np.arange(_range_count(attrs)).astype(dtype)
    if grows(attrs["start"]):
        return (whole_numbers([attrs["start"] + step * attrs["delta"] for step in steps.tolist()]),)
    return one(dtype.type(attrs["start"]) + steps * dtype.type(attrs["delta"]), dtype)


define(
    "range",
    (3, 3),
    _infer_range,
    _range,
    values={"start": 0, "limit": 1, "delta": 2},
    normalise=_normalise_range,
)


def _named(attrs: Attrs, x: Array) -> np.dtype[Any]:
    return numpy_of(attrs["dtype"]) if attrs.get("dtype") else x.dtype


def _infer_eye(node: Node, infos: Sequence[Info]) -> list[Info]:
    if len(infos[0].shape) != 2:
        raise fail(node, infos, "needs a matrix")
    named = node.attrs.get("dtype")
    return [Info(BY_NAME[str(named)] if named else infos[0].dtype, infos[0].shape)]


define(
    "eye_like",
    1,
    _infer_eye,
    lambda attrs, x: one(
        np.eye(x.shape[0], x.shape[1], k=attrs.get("k", 0), dtype=_named(attrs, x))
    ),
)
