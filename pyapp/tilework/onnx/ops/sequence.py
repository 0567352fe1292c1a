"""Sequences and optionals."""

from __future__ import annotations

from tilework.core.dtypes import FLOAT32, from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import direct, operator

direct({"SequenceConstruct": "sequence_construct"}, (1, -1))
direct({"SequenceInsert": "sequence_insert"}, (2, 3))
direct({"SequenceErase": "sequence_erase"}, (1, 2))
direct({"SequenceAt": "sequence_at"}, 2)
direct({"SequenceLength": "sequence_length", "OptionalGetElement": "optional_get_element"}, 1)
direct({"Optional": "optional", "OptionalHasElement": "optional_has_element"}, (0, 1))


@operator("SequenceEmpty", 0)
def sequence_empty(ctx: Context, node: OnnxNode) -> str:
    number = node.attrs.get("dtype")
    name = ctx.emit("sequence_empty")
    ctx.set_dtype(name, from_onnx(number, node.origin) if number else FLOAT32)
    return name


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
