"""RNN, GRU and LSTM: one product for the inputs of all steps, then all steps in one dispatch, or a
dispatch or two each. Where they see bytes (DynamicQuantizeLSTM), those are made of the input and of
each step's state, and numbers of them again; the products are of numbers.

The two directions of a layer run side by side. Where they and the sequences occupy the threads, a
tile goes through all steps. Else a step reads the states that the one before it wrote, so steps
have levels of their own; states lie in two buffers that take turns, for every hidden unit reads all
of the old state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32, INT32, UINT8
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
from tilework.plan.lowering import Lowered, Lowering, Operands, step
from tilework.plan.lowerings.matmul import matmul, panels
from tilework.plan.tensor import Tensor

_MOST_STEPS = 4096  # where each is a dispatch of the plan
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
    y: Tensor | None  # (steps, batch, hidden)
    params: StepParams
    counts: tuple[int, int, int]
    scratch: int
    linear: bool


def recurrent(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """recurrent and quantized_recurrent of float32."""
    x, w, r, bias, lens, h, c, p = [*inputs, *(None,) * 8][:8]
    assert x is not None and w is not None and r is not None
    if x.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {x.dtype}"
    if all(tensor is None or is_constant(tensor) for tensor in inputs):
        return "constants only"
    steps, batch, features = x.shape
    hidden = r.shape[2]
    if 0 in (steps, batch, features, hidden):
        return f"{steps} steps of {batch} × {features} to {hidden}"
    if lens is not None and lens.dtype is not INT32:
        return f"lengths of {lens.dtype}"
    attrs: Any = node.attrs
    cell = CELLS[attrs["cell"]]
    ways = len(attrs["directions"])
    linear = bool(attrs.get("linear_before_reset", 0))
    whole = attrs["cell"] != "gru" or linear
    seen = node.op == "quantized_recurrent"
    cut = tiles.recurrent_tiles(batch, hidden, cell.gates, ways, b.threads, whole and not seen)
    x = _through_bytes(b, x) if seen else x
    if steps > _MOST_STEPS and not cut.all_steps:
        return f"{steps} steps, a dispatch each"
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
            y=_part(y.transposed((1, 0, 2, 3)), way) if wanted else None,
            params=_params(attrs, way, direction, (batch, hidden), stride, cut)._replace(
                y_step=y.strides[0]
            ),
            counts=cut.counts(batch, hidden),
            scratch=cut.scratch,
            linear=linear,
        )
        if cut.all_steps:
            params = layer.params._replace(steps=steps)
            everything = _Step(layer.fed, params, layer.first, layer.last, layer.y)
            _EMITS[attrs["cell"]](b, layer, everything)
        else:
            _one_by_one(b, layer, _EMITS[attrs["cell"]], seen)
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
    attrs: Any,
    way: int,
    direction: str,
    sizes: tuple[int, int],
    stride: int,
    cut: tiles.RecurrentTiles,
) -> StepParams:
    functions = [*attrs["activations"][way], *(("tanh", 0.0, 0.0),) * 3][:3]
    (f, f_alpha, f_beta), (g, g_alpha, g_beta), (last, last_alpha, last_beta) = functions
    clip = attrs.get("clip")
    return StepParams(
        batch=sizes[0],
        hidden=sizes[1],
        packed_stride=stride,
        step=0,
        steps=1,
        backward=int(direction == "reverse"),
        y_step=0,
        tile_panels=cut.panels,
        tile_rows=cut.rows,
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


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a layer, or all: its part of `fed`, states to read and to write, its y."""

    fed: Tensor
    params: StepParams
    old: Sequence[Tensor]
    new: Sequence[Tensor]
    y: Tensor | None


def _one_by_one(b: Builder, layer: _Layer, emit: _Emit, seen: bool) -> None:
    steps, shape = layer.fed.shape[0], layer.first[0].shape
    buffers = [[b.transient(FLOAT32, shape) for _ in layer.first] for _ in range(2)]
    states = layer.first
    for number in range(steps):
        index = steps - 1 - number if layer.params.backward else number
        new = layer.last if number == steps - 1 else buffers[number % 2]
        y = None if layer.y is None else _part(layer.y, index)
        params = layer.params._replace(step=index, y_step=0)
        old = [_through_bytes(b, states[0]), *states[1:]] if seen else states
        emit(b, layer, _Step(_part(layer.fed, index), params, old, new, y))
        states = new


def _through_bytes(b: Builder, x: Tensor) -> Tensor:
    """x as its bytes by its range have it."""
    from tilework.plan.lowerings import quant  # loaded where it is needed

    infos = [Info(UINT8, x.shape), Info(FLOAT32, ()), Info(UINT8, ())]
    made = quant.dynamic(b, Node("dynamic_quantize_linear", (), ()), [x], infos)
    assert not isinstance(made, str)  # there are elements
    return step(b, quant.linear, "dequantize_linear", Info(FLOAT32, x.shape), *made)


def _rnn(b: Builder, layer: _Layer, step: _Step) -> None:
    operands = (step.fed, layer.packed, layer.bias, *step.old, layer.lens, *step.new, step.y)
    b.emit(F32_RNN_STEP, layer.counts, step.params, operands, layer.scratch)


def _lstm(b: Builder, layer: _Layer, step: _Step) -> None:
    weights = (step.fed, layer.packed, layer.bias, layer.peepholes)
    operands = (*weights, *step.old, layer.lens, *step.new, step.y)
    b.emit(F32_LSTM_STEP, layer.counts, step.params, operands, layer.scratch)


def _gru(b: Builder, layer: _Layer, step: _Step) -> None:
    weights = (step.fed, layer.packed, layer.bias)
    if layer.linear:
        operands = (*weights, *step.old, layer.lens, *step.new, step.y)
        b.emit(F32_GRU_STEP, layer.counts, step.params, operands, layer.scratch)
        return
    z, reset = (b.transient(FLOAT32, step.new[0].shape) for _ in range(2))
    b.emit(F32_GRU_GATES, layer.counts, step.params, (*weights, *step.old, z, reset))
    operands = (*weights, reset, z, *step.old, layer.lens, *step.new, step.y)
    b.emit(F32_GRU_OUTPUT, layer.counts, step.params, operands)


# Emits one step.
_Emit = Callable[[Builder, _Layer, _Step], None]
_EMITS: dict[str, _Emit] = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


FLOATS: dict[str, Lowering] = {
    "recurrent": recurrent,
    "quantized_recurrent": recurrent,
}
