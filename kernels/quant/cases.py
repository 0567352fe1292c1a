"""Cases of quantisation: ranges, both roundings, tails, special values; and one product, packed by
NumPy as panel.h says (tests/kernels/test_quant.py has the others, in every form)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, SCRATCH, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernels.quant import (
    F32_DEQUANTIZE,
    F32_GEMM_BLOCKS,
    F32_GEMM_BLOCKS_PACK,
    F32_QUANTIZE,
    F32_QUANTIZE_DYNAMIC,
    F32_RANGE,
    I8_CONV,
    I8_DEPTHWISE,
    I8_DEPTHWISE_PACK,
    I8_GEMM,
    I8_GEMM_PACK_B,
    Activation,
    BlocksPackParams,
    BlocksParams,
    ConvParams,
    DepthwisePackParams,
    Dot,
    DynamicParams,
    GemmParams,
    PackParams,
    QuantizeParams,
    RangeParams,
    Target,
)

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def values(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed + sum(shape))
    return np.asarray(rng.standard_normal(shape) * 3).astype(np.float32)


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
        whole = np.nan_to_num(np.rint(x / scale), nan=0.0)
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
PADDED, ORDER, REST = 16, 16, 4


def wide_panels(b: Array) -> Array:
    """int8 B (k, n) in panels of the form WIDE."""
    panels = []
    k, padded = b.shape[0], up(b.shape[0], 8) * 8
    order, rest = up(padded, 32) * 16, (padded // 256 + 1) * 4
    for j in range(0, b.shape[1], 8):
        columns = np.zeros((padded, 8), np.int8)
        part = b[:, j : j + 8]
        columns[:k, : part.shape[1]] = part
        head = np.zeros(16, np.int32)
        head[:8] = columns.sum(axis=0)
        pairs = columns.reshape(padded // 2, 2, 8).transpose(0, 2, 1)
        panels += [head.view(np.uint8), np.ascontiguousarray(pairs).view(np.uint8).ravel()]
        panels.append(np.zeros(order + rest * 36, np.uint8))
    return np.concatenate(panels)


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
        before[j * each : j * each + 44] = 1
        before[j * each + 64 : (j + 1) * each - ORDER - REST * 36] = 1

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
            scratch=2 * (3 * PADDED + 4), note=name,
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
        Case(I8_GEMM, (2, 2, 1), good.params, short, status=TOO_SHORT, scratch=104, note="short"),
        Case(I8_GEMM, (2, 2, 1), params(Target.INT, tile_n=4), good.bindings,
             status=INVALID_PARAMS, scratch=104, note="half a panel"),
        Case(I8_GEMM_PACK_B, (2, 1, 1), packs, [b.ravel(), packed[:-1]], status=TOO_SHORT,
             note="short"),
    ]  # fmt: skip
    return cases


# -- convolutions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convolution:
    """One convolution of bytes over two axes, channels last; `pixel` is x's, 0 when dense."""

    note: str
    groups: int = 1
    channels: int = 3  # of each group
    filters: int = 5
    size: tuple[int, int] = (5, 6)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    images: int = 1
    pixel: int = 0
    signed: bool = False
    w_signed: bool = True
    w_zeros: bool = False
    target: Target = Target.BYTE
    activation: Activation = Activation.NONE
    least: int = -128
    most: int = 255
    residual: bool = False
    depthwise: bool = False

    def bytes_of(self, rng: np.random.Generator, signed: bool, *shape: int) -> Array:
        values = rng.integers(0, 256, shape).astype(np.uint8)
        return np.asarray(values.view(np.int8) if signed else values)

    def outputs(self) -> tuple[int, ...]:
        axes = zip(self.size, self.kernel, self.stride, self.dilation, self.padding, strict=True)
        return tuple((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, d, p in axes)

    def windows(self, x: Array, zero: int) -> Array:
        """(n, oh, ow, kh, kw, c) of x (n, h, w, c) as int64."""
        wide = np.pad(
            x.astype(np.int64),
            ((0, 0), *((p, p) for p in self.padding), (0, 0)),
            constant_values=zero,
        )
        oh, ow = self.outputs()
        (sh, sw), (dh, dw) = self.stride, self.dilation
        rows = [
            wide[:, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]
        return np.stack(rows, axis=3).reshape(self.images, oh, ow, *self.kernel, -1)

    def cases(self) -> list[Case]:
        """The convolution, after packing where that is a kernel of its own."""
        rng = np.random.default_rng(len(self.note) + self.groups * 7 + self.channels)
        groups, channels, filters = self.groups, self.channels, self.filters
        all_x, all_y = groups * channels, groups * filters
        x = self.bytes_of(rng, self.signed, self.images, *self.size, all_x)
        w = self.bytes_of(rng, self.w_signed, all_y, *self.kernel, channels)
        x_zero = self.bytes_of(rng, self.signed, 1)
        w_zero = self.bytes_of(rng, self.w_signed, all_y if self.w_zeros else 1)
        wide = w.astype(np.int64) - w_zero.reshape(-1, 1, 1, 1).astype(np.int64)
        seen = self.windows(x, int(x_zero[0])) - int(x_zero[0])
        seen = seen.reshape(*seen.shape[:-1], groups, channels)
        sums = np.einsum(
            "nyxhwgc,gfhwc->nyxgf", seen, wide.reshape(groups, filters, *self.kernel, channels)
        ).reshape(*seen.shape[:3], all_y)
        x_scale, y_scale = np.array([0.02], np.float32), np.array([3.5], np.float32)
        w_scale = (rng.random(all_y) * 0.05 + 0.01).astype(np.float32)
        floats = self.target is Target.FLOAT
        whole = self.target in (Target.BYTE, Target.SIGNED_BYTE)
        signed = self.target is Target.SIGNED_BYTE
        y_zero = self.bytes_of(rng, signed, 1)
        bias = values(all_y) if floats else rng.integers(-9000, 9000, all_y).astype(np.int32)
        residual = values(*sums.shape) if self.residual else None
        dtype: Any = np.int8 if signed else np.uint8
        if whole:
            factor = w_scale * x_scale / y_scale
            y = np.rint((sums + bias).astype(np.float32) * factor) + float(y_zero[0])
            low, high = (-128, 127) if signed else (0, 255)
            wanted = np.clip(y, max(self.least, low), min(self.most, high)).astype(dtype)
        elif floats:
            wanted = sums * (x_scale.astype(np.float64) * w_scale) + bias
            if self.activation is Activation.RELU:
                wanted = np.maximum(wanted, 0)
            wanted = wanted if residual is None else wanted + residual
            dtype = np.float32
        else:
            wanted, dtype = sums.astype(np.int32), np.int32
        pixel = self.pixel or all_x
        stored = np.full((*x.shape[:3], pixel), 77, np.uint8).view(x.dtype)
        stored[..., :all_x] = x
        flat = stored.ravel()[: stored.size - (pixel - all_x)]
        oh, ow = self.outputs()
        tile = 2 if self.depthwise else 7
        params = ConvParams(
            batch=self.images, groups=groups, channels=channels, filters=filters,
            input=(1, *self.size), output=(1, oh, ow), kernel=(1, *self.kernel),
            stride=(1, *self.stride), dilation=(1, *self.dilation), padding=(0, *self.padding),
            x_pixel=pixel, y_pixel=all_y, residual_pixel=all_y, tile_pixels=tile, tile_filters=8,
            x_signed=int(self.signed), w_signed=int(self.w_signed), target=self.target,
            activation=self.activation, least=self.least, most=self.most,
        )  # fmt: skip
        after = [
            x_scale if floats or whole else None,
            w_scale if floats or whole else None,
            y_scale if whole else None,
            y_zero if whole else None,
            bias if floats or whole else None,
            None if residual is None else residual.ravel(),
            np.zeros(wanted.size, dtype),
        ]
        within = Tolerance(4, 1e-5) if floats else Tolerance()
        taps = self.kernel[0] * self.kernel[1]
        if self.depthwise:
            packed = self.blocks(wide.reshape(all_y, taps))
            packs = DepthwisePackParams(all_y, taps, int(self.w_signed), 1)
            given = [w.ravel(), w_zero, np.zeros(packed.size, np.uint8)]
            scratch = 13 * up(all_y, 16) * 16 + 8 * taps + 64
            counts = (1, up(self.images * oh, tile), 1)
            return [
                Case(I8_DEPTHWISE_PACK, (up(all_y, 16), 1, 1), packs, given, {2: packed},
                     note=self.note),
                Case(I8_DEPTHWISE, counts, params, [flat, packed, x_zero, *after],
                     {9: wanted.ravel()}, within, scratch=scratch, note=self.note),
            ]  # fmt: skip
        flipped = w if self.w_signed else (w ^ 0x80).view(np.int8)
        matrices = flipped.reshape(groups, filters, taps * channels)
        packed = np.concatenate([wide_panels(one.T) for one in matrices])
        scratch = tile * (3 * up(taps * channels, 8) * 8 + 4)
        counts = (up(filters, 8), up(self.images * oh * ow, tile), groups)
        return [
            Case(I8_CONV, counts, params, [flat, packed, x_zero, w_zero, *after],
                 {10: wanted.ravel()}, within, scratch=scratch, note=self.note),
        ]  # fmt: skip

    def blocks(self, wide: Array) -> Array:
        """(channels, taps) in the blocks of depthwise.h."""
        channels, taps = wide.shape
        found = []
        for block in range(up(channels, 16)):
            first = min(block * 16, max(channels - 16, 0))
            part = np.zeros((16, up(taps, 2) * 2), np.int64)
            own = wide[first : first + 16]
            part[: own.shape[0], :taps] = own
            pairs = part.reshape(16, -1, 2).transpose(1, 0, 2).astype(np.int16)
            found += [part.sum(axis=1).astype(np.int32).view(np.uint8), pairs.ravel().view(np.uint8)]
        return np.concatenate(found)


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


def few_bits(
    m: int, k: int, n: int, bits: int, block: int, with_zeros: bool, with_bias: bool, lda: int = 0
) -> list[Case]:
    """(packing, the product) of weights of `bits` bits."""
    rng = np.random.default_rng(m + k + n + bits)
    blocks, panels, lda = up(k, block), up(n, 8), lda or k
    numbers = rng.integers(0, 1 << bits, (n, blocks, block)).astype(np.uint8)
    scales = (rng.random((n, blocks)) * 0.1).astype(np.float32)
    zeros = rng.integers(0, 1 << bits, (n, blocks)).astype(np.uint8)
    if not with_zeros:
        zeros[:] = 1 << bits - 1
    halves = (lambda x: x) if bits == 8 else (lambda x: x[..., ::2] | x[..., 1::2] << 4)
    b = halves(numbers)
    wide_zeros = np.pad(zeros, ((0, 0), (0, blocks % 2 if bits == 4 else 0)))
    packed = np.zeros((panels, blocks, 48 + block * bits), np.uint8)
    for column in range(panels * 8):
        panel, j = divmod(column, 8)
        there = column < n
        scale = scales[column] if there else np.zeros(blocks, np.float32)
        packed[panel, :, 4 * j : 4 * j + 4] = scale.view(np.uint8).reshape(blocks, 4)
        packed[panel, :, 32 + j] = zeros[column] if there else 1 << bits - 1
        packed[panel, :, 48 + j :: 8] = b[column] if there else 1 << bits - 1
    weights = (numbers.astype(np.float64) - zeros[..., None]) * scales[..., None]
    a, bias = values(m, lda), values(n) if with_bias else None
    c = a[:, :k].astype(np.float64) @ weights.reshape(n, -1)[:, :k].T
    packs = BlocksPackParams(n=n, k=k, bits=bits, block=block, tile_panels=1)
    params = BlocksParams(m=m, n=n, k=k, bits=bits, block=block, lda=lda, tile_m=4, tile_n=8)
    given = [b.ravel(), scales.ravel(), halves(wide_zeros).ravel() if with_zeros else None]
    flat = a.ravel()[: a.size - (lda - k)]
    within = Tolerance(8, 3e-6 * k**0.5 * 2 ** (bits - 4))
    note = f"{m} {k} {n}, {bits} bits by {block}"
    return [
        Case(F32_GEMM_BLOCKS_PACK, (panels, 1, 1), packs,
             [*given, np.zeros(packed.size, np.uint8)], {3: packed.ravel()}, note=note),
        Case(F32_GEMM_BLOCKS, (panels, up(m, 4), 1), params,
             [flat, packed.ravel(), bias, np.zeros(m * n, np.float32)],
             {3: (c if bias is None else c + bias).ravel()}, within, scratch=16384, note=note),
    ]  # fmt: skip


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
    *few_bits(1, 64, 16, 4, 32, False, False),
    *few_bits(5, 70, 13, 4, 32, True, True, lda=75),
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
