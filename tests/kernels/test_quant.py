"""i8_gemm and i8_gemm_pack_b against NumPy: exact in every form that an engine may give them.

The forms are probed as they are in a page. An engine that is told to be deterministic computes the
relaxed dot as ARM does, so SIGNED is tested on every machine; UNSIGNED on those with VNNI, and
elsewhere with weights for which their dot cannot saturate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.bare_host import BUILDS, Array, Host, deterministic, host
from tilework.core.config import SCRATCH
from tilework.hal.kernels.quant import (
    I8_GEMM,
    I8_GEMM_PACK_B,
    Activation,
    Dot,
    GemmParams,
    PackParams,
    Target,
)

pytestmark = pytest.mark.kernels
FORMS = ("wide", "pairs", "unsigned", "signed")


def padded(k: int) -> int:
    return -(-k // 8) * 8


def most_fours(k: int) -> int:
    return padded(k) // 4 + padded(k) // 40 + 8


def panel_bytes(k: int) -> int:
    return 64 + most_fours(k) * 32 + -(-most_fours(k) // 8) * 16


@dataclass(frozen=True)
class Case:
    """One product of bytes."""

    m: int
    k: int
    n: int
    a_signed: bool = False
    b_signed: bool = True
    a_zero: str = ""  # "one" | "each"
    b_zero: str = ""
    most: int = 255  # spread of the weights: 255 is all there is
    tile_m: int = 64
    tile_n: int = 64
    transposed: bool = False
    lda: int = 0
    batch: int = 1
    dot: Dot = Dot.PROBED
    note: str = field(default="", compare=False)


def bytes_of(rng: np.random.Generator, signed: bool, shape: Any, most: int = 255) -> Array:
    """Random bytes within `most` values about the middle, the extremes among them."""
    low, high = -((most + 1) // 2), most // 2
    values = rng.integers(low, high + 1, shape)
    if values.size > 4:
        values.flat[rng.integers(0, values.size, max(values.size // 4, 1))] = high
        values.flat[rng.integers(0, values.size, max(values.size // 8, 1))] = low
    return np.asarray(values.astype(np.int8) if signed else (values + 128).astype(np.uint8))


def pack(run: Host, b: Array, case: Case) -> Array:
    """B (batch, k, n) packed by the kernel."""
    batch, k, n = b.shape
    stored = np.ascontiguousarray(b.transpose(0, 2, 1) if case.transposed else b)
    panels = -(-n // 8)
    each = panels * panel_bytes(k)
    packed = np.full(batch * each, 77, np.uint8)
    params = PackParams(
        k=k, n=n, stride_k=1 if case.transposed else n, stride_n=k if case.transposed else 1,
        batch_stride=k * n, packed_stride=each, tile_panels=5, b_signed=int(case.b_signed),
        dot=case.dot,
    )  # fmt: skip
    counts = (-(-panels // 5), 1, batch)
    assert run.run(I8_GEMM_PACK_B, counts, params, [stored.ravel(), packed]) == 0
    return packed


def forms(packed: Array, k: int) -> list[str]:
    heads = packed.reshape(-1, panel_bytes(k))[:, 32:36].copy().view(np.uint32)
    return [FORMS[form] for form in heads.ravel()]


def product(run: Host, case: Case, seed: int = 0) -> tuple[list[str], Array, Array]:
    """(forms of the panels, the kernel's i32 sums, NumPy's)."""
    rng = np.random.default_rng(seed + case.m * 7 + case.k)
    a = bytes_of(rng, case.a_signed, (case.batch, case.m, case.k))
    b = bytes_of(rng, case.b_signed, (case.batch, case.k, case.n), case.most)
    counts = {"": None, "one": 1}
    a_zeros, b_zeros = (
        None if not kind else bytes_of(rng, signed, counts.get(kind, extent))
        for kind, signed, extent in (
            (case.a_zero, case.a_signed, case.m),
            (case.b_zero, case.b_signed, case.n),
        )
    )
    lda = case.lda or case.k
    stored = np.full((case.batch, case.m, lda), 99, a.dtype)
    stored[:, :, : case.k] = a
    flat = stored.ravel()[: stored.size - (lda - case.k)]
    packed = pack(run, b, case)
    params = GemmParams(
        m=case.m, n=case.n, k=case.k, lda=lda, ldc=case.n, ldr=0,
        a_stride=case.m * lda, b_stride=packed.size // case.batch, c_stride=case.m * case.n,
        by_row=int(case.a_zero == "each"), row_stride=0, tile_m=case.tile_m, tile_n=case.tile_n,
        a_signed=int(case.a_signed), b_signed=int(case.b_signed),
        target=Target.INT, activation=Activation.NONE, least=0, most=0,
    )  # fmt: skip
    c = np.full(case.batch * case.m * case.n, 99, np.int32)
    tiles = (-(-case.n // case.tile_n), -(-case.m // case.tile_m), case.batch)
    scratch = case.tile_m * (5 * padded(case.k) + 4)
    given: list[Any] = [flat.view(np.uint8), packed, a_zeros, b_zeros, *[None] * 6, c]
    status = run.run(I8_GEMM, tiles, params, given, scratch=scratch)
    assert status == 0
    left = a.astype(np.int64) - (
        0 if a_zeros is None else a_zeros.astype(np.int64)[None, :, None]
    )
    right = b.astype(np.int64) - (0 if b_zeros is None else b_zeros.astype(np.int64))
    wanted = np.matmul(left, right).astype(np.int32)
    return forms(packed, case.k), c.reshape(wanted.shape), wanted


SIGNS = [(a, b) for a in (False, True) for b in (False, True)]
CASES = [
    *(Case(m, 24, 40, note=f"{m} rows") for m in range(1, 13)),
    *(Case(7, 16, n, note=f"{n} columns") for n in range(1, 18)),
    *(Case(6, k, 12, a_zero="one", b_zero="one", note=f"k of {k}") for k in range(19)),
    *(Case(9, k, 13, a, b, "one", "one", most)
      for a, b in SIGNS for k in (8, 37) for most in (31, 127, 255)),
    *(Case(9, 40, 13, a, b) for a, b in SIGNS),
    *(Case(9, 40, 13, a, b, "each", "each") for a, b in SIGNS),
    Case(11, 40, 20, lda=52, a_zero="one", note="rows apart"),
    Case(11, 33, 20, lda=52, a_signed=True, note="rows apart, a tail"),
    *(Case(9, k, 29, b_zero="each", transposed=True) for k in (5, 24, 40)),
    Case(33, 40, 50, tile_m=4, tile_n=8, note="small tiles"),
    Case(9, 24, 20, batch=3, a_zero="one", note="batch"),
    *(Case(16, 384, 48, most=m, a_zero="one", note=f"MiniLM, weights of {m}")
      for m in (40, 100, 160, 254, 255)),
    Case(3, 2048, 24, most=255, note="long sums"),
]  # fmt: skip


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.note or str(c)[5:-1])
def test_probed_forms_are_exact(case: Case, build: str) -> None:
    _, found, wanted = product(host(build), case)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.note or str(c)[5:-1])
def test_signed_form_is_exact(case: Case) -> None:
    made, found, wanted = product(deterministic(), case)
    assert set(made) == {"signed"}
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.note or str(c)[5:-1])
def test_wide_form_is_exact_in_the_relaxed_build(case: Case) -> None:
    forced = replace(case, dot=Dot.WIDE)
    made, found, wanted = product(host("relaxed"), forced)
    assert set(made) == {"wide"}
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("a", "b"), SIGNS)
def test_unsigned_form_where_nothing_saturates(a: bool, b: bool) -> None:
    if probed("relaxed") == "signed":
        pytest.skip("this engine's dot takes its second operand as signed")
    case = Case(9, 40, 13, a, b, "one", "one", most=127, dot=Dot.UNSIGNED)
    made, found, wanted = product(host("relaxed"), case)
    assert set(made) == {"unsigned"}
    np.testing.assert_array_equal(found, wanted)


def test_a_form_that_the_engine_does_not_have_is_wrong() -> None:
    """Else the probe would decide nothing."""
    case = Case(9, 40, 13, dot=Dot.UNSIGNED)
    _, found, wanted = product(deterministic(), case)
    assert (found != wanted).any()


@dataclass(frozen=True)
class Head:
    """What the head of a panel says."""

    form: str
    fours: int
    twos: int
    turned: int


def heads(packed: Array, k: int) -> list[Head]:
    words = packed.reshape(-1, panel_bytes(k))[:, 32:48].copy().view(np.uint32).tolist()
    return [Head(FORMS[form], *rest) for form, *rest in words]


def multiplied(weights: Array, k: int) -> list[Head]:
    """The panels of 8 columns of `weights` by step; their product is right for the largest a."""
    run, n, row = host("relaxed"), 16, 5 * padded(k) + 4
    m = min(5, SCRATCH // row)  # a thread of a page has no more
    case = Case(m, k, n, dot=Dot.PAIRS)
    packed = pack(run, weights[None], case)
    a = np.full((m, k), 255, np.uint8)
    a[1] = np.arange(k)
    a[2, ::2] = 0
    params = GemmParams(
        m=m, n=n, k=k, lda=k, ldc=n, ldr=0, a_stride=0, b_stride=0, c_stride=0, by_row=0,
        row_stride=0, tile_m=m, tile_n=n, a_signed=0, b_signed=1,
        target=Target.INT, activation=Activation.NONE, least=0, most=0,
    )  # fmt: skip
    c = np.zeros(m * n, np.int32)
    given: list[Any] = [a.ravel(), packed, *[None] * 8, c]
    assert run.run(I8_GEMM, (1, 1, 1), params, given, scratch=m * row) == 0
    np.testing.assert_array_equal(c.reshape(m, n), a.astype(np.int32) @ weights.astype(np.int32))
    return heads(packed, k)


def test_steps_that_saturate_together_are_turned_divided_or_make_the_panel_wide() -> None:
    k = 256
    weights = np.zeros((k, 16), np.int8)
    weights[200, 9] = -128  # saturates with nothing
    assert multiplied(weights, k) == [Head("pairs", 64, 32, 0)] * 2
    weights[8:10, 3] = 127  # two neighbours in one four: twice there
    assert multiplied(weights, k) == [Head("pairs", 65, 32, 0), Head("pairs", 64, 32, 0)]
    weights[:64:4, 3] = weights[1:64:4, 3] = 127  # in a quarter of the fours
    weights[2:64:8, 3] = -128
    assert multiplied(weights, k)[0] == Head("pairs", 64, 32, 1)
    weights[0:32:4, 5] = weights[2:32:4, 5] = -128  # for which only the third order is left
    assert multiplied(weights, k)[0] == Head("pairs", 64, 32, 1)
    weights[80:84, 0] = 127  # in no order
    found = multiplied(weights, k)[0]
    assert (found.form, found.fours, found.turned) == ("pairs", 65, 1)
    weights[:] = 127
    assert [head.form for head in multiplied(weights, k)] == ["wide", "wide"]


def test_panels_of_different_needs_in_one_tile() -> None:
    """One reads copies of A's rows, the other the same in 16 bits."""
    rng = np.random.default_rng(3)
    k = 64
    weights = np.zeros((k, 16), np.int8)
    weights[8:10, 3] = weights[16:18, 3] = 127
    weights[:, 8:] = rng.integers(-128, 128, (k, 8))
    assert [(h.form, h.turned) for h in multiplied(weights, k)] == [("pairs", 1), ("wide", 0)]
    weights = np.roll(weights, 8, axis=1)
    assert [(h.form, h.turned) for h in multiplied(weights, k)] == [("wide", 0), ("pairs", 1)]


