"""Convolutions of bytes for kernels/quant/cases.py: operands packed by NumPy, results in int64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import Case, Tolerance, up
from tilework.hal.kernels.quant import (
    I8_CONV,
    I8_DEPTHWISE,
    I8_DEPTHWISE_PACK,
    Activation,
    ConvParams,
    DepthwisePackParams,
    Target,
)
from tilework.plan.tiles import quant_packed_bytes

Array = NDArray[Any]


def values(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed + sum(shape))
    return np.asarray(rng.standard_normal(shape) * 3).astype(np.float32)


def wide_panels(b: Array) -> Array:
    """int8 B (k, n) in panels of the form WIDE."""
    panels = []
    k, padded = b.shape[0], up(b.shape[0], 8) * 8
    behind = quant_packed_bytes(k, 8) - 64 - padded * 8
    for j in range(0, b.shape[1], 8):
        columns = np.zeros((padded, 8), np.int8)
        part = b[:, j : j + 8]
        columns[:k, : part.shape[1]] = part
        head = np.zeros(16, np.int32)
        head[:8] = columns.sum(axis=0)
        pairs = columns.reshape(padded // 2, 2, 8).transpose(0, 2, 1)
        panels += [head.view(np.uint8), np.ascontiguousarray(pairs).view(np.uint8).ravel()]
        panels.append(np.zeros(behind, np.uint8))
    return np.concatenate(panels)


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
    alike: bool = False  # all filters are the same

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
        down, across = (oh - 1) * sh + 1, (ow - 1) * sw + 1
        rows = [
            wide[:, i * dh : i * dh + down : sh, j * dw : j * dw + across : sw]
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
        if self.alike:
            w[:] = w[0]
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
            used = packed[: 64 + up(taps, 2) * 64] if self.alike else packed
            scratch = 13 * up(all_y, 16) * 16 + 8 * taps + 64
            counts = (1, up(self.images * oh, tile), 1)
            return [
                Case(I8_DEPTHWISE_PACK, (up(all_y, 16), 1, 1), packs, given, {2: packed},
                     note=self.note),
                Case(I8_DEPTHWISE, counts, params, [flat, used, x_zero, *after],
                     {9: wanted.ravel()}, within, scratch=scratch, note=self.note),
            ]  # fmt: skip
        flipped = w if self.w_signed else (w ^ 0x80).view(np.int8)
        matrices = flipped.reshape(groups, filters, taps * channels)
        packed = np.concatenate([wide_panels(one.T) for one in matrices])
        scratch = tile * (5 * up(taps * channels, 8) * 8 + 4)
        counts = (up(filters, 8), groups, up(self.images * oh * ow, tile))
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
            sums = part.sum(axis=1).astype(np.int32)
            found += [sums.view(np.uint8), pairs.ravel().view(np.uint8)]
        return np.concatenate(found)
