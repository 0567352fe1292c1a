"""Tensors made of shapes and numbers: Constant, ConstantOfShape, Range, Shape, Size, EyeLike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, from_numpy, from_onnx
from tilework.ir.opdefs.registry import as_attribute
from tilework.onnx.context import Array, Context, OnnxNode
from tilework.onnx.ops.table import direct, operator

direct({"Size": "size"}, 1)

_CONSTANTS: dict[str, Callable[[Any], Array]] = {
    "value": np.asarray,
    "value_float": lambda value: np.array(value, dtype=np.float32),
    "value_floats": lambda value: np.array(value, dtype=np.float32),
    "value_int": lambda value: np.array(value, dtype=np.int64),
    "value_ints": lambda value: np.array(value, dtype=np.int64),
    "value_string": lambda value: np.array(value, dtype=object),
    "value_strings": lambda value: np.array(value, dtype=object),
}


@operator("Constant", 0)
def constant(ctx: Context, node: OnnxNode) -> str:
    for name, convert in _CONSTANTS.items():
        if name in node.attrs:
            return ctx.constant(convert(node.attrs[name]))
    raise ctx.unsupported(f"a constant given as {', '.join(node.attrs) or 'nothing'}")


@operator("ConstantOfShape", 1)
def constant_of_shape(ctx: Context, node: OnnxNode) -> str:
    value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32)))
    if value.size != 1:
        raise ctx.invalid(f"its value has {value.size} elements, it must have one")
    return ctx.emit_with(
        "constant_of_shape",
        values={"shape": node.inputs[0]},
        value=as_attribute(value.reshape(())),
        dtype=from_numpy(value.dtype).name,
    )[0]


@operator("Range", 3)
def range_(ctx: Context, node: OnnxNode) -> str:
    start, limit, delta = node.inputs
    return ctx.emit_with(
        "range",
        values={"start": start, "limit": limit, "delta": delta},
        dtype=ctx.dtype(start).name,
    )[0]


@operator("Shape", 1)
def shape(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "shape", *node.inputs, start=node.attrs.get("start") or None, end=node.attrs.get("end")
    )


@operator("EyeLike", 1)
def eye_like(ctx: Context, node: OnnxNode) -> str:
    number = node.attrs.get("dtype")
    dtype = from_onnx(number, node.origin) if number else ctx.dtype(node.inputs[0]) or FLOAT32
    return ctx.emit("eye_like", *node.inputs, k=node.attrs.get("k", 0), dtype=dtype.name)