@pytest.mark.parametrize(("k", "form"), [(21840, "pairs"), (21848, "pairs"), (65544, "wide")])
def test_rows_that_offsets_do_not_reach(k: int, form: str) -> None:
    """Three copies of a row up to 65535 bytes, then one, then none."""
    weights = np.zeros((k, 16), np.int8)
    weights[::48, 3] = weights[1::48, 3] = 127  # in one four of twelve
    head = multiplied(weights, k)[0]
    wanted = {21840: (1, 0), 21848: (0, 456)}.get(k, (0, -k // 4))
    assert (head.form, head.turned, head.fours - k // 4) == (form, *wanted)


def test_a_panel_that_was_not_packed_is_refused() -> None:
    """What a panel says of A's steps is checked before A is read."""
    case = Case(4, 64, 8, dot=Dot.PAIRS)
    run = host("relaxed")
    good = pack(run, np.zeros((1, 64, 8), np.int8), case)
    places = {"form": 32, "fours": 36, "twos": 40, "offsets": 64 + most_fours(64) * 32}
    for name, at in places.items():
        packed = good.copy()
        packed[at : at + 4] = 255
        params = GemmParams(
            m=4, n=8, k=64, lda=64, ldc=8, ldr=0, a_stride=0, b_stride=0, c_stride=0, by_row=0,
            row_stride=0, tile_m=4, tile_n=8, a_signed=0, b_signed=1,
            target=Target.INT, activation=Activation.NONE, least=0, most=0,
        )  # fmt: skip
        given: list[Any] = [np.zeros(256, np.uint8), packed, *[None] * 8, np.zeros(32, np.int32)]
        status = run.run(I8_GEMM, (1, 1, 1), params, given, scratch=4 * (5 * 64 + 4))
        assert status == 1, name  # TW_INVALID_PARAMS


def probed(build: str) -> str:
    """The form of weights that no form minds."""
    (found,) = forms(pack(host(build), np.zeros((1, 8, 8), np.int8), Case(1, 8, 8)), 8)
    return found


@pytest.mark.parametrize("build", BUILDS)
def test_which_form_an_engine_gets(build: str) -> None:
    assert probed(build) in (("wide",) if build == "simd" else FORMS)


def test_what_is_packed_at_every_run_is_not_looked_through() -> None:
    zeros = np.zeros((1, 8, 8), np.int8)
    (found,) = forms(pack(host("relaxed"), zeros, Case(1, 8, 8, dot=Dot.LIVE)), 8)
    assert found == {"pairs": "wide"}.get(probed("relaxed"), probed("relaxed"))


@settings(max_examples=60, deadline=None)
@given(
    case=st.builds(
        Case,
        m=st.integers(1, 20), k=st.integers(1, 150), n=st.integers(1, 40),
        a_signed=st.booleans(), b_signed=st.booleans(),
        a_zero=st.sampled_from(["", "one", "each"]), b_zero=st.sampled_from(["", "one", "each"]),
        most=st.integers(1, 255), tile_m=st.integers(1, 24),
        tile_n=st.sampled_from([8, 16, 64]), transposed=st.booleans(), batch=st.integers(1, 2),
    ),
    build=st.sampled_from(BUILDS),
)  # fmt: skip
def test_drawn(case: Case, build: str) -> None:
    _, found, wanted = product(host(build), case)
    np.testing.assert_array_equal(found, wanted)
