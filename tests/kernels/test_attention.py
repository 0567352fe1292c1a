"""f32_attention against the decomposed graph in float64 NumPy, in both builds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.bare_host import BUILDS, Array, host
from tilework.hal import _abi
from tilework.hal.kernels.attention import F32_ATTENTION, AttentionParams

pytestmark = pytest.mark.kernels
EPSILON = 2.0**-24
Strides = tuple[int, ...]
LOWEST = float(np.finfo(np.float32).min)
INFINITE = -math.inf


@dataclass(frozen=True)
class Case:
    """One call. `masked` keys at the end of every row get `mask`; None is no mask at all."""

    queries: int
    keys: int
    size: int = 32
    values: int = 0  # 0: as size
    batch: int = 1
    heads: int = 1
    layout: str = "fused"  # one (batch, rows, 3 heads size) array; or "separate" (batch, head)
    mask: float | None = None  # what masked keys are given; None: no mask
    masked: int = 0  # that many keys at the end; negative: at the start
    rank: str = "key"  # the mask varies along: "key", "row", "all" (random), "turned", "one"
    tile_rows: int = 32
    block: int = 0  # keys that fit scratch; 0: all
    scale: float = 0.0  # 0: 1 / sqrt(size)
    magnitude: float = 1.0
    softcap: float = 0.0
    zero: int = 0  # hidden_zero
    note: str = field(default="", compare=False)


CASES = [
    Case(16, 16, batch=1, heads=12, mask=LOWEST, masked=3, note="MiniLM 16"),
    Case(128, 128, batch=2, heads=12, mask=LOWEST, masked=30, tile_rows=128, note="MiniLM 128"),
    Case(256, 256, 64, heads=2, tile_rows=64, note="size 64"),
    *(Case(q, 20, note=f"{q} queries") for q in (1, 2, 3, 4, 5, 15, 17, 33)),
    *(Case(5, k, mask=0.0, note=f"{k} keys") for k in (1, 2, 3, 4, 7, 8, 9, 31)),
    *(
        Case(5, 11, s, v, layout="separate", note="sizes")
        for s in (1, 3, 8, 13)
        for v in (1, 5, 8, 20)
    ),
    Case(7, 1025, 8, note="many keys, one block"),
    Case(7, 1025, 8, block=64, tile_rows=4, note="many keys, many blocks"),
    Case(40, 37, block=8, mask=LOWEST, masked=30, note="smallest blocks, whole ones masked"),
    Case(40, 37, block=8, mask=INFINITE, masked=30, note="blocks of only -inf at the end"),
    Case(9, 37, block=8, mask=INFINITE, masked=-30, note="blocks of only -inf at the start"),
    Case(9, 37, block=8, mask=LOWEST, masked=-30, note="blocks of only lowest at the start"),
    Case(9, 37, block=8, mask=LOWEST, masked=37, note="all lowest: an average"),
    Case(9, 37, mask=LOWEST, masked=37, note="all lowest: an average, one block"),
    Case(9, 12, mask=INFINITE, masked=12, note="all -inf: NaN"),
    Case(9, 12, block=8, mask=INFINITE, masked=12, note="all -inf: NaN, blocks"),
    *(
        Case(9, 21, batch=2, heads=3, layout=layout, mask=-1.5, masked=9, rank=rank, block=b)
        for layout in ("fused", "separate")
        for rank in ("key", "row", "all", "turned", "one")
        for b in (0, 8)
    ),
    Case(9, 30, scale=3.0, magnitude=6.0, note="scores of hundreds"),
    Case(9, 30, scale=3.0, magnitude=6.0, block=8, note="scores of hundreds, blocks"),
    Case(6, 10, scale=-0.5, note="negative scale"),
    *(
        Case(q, 37, 5, softcap=cap, magnitude=4.0, mask=-1.5, masked=9, block=b, note="capped")
        for q in (2, 9)
        for cap in (0.5, 30.0)
        for b in (0, 8)
    ),
    *(Case(9, 12, mask=INFINITE, masked=12, zero=z, note="all -inf: 0") for z in (1, 2)),
    *(Case(9, 12, mask=math.nan, masked=2, rank="all", zero=z, note="NaN") for z in (1, 2)),
]


def heads_of(case: Case, random: np.random.Generator) -> tuple[list[Array], list[Strides]]:
    """q, k and v as (memory, first element) and logical strides, in the case's layout."""
    b, h, size = case.batch, case.heads, case.size
    value = case.values or size
    if case.layout == "fused" and case.queries == case.keys and value == size:
        memory = random.uniform(-1, 1, (b, case.queries, 3, h, size)).astype(np.float32)
        strides = (case.queries * 3 * h * size, size, 3 * h * size)
        flat = memory.ravel()
        return [flat[i * h * size :].copy() for i in range(3)], [strides] * 3
    arrays: list[Array] = []
    all_strides: list[Strides] = []
    for rows, width in ((case.queries, size), (case.keys, size), (case.keys, value)):
        if case.layout == "fused":  # (batch, rows, heads, width + 2)
            shape = (b, rows, h, width + 2)
            strides = (rows * h * (width + 2), width + 2, h * (width + 2))
        else:
            shape = (b, h, rows, width + 1)
            strides = (h * rows * (width + 1), rows * (width + 1), width + 1)
        memory = random.uniform(-1, 1, shape).astype(np.float32)
        last = (b - 1) * strides[0] + (h - 1) * strides[1] + (rows - 1) * strides[2] + width
        arrays.append(memory.ravel()[:last].copy())
        all_strides.append(strides)
    return arrays, all_strides


