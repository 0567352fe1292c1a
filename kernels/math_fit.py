"""Prints the polynomials of the logarithm (math.h), sin, cos and pow (elementwise/).

Run by hand, nothing imports it.

Each is a weighted least-squares fit on Chebyshev nodes, reweighted towards the minimax (Lawson).
Those in single precision are rounded one coefficient at a time, lowest order first, the rest
refitted after each rounding so that they absorb the error. Usage: python kernels/math_fit.py
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
    single: bool = True,
) -> None:
    """Print P of `degree` that minimises max |P(t) - function(t)| weight(t) on [low, high]."""
    k = np.arange(400)
    nodes = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * (k + 0.5) / 400)
    values = np.array([function(float(t)) for t in nodes], np.longdouble)
    weights = np.array([weight(float(t)) for t in nodes], np.longdouble)
    powers = np.vander(nodes.astype(np.longdouble), degree + 1, increasing=True)
    emphasis = np.ones_like(weights)
    rounded: list[np.floating] = []
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
        if not single:
            rounded = [np.float64(c) for c in solution]
            break
        rounded.append(np.float32(solution[0]))
    final = sum((np.longdouble(c) * powers[:, i] for i, c in enumerate(rounded)), np.longdouble(0))
    worst = float(np.abs((final - values) * weights).max())
    print(f"{name}: error 2^{math.log2(worst):.1f}")
    print("   ", ", ".join(f"{float(c):.9g}f" if single else repr(float(c)) for c in rounded))


def main() -> None:
    """Every polynomial, lowest order first."""
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
    two = 2 / math.log(2)
    fit(
        "pow: log2(m) = s Q(s^2), s = (m - 1) / (m + 1)",
        lambda z: two * sum(z**i / (2 * i + 1) for i in range(20)),
        0.0,
        0.1716**2,
        5,
        lambda z: 1.0,
        single=False,
    )
    fit("pow: 2^f", lambda f: 2.0**f, -0.5, 0.5, 7, lambda f: 1.0, single=False)


if __name__ == "__main__":
    main()
