"""RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import FLOAT32
from tilework.ir.opdefs.recurrent import ACTIVATIONS, CELLS, Activation
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import MICROSOFT, operator

_DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


@operator("RNN", (3, 6))
def rnn(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return _layer(ctx, node, "rnn")


@operator("GRU", (3, 6))
def gru(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return _layer(ctx, node, "gru", linear_before_reset=node.attrs.get("linear_before_reset", 0))


@operator("LSTM", (3, 8))
def lstm(ctx: Context, node: OnnxNode) -> Sequence[str]:
    return _layer(ctx, node, "lstm", input_forget=node.attrs.get("input_forget", 0))


@operator("DynamicQuantizeLSTM", (3, 12), MICROSOFT)
def dynamic_quantize_lstm(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Inputs of LSTM, w and r of bytes, then scale and zero of each."""
    w, r = (_weights(ctx, *(node.input(i) for i in places)) for places in ((1, 8, 9), (2, 10, 11)))
    taken = replace(node, inputs=(node.inputs[0], w, r, *node.inputs[3:8]))
    coupled = node.attrs.get("input_forget", 0)
    return _layer(ctx, taken, "lstm", "quantized_recurrent", input_forget=coupled)


def _weights(ctx: Context, weights: str, scale: str, zero: str) -> str:
    """(directions, features, gates × hidden) of bytes as the numbers and the order of LSTM's.

    Nothing but constants, as a rule, so it is computed once a session.
    """
    if not scale or not zero:
        raise ctx.invalid("a scale or a zero is absent")

    def along(name: str) -> str:
        """A number for each direction, or for each of its columns."""
        rank = ctx.rank(name)
        if rank not in (1, 2):
            raise ctx.invalid(f"'{name}' must have one or two axes, declared")
        return ctx.emit("unsqueeze", name, axes=(1, 2) if rank == 1 else (1,))

    whole, middle = (ctx.emit("cast", name, to=FLOAT32.name) for name in (weights, along(zero)))
    numbers = ctx.emit("mul", ctx.emit("sub", whole, middle), along(scale))
    return ctx.emit("transpose", numbers, perm=(0, 2, 1))


def _layer(
    ctx: Context, node: OnnxNode, cell: str, op: str = "recurrent", **attrs: Any
) -> Sequence[str]:
    direction = str(node.attrs.get("direction", "forward")).lower()
    if direction not in _DIRECTIONS:
        raise ctx.invalid(f"direction {direction!r}; forward, reverse and bidirectional are known")
    directions = _DIRECTIONS[direction]
    inputs = list(node.inputs)
    batch_first = bool(node.attrs.get("layout", 0))
    if batch_first:  # x, and the first h and c
        for place in (0, 5, 6):
            if node.input(place):
                inputs[place] = ctx.emit("transpose", inputs[place], perm=(1, 0, 2))
    states = CELLS[cell].states
    wanted = max((n + 1 for n in range(1 + states) if node.wants(n)), default=1)
    results = ctx.emit_many(
        op,
        inputs,
        wanted,
        {
            "cell": cell,
            "directions": directions,
            "activations": _activations(ctx, node, cell, len(directions)),
            "clip": node.attrs.get("clip"),
            **attrs,
        },
    )
    if not batch_first:
        return results
    perms = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
    return [
        ctx.emit("transpose", name, perm=perm) for name, perm in zip(results, perms, strict=False)
    ]


def _activations(
    ctx: Context, node: OnnxNode, cell: str, ways: int
) -> tuple[tuple[Activation, ...], ...]:
    """For each direction, its functions; the numbers go to those that take some, in order."""
    functions = CELLS[cell].functions
    names = [name.lower() for name in node.attrs.get("activations", functions * ways)]
    if len(names) != len(functions) * ways:
        raise ctx.invalid(f"{len(names)} activations, expected {len(functions) * ways}")
    alphas = list(node.attrs.get("activation_alpha", ()))
    betas = list(node.attrs.get("activation_beta", ()))
    found: list[Activation] = []
    for name in names:
        if name not in ACTIVATIONS:
            raise ctx.invalid(f"activation '{name}' is none of {', '.join(ACTIVATIONS)}")
        _, alpha, beta = ACTIVATIONS[name]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        found.append((name, alpha or 0.0, beta or 0.0))
    each = len(functions)
    return tuple(tuple(found[way * each : (way + 1) * each]) for way in range(ways))