def logical(memory: Array, strides: Strides, shape: tuple[int, ...]) -> Array:
    """The (batch, head, row, feature) view of an array of elements."""
    return np.lib.stride_tricks.as_strided(memory, shape, (*(4 * s for s in strides), 4))


def mask_of(case: Case, random: np.random.Generator) -> tuple[Array | None, Strides]:
    """The mask's memory and its strides (batch, head, row, column)."""
    b, h, q, k = case.batch, case.heads, case.queries, case.keys
    if case.mask is None:
        return None, (0, 0, 0, 0)
    line = np.zeros(k, np.float32)
    if case.masked:
        line[slice(-case.masked, None) if case.masked > 0 else slice(-case.masked)] = case.mask
    if case.rank == "one":
        return np.full(1, case.mask, np.float32), (0, 0, 0, 0)
    if case.rank == "key":  # (batch, 1, 1, key), another shift for each of the batch
        return np.tile(line, b), (k, 0, 0, 1)
    if case.rank == "row":
        return np.tile(line, (q, 1)).ravel(), (0, 0, k, 1)
    full = random.choice([0.0, case.mask], (b, h, q, k)).astype(np.float32)
    if case.rank == "turned":
        return full.transpose(0, 1, 3, 2).ravel().copy(), (h * q * k, q * k, 1, q)
    return full.ravel(), (h * q * k, q * k, k, 1)


def scratch_bytes(tile_rows: int, size: int, value: int, keys: int) -> int:
    """As stated in the kernel's head comment."""
    wide = (value + 7) // 8 * 8
    block = (keys + 7) // 8 * 8
    return 4 * (tile_rows * (wide + 2) + block * (size + wide + 16))


