"""Random operators: RandomNormal, RandomUniformLike, Bernoulli, Multinomial, ..."""

from __future__ import annotations

from typing import Any

from tilework.core.dtypes import from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import Build, operator

# operation -> its numbers with the standard's defaults
_NUMBERS = {
    "random_uniform": {"low": 0.0, "high": 1.0},
    "random_normal": {"mean": 0.0, "scale": 1.0},
}


def _attributes(node: OnnxNode, op: str) -> dict[str, Any]:
    numbers = {name: node.attrs.get(name, value) for name, value in _NUMBERS[op].items()}
    return {**numbers, "seed": node.attrs.get("seed")}


def _drawn(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        dtype = from_onnx(node.attrs.get("dtype", 1), node.origin).name
        shape = tuple(node.attrs["shape"])
        return ctx.emit(op, shape=shape, dtype=dtype, **_attributes(node, op))

    return build


def _like(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        (x,) = node.inputs
        number = node.attrs.get("dtype")
        dtype = from_onnx(number, node.origin) if number else ctx.dtype(x)
        shape = {"shape": ctx.emit("shape", x)}
        return ctx.emit_with(op, values=shape, dtype=dtype.name, **_attributes(node, op))[0]

    return build


operator("RandomUniform", 0)(_drawn("random_uniform"))
operator("RandomNormal", 0)(_drawn("random_normal"))
operator("RandomUniformLike", 1)(_like("random_uniform"))
operator("RandomNormalLike", 1)(_like("random_normal"))


@operator("Bernoulli", 1)
def bernoulli(ctx: Context, node: OnnxNode) -> str:
    (x,) = node.inputs
    own = ctx.dtype(x)
    number = node.attrs.get("dtype")
    to = from_onnx(number, node.origin) if number else own
    shape = {"shape": ctx.emit("shape", x)}
    seed = node.attrs.get("seed")
    drawn = ctx.emit_with("random_uniform", values=shape, dtype=own.name, seed=seed)[0]
    return ctx.emit("cast", ctx.emit("less", drawn, x), to=to.name)


@operator("Multinomial", 1)
def multinomial(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "multinomial",
        *node.inputs,
        count=node.attrs.get("sample_size", 1),
        seed=node.attrs.get("seed"),
        dtype=from_onnx(node.attrs.get("dtype", 6), node.origin).name,
    )
