"""Arithmetic and functions of one element: Add, Pow, Erf, Clip, Min, Sum, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilework.ir.opdefs.registry import as_attribute
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import Build, direct, operator, paired

paired({"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow"})
direct(
    {
        "Abs": "abs",
        "Neg": "neg",
        "Sign": "sign",
        "Sqrt": "sqrt",
        "Reciprocal": "reciprocal",
        "Exp": "exp",
        "Log": "log",
        "Floor": "floor",
        "Ceil": "ceil",
        "Round": "round",
        "Erf": "erf",
        "Sin": "sin",
        "Cos": "cos",
        "Tan": "tan",
        "Asin": "asin",
        "Acos": "acos",
        "Atan": "atan",
        "Sinh": "sinh",
        "Cosh": "cosh",
        "Asinh": "asinh",
        "Acosh": "acosh",
        "Atanh": "atanh",
        "Tanh": "tanh",
        "Sigmoid": "sigmoid",
        "Softplus": "softplus",
        "Softsign": "softsign",
        "Mish": "mish",
        "Relu": "relu",
        "HardSwish": "hard_swish",
    },
    1,
)


def _attributed(op: str, defaults: Mapping[str, Any]) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        attrs = {name: node.attrs.get(name, value) for name, value in defaults.items()}
        for name, default in defaults.items():
            if not isinstance(attrs[name], str if isinstance(default, str) else float | int):
                raise ctx.invalid(f"{name} is {attrs[name]!r}, not one like {default!r}")
        return ctx.emit(op, *node.inputs, **attrs)

    return build


# ONNX name -> operation and its attributes with the standard's defaults
for _name, _op, _defaults in (
    ("LeakyRelu", "leaky_relu", {"alpha": 0.01}),
    ("Elu", "elu", {"alpha": 1.0}),
    ("Celu", "celu", {"alpha": 1.0}),
    ("Selu", "selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    ("ThresholdedRelu", "thresholded_relu", {"alpha": 1.0}),
    ("HardSigmoid", "hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    ("Shrink", "shrink", {"bias": 0.0, "lambd": 0.5}),
    ("Gelu", "gelu", {"approximate": "none"}),
):
    operator(_name, 1)(_attributed(_op, _defaults))


@operator("PRelu", 2)
def prelu(ctx: Context, node: OnnxNode) -> str:
    x, slope = node.inputs
    rank = ctx.rank(x)
    if node.version < 7 and ctx.rank(slope) == 1:
        # Until opset 6 one slope a channel, axis 1; since then NumPy's broadcasting.
        if rank is None:
            raise ctx.unsupported("a slope for each channel of a tensor of undeclared rank")
        slope = ctx.emit("unsqueeze", slope, axes=tuple(range(1, max(rank - 1, 1))))
    return ctx.emit("prelu", x, slope)


@operator("Swish", 1)
def swish(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("silu", *node.inputs, alpha=node.attrs.get("alpha", 1.0))


@operator("Mod", 2)
def mod(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("mod", *node.inputs, fmod=node.attrs.get("fmod", 0))


def _folded(op: str) -> Build:
    """Any number of inputs, folded from the left."""

    def build(ctx: Context, node: OnnxNode) -> str:
        total = node.inputs[0]
        for name in node.inputs[1:]:
            total = ctx.emit(op, total, name)
        return total

    return build


operator("Sum", (1, -1))(_folded("add"))
operator("Min", (1, -1))(_folded("min"))
operator("Max", (1, -1))(_folded("max"))


@operator("Mean", (1, -1))
def mean(ctx: Context, node: OnnxNode) -> str:
    total = node.inputs[0]
    for name in node.inputs[1:]:
        total = ctx.emit("add", total, name)
    return ctx.emit("div", total, ctx.scalar(len(node.inputs), total))


@operator("Clip", (1, 3))
def clip(ctx: Context, node: OnnxNode) -> str:
    """Bounds are attributes before opset 11, inputs since; those known now become numbers."""
    x, low, high = node.input(0), node.input(1), node.input(2)
    if node.version < 11:
        return ctx.emit("clip", x, min=node.attrs.get("min"), max=node.attrs.get("max"))
    bounds: dict[str, Any] = {}
    for name, bound in (("min", low), ("max", high)):
        array = ctx.value(bound) if bound else None
        if array is not None:
            bounds[name] = as_attribute(array.reshape(()))
    if len(bounds) == bool(low) + bool(high):
        return ctx.emit("clip", x, **bounds) if bounds else x
    if low:
        x = ctx.emit("max", x, low)
    return ctx.emit("min", x, high) if high else x
