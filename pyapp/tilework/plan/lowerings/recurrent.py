"""RNN, GRU and LSTM: one product for the inputs of all steps, then a dispatch or two a step.

A step reads the states that the one before it wrote, so steps have levels of their own; the two
directions of a layer run side by side. States lie in two buffers that take turns, for every hidden
unit reads all of the old state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, INT32
from tilework.hal.kernels.recurrent import (
    F32_GRU_GATES,
    F32_GRU_OUTPUT,
    F32_GRU_STEP,
    F32_LSTM_STEP,
    F32_RNN_STEP,
    Function,
    StepParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.recurrent import CELLS
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.matmul import matmul, panels
from tilework.plan.tensor import Tensor

_MOST_STEPS = 4096  # each is a dispatch of the plan
FUNCTIONS = {
    "relu": Function.RELU,
    "tanh": Function.TANH,
    "sigmoid": Function.SIGMOID,
    "affine": Function.AFFINE,
    "leakyrelu": Function.LEAKY_RELU,
    "thresholdedrelu": Function.THRESHOLDED_RELU,
    "scaledtanh": Function.SCALED_TANH,
    "hardsigmoid": Function.HARD_SIGMOID,
    "elu": Function.ELU,
    "softsign": Function.SOFTSIGN,
    "softplus": Function.SOFTPLUS,
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """One direction: its operands, and where its states begin and end."""

    fed: Tensor  # (steps, batch, gates × hidden)
    packed: Tensor
    bias: Tensor | None
    peepholes: Tensor | None
    lens: Tensor | None
    first: Sequence[Tensor]
    last: Sequence[Tensor]
    y: Sequence[Tensor | None]  # a step's
    params: StepParams
    counts: tuple[int, int, int]
    linear: bool


def recurrent(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """recurrent of float32."""
    x, w, r, bias, lens, h, c, p = [*inputs, *(None,) * 8][:8]
    assert x is not None and w is not None and r is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if all(tensor is None or is_constant(tensor) for tensor in inputs):
        return "constants only"
    steps, batch, features = x.shape
    hidden = r.shape[2]
    if not 0 < steps <= _MOST_STEPS or 0 in (batch, features, hidden):
        return f"{steps} steps of {batch} × {features} to {hidden}"
    if lens is not None and lens.dtype is not INT32:
        return f"lengths of {lens.dtype}"
    attrs: Any = node.attrs
    cell = CELLS[attrs["cell"]]
    ways = len(attrs["directions"])
    y = b.new(FLOAT32, results[0].shape)
    wanted = b.uses(node.outputs[0])
    lasts = [b.new(FLOAT32, (ways, batch, hidden)) for _ in range(cell.states)]
    zeros = b.local(np.zeros((batch, hidden), np.float32), FLOAT32)
    width = cell.gates * hidden
    for way, direction in enumerate(attrs["directions"]):
        own = None if bias is None else b.dense(_part(bias, way))
        fed = matmul(
            b,
            Node("fused_matmul", (), (), {"transpose_b": 1}),
            [x, _part(w, way), None if own is None else _half(own, 0, width)],
            [Info(FLOAT32, (steps, batch, width))],
        )
        assert not isinstance(fed, str)  # of float32, and there are features
        # A gate's matrix is (hidden, hidden), read along its rows.
        matrices = _part(r, way).reshaped((cell.gates, hidden, hidden))
        if matrices is None:
            matrices = b.copied(_part(r, way)).reshaped((cell.gates, hidden, hidden))
            assert matrices is not None  # dense
        packed, stride = panels(b, matrices.transposed((0, 2, 1)))
        order = range(steps) if direction == "forward" else range(steps - 1, -1, -1)
        cut = tiles.recurrent_tiles(batch, hidden, cell.gates, b.threads)
        layer = _Layer(
            fed=fed[0],
            packed=packed,
            bias=None if own is None else _half(own, width, width),
            peepholes=None if p is None else b.dense(_part(p, way)),
            lens=None if lens is None else b.dense(lens),
            first=[
                zeros if state is None else b.dense(_part(state, way))
                for state in (h, c)[: cell.states]
            ],
            last=[_part(last, way) for last in lasts],
            y=[_part(_part(y, step), way) if wanted else None for step in range(steps)],
            params=_params(attrs, way, batch, hidden, stride, cut),
            counts=(-(-hidden // (cut[0] * tiles.PANEL)), -(-batch // cut[1]), 1),
            linear=bool(attrs.get("linear_before_reset", 0)),
        )
        _run(b, layer, order, _STEPS[attrs["cell"]], (batch, hidden))
    return [y, *lasts][: len(results)]


def _part(tensor: Tensor, index: int) -> Tensor:
    return replace(
        tensor,
        shape=tensor.shape[1:],
        strides=tensor.strides[1:],
        offset=tensor.offset + index * tensor.strides[0],
    )


def _half(vector: Tensor, first: int, count: int) -> Tensor:
    return replace(vector, shape=(count,), offset=vector.offset + first)


def _params(
    attrs: Any, way: int, batch: int, hidden: int, stride: int, cut: tuple[int, int]
) -> StepParams:
    functions = [*attrs["activations"][way], *(("tanh", 0.0, 0.0),) * 3][:3]
    (f, f_alpha, f_beta), (g, g_alpha, g_beta), (last, last_alpha, last_beta) = functions
    clip = attrs.get("clip")
    return StepParams(
        batch=batch,
        hidden=hidden,
        packed_stride=stride,
        step=0,
        tile_panels=cut[0],
        tile_rows=cut[1],
        clip=math.inf if clip is None else float(clip),
        coupled=int(bool(attrs.get("input_forget", 0))),
        f=FUNCTIONS[f],
        f_alpha=f_alpha,
        f_beta=f_beta,
        g=FUNCTIONS[g],
        g_alpha=g_alpha,
        g_beta=g_beta,
        last=FUNCTIONS[last],
        last_alpha=last_alpha,
        last_beta=last_beta,
    )


# Emits one step: (builder, layer, its part of `fed`, parameters, old states, new states, its y).
_Step = Callable[
    [Builder, _Layer, Tensor, StepParams, Sequence[Tensor], Sequence[Tensor], "Tensor | None"], None
]


def _run(
    b: Builder, layer: _Layer, order: Sequence[int], step: _Step, shape: tuple[int, int]
) -> None:
    buffers = [[b.transient(FLOAT32, shape) for _ in layer.first] for _ in range(2)]
    states = layer.first
    for number, index in enumerate(order):
        final = number == len(order) - 1
        new = layer.last if final else buffers[number % 2]
        params = layer.params._replace(step=index)
        step(b, layer, _part(layer.fed, index), params, states, new, layer.y[index])
        states = new


def _rnn(
    b: Builder,
    layer: _Layer,
    fed: Tensor,
    params: StepParams,
    old: Sequence[Tensor],
    new: Sequence[Tensor],
    y: Tensor | None,
) -> None:
    operands = (fed, layer.packed, layer.bias, old[0], layer.lens, new[0], y)
    b.emit(F32_RNN_STEP, layer.counts, params, operands)


def _lstm(
    b: Builder,
    layer: _Layer,
    fed: Tensor,
    params: StepParams,
    old: Sequence[Tensor],
    new: Sequence[Tensor],
    y: Tensor | None,
) -> None:
    operands = (fed, layer.packed, layer.bias, layer.peepholes, *old, layer.lens, *new, y)
    b.emit(F32_LSTM_STEP, layer.counts, params, operands)


def _gru(
    b: Builder,
    layer: _Layer,
    fed: Tensor,
    params: StepParams,
    old: Sequence[Tensor],
    new: Sequence[Tensor],
    y: Tensor | None,
) -> None:
    weights = (fed, layer.packed, layer.bias)
    if layer.linear:
        b.emit(F32_GRU_STEP, layer.counts, params, (*weights, old[0], layer.lens, new[0], y))
        return
    z, reset = b.transient(FLOAT32, new[0].shape), b.transient(FLOAT32, new[0].shape)
    b.emit(F32_GRU_GATES, layer.counts, params, (*weights, old[0], z, reset))
    operands = (*weights, reset, z, old[0], layer.lens, new[0], y)
    b.emit(F32_GRU_OUTPUT, layer.counts, params, operands)


_STEPS: dict[str, _Step] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


FLOATS: dict[str, Lowering] = {
    "recurrent": recurrent,
}
