"""Comparisons, booleans, bits and choice: Equal, And, Not, Where, ..."""

from __future__ import annotations

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import direct, operator, paired

paired(
    {
        "Equal": "equal",
        "Less": "less",
        "LessOrEqual": "less_or_equal",
        "Greater": "greater",
        "GreaterOrEqual": "greater_or_equal",
        "And": "and",
        "Or": "or",
        "Xor": "xor",
        "BitwiseAnd": "bitwise_and",
        "BitwiseOr": "bitwise_or",
        "BitwiseXor": "bitwise_xor",
    }
)
direct({"Not": "not", "BitwiseNot": "bitwise_not", "IsNaN": "isnan"}, 1)
direct({"Where": "where"}, 3)


@operator("IsInf", 1)
def isinf(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "isinf",
        *node.inputs,
        detect_positive=node.attrs.get("detect_positive", 1),
        detect_negative=node.attrs.get("detect_negative", 1),
    )


@operator("BitShift", 2)
def bit_shift(ctx: Context, node: OnnxNode) -> str:
    direction = node.attrs["direction"]
    if direction not in ("LEFT", "RIGHT"):
        raise ctx.invalid(f"direction '{direction}' is neither LEFT nor RIGHT")
    return ctx.emit("shift", *node.inputs, left=int(direction == "LEFT"))
