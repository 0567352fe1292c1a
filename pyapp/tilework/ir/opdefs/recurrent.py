"""Recurrent layers: RNN, GRU and LSTM as one operation.

recurrent(cell, directions, activations, clip, linear_before_reset, input_forget)
    (x, w, r [, b, lens, h, c, p]) -> y, last h [, last c]

cell: "rnn", "gru" or "lstm". directions: "forward", "reverse" or both, in the order of w's first
axis. activations: for each direction, (name, alpha, beta) for each of the cell's functions.
x is (steps, batch, features), w (directions, gates × hidden, features), r (directions, gates ×
hidden, hidden), b (directions, 2 × gates × hidden), lens (batch) of integers, h and c (directions,
batch, hidden), p (directions, 3 × hidden); y is (steps, directions, batch, hidden), 0 behind the
end of a sequence. Source: the ONNX operators RNN, GRU and LSTM, opset 22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import (
    FLOATS,
    check_kind,
    quiet,
    same_dtype,
    sigmoid,
    softplus,
)
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

Activation: TypeAlias = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Cell:
    """How many gates a cell has, the functions it takes by default, and how many states."""

    gates: int
    functions: tuple[str, ...]
    states: int


CELLS: Mapping[str, Cell] = {
    "rnn": Cell(1, ("tanh",), 1),
    "gru": Cell(3, ("sigmoid", "tanh"), 1),
    "lstm": Cell(4, ("sigmoid", "tanh", "tanh"), 2),
}

# name -> (function of x, alpha, beta; alpha's default, beta's default; None: it takes none)
_Function: TypeAlias = Callable[[Array, float, float], object]
ACTIVATIONS: Mapping[str, tuple[_Function, float | None, float | None]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "tanh": (lambda x, a, b: np.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: sigmoid(x), None, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)), 1.0, None),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), None, None),
    "softplus": (lambda x, a, b: softplus(x), None, None),
}


def infer_recurrent(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    """(y, last states) for x, w, r, b, lens, h, c and p; InvalidArgument where they disagree."""
    x, w, r, b, lens, h, c, p = [*infos, *(None,) * 8][:8]
    assert x is not None and w is not None and r is not None
    floats = [info for info in (x, w, r, b, h, c, p) if info is not None]
    check_kind(node, floats, FLOATS)
    cell = CELLS[node.attrs["cell"]]
    ways = len(node.attrs["directions"])
    if not len(x.shape) == len(w.shape) == len(r.shape) == 3:
        raise fail(node, infos, "x, w and r must have three axes each")
    steps, batch, features = x.shape
    hidden = r.shape[2]
    wanted = {
        "w": (w, (ways, cell.gates * hidden, features)),
        "r": (r, (ways, cell.gates * hidden, hidden)),
        "b": (b, (ways, 2 * cell.gates * hidden)),
        "lens": (lens, (batch,)),
        "h": (h, (ways, batch, hidden)),
        "c": (c, (ways, batch, hidden)),
        "p": (p, (ways, 3 * hidden)),
    }
    for name, (info, shape) in wanted.items():
        if info is not None and info.shape != shape:
            raise fail(node, infos, f"{name} is {list(info.shape)}, expected {list(shape)}")
    dtype = same_dtype(node, floats)
    last = Info(dtype, (ways, batch, hidden))
    found = [Info(dtype, (steps, ways, batch, hidden)), *(last,) * cell.states]
    return found[: len(node.outputs)]


# A product with a direction's weights.
Product: TypeAlias = Callable[[Array], Array]


def _reference(attrs: Attrs, x: Array, w: Array, r: Array, *rest: Array | None) -> Any:
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    # The inputs' part of all steps is computed at once.
    fed = [np.matmul(x.astype(wide), one.T.astype(wide)) for one in w]
    matrices = [one.T.astype(wide) for one in r]
    return run_directions(attrs, x.dtype, fed, [_by(one) for one in matrices], matrices, rest)


def _by(matrix: Array) -> Product:
    return lambda h: np.asarray(h @ matrix)


def run_directions(
    attrs: Attrs,
    dtype: Any,
    fed: Sequence[Array],
    products: Sequence[Product],
    matrices: Sequence[Array],
    rest: Sequence[Array | None],
) -> Any:
    """All steps of each direction, whose weights are `products`, and `matrices` (hidden, gates ×
    hidden) for a cell that takes them gate by gate."""
    b, lens, h, c, p = [*rest, *(None,) * 5][:5]
    wide = fed[0].dtype
    cell = CELLS[attrs["cell"]]
    steps, batch, _ = fed[0].shape
    ways, hidden = len(fed), matrices[0].shape[0]

    def given(array: Array | None, *shape: int) -> Array:
        return np.zeros(shape, wide) if array is None else array.astype(wide)

    bias = given(b, ways, 2 * cell.gates * hidden)
    first = [given(h, ways, batch, hidden), given(c, ways, batch, hidden)]
    peepholes = given(p, ways, 3 * hidden)
    y = np.zeros((steps, ways, batch, hidden), wide)
    lasts = [np.empty((ways, batch, hidden), wide) for _ in range(cell.states)]
    for way, direction in enumerate(attrs["directions"]):
        layer = _Layer(
            attrs,
            [_function(*one) for one in attrs["activations"][way]],
            products[way],
            matrices[way],
            bias[way],
            peepholes[way],
        )
        states = [state[way] for state in first[: cell.states]]
        for step in range(steps) if direction == "forward" else reversed(range(steps)):
            new = _STEPS[attrs["cell"]](layer, fed[way][step], states)
            y[step, way] = new[0]
            if lens is not None:
                live = (step < lens)[:, None]
                y[step, way] = np.where(live, new[0], 0)
                new = [np.where(live, a, b) for a, b in zip(new, states, strict=True)]
            states = new
        for last, state in zip(lasts, states, strict=True):
            last[way] = state
    return tuple(array.astype(dtype) for array in (y, *lasts))


def _function(name: str, alpha: float, beta: float) -> Callable[[Array], Array]:
    formula = ACTIVATIONS[name][0]
    return lambda x: np.asarray(formula(x, alpha, beta), x.dtype)


class _Layer:
    """One direction's weights and functions; the inputs' product comes with each step."""

    def __init__(
        self,
        attrs: Attrs,
        functions: Sequence[Callable[[Array], Array]],
        product: Product,
        r: Array,
        b: Array,
        p: Array,
    ) -> None:
        self.functions = functions
        self.product = product
        self.r = r
        self.b = b
        self.p = p
        self.linear = bool(attrs.get("linear_before_reset", 0))
        self.coupled = bool(attrs.get("input_forget", 0))
        self.bound: float | None = attrs.get("clip")

    def clipped(self, x: Array) -> Array:
        """What goes into a function."""
        return x if self.bound is None else np.clip(x, -self.bound, self.bound)


def _rnn(layer: _Layer, fed: Array, states: Sequence[Array]) -> list[Array]:
    """h = f(x W + h R + Wb + Rb)"""
    w_bias, r_bias = np.split(layer.b, 2)
    (h,) = states
    return [layer.functions[0](layer.clipped(fed + layer.product(h) + w_bias + r_bias))]


def _gru(layer: _Layer, fed: Array, states: Sequence[Array]) -> list[Array]:
    """z, r = f(..), new = g(..), h = (1 - z) new + z h; the gates' order is z, r, new."""
    f, g = layer.functions
    (h,) = states
    hidden = h.shape[1]
    w_bias, r_bias = np.split(layer.b, 2)
    fed = fed + w_bias
    gates = fed[:, : 2 * hidden] + h @ layer.r[:, : 2 * hidden] + r_bias[: 2 * hidden]
    z, r = np.split(f(layer.clipped(gates)), 2, axis=1)
    recurrent, bias = layer.r[:, 2 * hidden :], r_bias[2 * hidden :]
    kept = r * (h @ recurrent + bias) if layer.linear else (r * h) @ recurrent + bias
    new = g(layer.clipped(fed[:, 2 * hidden :] + kept))
    return [np.asarray((1 - z) * new + z * h)]


def _lstm(layer: _Layer, fed: Array, states: Sequence[Array]) -> list[Array]:
    """c = forget c + in g(..), h = out g(c); the gates' order is in, out, forget, new."""
    f, g, last = layer.functions
    h, c = states
    w_bias, r_bias = np.split(layer.b, 2)
    i, o, forget, new = np.split(fed + layer.product(h) + w_bias + r_bias, 4, axis=1)
    p_i, p_o, p_f = np.split(layer.p, 3)
    i = f(layer.clipped(i + p_i * c))
    forget = 1 - i if layer.coupled else f(layer.clipped(forget + p_f * c))
    state = forget * c + i * g(layer.clipped(new))
    out = f(layer.clipped(o + p_o * state))
    return [np.asarray(out * last(state)), np.asarray(state)]


_STEPS: Mapping[str, Callable[[_Layer, Array, Sequence[Array]], list[Array]]] = {
    "rnn": _rnn,
    "gru": _gru,
    "lstm": _lstm,
}

define("recurrent", (3, 8), infer_recurrent, quiet(_reference), outputs=3)