def run(case: Case, build: str, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    b, h, size = case.batch, case.heads, case.size
    value = case.values or size
    (q, k, v), strides = heads_of(case, random)
    for array in (q, k):
        array *= case.magnitude
    mask, mask_strides = mask_of(case, random)
    scale = case.scale or 1 / math.sqrt(size)
    width = value + 3
    out_strides = (case.queries * h * width, width, h * width)
    out = np.full(b * case.queries * h * width - 3, -7.25, np.float32)
    all_strides = (*strides[0], *strides[1], *strides[2], *out_strides, *mask_strides)
    params = AttentionParams._make(
        (case.queries, case.keys, size, value, *all_strides, case.tile_rows, scale, case.zero,
         case.softcap)
    )  # fmt: skip
    counts = (-(-case.queries // case.tile_rows), h, b)
    need = scratch_bytes(case.tile_rows, size, value, case.block or case.keys)
    arrays = [q, k, v, mask, out]
    assert host(build).run(F32_ATTENTION, counts, params, arrays, need, shuffle=seed) == 0

    lq = logical(q, strides[0], (b, h, case.queries, size)).astype(np.float64)
    lk = logical(k, strides[1], (b, h, case.keys, size)).astype(np.float64)
    lv = logical(v, strides[2], (b, h, case.keys, value)).astype(np.float64)
    products = lq @ lk.swapaxes(-1, -2)
    scores = np.float32(scale) * products
    if case.softcap:
        scores = case.softcap * np.tanh(scores / case.softcap)
    if mask is not None:
        lm = np.lib.stride_tricks.as_strided(mask, scores.shape, tuple(4 * s for s in mask_strides))
        # The sum is rounded to float32: beside the lowest number all scores become equal.
        scores = (scores + lm).astype(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        if case.zero:
            gone = np.isneginf(scores).all(-1, keepdims=True) | (case.zero == 2)
            weights[np.broadcast_to(gone, weights.shape) & np.isnan(weights)] = 0
        expected = weights @ lv
        # A score is wrong by its dot product's rounding; a weight by as much, relatively.
        wrong = abs(scale) * (np.abs(lq) @ np.abs(lk).swapaxes(-1, -2)) * (2 + math.sqrt(size))
        wrong += np.where(np.abs(scores) < 1e30, np.abs(scores), 0) * 2
        bound = (2 * wrong.max(-1, keepdims=True) + 8 + 2 * math.sqrt(case.keys)) * (
            weights @ np.abs(lv)
        )
    padded = np.append(out, np.full(3, -7.25, np.float32))
    got = padded.reshape(b, case.queries, h, width)
    assert (got[..., value:] == -7.25).all(), "wrote between the rows of out"
    got = got[..., :value].transpose(0, 2, 1, 3)
    assert (np.isnan(got) == np.isnan(expected)).all()
    excess = np.nan_to_num(np.abs(got - expected) - bound * EPSILON, nan=0.0)
    assert excess.max() <= 1e-30, f"off by {excess.max():.3g} more than rounding explains"


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, build: str) -> None:
    run(case, build)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 70),
    keys=st.integers(1, 90),
    size=st.integers(1, 40),
    values=st.integers(1, 40),
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    layout=st.sampled_from(["fused", "separate"]),
    mask=st.sampled_from([None, 0.0, -1.5, LOWEST]),
    rank=st.sampled_from(["key", "row", "all", "turned", "one"]),
    masked=st.integers(0, 90),
    tile_rows=st.integers(1, 40),
    block=st.sampled_from([0, 8, 24]),
    build=st.sampled_from(BUILDS),
    seed=st.integers(0, 1 << 16),
)
def test_random(build: str, seed: int, **fields: Any) -> None:
    fields["masked"] = min(fields["masked"], fields["keys"])
    run(Case(**fields), build, seed)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 5),
    keys=st.integers(1, 200),
    size=st.integers(1, 70),
    values=st.integers(1, 110),
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    layout=st.sampled_from(["fused", "separate"]),
    mask=st.sampled_from([None, -1.5, LOWEST]),
    rank=st.sampled_from(["key", "row", "all", "turned", "one"]),
    masked=st.integers(0, 200),
    tile_rows=st.integers(1, 5),
    block=st.sampled_from([0, 8, 72]),
    build=st.sampled_from(BUILDS),
    seed=st.integers(0, 1 << 16),
)
def test_few_rows(build: str, seed: int, **fields: Any) -> None:
    fields["masked"] = min(fields["masked"], fields["keys"])
    run(Case(**fields), build, seed)


