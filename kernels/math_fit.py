"""Prints polynomials as in kernels/math.h; run by hand, nothing imports it.

Each is a weighted least-squares fit in long double on Chebyshev nodes (near minimax), rounded to
f32 one coefficient at a time, lowest order first, the rest refitted after each rounding so that
they absorb the error. Usage: python kernels/math_fit.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def fit(
    name: str,
    function: Callable[[float], float],
    low: float,
    high: float,
    degree: int,
    weight: Callable[[float], float],
) -> None:
    """Print P of `degree` that minimises max |P(t) - function(t)| weight(t) on [low, high]."""
    k = np.arange(400)
    nodes = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * (k + 0.5) / 400)
    values = np.array([function(float(t)) for t in nodes], np.longdouble)
    weights = np.array([weight(float(t)) for t in nodes], np.longdouble)
    powers = np.vander(nodes.astype(np.longdouble), degree + 1, increasing=True)
    emphasis = np.ones_like(weights)
    rounded: list[np.float32] = []
    while len(rounded) <= degree:
        done = len(rounded)
        rest = values - sum(
            (np.longdouble(c) * powers[:, i] for i, c in enumerate(rounded)), np.longdouble(0)
        )
        for _ in range(60 if done == 0 else 1):  # Lawson's iteration towards the minimax
            scale = weights * np.sqrt(emphasis)
            norms = np.abs(powers[:, done:] * scale[:, None]).max(axis=0)
            matrix = (powers[:, done:] * scale[:, None] / norms).astype(np.float64)
            solution = np.linalg.lstsq(matrix, (rest * scale).astype(np.float64), rcond=None)[0]
            solution = solution / norms
            error = np.abs((powers[:, done:] @ solution - rest) * weights)
            emphasis = emphasis * (error + 1e-3 * error.max())
            emphasis /= emphasis.sum()
        rounded.append(np.float32(solution[0]))
    final = sum((np.longdouble(c) * powers[:, i] for i, c in enumerate(rounded)), np.longdouble(0))
    worst = float(np.abs((final - values) * weights).max())
    print(f"{name}: error {worst / 2**-24:.3f} half-ulp")
    print("   ", ", ".join(f"{float(c):.9g}f" for c in rounded))


def main() -> None:
    """Every polynomial of math.h, lowest order first."""
    half = math.log(2) / 2 * 1.0002
    fit(
        "exp: e^r = 1 + r + r^2 P(r)",
        lambda r: (math.expm1(r) - r) / r**2 if abs(r) > 1e-3 else 0.5 + r / 6 + r * r / 24,
        -half,
        half,
        4,
        lambda r: r * r / math.exp(r),
    )
    fit(
        "log: log(1 + f) = f - f^2 / 2 + f^3 P(f)",
        lambda f: (
            (math.log1p(f) - f + f * f / 2) / f**3
            if abs(f) > 2e-2
            else sum((-f) ** i / (i + 3) for i in range(9))
        ),
        math.sqrt(0.5) - 1,
        math.sqrt(2) - 1,
        7,
        lambda f: abs(f**3 / math.log1p(f)) if f else 0.0,
    )

    def erf_small(s: float) -> float:
        x = math.sqrt(s)
        return math.erf(x) / x - 1

    fit("erf: x + x P(x^2), x^2 < 0.86", erf_small, 1e-9, 0.87, 6, lambda s: 1 / (1 + erf_small(s)))
    fit(
        "erf: 1 - e^(t P(t)), 0.92 < t < 4",
        lambda t: math.log(math.erfc(t)) / t,
        0.92,
        4.0,
        6,
        lambda t: t * math.erfc(t) / math.erf(t),
    )

    def tanh_small(s: float) -> float:
        x = math.sqrt(s)
        return sum(c * s**i for i, c in enumerate(TANH)) if x < 0.05 else (math.tanh(x) / x - 1) / s

    fit("tanh: x + x^3 P(x^2), x < 0.625", tanh_small, 0.0, 0.625**2, 4, lambda s: s)
    quarter = (math.pi / 4 * 1.001) ** 2
    fit(
        "sin: x + x^3 P(x^2), x < pi / 4",
        lambda s: sum((-1) ** (i + 1) * s**i / math.factorial(2 * i + 3) for i in range(9)),
        0.0,
        quarter,
        3,
        lambda s: s,
    )
    fit(
        "cos: 1 - x^2 / 2 + x^4 P(x^2), x < pi / 4",
        lambda s: sum((-1) ** i * s**i / math.factorial(2 * i + 4) for i in range(9)),
        0.0,
        quarter,
        3,
        lambda s: s * s,
    )


TANH = (-1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925)

if __name__ == "__main__":
    main()
