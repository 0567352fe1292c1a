"""The vector functions of kernels/math.h against float64, over every exponent, in both builds.

The bounds are those that math.h and the elementwise headers state. A sweep takes all signs and
exponents with a few hundred mantissas each, and densely the ranges where a formula changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels.bare_host import BUILDS, host
from tests.kernels.harness import ulps
from tilework.hal.kernels.elementwise import (
    F32_BINARY,
    F32_UNARY,
    Binary,
    BinaryParams,
    Unary,
    UnaryParams,
)

pytestmark = pytest.mark.kernels
Array = NDArray[Any]
SMALLEST = 1.1754944e-38  # normal number


def sweep() -> Array:
    """About 450,000 floats: 512 mantissas for every sign and exponent, then dense ranges."""
    rng = np.random.default_rng(3)
    heads = np.repeat(np.arange(512, dtype=np.uint32) << 23, 512)
    every = heads | rng.integers(0, 1 << 23, heads.size, np.uint32)
    spans = [(-105, 90), (-4.5, 4.5), (0.5, 2), (-0.7, 0.7), (0.9, 1.1), (-20, 20)]
    dense = [np.linspace(a, b, 30001, dtype=np.float32) for a, b in spans]
    return np.concatenate([every.view(np.float32), *dense])


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


ERF = np.vectorize(math.erf)
# op, function, largest error in ulp, results below this size may be 0
FUNCTIONS: list[tuple[Unary, Callable[[Array], Array], float, float]] = [
    (Unary.EXP, np.exp, 1.1, 0),
    (Unary.LOG, np.log, 1.6, 0),
    (Unary.ERF, ERF, 1.6, 0),
    (Unary.TANH, np.tanh, 1.7, 0),
    (Unary.SIGMOID, sigmoid, 2.0, SMALLEST * 1.5),
    (Unary.SOFTPLUS, lambda x: np.logaddexp(x, 0), 2.0, SMALLEST * 1.5),
    (Unary.ELU, lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), 1.6, 0),
    (Unary.SIN, np.sin, 1.6, 0),
    (Unary.COS, np.cos, 1.6, 0),
]
NAMES = [op.name for op, *_ in FUNCTIONS]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("op, function, bound, negligible", FUNCTIONS, ids=NAMES)
def test_error(
    op: Unary, function: Callable[[Array], Array], bound: float, negligible: float, build: str
) -> None:
    x = sweep()
    y = np.empty_like(x)
    bindings = [x, y]
    params = UnaryParams(x.size, x.size, op, 1.0, 1.0)
    assert host(build).run(F32_UNARY, (1, 1, 1), params, bindings) == 0
    with np.errstate(all="ignore"):
        expected = np.asarray(function(x.astype(np.float64)))
    errors = ulps(y, expected)
    errors[(np.abs(expected) < negligible) & (y == 0)] = 0
    worst = int(np.argmax(errors))
    print(f"{build} {op.name}: {errors[worst]:.3f} ulp at {x[worst]!r}")
    assert errors[worst] <= bound, (x[worst], y[worst], expected[worst])


@pytest.mark.parametrize("build", BUILDS)
def test_pow(build: str) -> None:
    rng = np.random.default_rng(4)
    n = 200_000
    a = np.exp(rng.uniform(-80, 80, n)).astype(np.float32)
    b = (rng.uniform(-1, 1, n) * 90 / np.maximum(np.abs(np.log(a)), 0.1)).astype(np.float32)
    y = np.empty_like(a)
    one = (0, 0, 0, 0, 0, 1)
    params = BinaryParams((1, 1, 1, 1, 1, n), one, one, n, Binary.POW)
    assert host(build).run(F32_BINARY, (1, 1, 1), params, [a, b, y]) == 0
    with np.errstate(all="ignore"):
        expected = np.power(a.astype(np.float64), b.astype(np.float64))
    errors = ulps(y, expected)
    print(f"{build} pow: {errors.max():.4f} ulp")
    assert errors.max() <= 0.51