@pytest.mark.parametrize("build", BUILDS)
def test_average_of_a_fully_masked_row(build: str) -> None:
    """With the lowest finite number everywhere, weights are equal: exactly 1 / keys each."""
    v = np.arange(8, dtype=np.float32)
    ones = np.ones(8, np.float32)
    out = np.zeros(1, np.float32)
    mask = np.full(8, LOWEST, np.float32)
    strides = (0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1)
    params = AttentionParams._make((1, 8, 1, 1, *strides, 1, 1.0, 0, 0.0))
    need = scratch_bytes(1, 1, 1, 8)
    arrays: list[Array | None] = [ones[:1], ones, v, mask, out]
    assert host(build).run(F32_ATTENTION, (1, 1, 1), params, arrays, need) == 0
    assert out[0] == 3.5


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("zero", [0, 1])
def test_a_row_that_sees_nothing(build: str, zero: int) -> None:
    """Is NaN, or 0 where the caller wants that; others are as they were."""
    keys = 12
    v = np.arange(keys, dtype=np.float32)
    ones = np.ones(keys, np.float32)
    out = np.zeros(2, np.float32)
    mask = np.zeros(2 * keys, np.float32)
    mask[:keys] = INFINITE
    strides = (0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, keys, 1)
    params = AttentionParams._make((2, keys, 1, 1, *strides, 2, 1.0, zero, 0.0))
    need = scratch_bytes(2, 1, 1, 8)  # the keys in two blocks
    arrays: list[Array | None] = [ones[:2], ones, v, mask, out]
    assert host(build).run(F32_ATTENTION, (1, 1, 1), params, arrays, need) == 0
    assert out[0] == 0 if zero else np.isnan(out[0])
    assert out[1] == 5.5


GOOD = AttentionParams(2, 3, 4, 5, 0, 0, 4, 0, 0, 4, 0, 0, 5, 0, 0, 5, 0, 0, 3, 1, 2, 1.0, 0, 0.0)
SIZES = {"q": 8, "k": 12, "v": 15, "mask": 6, "out": 10}


def status(build: str, params: AttentionParams, short: str = "", scratch: int = 0) -> int:
    arrays: list[Array | None] = [
        np.ones(size - (name == short), np.float32) for name, size in SIZES.items()
    ]
    need = scratch or scratch_bytes(2, 4, 5, 8)
    return host(build).run(F32_ATTENTION, (1, 1, 1), params, arrays, need)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("short", ["", *SIZES])
def test_short_binding(build: str, short: str) -> None:
    expected = _abi.Status.BINDING_TOO_SHORT if short else _abi.Status.OK
    assert status(build, GOOD, short) == expected


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ["key_length", "head_size", "value_size", "tile_rows"])
def test_refused_parameters(build: str, name: str) -> None:
    assert status(build, GOOD._replace(**{name: 0})) == _abi.Status.INVALID_PARAMS


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"query_length": 1 << 31, "tile_rows": 1 << 31, "q_row": 0, "out_row": 0, "mask_row": 0},
        {"key_length": 1 << 31},
        {"q_row": 1 << 31},
        {"value_size": (1 << 32) - 1},
    ],
    ids=str,
)
def test_sizes_that_overflow(build: str, changes: dict[str, int]) -> None:
    """Refused by a check, not by a trap."""
    refused = (_abi.Status.BINDING_TOO_SHORT, _abi.Status.SCRATCH_TOO_SMALL)
    assert status(build, GOOD._replace(**changes)) in refused


@pytest.mark.parametrize("build", BUILDS)
def test_scratch_too_small(build: str) -> None:
    need = scratch_bytes(2, 4, 5, 8)
    assert status(build, GOOD, scratch=need - 4) == _abi.Status.SCRATCH_TOO_SMALL
