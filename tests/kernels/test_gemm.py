"""f32_gemm and f32_gemm_pack_b against float64 NumPy, in both builds.

The table says what is special in each case; the generator makes the matrices inside larger
allocations, so that strides, offsets and tails are real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.bare_host import BUILDS, Array, host
from tests.kernels.windows import gelu_tanh
from tilework.hal import _abi
from tilework.hal.kernels.gemm import (
    F32_GEMM,
    F32_GEMM_PACK_B,
    Activation,
    GemmParams,
    PackBParams,
)

pytestmark = pytest.mark.kernels
EPSILON = 2.0**-24
ERF = np.vectorize(math.erf)


@dataclass(frozen=True)
class Case:
    """One product. Strides that are 0 here are the natural ones."""

    m: int
    k: int
    n: int
    outer: int = 1
    inner: int = 1
    repeat: str = ""  # which of a, b the batch repeats: "b", "bi" (b along inner), "a"
    lda: int = 0
    ldc: int = 0
    ldr: int = 0
    bias: bool = False
    residual: bool = False
    alpha: float = 1.0
    activation: Activation = Activation.NONE
    tile_m: int = 64
    tile_n: int = 64
    transposed: bool = False  # B is given as (n, k)
    spread: int = 1  # stride of B's innermost axis
    rewrite: bool = False
    note: str = field(default="", compare=False)


CASES = [
    *(Case(m, 24, 40, note=f"{m} rows") for m in range(1, 14)),
    *(Case(9, 24, n, bias=True, residual=True, note=f"{n} columns") for n in range(1, 18)),
    *(Case(6, k, 12, bias=True, note=f"k of {k}") for k in range(10)),
    Case(5, 1029, 11, bias=True, residual=True, alpha=0.5, note="blocks of k, everything narrow"),
    Case(8, 1024, 16, bias=True, activation=Activation.GELU, note="whole blocks of k"),
    Case(70, 513, 70, residual=True, tile_m=12, tile_n=24, note="a last block of 1"),
    Case(17, 33, 65, lda=1 << 12, ldc=70, ldr=71, residual=True, note="strides of a page"),
    Case(33, 16, 31, tile_m=4, tile_n=8, note="smallest tiles"),
    Case(3, 8, 20, tile_m=1 << 31, tile_n=1 << 31, note="one tile for all"),
    Case(7, 20, 9, outer=2, inner=3, note="batch"),
    Case(7, 20, 9, outer=2, inner=3, repeat="b", note="one B for all"),
    Case(7, 20, 9, outer=2, inner=3, repeat="bi", note="one B for each inner"),
    Case(7, 20, 9, outer=2, inner=3, repeat="a", bias=True, residual=True, note="one A for all"),
    Case(16, 384, 384, bias=True, residual=True, note="MiniLM, output"),
    Case(16, 384, 1536, bias=True, activation=Activation.GELU, note="MiniLM, up"),
    Case(16, 1536, 384, bias=True, residual=True, note="MiniLM, down"),
    *(
        Case(5, 19, 21, alpha=a, bias=b, residual=r, activation=act)
        for act in Activation
        for a, b, r in ((1.0, False, False), (1.0, True, True), (-0.75, True, False))
    ),
    *(
        Case(m, k, n, bias=True, rewrite=True, tile_n=24, note=f"{k} x {n} rewritten")
        for m, k, n in ((4, 1, 9), (5, 16, 70), (16, 47, 65), (17, 385, 24), (66, 1538, 31))
    ),
    *(Case(m, 64, 48, rewrite=True, note=f"{m} rows, rewritten") for m in range(1, 14)),
    Case(16, 384, 1536, bias=True, rewrite=True, activation=Activation.GELU, note="written"),
    *(Case(5, k, n, transposed=True) for k in (1, 7, 16, 33) for n in (3, 8, 29)),
    *(Case(5, 18, n, transposed=t, spread=3) for n in (3, 16) for t in (False, True)),
]


def activated(x: Array, activation: Activation) -> Array:
    """The activation in float64."""
    match activation:
        case Activation.RELU:
            return np.maximum(x, 0)
        case Activation.GELU:
            return np.asarray(x * 0.5 * (1 + ERF(x / math.sqrt(2))))
        case Activation.TANH:
            return np.asarray(np.tanh(x))
        case Activation.SIGMOID:
            return np.asarray(1 / (1 + np.exp(-x)))
        case Activation.SILU:
            return np.asarray(x / (1 + np.exp(-x)))
        case Activation.QUICK_GELU:
            return np.asarray(x / (1 + np.exp(-1.702 * x)))
        case Activation.HARD_SWISH:
            return np.asarray(x * np.clip(x / 6 + 0.5, 0, 1))
        case Activation.GELU_TANH:
            return gelu_tanh(x)
    return x


def panels(n: int) -> int:
    return (n + 7) // 8


def pack(build: str, b: Array, case: Case, tile_panels: int = 3) -> Array:
    """B, an array (batch, k, n) of logical values, packed by the kernel."""
    batch, k, n = b.shape
    stored = b.transpose(0, 2, 1) if case.transposed else b
    flat = np.full((*stored.shape, case.spread), np.nan, np.float32)
    flat[..., 0] = stored
    rows, columns = stored.shape[1] or 1, stored.shape[2] or 1
    strides = (case.spread, columns * case.spread)
    stride_k, stride_n = strides if case.transposed else strides[::-1]
    size = panels(n) * 8 * k
    lines = -(-k // 2)
    firsts = -(-panels(n) * lines // 4) if case.rewrite else 0
    packed = np.full(batch * size + firsts, np.nan, np.float32)
    # The last element ends the binding: nothing behind it may be read.
    memory = flat.ravel()[: flat.size - case.spread + 1] if flat.size else flat.ravel()
    step = rows * columns * case.spread
    params = PackBParams(k, n, stride_k, stride_n, step, size, tile_panels, case.rewrite)
    counts = (-(-panels(n) // tile_panels), 1, batch)
    assert host(build).run(F32_GEMM_PACK_B, counts, params, [memory, packed]) == 0
    if case.rewrite:
        each = packed[:size].view(np.uint8).reshape(panels(n), k * 32)
        got = packed[size:].view(np.uint8)[: panels(n) * lines].reshape(panels(n), lines)
        np.testing.assert_array_equal(got, each[:, ::64])
    return packed


def run(case: Case, build: str, seed: int = 0) -> None:
    random = np.random.default_rng(seed)

    def uniform(*shape: int) -> Array:
        return random.uniform(-1, 1, shape).astype(np.float32)

    m, k, n, batch = case.m, case.k, case.n, case.outer * case.inner
    lda, ldc, ldr = case.lda or k, case.ldc or n, case.ldr or n
    a = uniform(1 if case.repeat == "a" else batch, m, lda)
    b = uniform({"b": 1, "bi": case.outer}.get(case.repeat, batch), k, n)
    packed = pack(build, b, case)
    before = packed.copy()
    np.testing.assert_array_equal(unpacked(packed, b.shape), b)
    bias = uniform(n) if case.bias else None
    residual = uniform(batch, m, ldr) if case.residual else None
    c = np.full((batch, m, ldc), -7.25, np.float32)
    size = packed.size // b.shape[0]
    strides = {"b": (0, 0), "bi": (size, 0)} | dict.fromkeys(("", "a"), (case.inner * size, size))
    b_outer, b_inner = strides["b" if case.rewrite else case.repeat]
    a_outer, a_inner = (0, 0) if case.repeat == "a" else (case.inner * m * lda, m * lda)
    params = GemmParams(
        m, n, k, lda, ldc, ldr, case.inner, a_outer, a_inner, b_outer, b_inner,
        case.inner * m * ldc, m * ldc, case.inner * m * ldr, m * ldr,
        case.tile_m, case.tile_n, case.alpha, case.activation, case.rewrite,
    )  # fmt: skip
    counts = (-(-n // case.tile_n), -(-m // case.tile_m), batch)
    result = c.ravel()[: c.size - (ldc - n)].copy()
    # Every binding ends with its last element.
    bindings = [a.ravel()[: a.size - (lda - k)].copy(), packed, bias, None, result]
    if residual is not None:
        bindings[3] = residual.ravel()[: residual.size - (ldr - n)].copy()
    assert host(build).run(F32_GEMM, counts, params, bindings, shuffle=seed) == 0
    np.testing.assert_array_equal(packed.view(np.uint8), before.view(np.uint8))

    c.ravel()[: result.size] = result
    a64 = np.broadcast_to(a[:, :, :k], (batch, m, k)).astype(np.float64)
    b64 = np.repeat(b, batch // b.shape[0], axis=0).astype(np.float64)
    x = case.alpha * (a64 @ b64)
    bound = abs(case.alpha) * (np.abs(a64) @ np.abs(b64)) * (2 + 2 * math.sqrt(k))
    if bias is not None:
        x += bias
        bound += np.abs(bias) + np.abs(x)
    expected = activated(x, case.activation)
    bound += 4 * np.maximum(np.abs(expected), np.abs(x))
    if residual is not None:
        expected = expected + residual[:, :, :n]
        bound += np.abs(expected) + np.abs(residual[:, :, :n])
    excess = np.abs(c[:, :, :n] - expected) - bound * EPSILON
    assert excess.max() <= 1e-30, f"off by {excess.max():.3g} more than rounding explains"
    assert (c[:, :, n:] == -7.25).all(), "wrote between the rows of C"


def unpacked(packed: Array, shape: tuple[int, ...]) -> Array:
    """Packed panels back to (batch, k, n); what is beyond n must be zero."""
    batch, k, n = shape
    width = panels(n) * 8
    parts = packed[: batch * width * k].reshape(batch, width // 8, k, 8)
    full = parts.transpose(0, 2, 1, 3).reshape(batch, k, width)
    assert not full[:, :, n:].any()
    return full[:, :, :n]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, build: str) -> None:
    run(case, build)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("tile_panels", [1, 4, 5, 100])
@pytest.mark.parametrize("n", [25, 31, 32, 33, 40, 64, 70])
def test_pack(n: int, tile_panels: int, transposed: bool, build: str) -> None:
    b = np.random.default_rng(n).uniform(-1, 1, (2, 9, n)).astype(np.float32)
    packed = pack(build, b, Case(1, 9, n, transposed=transposed), tile_panels)
    np.testing.assert_array_equal(unpacked(packed, b.shape), b)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 40),
    k=st.integers(0, 600),
    n=st.integers(1, 70),
    batch=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    tile=st.tuples(st.integers(1, 6), st.integers(1, 4)),
    pad=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    alpha=st.sampled_from([1.0, 0.125, -2.0]),
    activation=st.sampled_from(list(Activation)),
    repeat=st.sampled_from(["", "a", "b", "bi"]),
    build=st.sampled_from(BUILDS),
    seed=st.integers(0, 1 << 16),
)
def test_random(
    m: int, k: int, n: int, batch: tuple[int, int], tile: tuple[int, int],
    pad: tuple[int, int, int], flags: tuple[bool, bool, bool], alpha: float,
    activation: Activation, repeat: str, build: str, seed: int,
) -> None:  # fmt: skip
    case = Case(
        m, k, n, *batch, repeat, lda=max(1, k) + pad[0], ldc=n + pad[1], ldr=n + pad[2],
        bias=flags[0], residual=flags[1], transposed=flags[2], alpha=alpha,
        activation=activation, tile_m=4 * tile[0], tile_n=8 * tile[1],
    )  # fmt: skip
    run(case, build, seed)


# What a binding of one element less than needed, or a parameter out of range, gives.
GOOD: dict[str, Any] = {"m": 5, "n": 9, "k": 3, "lda": 3, "ldc": 9, "ldr": 9, "batch_inner": 1}
SIZES = {"a": 15, "packed_b": 48, "bias": 9, "residual": 45, "c": 45}


def status(build: str, short: str = "", **changes: Any) -> int:
    values = dict.fromkeys(GemmParams._fields, 0) | GOOD
    values |= {"tile_m": 64, "tile_n": 64, "alpha": 1.0, "activation": Activation.NONE}
    arrays: list[Array | None] = [
        np.ones(size - (name == short), np.float32) for name, size in SIZES.items()
    ]
    params = GemmParams(**(values | changes))
    return host(build).run(F32_GEMM, (1, 1, 1), params, arrays)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("short", ["", *SIZES])
def test_short_binding(build: str, short: str) -> None:
    expected = _abi.Status.BINDING_TOO_SHORT if short else _abi.Status.OK
    assert status(build, short) == expected


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    "changes", [{"tile_m": 0}, {"tile_n": 0}, {"tile_n": 12}, {"batch_inner": 0}], ids=str
)
def test_refused_parameters(build: str, changes: dict[str, Any]) -> None:
    assert status(build, **changes) == _abi.Status.INVALID_PARAMS


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    "changes",
    [{"lda": 1 << 31}, {"k": 1 << 31}, {"k": 1 << 29, "lda": 0}, {"ldc": 1 << 31}, {"n": 1 << 31},
     {"rewrite": True}, {"rewrite": True, "n": 1 << 31}],
    ids=str,
)
def test_sizes_that_overflow(build: str, changes: dict[str, Any]) -> None:
    assert status(build, **changes) == _abi.Status.BINDING_TOO_SHORT


@pytest.mark.parametrize("build", BUILDS)
def test_pack_refuses(build: str) -> None:
    b, packed = np.ones(15, np.float32), np.ones(24, np.float32)
    good = PackBParams(3, 5, 5, 1, 0, 24, 1, False)
    run_pack = host(build).run
    assert run_pack(F32_GEMM_PACK_B, (1, 1, 1), good, [b, packed]) == _abi.Status.OK
    for arrays in ([b[:14].copy(), packed], [b, packed[:23].copy()]):
        got = run_pack(F32_GEMM_PACK_B, (1, 1, 1), good, arrays)
        assert got == _abi.Status.BINDING_TOO_SHORT
    bad = good._replace(tile_panels=0)
    got = run_pack(F32_GEMM_PACK_B, (1, 1, 1), bad, [b, packed])
    assert got == _abi.Status.INVALID_PARAMS
