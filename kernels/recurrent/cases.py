"""Cases of the recurrent steps: every cell and function, tails, rests, tiles, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, SCRATCH, TOO_SHORT, Case, Tolerance
from tilework.hal.kernel import Kernel
from tilework.hal.kernels.recurrent import (
    F32_GRU_GATES,
    F32_GRU_OUTPUT,
    F32_GRU_STEP,
    F32_LSTM_STEP,
    F32_RNN_STEP,
    Function,
    StepParams,
)

Array = NDArray[Any]
PANEL = 8
CLOSE = Tolerance(absolute=4e-6)  # sums of a few dozen products of about 1, through functions

FUNCTIONS: dict[Function, Callable[[Array, float, float], Array]] = {
    Function.RELU: lambda x, a, b: np.maximum(x, 0),
    Function.TANH: lambda x, a, b: np.tanh(x),
    Function.SIGMOID: lambda x, a, b: 1 / (1 + np.exp(-x)),
    Function.AFFINE: lambda x, a, b: a * x + b,
    Function.LEAKY_RELU: lambda x, a, b: np.where(x < 0, a * x, x),
    Function.THRESHOLDED_RELU: lambda x, a, b: np.where(x < a, 0, x),
    Function.SCALED_TANH: lambda x, a, b: a * np.tanh(b * x),
    Function.HARD_SIGMOID: lambda x, a, b: np.clip(a * x + b, 0, 1),
    Function.ELU: lambda x, a, b: np.where(x < 0, a * np.expm1(x), x),
    Function.SOFTSIGN: lambda x, a, b: x / (1 + np.abs(x)),
    Function.SOFTPLUS: lambda x, a, b: np.logaddexp(x, 0),
}


def some(*shape: int, seed: int) -> Array:
    draw = np.random.default_rng(seed + sum(shape))
    return draw.normal(size=shape).astype(np.float32) / 2


def packed(r: Array) -> Array:
    """(gates, units, k) in panels of 8 units."""
    gates, units, k = r.shape
    padded = np.zeros((gates, -(-units // PANEL) * PANEL, k), np.float32)
    padded[:, :units] = r
    return np.ascontiguousarray(padded.reshape(gates, -1, PANEL, k).transpose(0, 1, 3, 2)).ravel()


class Drawn:
    """Operands of one step or several, and what they compute in double precision."""

    def __init__(self, gates: int, batch: int, hidden: int, lens: bool, **given: Any) -> None:
        self.batch, self.hidden = batch, hidden
        self.steps = given.pop("steps", 1)
        self.backward = given.pop("backward", 0)
        self.all_fed = some(self.steps, batch, gates, hidden, seed=1)
        self.fed = self.all_fed[0]
        self.r = some(gates, hidden, hidden, seed=2) / math.sqrt(hidden)
        self.bias = some(gates, hidden, seed=3) if given.pop("bias", True) else None
        self.h = some(batch, hidden, seed=4)
        self.c = some(batch, hidden, seed=5)
        self.holes = some(3, hidden, seed=6) if given.pop("holes", False) else None
        self.lens = (np.arange(batch) % 3).astype(np.int32) if lens else None
        panels = -(-hidden // PANEL)
        self.tile_panels = given.pop("tile_panels", panels)
        self.tile_rows = given.pop("tile_rows", batch)
        self.counts = (-(-panels // self.tile_panels), -(-batch // self.tile_rows), 1)
        self.params = StepParams(
            batch=batch,
            hidden=hidden,
            packed_stride=panels * PANEL * hidden,
            step=1,
            steps=self.steps,
            backward=self.backward,
            y_step=batch * hidden + 3,
            tile_panels=self.tile_panels,
            tile_rows=self.tile_rows,
            clip=given.pop("clip", math.inf),
            coupled=given.pop("coupled", 0),
            f=given.pop("f", Function.SIGMOID),
            f_alpha=0.3,
            f_beta=0.4,
            g=given.pop("g", Function.TANH),
            g_alpha=0.7,
            g_beta=0.2,
            last=given.pop("last", Function.TANH),
            last_alpha=1.5,
            last_beta=0.5,
        )
        assert not given, given

    def function(self, name: str, x: Array) -> Array:
        p = self.params
        if name != "last":
            x = np.clip(x, -p.clip, p.clip)
        kind, alpha, beta = (getattr(p, name + end) for end in ("", "_alpha", "_beta"))
        return FUNCTIONS[kind](x, alpha, beta)

    def gate(self, number: int, state: Array) -> Array:
        """The recurrent product of a gate."""
        total = state.astype(np.float64) @ self.r[number].T.astype(np.float64)
        return total if self.bias is None else total + self.bias[number]

    def ended(self, new: Array, old: Array, index: int = 0) -> tuple[Array, Array]:
        """(the new state, y), with what rests."""
        if self.lens is None:
            return new, new
        live = (self.lens > self.params.step + index)[:, None]
        return np.where(live, new, old), np.where(live, new, 0)

    def run(self, formula: Formula, first: Sequence[Array]) -> list[Array]:
        """The states after all steps, then y, whose steps lie 3 elements apart."""
        states = list(first)
        y = np.full((self.steps, self.batch * self.hidden + 3), 7.0)
        for index in reversed(range(self.steps)) if self.backward else range(self.steps):
            self.fed = self.all_fed[index]
            made = [
                self.ended(new, old, index)
                for new, old in zip(formula(self, *states), states, strict=True)
            ]
            states = [state for state, _ in made]
            y[index, :-3] = made[0][1].ravel()
        return [*states, y.ravel()[:-3]]

    def case(
        self,
        kernel: Kernel,
        operands: Sequence[Array | None],
        outputs: Sequence[Array],
        note: str,
        **more: Any,
    ) -> Case:
        """`operands` behind fed, panels and bias, then the outputs, which begin with 7."""
        flat = [self.all_fed, packed(self.r), self.bias, *operands]
        bindings = [None if one is None else np.ascontiguousarray(one).ravel() for one in flat]
        first = len(bindings)
        bindings += [np.full(one.size, 7, np.float32) for one in outputs]
        expected = {first + n: one.ravel() for n, one in enumerate(outputs)}
        return Case(
            kernel, self.counts, self.params, bindings, expected, CLOSE,
            scratch=4 * min(self.tile_rows, self.batch) * self.hidden if self.steps > 1 else 0,
            note=f"{self.batch}x{self.hidden} {note}", **more,
        )  # fmt: skip


# A step: (its operands, the states) -> the new ones.
Formula: TypeAlias = Callable[..., Sequence[Array]]


def rnn_step(d: Drawn, h: Array) -> Sequence[Array]:
    return [d.function("f", d.fed[:, 0] + d.gate(0, h))]


def lstm_step(d: Drawn, h: Array, c: Array) -> Sequence[Array]:
    i, o, f, g = (d.fed[:, n] + d.gate(n, h) for n in range(4))
    p = np.zeros((3, d.hidden)) if d.holes is None else d.holes.astype(np.float64)
    entry = d.function("f", i + p[0] * c)
    forget = 1 - entry if d.params.coupled else d.function("f", f + p[2] * c)
    state = forget * c + entry * d.function("g", g)
    return [d.function("f", o + p[1] * state) * d.function("last", state), state]


def gru_step(d: Drawn, h: Array) -> Sequence[Array]:
    z, r = (d.function("f", d.fed[:, n] + d.gate(n, h)) for n in range(2))
    fresh = d.function("g", d.fed[:, 2] + r * d.gate(2, h))
    return [(1 - z) * fresh + z * h]


def rnn(batch: int, hidden: int, note: str, lens: bool = False, **given: Any) -> Case:
    d = Drawn(1, batch, hidden, lens, **given)
    return d.case(F32_RNN_STEP, [d.h, d.lens], d.run(rnn_step, [d.h]), note)


def lstm(batch: int, hidden: int, note: str, lens: bool = False, **given: Any) -> Case:
    in_place = given.pop("in_place", False)
    d = Drawn(4, batch, hidden, lens, **given)
    operands = [d.holes, d.h, d.c, d.lens]
    case = d.case(F32_LSTM_STEP, operands, d.run(lstm_step, [d.h, d.c]), note)
    if not in_place:
        return case
    bindings = list(case.bindings)
    bindings[8] = bindings[5]
    return Case(
        case.kernel, case.counts, case.params, bindings, case.expected, CLOSE,
        same={8: 5}, scratch=case.scratch, note=f"{case.note} in place",
    )  # fmt: skip


def gru(batch: int, hidden: int, note: str, lens: bool = False, **given: Any) -> Case:
    d = Drawn(3, batch, hidden, lens, **given)
    return d.case(F32_GRU_STEP, [d.h, d.lens], d.run(gru_step, [d.h]), note)


def gates(batch: int, hidden: int, note: str, **given: Any) -> Case:
    d = Drawn(3, batch, hidden, False, **given)
    z, r = (d.function("f", d.fed[:, n] + d.gate(n, d.h)) for n in range(2))
    return d.case(F32_GRU_GATES, [d.h], (z, r * d.h), note)


def output(batch: int, hidden: int, note: str, lens: bool = False, **given: Any) -> Case:
    d = Drawn(3, batch, hidden, lens, **given)
    reset, z = some(batch, hidden, seed=7), np.abs(some(batch, hidden, seed=8))
    fresh = d.function("g", d.fed[:, 2] + d.gate(2, reset))
    new = (1 - z.astype(np.float64)) * fresh + z * d.h
    return d.case(F32_GRU_OUTPUT, [reset, z, d.h, d.lens], d.ended(new, d.h), note)


SIZES = ((1, 1), (1, 8), (2, 5), (3, 13), (6, 16), (7, 24), (13, 33))
CASES: list[Case] = [
    make(batch, hidden, "plain") for make in (rnn, lstm, gru, gates, output)
    for batch, hidden in SIZES
]  # fmt: skip
CASES += [
    make(5, 11, "rests", lens=True, tile_panels=1, tile_rows=2)
    for make in (rnn, lstm, gru, output)
]
CASES += [make(9, 40, "tiles", tile_panels=2, tile_rows=4) for make in (rnn, lstm, gru, gates)]
CASES += [
    make(1, hidden, "tiles of one", tile_panels=3, bias=bias)
    for make in (rnn, lstm, gru, gates) for hidden in (40, 44) for bias in (False, True)
]  # fmt: skip
CASES += [
    make(batch, hidden, f"{steps} steps", steps=steps, lens=lens, backward=backward, tile_rows=rows)
    for make in (rnn, lstm, gru)
    for batch, hidden, rows in ((1, 9, 1), (1, 40, 1), (5, 11, 2), (7, 24, 7))
    for steps, lens, backward in ((2, False, 0), (5, True, 0), (4, True, 1))
]
CASES += [lstm(4, 10, "steps", in_place=True, steps=3, holes=True)]
CASES += [make(2, 9, "without bias", bias=False) for make in (rnn, lstm, gru, gates, output)]
CASES += [rnn(3, 9, f"f {kind.name}", f=kind) for kind in Function]
CASES += [lstm(3, 9, f"functions {k.name}", f=k, g=k, last=k) for k in Function]
CASES += [gru(3, 9, f"g {kind.name}", g=kind) for kind in Function]
CASES += [make(3, 9, "clipped", clip=0.2) for make in (rnn, lstm, gru, gates, output)]
CASES += [
    lstm(4, 10, "peepholes", holes=True),
    lstm(4, 10, "coupled", coupled=1),
    lstm(4, 10, "peepholes, coupled", holes=True, coupled=1),
    lstm(4, 10, "peepholes and rests", holes=True, lens=True),
    lstm(7, 20, "", in_place=True, tile_panels=1, tile_rows=3),
]


def _refused() -> list[Case]:
    found = []
    for make in (rnn, lstm, gru, gates, output):
        case = make(2, 9, "")
        kernel, params = case.kernel, case.params
        for change in ({"hidden": 0}, {"tile_panels": 0}, {"tile_rows": 0}):
            found.append(
                Case(kernel, (1, 1, 1), params._replace(**change), case.bindings,
                     status=INVALID_PARAMS, note=f"{change}")
            )  # fmt: skip
        for number, binding in enumerate(case.bindings):
            if binding is not None:
                short = list(case.bindings)
                short[number] = binding[:-1]
                found.append(
                    Case(kernel, (1, 1, 1), params, short, status=TOO_SHORT,
                         note=f"binding {number} short")
                )  # fmt: skip
    for make in (rnn, lstm, gru):
        case = make(3, 9, "", steps=3)
        operands = (case.kernel, case.counts, case.params, case.bindings)
        found.append(Case(*operands, status=SCRATCH, scratch=case.scratch - 4, note="scratch"))
        for change in ({"tile_panels": 1}, {"steps": 0}):
            found.append(
                Case(case.kernel, case.counts, case.params._replace(**change), case.bindings,
                     status=INVALID_PARAMS, scratch=case.scratch, note=f"{change}")
            )  # fmt: skip
        for change in ({"steps": 4}, {"y_step": 26}):
            found.append(
                Case(case.kernel, case.counts, case.params._replace(**change), case.bindings,
                     status=TOO_SHORT, scratch=case.scratch, note=f"{change}")
            )  # fmt: skip
    for make in (gates, output):
        case = make(3, 9, "")
        found.append(
            Case(case.kernel, case.counts, case.params._replace(steps=2), case.bindings,
                 status=INVALID_PARAMS, note="steps")
        )  # fmt: skip
    return found


CASES += _refused()
