"""Sequences and optionals."""

from __future__ import annotations

from tilework.core.dtypes import FLOAT32, from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("SequenceEmpty", 0)
def sequence_empty(ctx: Context, node: OnnxNode) -> str:
    number = node.attrs.get("dtype")
    name = ctx.emit("sequence_empty")
    ctx.set_dtype(name, from_onnx(number, node.origin) if number else FLOAT32)
    return name


@operator("SequenceConstruct", (1, -1))
def sequence_construct(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("sequence_construct", *node.inputs)


@operator("SequenceInsert", (2, 3))
def sequence_insert(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("sequence_insert", *node.inputs)


@operator("SequenceErase", (1, 2))
def sequence_erase(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("sequence_erase", *node.inputs)


@operator("SequenceAt", 2)
def sequence_at(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("sequence_at", *node.inputs)


@operator("SequenceLength", 1)
def sequence_length(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("sequence_length", *node.inputs)


@operator("ConcatFromSequence", 1)
def concat_from_sequence(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "concat_from_sequence",
        *node.inputs,
        axis=node.attrs["axis"],
        new_axis=node.attrs.get("new_axis") or None,
    )


@operator("SplitToSequence", (1, 2))
def split_to_sequence(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "split_to_sequence",
        *node.inputs,
        axis=node.attrs.get("axis", 0),
        keep=node.attrs.get("keepdims", 1),
    )


@operator("Optional", (0, 1))
def optional(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("optional", *node.inputs)


@operator("OptionalGetElement", 1)
def optional_get_element(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("optional_get_element", *node.inputs)


@operator("OptionalHasElement", (0, 1))
def optional_has_element(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("optional_has_element", *node.inputs)
