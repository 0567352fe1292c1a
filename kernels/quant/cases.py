"""Cases of quantisation: ranges, both roundings, tails, special values; and one product, packed by
NumPy as panel.h says (tests/kernels/test_quant.py has the others, in every form)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.byte_windows import Convolution, values, wide_panels
from tests.kernels.harness import (
    INVALID_PARAMS,
    OUT_OF_RANGE,
    SCRATCH,
    TOO_SHORT,
    Case,
    Tolerance,
    refused,
    short,
    up,
)
from tilework.hal.kernels.quant import (
    F32_DEQUANTIZE,
    F32_GATHER_BLOCKS,
    F32_GEMM_BLOCKS,
    F32_QUANTIZE,
    F32_QUANTIZE_DYNAMIC,
    F32_RANGE,
    I8_CONV,
    I8_DEPTHWISE,
    I8_GEMM,
    I8_GEMM_PACK_B,
    I8_PAIR,
    U8_MAP,
    Activation,
    BlocksParams,
    Dot,
    DynamicParams,
    GatherBlocksParams,
    GemmParams,
    MapParams,
    PackParams,
    Pairing,
    PairParams,
    QuantizeParams,
    RangeParams,
    Target,
)

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def ranged(x: Array, tile: int, note: str) -> Case:
    pieces = [x[i : i + tile] for i in range(0, x.size, tile)]
    made = [f(part, initial=0) for part in pieces for f in (np.min, np.max)]
    expected = np.array(made, np.float64)
    zeros = np.zeros(expected.size, np.float32)
    params = RangeParams(x.size, tile)
    return Case(F32_RANGE, (len(pieces), 1, 1), params, [x, zeros], {1: expected}, note=note)


def saturated(x: Array, scale: Array, zero: Array, dtype: Any) -> Array:
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        whole = np.nan_to_num(np.rint(x / scale), nan=-np.inf)
    return np.clip(whole + zero.astype(np.float64), info.min, info.max).astype(dtype)


def dynamic(x: Array, tile: int, note: str) -> Case:
    """Ranges of two pieces, as two tiles of f32_range would have found them."""
    least, most = np.float32(np.min(x, initial=0)), np.float32(np.max(x, initial=0))
    ranges = np.array([least, 0, 0, most], np.float32)
    scale = np.float32((most - least) / np.float32(255)) if most != least else np.float32(1)
    zero = np.rint(np.clip(-least / scale, 0, 255)).astype(np.uint8).reshape(1)
    y = saturated(x, scale, zero, np.uint8)
    return Case(
        F32_QUANTIZE_DYNAMIC,
        (up(x.size, tile), 1, 1),
        DynamicParams(x.size, 2, tile),
        [x, ranges, np.zeros(x.size, np.uint8), np.zeros(1, np.float32), np.zeros(1, np.uint8)],
        {2: y, 3: np.array([scale], np.float64), 4: zero},
        note=note,
    )


def lines(
    back: bool, shape: tuple[int, int, int], signed: bool, with_zero: bool, tile: int, note: str
) -> Case:
    """One of the two static kernels over (outer, axis, inner)."""
    dtype = np.int8 if signed else np.uint8
    rng = np.random.default_rng(sum(shape))
    scale = (rng.random(shape[1]) * 0.1 + 0.01).astype(np.float32)
    zero = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape[1]).astype(dtype)
    zeros = zero if with_zero else np.zeros_like(zero)
    params = QuantizeParams(*shape, tile, int(signed))
    counts = (up(shape[0] * shape[1], tile), 1, 1)
    wide, moved = scale[:, None], zeros[:, None]
    if back:
        x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
        y = (x.astype(np.float64) - moved) * wide.astype(np.float64)
        given = [x.ravel(), scale, zero if with_zero else None, np.zeros(x.size, np.float32)]
        return Case(F32_DEQUANTIZE, counts, params, given, {3: y.ravel()}, Tolerance(1), note=note)
    x = values(*shape) * 2
    if x.size > 8:
        x.flat[:5] = np.nan, np.inf, -np.inf, 1e30, -0.0
    found = saturated(x, wide, moved, dtype).ravel()
    given = [x.ravel(), scale, zero if with_zero else None, np.zeros(x.size, dtype)]
    return Case(F32_QUANTIZE, counts, params, given, {3: found}, note=note)


# -- a product ------------------------------------------------------------------------------------

K, N, M = 10, 11, 3
PADDED = 16


def products() -> list[Case]:
    rng = np.random.default_rng(5)
    a = rng.integers(0, 256, (M, K)).astype(np.uint8)
    b = rng.integers(-128, 128, (K, N)).astype(np.int8)
    zero = np.array([131], np.uint8)
    sums = np.matmul(a.astype(np.int64) - 131, b.astype(np.int64))
    a_scale = np.array([0.01], np.float32)
    b_scale = (rng.random(N) * 0.01).astype(np.float32)
    bias, residual = values(N), values(M, N)
    whole = np.array([7], np.uint8)
    step, ints = np.array([0.5], np.float32), rng.integers(-900, 900, N).astype(np.int32)
    packed = wide_panels(b)
    each = packed.size // 2
    packs = PackParams(
        k=K, n=N, stride_k=N, stride_n=1, batch_stride=0, packed_stride=2 * each,
        tile_panels=1, b_signed=1, dot=Dot.WIDE,
    )  # fmt: skip
    before = packed.copy()
    for j in range(2):
        before[j * each : j * each + 48] = 1  # the head, as far as it is written
        before[j * each + 64 : j * each + 64 + PADDED * 8] = 1

    def params(target: Target, **more: Any) -> GemmParams:
        given: dict[str, Any] = dict.fromkeys(GemmParams._fields, 0)
        given |= {"m": M, "n": N, "k": K, "lda": K, "ldc": N, "ldr": N, "tile_m": 2, "tile_n": 8}
        given |= {"b_signed": 1, "target": target, "activation": Activation.NONE}
        given |= {"least": -128, "most": 255}
        return GemmParams(**(given | more))

    def product(name: str, made: GemmParams, c: Array, wanted: Array, **more: Any) -> Case:
        given: list[Any] = [a.ravel(), packed, zero, *[None] * 7, c]
        given[4:10] = [more.get(n) for n in ("a", "b", "y", "y_zero", "bias", "residual")]
        return Case(
            I8_GEMM, (2, 2, 1), made, given, {10: wanted.ravel()}, Tolerance(4, 1e-5),
            scratch=2 * (5 * PADDED + 4), note=name,
        )  # fmt: skip

    scaled = sums * (a_scale.astype(np.float64) * b_scale)
    floats = {"a": a_scale, "b": b_scale, "bias": bias}
    bytes_of = {"a": a_scale, "b": b_scale, "bias": ints, "y": step, "y_zero": whole}
    factor = a_scale * b_scale / step
    rounded = np.rint((sums + ints).astype(np.float32) * factor) + 7
    empty = np.zeros(M * N, np.float32)
    cases = [
        Case(I8_GEMM_PACK_B, (2, 1, 1), packs, [b.ravel(), before], {1: packed}, note="wide"),
        product("sums", params(Target.INT), np.zeros(M * N, np.int32), sums.astype(np.int32)),
        product("floats", params(Target.FLOAT), empty, scaled + bias, **floats),
        product("floats and a residual", params(Target.FLOAT, activation=Activation.RELU), empty,
                np.maximum(scaled + bias, 0) + residual, residual=residual.ravel(), **floats),
        product("bytes", params(Target.BYTE), np.zeros(M * N, np.uint8),
                np.clip(rounded, 0, 255).astype(np.uint8), **bytes_of),
        product("signed bytes", params(Target.SIGNED_BYTE), np.zeros(M * N, np.int8),
                np.clip(rounded, -128, 127).astype(np.int8), **bytes_of),
    ]  # fmt: skip
    good = cases[1]
    short = [*good.bindings]
    short[1] = packed[:-1]
    cases += [
        Case(I8_GEMM, (2, 2, 1), good.params, good.bindings, status=SCRATCH, note="no scratch"),
        Case(I8_GEMM, (2, 2, 1), good.params, short, status=TOO_SHORT, scratch=168, note="short"),
        Case(I8_GEMM, (2, 2, 1), params(Target.INT, tile_n=4), good.bindings,
             status=INVALID_PARAMS, scratch=168, note="half a panel"),
        Case(I8_GEMM_PACK_B, (2, 1, 1), packs, [b.ravel(), packed[:-1]], status=TOO_SHORT,
             note="short"),
    ]  # fmt: skip
    return cases


# -- convolutions ---------------------------------------------------------------------------------


def convolutions() -> list[Case]:
    signs = [(a, b) for a in (False, True) for b in (False, True)]
    made = [
        *(Convolution(f"signs {a} {b}", signed=a, w_signed=b, target=target)
          for a, b in signs for target in (Target.INT, Target.BYTE, Target.SIGNED_BYTE)),
        Convolution("groups", groups=3, channels=4, filters=9, w_zeros=True),
        Convolution("single pixels", kernel=(1, 1), padding=(0, 0), channels=16, filters=17),
        Convolution("single pixels of a wider tensor", kernel=(1, 1), padding=(0, 0), channels=16,
                    pixel=21, target=Target.INT),
        Convolution("stride", stride=(2, 2), size=(7, 9), pixel=5, images=2),
        Convolution("dilation", dilation=(2, 1), size=(7, 9), kernel=(2, 4), channels=17),
        Convolution("all padding", size=(1, 2), kernel=(3, 2), padding=(4, 5)),
        Convolution("floats", target=Target.FLOAT, activation=Activation.RELU, residual=True),
        Convolution("cut off", least=40, most=99),
    ]  # fmt: skip
    deep = [
        *(Convolution(f"signs {a} {b}", signed=a, w_signed=b, groups=20, target=target)
          for a, b in signs for target in (Target.INT, Target.BYTE, Target.SIGNED_BYTE)),
        *(Convolution(f"{n} channels", groups=n, images=2, w_zeros=True) for n in (1, 5, 16, 33)),
        *(Convolution(f"{n} channels, floats", groups=n, target=Target.FLOAT, residual=True,
                      activation=Activation.RELU) for n in (3, 16, 21)),
        Convolution("stride", groups=17, stride=(2, 2), size=(7, 9), pixel=23),
        Convolution("dilation", groups=16, dilation=(2, 3), size=(9, 12), kernel=(3, 2), most=77),
        Convolution("five wide", groups=18, kernel=(5, 5), padding=(2, 2), size=(9, 12)),
        Convolution("all padding", groups=16, size=(1, 2), kernel=(3, 2), padding=(4, 5)),
        Convolution("one block", groups=40, size=(7, 7), kernel=(7, 7), padding=(0, 0), alike=True),
    ]  # fmt: skip
    found = [case for one in made for case in one.cases()]
    for one in deep:
        found += replace(one, channels=1, filters=1, depthwise=True).cases()
    good = next(case for case in found if case.kernel is I8_CONV)
    low = next(case for case in found if case.kernel is I8_DEPTHWISE)
    for case in (good, low):
        kernel, counts, room = case.kernel, case.counts, case.scratch
        short = [case.bindings[0][:-1], *case.bindings[1:]]  # type: ignore[index]
        none = case.params._replace(tile_pixels=0)
        found += [
            Case(kernel, counts, case.params, case.bindings, status=SCRATCH, note="no scratch"),
            Case(kernel, counts, case.params, short, status=TOO_SHORT, scratch=room, note="short"),
            Case(kernel, counts, none, case.bindings, status=INVALID_PARAMS, scratch=room,
                 note="no pixels"),
        ]  # fmt: skip
    return found


def mapped(count: int) -> Case:
    rng = np.random.default_rng(count)
    x, table = (rng.integers(0, 256, n).astype(np.uint8) for n in (count, 256))
    given = [x, table, np.zeros(count, np.uint8)]
    return Case(U8_MAP, (up(count, 9), 1, 1), MapParams(count, 9), given, {2: table[x]},
                note=f"{count} bytes")  # fmt: skip


def paired(
    count: int, signs: tuple[bool, bool, bool], pairing: Pairing, least: int, most: int
) -> Case:
    rng = np.random.default_rng(count + most)
    kinds: list[Any] = [np.int8 if signed else np.uint8 for signed in signs]
    a, b, y = (rng.integers(0, 256, count).astype(np.uint8).view(kind) for kind in kinds)
    zeros = [rng.integers(0, 256, 1).astype(np.uint8).view(kind) for kind in kinds]
    scales = [np.array([s], np.float32) for s in (0.031, 0.02, 0.043)]
    sides = [
        (x.astype(np.float64) - zero) * scale
        for x, zero, scale in zip((a, b), zeros, scales, strict=False)
    ]
    z = sides[0] + sides[1] if pairing is Pairing.ADD else sides[0] * sides[1]
    info = np.iinfo(kinds[2])
    whole = np.rint(z / scales[2].astype(np.float64) + float(zeros[2][0]))
    wanted = np.clip(whole, max(least, info.min), min(most, info.max)).astype(kinds[2])
    params = PairParams(count, 19, *map(int, signs), pairing, least, most)
    given = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2], np.zeros_like(y)]
    note = f"{count} {signs} {pairing.name} {most}"
    return Case(I8_PAIR, (up(count, 19), 1, 1), params, given, {8: wanted}, note=note)


def bytewise() -> list[Case]:
    signs = [(a, b, y) for a in (False, True) for b in (False, True) for y in (False, True)]
    found = [mapped(n) for n in (1, 4, 7, 30)]
    found += [paired(n, one, kind, -128, 255)
              for n in (1, 16, 47) for one in signs for kind in Pairing]
    found += [paired(40, one, Pairing.ADD, -3, 90) for one in signs[:2]]
    for good in (found[3], found[-1]):
        short = [good.bindings[0][:-1], *good.bindings[1:]]  # type: ignore[index]
        found += [
            Case(good.kernel, good.counts, good.params, short, status=TOO_SHORT, note="short"),
            Case(good.kernel, good.counts, good.params._replace(tile=0), good.bindings,
                 status=INVALID_PARAMS, note="tile of 0"),
        ]  # fmt: skip
    return found


def few_bits(
    m: int, k: int, n: int, bits: int, block: int, with_zeros: bool, with_bias: bool, lda: int = 0,
    rounds: int = 0,
) -> list[Case]:
    """Products by weights of `bits` bits: with as much scratch as there is, and with the least."""
    rng = np.random.default_rng(m + k + n + bits)
    blocks, lda = up(k, block), lda or k
    numbers = rng.integers(0, 1 << bits, (n, blocks, block)).astype(np.uint8)
    scales = (rng.random((n, blocks)) * 0.1).astype(np.float32)
    zeros = rng.integers(0, 1 << bits, (n, blocks)).astype(np.uint8)
    if not with_zeros:
        zeros[:] = 1 << bits - 1
    halves = (lambda x: x) if bits == 8 else (lambda x: x[..., ::2] | x[..., 1::2] << 4)
    b = halves(numbers)
    wide_zeros = np.pad(zeros, ((0, 0), (0, blocks % 2 if bits == 4 else 0)))
    weights = (numbers.astype(np.float64) - zeros[..., None]) * scales[..., None]
    a, bias = values(m, lda), values(n) if with_bias else None
    c = a[:, :k].astype(np.float64) @ weights.reshape(n, -1)[:, :k].T
    params = BlocksParams(m=m, n=n, k=k, bits=bits, block=block, lda=lda, tile_m=4, tile_n=8,
                          rounds=rounds)  # fmt: skip
    given = [b.ravel(), scales.ravel(), halves(wide_zeros).ravel() if with_zeros else None]
    flat = a.ravel()[: a.size - (lda - k)]
    # Rounded, a number is off by half of 1 / 32767 of the largest; a weight is 1.5 at most.
    off = 1.5 * np.abs(a).max() / 65534 * k**0.5 * 2 if rounds else 0
    within = Tolerance(8, 3e-6 * k**0.5 * 2 ** (bits - 4) + off)
    note = f"{m} {k} {n}, {bits} bits by {block}{' rounded' * rounds}"
    return [
        Case(F32_GEMM_BLOCKS, (up(n, 8), up(m, 4), 1), params,
             [flat, *given, bias, np.zeros(m * n, np.float32)],
             {5: (c if bias is None else c + bias).ravel()}, within, scratch=scratch,
             note=f"{note}, {scratch} bytes")
        for scratch in ((16384,) if m > 3 else (16384, 65536))  # the second holds a long row
    ]  # fmt: skip


def table_rows(k: int, bits: int, block: int, with_zeros: bool, size: int) -> Case:
    """Rows of a table of 9, picked by indices of `size` bytes, some from its end."""
    rng = np.random.default_rng(k + bits)
    blocks = k // block
    numbers = rng.integers(0, 1 << bits, (9, k)).astype(np.uint8)
    zeros = rng.integers(0, 1 << bits, (9, blocks)).astype(np.uint8)
    if not with_zeros:
        zeros[:] = 1 << bits - 1
    halves = (lambda x: x) if bits == 8 else (lambda x: x[..., ::2] | x[..., 1::2] << 4)
    scales = (rng.random((9, blocks)) * 0.1).astype(np.float32)
    places = np.array([3, 0, -1, 8, -9, 3, 5], np.int32 if size == 4 else np.int64)
    whole = numbers - zeros.astype(np.float64).repeat(block, 1)
    expected = (whole * scales.repeat(block, 1))[places]
    wide = np.pad(zeros, ((0, 0), (0, blocks % 2 if bits == 4 else 0)))
    params = GatherBlocksParams(count=7, rows=9, k=k, bits=bits, block=block, tile_rows=3,
                                index_size=size)  # fmt: skip
    given = [halves(numbers).ravel(), places, scales.ravel(),
             halves(wide).ravel() if with_zeros else None, np.zeros(7 * k, np.float32)]  # fmt: skip
    return Case(F32_GATHER_BLOCKS, (3, 1, 1), params, given, {4: expected.ravel()}, Tolerance(1),
                note=f"{k}, {bits} bits by {block}")  # fmt: skip


ROWS = table_rows(96, 4, 32, True, 8)
OUTSIDE = np.array([3, 0, -1, 9, -9, 3, 5], np.int64)
SHAPES = ((1, 1, 1), (1, 1, 15), (1, 1, 16), (1, 1, 33), (2, 3, 7), (3, 2, 40), (0, 2, 3))
NAN = np.array([1, np.nan, -3, 4, 5], np.float32)
CASES: list[Case] = [
    *(ranged(values(n), 16, f"{n} elements") for n in (1, 2, 3, 4, 15, 16, 17, 47)),
    ranged(np.abs(values(20)), 7, "positive"),
    ranged(NAN, 5, "NaN"),
    *(dynamic(values(n), 16, f"{n} elements") for n in (1, 3, 15, 16, 17, 50)),
    dynamic(np.abs(values(20)), 7, "positive"),
    dynamic(-np.abs(values(20)), 7, "negative"),
    dynamic(np.zeros(9, np.float32), 9, "zeros"),
    *(lines(back, shape, signed, zero, 2, f"{shape} {signed} {zero}")
      for back in (False, True) for shape in SHAPES
      for signed in (False, True) for zero in (False, True)),
    *products(),
    *convolutions(),
    *bytewise(),
    *few_bits(1, 64, 16, 4, 32, False, False),
    *few_bits(1, 70, 9, 4, 32, True, True),
    *few_bits(1, 40, 11, 4, 16, False, False),
    *few_bits(1, 4100, 9, 4, 64, True, True),
    *few_bits(2, 300, 12, 8, 32, True, True),
    *few_bits(6, 600, 10, 4, 16, True, True),
    *few_bits(7, 64, 16, 4, 64, False, False),
    *(case for m, k in ((1, 64), (1, 150), (3, 515)) for block in (16, 32, 128)
      for zeros in (False, True)
      for case in few_bits(m, k, 9, 4, block, zeros, m > 1, rounds=1)),
    *few_bits(5, 70, 13, 4, 32, True, True, lda=75),
    ROWS,
    table_rows(64, 4, 16, False, 4),
    table_rows(96, 8, 48, True, 8),
    refused(ROWS, tile_rows=0),
    refused(ROWS, bits=2),
    *short(ROWS),
    replace(
        ROWS, bindings=[ROWS.bindings[0], OUTSIDE, *ROWS.bindings[2:]], status=OUT_OF_RANGE
    ),
    *few_bits(9, 40, 20, 8, 16, True, False),
    *few_bits(3, 1100, 9, 4, 128, True, True),
    *few_bits(2, 33, 8, 8, 48, False, True),
    Case(F32_RANGE, (1, 1, 1), RangeParams(4, 0), [values(4), values(2)],
         status=INVALID_PARAMS, note="tile of 0"),
    Case(F32_RANGE, (1, 1, 1), RangeParams(4, 4), [values(3), values(2)], status=TOO_SHORT,
         note="short"),
]  # fmt: skip


@st.composite
def _lines(draw: Draw) -> Case:
    shape = tuple(draw(st.integers(1, most)) for most in (3, 4, 50))
    back, signed, zero = (draw(st.booleans()) for _ in range(3))
    return lines(back, (shape[0], shape[1], shape[2]), signed, zero, draw(st.integers(1, 5)), "")


DRAWN: dict[str, st.SearchStrategy[Case]] = {"lines": _lines()}
