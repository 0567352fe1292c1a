"""Moving elements, renaming axes and changing dtypes: Reshape, Transpose, Slice, Cast, ..."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import DType, from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("Identity", 1)
def identity(ctx: Context, node: OnnxNode) -> str:
    return node.inputs[0]


@operator("Cast", 1)
def cast(ctx: Context, node: OnnxNode) -> str:
    return _cast(ctx, node, from_onnx(node.attrs["to"], node.origin))


@operator("CastLike", 2)
def cast_like(ctx: Context, node: OnnxNode) -> str:
    return _cast(ctx, node, ctx.dtype(node.inputs[1]))


def _cast(ctx: Context, node: OnnxNode, to: DType) -> str:
    # Only floats of eight bits and fewer heed these.
    saturate, rounding = node.attrs.get("saturate", 1), node.attrs.get("round_mode", "up")
    return ctx.emit(
        "cast",
        node.inputs[0],
        to=to.name,
        saturate=None if saturate else 0,
        rounding=None if rounding == "up" else rounding,
    )


@operator("BitCast", 1)
def bit_cast(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("bit_cast", *node.inputs, to=from_onnx(node.attrs["to"], node.origin).name)


@operator("Reshape", 2)
def reshape(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit_with(
        "reshape",
        node.inputs[0],
        values={"shape": node.inputs[1]},
        allow_zero=node.attrs.get("allowzero") or None,
    )[0]


@operator("Flatten", 1)
def flatten(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("flatten", *node.inputs, axis=node.attrs.get("axis", 1))


@operator("Transpose", 1)
def transpose(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("transpose", *node.inputs, perm=node.attrs.get("perm"))


@operator("Unsqueeze", (1, 2))
def unsqueeze(ctx: Context, node: OnnxNode) -> str:
    axes = node.attrs.get("axes")  # an input since opset 13
    if axes is None and not node.input(1):
        raise ctx.invalid("has no axes")
    return ctx.emit_with("unsqueeze", node.inputs[0], values={"axes": node.input(1)}, axes=axes)[0]


@operator("Squeeze", (1, 2))
def squeeze(ctx: Context, node: OnnxNode) -> str:
    axes = node.attrs.get("axes")  # an input since opset 13
    return ctx.emit_with("squeeze", node.inputs[0], values={"axes": node.input(1)}, axes=axes)[0]


@operator("Concat", (1, -1))
def concat(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("concat", *node.inputs, axis=node.attrs["axis"])


@operator("Split", (1, 2))
def split(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return ctx.emit_with(
        "split",
        node.inputs[0],
        values={"sizes": node.input(1)},
        outputs=len(node.outputs),
        axis=node.attrs.get("axis", 0),
        sizes=node.attrs.get("split"),  # an input since opset 13
        parts=node.attrs.get("num_outputs"),
    )


@operator("Slice", (1, 5))
def slice_(ctx: Context, node: OnnxNode) -> str:
    if node.version < 10:
        return ctx.emit(
            "slice",
            node.inputs[0],
            starts=node.attrs["starts"],
            ends=node.attrs["ends"],
            axes=node.attrs.get("axes"),
        )
    if not node.input(1) or not node.input(2):
        raise ctx.invalid("needs starts and ends")
    return ctx.emit_with(
        "slice",
        node.inputs[0],
        values={
            "starts": node.input(1),
            "ends": node.input(2),
            "axes": node.input(3),
            "steps": node.input(4),
        },
    )[0]


@operator("Expand", 2)
def expand(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit_with("expand", node.inputs[0], values={"shape": node.inputs[1]})[0]


@operator("Tile", 2)
def tile(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit_with("tile", node.inputs[0], values={"repeats": node.inputs[1]})[0]


@operator("Pad", (1, 4))
def pad(ctx: Context, node: OnnxNode) -> str:
    mode = node.attrs.get("mode", "constant")
    if node.version < 11:
        return ctx.emit(
            "pad",
            node.inputs[0],
            pads=node.attrs["pads"],
            value=node.attrs.get("value", 0.0),
            mode=mode,
        )
    if not node.input(1):
        raise ctx.invalid("has no pads")
    return ctx.emit_with(
        "pad",
        node.inputs[0],
        values={"pads": node.input(1), "value": node.input(2), "axes": node.input(3)},
        mode=mode,
    )[0]


@operator("Trilu", (1, 2))
def trilu(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit_with(
        "trilu", node.inputs[0], values={"k": node.input(1)}, upper=node.attrs.get("upper", 1)
    )[0]
