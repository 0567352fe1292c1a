"""ai.onnx.ml's operators that give or take maps."""

from __future__ import annotations

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import ML, operator


@operator("ZipMap", 1, ML)
def zip_map(ctx: Context, node: OnnxNode) -> str:
    classes = node.attrs.get("classlabels_int64s") or node.attrs.get("classlabels_strings")
    if not classes:
        raise ctx.invalid("has neither classlabels_int64s nor classlabels_strings")
    return ctx.emit("zip_map", node.inputs[0], classes=tuple(classes))


@operator("DictVectorizer", 1, ML)
def dict_vectorizer(ctx: Context, node: OnnxNode) -> str:
    keys = node.attrs.get("string_vocabulary") or node.attrs.get("int64_vocabulary")
    if not keys:
        raise ctx.invalid("has neither string_vocabulary nor int64_vocabulary")
    (x,) = node.inputs
    return ctx.emit("map_values", x, keys=tuple(keys), dtype=ctx.dtype(x).name)


_CASTS = {"TO_FLOAT": "float32", "TO_INT64": "int64", "TO_STRING": "string"}


@operator("CastMap", 1, ML)
def cast_map(ctx: Context, node: OnnxNode) -> str:
    to = node.attrs.get("cast_to", "TO_FLOAT")
    if to not in _CASTS:
        raise ctx.invalid(f"cast_to '{to}'; {', '.join(_CASTS)} are known")
    sparse = node.attrs.get("map_form", "DENSE") == "SPARSE"
    extent = node.attrs.get("max_map", 1) if sparse else None
    return ctx.emit("map_cast", node.inputs[0], dtype=_CASTS[to], extent=extent)
