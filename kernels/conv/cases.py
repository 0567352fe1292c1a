"""Cases of the convolution family: windows of all kinds, tails, gaps between pixels, in place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.kernels.harness import (
    INVALID_PARAMS,
    SCRATCH,
    TOO_SHORT,
    Case,
    Tolerance,
    refused,
    short,
    up,
)
from tests.kernels.windows import (
    Array,
    Three,
    activated,
    gapped,
    outputs,
    packed,
    transformed,
    values,
    windows,
)
from tilework.hal.kernels.conv import (
    F32_AFFINE,
    F32_CONV,
    F32_CONV_PACK,
    F32_CONV_SCATTER,
    F32_DEPTHWISE,
    F32_LRN,
    F32_POOL,
    F32_WINOGRAD,
    F32_WINOGRAD_PACK,
    Activation,
    AffineParams,
    ConvPackParams,
    ConvParams,
    ConvScatterParams,
    LrnParams,
    Pooling,
    PoolParams,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


def conv(
    note: str,
    extents: Three = (1, 5, 6),
    kernel: Three = (1, 3, 3),
    stride: Three = (1, 1, 1),
    dilation: Three = (1, 1, 1),
    padding: Three = (0, 1, 1),
    end: Three | None = None,
    batch: int = 1,
    groups: int = 1,
    channels: int = 3,
    filters: int = 8,
    bias: bool = True,
    residual: bool = False,
    tile: tuple[int, int] = (12, 8),
    gaps: Three = (0, 0, 0),
    activation: Activation = Activation.NONE,
    alpha: float = 0.25,
    beta: float = 0.75,
    in_place: bool = False,
    depthwise: bool = False,
    winograd: bool = False,
) -> Case:
    """`gaps`: elements between the pixels of x, y and the residual beyond their channels."""
    output = outputs(extents, kernel, stride, dilation, padding, end or padding)
    taps = int(np.prod(kernel))
    x = values(batch, *extents, groups * channels)
    w = values(groups * filters, channels, taps, seed=1)
    seen = windows(x, kernel, stride, dilation, padding, output, 0.0)
    parts = seen.reshape(*seen.shape[:-1], groups, channels)
    weights = w.reshape(groups, filters, channels, taps).astype(np.float64)
    y = np.einsum("ndhwtgc,gfct->ndhwgf", parts, weights)
    y = y.reshape(-1, groups * filters)
    size = np.abs(seen).max() * np.abs(w).sum(axis=(1, 2)).max()
    b = values(groups * filters, seed=2) if bias else None
    y = y if b is None else y + b
    r = values(*y.shape, seed=3) if residual else None
    y = y if r is None else y + r
    y = activated(y, activation, alpha, beta)
    pixels = [groups * channels + gaps[0], y.shape[1] + gaps[1], y.shape[1] + gaps[2]]
    kept = y.astype(np.float32)
    kept[:] = np.nan
    made = gapped(kept, pixels[1])
    bindings = [
        gapped(x.reshape(-1, groups * channels), pixels[0]),
        transformed(w)
        if winograd
        else packed(w.reshape(groups, channels, taps), 1)
        if depthwise
        else packed(w, groups),
        b,
        None if r is None else gapped(r, pixels[2]),
        made,
    ]
    expected = np.full(len(made), np.nan)
    rows = [slice(i * pixels[1], i * pixels[1] + y.shape[1]) for i in range(len(y))]
    for where, row in zip(rows, y, strict=True):
        expected[where] = row
    params = ConvParams(
        batch, groups, channels, filters, extents, output, kernel, stride, dilation, padding,
        *pixels[:2], pixels[2] if residual else 0, tile[0], tile[1], activation, alpha, beta,
    )  # fmt: skip
    if depthwise:
        counts = (1, up(batch * output[0] * output[1], tile[0]), 1)
    elif winograd:
        squares = batch * up(output[1], 4) * up(output[2], 4)
        counts = (up(filters, tile[1]), up(squares, tile[0]), 1)
    else:
        counts = (up(filters, tile[1]), groups, up(len(y), tile[0]))
    return Case(
        F32_DEPTHWISE if depthwise else F32_WINOGRAD if winograd else F32_CONV,
        counts,
        params,
        bindings,
        {4: expected},
        Tolerance(4, (1e-6 if winograd else 3e-7) * float(size) + 1e-6),
        same={4: 3} if in_place else {},
        scratch=144 * tile[0] * (channels + 8) + 4096
        if winograd
        else 0
        if depthwise
        else 4 * tile[0] * (min(1536, taps * channels) + 3),
        note=note,
    )


def depthwise(note: str, **more: Any) -> Case:
    return conv(note, channels=1, filters=1, depthwise=True, **({"tile": (2, 8)} | more))


def winograd(note: str, **more: Any) -> Case:
    return conv(note, winograd=True, **({"tile": (3, 8), "channels": 4} | more))


ONE: Three = (1, 1, 1)
NONE: Three = (0, 0, 0)

CONVS = [
    *(conv(f"{f} filters of {c} channels", channels=c, filters=f, tile=(6, 16))
      for c, f in ((1, 1), (3, 7), (4, 8), (5, 9), (8, 17), (16, 24))),
    *(conv(f"{kind.name.lower()}", activation=kind, residual=True) for kind in Activation),
    conv("one pixel windows", kernel=ONE, padding=NONE, channels=20, filters=12, batch=2),
    conv("one pixel windows between gaps", kernel=ONE, padding=NONE, channels=9, gaps=(3, 5, 7),
         residual=True, filters=12),
    conv("every second pixel", kernel=ONE, padding=NONE, stride=(1, 2, 2), channels=5),
    conv("between gaps", gaps=(3, 5, 7), residual=True, filters=11),
    conv("stride 2", stride=(1, 2, 2), extents=(1, 9, 8), batch=2),
    conv("dilation", dilation=(1, 2, 2), padding=(0, 2, 2), channels=4),
    conv("wide padding", padding=(0, 3, 4), extents=(1, 2, 2)),
    conv("padding at the end only", padding=NONE, end=(0, 2, 1)),
    conv("a large window", kernel=(1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3),
         extents=(1, 11, 13)),
    conv("three axes", extents=(4, 5, 3), kernel=(3, 2, 2), padding=(1, 0, 1), stride=(2, 1, 1),
         batch=2, channels=5),
    conv("groups", groups=3, channels=4, filters=5, tile=(7, 8)),
    conv("groups between gaps", groups=2, channels=6, filters=8, gaps=(2, 3, 0)),
    conv("groups of single pixels", groups=4, channels=7, filters=9, kernel=ONE, padding=NONE),
    conv("no bias", bias=False),
    conv("in place", residual=True, in_place=True, filters=9),
    conv("a sum of two blocks", channels=180, filters=10, extents=(1, 3, 4), residual=True),
    conv("a pixel of two blocks", channels=1601, filters=9, extents=(1, 3, 3), kernel=ONE,
         padding=NONE, stride=(1, 2, 2)),
    conv("a single pixel of two blocks", channels=1601, filters=9, extents=(1, 3, 3), kernel=ONE,
         padding=NONE),
    conv("many strips", extents=(1, 9, 11), tile=(64, 8), channels=2),
]  # fmt: skip
DEPTHWISE = [
    *(depthwise(f"{c} channels", groups=c) for c in (1, 3, 4, 8, 13, 24)),
    *(depthwise(kind.name.lower(), groups=8, activation=kind, residual=True)
      for kind in Activation),
    depthwise("wide rows", groups=9, extents=(1, 4, 17), batch=2),
    depthwise("stride 2", groups=12, stride=(1, 2, 2), extents=(1, 9, 15)),
    depthwise("dilation", groups=8, dilation=(1, 2, 3), extents=(1, 9, 15), padding=(0, 2, 3)),
    depthwise("wide padding", groups=5, padding=(0, 3, 4), extents=(1, 2, 2)),
    depthwise("three axes", groups=6, extents=(3, 4, 9), kernel=(2, 3, 3), padding=(1, 0, 1)),
    depthwise("between gaps", groups=10, gaps=(2, 3, 4), residual=True),
    depthwise("in place", groups=8, residual=True, in_place=True),
    depthwise("no bias", groups=8, bias=False),
]  # fmt: skip
WINOGRADS = [
    *(winograd(f"{f} filters of {c} channels", channels=c, filters=f, tile=(2, 16))
      for c, f in ((4, 1), (4, 7), (8, 8), (12, 9), (20, 17), (16, 24))),
    *(winograd(kind.name.lower(), activation=kind, residual=True) for kind in Activation),
    *(winograd(f"{h} by {w}", extents=(1, h, w), batch=2)
      for h, w in ((1, 1), (3, 4), (4, 4), (5, 8), (8, 9), (13, 3))),
    winograd("without padding", padding=NONE),
    winograd("wide padding", padding=(0, 5, 3), extents=(1, 2, 7)),
    winograd("padding at the end only", padding=NONE, end=(0, 2, 1)),
    winograd("between gaps", gaps=(3, 5, 7), residual=True, filters=11),
    winograd("in place", residual=True, in_place=True, filters=9),
    winograd("no bias", bias=False),
    winograd("many squares", extents=(1, 17, 19), tile=(32, 8)),
]  # fmt: skip


def pack(groups: int, filters: int, channels: int, taps: int, tile: int, scaled: bool) -> Case:
    w = values(groups * filters, channels, taps)
    scale = values(groups * filters, seed=5) if scaled else None
    wide = w if scale is None else w * scale[:, None, None]
    made = packed(wide, groups)
    return Case(
        F32_CONV_PACK,
        (up(up(filters, 8) * groups, tile), 1, 1),
        ConvPackParams(groups, filters, channels, taps, tile),
        [w.ravel(), scale, np.full(made.size, np.nan, np.float32)],
        {2: made.astype(np.float64)},
        note=f"{groups} {filters} {channels} {taps}{' scaled' * scaled}",
    )


def pack_squares(filters: int, channels: int, tile: int, scaled: bool) -> Case:
    w = values(filters, channels, 9)
    scale = values(filters, seed=5) if scaled else None
    made = transformed(w if scale is None else w * scale.astype(np.float64)[:, None, None])
    return Case(
        F32_WINOGRAD_PACK,
        (up(up(filters, 8), tile), 1, 1),
        ConvPackParams(1, filters, channels, 9, tile),
        [w.ravel(), scale, np.full(made.size, np.nan, np.float32)],
        {2: made.astype(np.float64)},
        Tolerance(2, 1e-6),
        note=f"{filters} {channels}{' scaled' * scaled}",
    )


def pool(
    note: str,
    kind: Pooling,
    extents: Three = (1, 6, 7),
    kernel: Three = (1, 3, 3),
    stride: Three = (1, 2, 2),
    dilation: Three = (1, 1, 1),
    padding: Three = (0, 1, 1),
    end: Three | None = None,
    batch: int = 1,
    channels: int = 5,
    tile: tuple[int, int] = (2, 8),
    gaps: tuple[int, int] = (0, 0),
    counted: int = 0,
    x: Array | None = None,
) -> Case:
    end = end or padding
    output = outputs(extents, kernel, stride, dilation, padding, end)
    x = values(batch, *extents, channels) if x is None else x
    ones = np.ones((1, *extents, 1))
    if counted:
        room = [(p, e) for p, e in zip(padding, end, strict=True)]
        ones = np.pad(ones, [(0, 0), *room, (0, 0)], constant_values=1)
        share = windows(ones, kernel, stride, dilation, NONE, output, 0.0).sum(-2)
    else:
        share = windows(ones, kernel, stride, dilation, padding, output, 0.0).sum(-2)
    fill = -np.inf if kind is Pooling.MAX else 0.0
    seen = windows(x, kernel, stride, dilation, padding, output, fill)
    with np.errstate(all="ignore"):
        y = {
            Pooling.MAX: lambda: seen.max(-2),
            Pooling.AVERAGE: lambda: seen.sum(-2) / share,
            Pooling.LP1: lambda: np.abs(seen).sum(-2),
            Pooling.LP2: lambda: np.sqrt((seen * seen).sum(-2)),
        }[kind]().reshape(-1, channels)
    pixels = channels + gaps[0], channels + gaps[1]
    made = gapped(np.full(y.shape, np.nan, np.float32), pixels[1])
    expected = np.full(len(made), np.nan)
    for i, row in enumerate(y):
        expected[i * pixels[1] : i * pixels[1] + channels] = row
    params = PoolParams(
        batch, channels, extents, output, kernel, stride, dilation, padding, end, *pixels, *tile,
        kind, counted,
    )  # fmt: skip
    counts = (up(channels, tile[1]), up(batch * output[0] * output[1], tile[0]), 1)
    return Case(
        F32_POOL, counts, params, [gapped(x.reshape(-1, channels), pixels[0]), made], {1: expected},
        Tolerance(4, 1e-6), note=f"{kind.name.lower()} {note}",
    )  # fmt: skip


def strange() -> Array:
    x = values(1, 1, 6, 7, 5)
    x[0, 0, 2, 2, 0], x[0, 0, 3, 3, 1], x[0, 0, :, :, 2] = np.nan, np.inf, -np.inf
    return x


POOLS = [
    *(pool(note, kind, **more) for kind in Pooling for note, more in (
        ("windows", {}),
        ("of channels", {"channels": 37, "tile": (3, 20)}),
        ("without padding", {"padding": NONE, "batch": 2}),
        ("with dilation", {"dilation": (1, 2, 2), "stride": ONE}),
        ("of three axes", {"extents": (3, 4, 5), "kernel": (2, 2, 3), "stride": ONE}),
        ("between gaps", {"gaps": (3, 2)}),
        ("over everything", {"extents": (1, 15, 13), "kernel": (1, 15, 13), "stride": ONE,
                             "padding": NONE, "channels": 21}),
    )),
    *(pool("counting the padding", Pooling.AVERAGE, counted=1, end=end)
      for end in ((0, 1, 1), (0, 3, 0))),
    pool("of strange numbers", Pooling.MAX, x=strange()),
]  # fmt: skip


def affine(
    note: str, outer: int, channels: int, inner: int, tile: int, gap: int = 0,
    activation: Activation = Activation.NONE, in_place: bool = False,
) -> Case:  # fmt: skip
    x, scale, bias = values(outer, channels, inner), values(channels, seed=7), values(channels)
    y = x.astype(np.float64) * scale[:, None] + bias[:, None]
    y = activated(y, activation, 0.25, 0.75).ravel()
    lines = outer if inner == 1 else outer * channels
    flat = gapped(x.reshape(outer, channels), channels + gap) if inner == 1 else x.ravel()
    return Case(
        F32_AFFINE,
        (up(lines, tile), 1, 1),
        AffineParams(outer, channels, inner, channels + gap, tile, activation, 0.25, 0.75),
        [flat, scale, bias, np.zeros(y.size, np.float32)],
        {3: y},
        Tolerance(4, 1e-6),
        same={3: 0} if in_place else {},
        note=note,
    )


AFFINES = [
    *(affine(f"{kind.name.lower()} {inner}", 3, 7, inner, 4, activation=kind)
      for kind in Activation for inner in (1, 6)),
    *(affine(f"inner {n}", 2, 3, n, 2) for n in (1, 2, 3, 4, 5, 8, 19)),
    *(affine(f"channels {n}", 5, n, 1, 2) for n in (1, 2, 3, 4, 5, 8, 19)),
    affine("between gaps", 5, 6, 1, 2, gap=3),
    *(affine(f"in place {inner}", 4, 9, inner, 3, in_place=True) for inner in (1, 7)),
    affine("nothing", 0, 9, 5, 3),
]


def lrn(pixels: int, channels: int, span: int, beta: float, gap: int = 0) -> Case:
    x = values(pixels, channels) * 3
    before = (span - 1) // 2
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), (before, span)])
    total = sum(squares[:, i : i + channels] for i in range(span))
    y = x / (2.0 + 0.5 / span * total) ** beta
    return Case(
        F32_LRN,
        (up(pixels, 3), 1, 1),
        LrnParams(pixels, channels, channels + gap, span, 3, 0.5, beta, 2.0),
        [gapped(x, channels + gap), np.zeros(x.size, np.float32)],
        {1: y.ravel()},
        Tolerance(8, 1e-6),
        scratch=4 * (channels + span + 8),
        note=f"{pixels} {channels} {span} {beta} {gap}",
    )


def scatter(
    note: str, extents: Three, kernel: Three, stride: Three, padding: Three, groups: int = 1,
    own: int = 5, dilation: Three = ONE, more: Three = NONE, bias: bool = True, batch: int = 1,
    activation: Activation = Activation.NONE,
) -> Case:  # fmt: skip
    taps, channels = int(np.prod(kernel)), groups * own
    columns = values(batch, *extents, groups, taps, own)
    whole = tuple(
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(extents, stride, kernel, dilation, more, strict=True)
    )
    y = np.zeros((batch, *whole, channels))
    for t, tap in enumerate(product(*map(range, kernel))):
        where = tuple(
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(tap, dilation, extents, stride, strict=True)
        )
        y[(slice(None), *where)] += columns[..., t, :].reshape(batch, *extents, channels)
    output: Three = tuple(n - 2 * p for n, p in zip(whole, padding, strict=True))  # type: ignore[assignment]
    cut = tuple(slice(p, p + n) for p, n in zip(padding, output, strict=True))
    b = values(channels, seed=4) if bias else None
    y = y[(slice(None), *cut)] + (0 if b is None else b)
    y = activated(y, activation, 0.25, 0.75)
    return Case(
        F32_CONV_SCATTER,
        (up(batch * output[0] * output[1], 2), 1, 1),
        ConvScatterParams(batch, channels, own, extents, output, kernel, stride, dilation, padding,
                          channels, 2, activation, 0.25, 0.75),
        [columns.ravel(), b, np.zeros(y.size, np.float32)],
        {2: y.ravel()},
        Tolerance(4, 2e-6),
        note=note,
    )  # fmt: skip


SCATTERS = [
    scatter("one axis", (1, 1, 7), (1, 1, 3), (1, 1, 2), NONE),
    scatter("two axes", (1, 4, 3), (1, 3, 2), (1, 2, 3), (0, 1, 1), batch=2),
    scatter("three axes", (2, 3, 2), (2, 2, 3), (2, 1, 2), (0, 1, 0)),
    scatter("groups", (1, 3, 3), (1, 3, 3), (1, 2, 2), (0, 1, 1), groups=3, own=4),
    scatter("dilation", (1, 3, 3), (1, 3, 3), (1, 2, 2), (0, 2, 2), dilation=(1, 2, 2)),
    scatter("more at the end", (1, 3, 3), (1, 2, 2), (1, 2, 3), NONE, more=(0, 1, 2)),
    scatter("no bias, relu", (1, 3, 3), (1, 2, 2), (1, 2, 2), NONE, bias=False,
            activation=Activation.RELU),
]  # fmt: skip


WHOLE = [
    conv("whole", residual=True, filters=9, tile=(64, 16)),
    depthwise("whole", residual=True, groups=9, tile=(64, 8)),
    pool("whole", Pooling.MAX, tile=(64, 8)),
    pack(1, 8, 3, 4, 8, True),
    affine("whole", 4, 8, 1, 8),
    lrn(3, 8, 3, 0.5),
    winograd("whole", residual=True, filters=9, tile=(64, 16)),
    pack_squares(9, 4, 8, True),
    scatter("whole", (1, 1, 3), (1, 1, 2), ONE, NONE),
]
REFUSED = [
    *(case for whole in WHOLE for case in short(whole)),
    refused(WHOLE[0], INVALID_PARAMS, "tile of 0", tile_pixels=0),
    refused(WHOLE[0], INVALID_PARAMS, "tile of 12 filters", tile_filters=12),
    refused(WHOLE[0], INVALID_PARAMS, "no stride", stride=(1, 0, 1)),
    refused(WHOLE[0], TOO_SHORT, "a huge batch", batch=2**31),
    refused(WHOLE[0], TOO_SHORT, "a huge kernel", kernel=(2**16, 2**16, 2**16)),
    refused(WHOLE[0], SCRATCH, "a tile beyond the scratch", tile_pixels=2**20),
    refused(WHOLE[1], INVALID_PARAMS, "tile of 0", tile_pixels=0),
    refused(WHOLE[1], INVALID_PARAMS, "two channels", channels=2),
    refused(WHOLE[2], INVALID_PARAMS, "tile of 0", tile_rows=0),
    refused(WHOLE[2], INVALID_PARAMS, "no dilation", dilation=(1, 1, 0)),
    refused(WHOLE[3], INVALID_PARAMS, "tile of 0", tile_panels=0),
    refused(WHOLE[4], INVALID_PARAMS, "tile of 0", tile_lines=0),
    refused(WHOLE[5], INVALID_PARAMS, "no span", span=0),
    refused(WHOLE[6], INVALID_PARAMS, "tile of 0", tile_pixels=0),
    refused(WHOLE[6], INVALID_PARAMS, "stride 2", stride=(1, 2, 2)),
    refused(WHOLE[6], INVALID_PARAMS, "6 channels", channels=6),
    refused(WHOLE[6], SCRATCH, "a tile beyond the scratch", tile_pixels=2**20),
    refused(WHOLE[7], INVALID_PARAMS, "4 taps", taps=4),
    refused(WHOLE[8], INVALID_PARAMS, "tile of 0", tile_rows=0),
    refused(WHOLE[8], INVALID_PARAMS, "groups of nothing", group_channels=0),
]  # fmt: skip

CASES: list[Case] = [
    *CONVS,
    *DEPTHWISE,
    *WINOGRADS,
    *(pack_squares(f, c, tile, s) for f, c, tile in ((8, 4, 1), (13, 3, 2), (1, 1, 4))
      for s in (False, True)),
    *POOLS,
    *AFFINES,
    *(pack(g, f, c, t, tile, s) for g, f, c, t, tile in (
        (1, 8, 4, 1, 1), (1, 13, 3, 9, 2), (3, 5, 4, 2, 2), (1, 1, 1, 1, 4), (2, 16, 1, 9, 3)
    ) for s in (False, True)),
    *(lrn(5, c, span, beta, gap) for c, span, beta, gap in (
        (8, 5, 0.75, 0), (7, 3, 0.75, 2), (3, 4, 0.6, 0), (1, 1, 1.0, 0), (33, 9, 0.5, 1)
    )),
    *SCATTERS,
    *REFUSED,
]  # fmt: skip


def _some(draw: Draw, low: int, high: int) -> Three:
    return (1, draw(st.integers(low, high)), draw(st.integers(low, high)))


@st.composite
def _conv(draw: Draw) -> Case:
    kernel, stride, dilation = _some(draw, 1, 3), _some(draw, 1, 3), _some(draw, 1, 2)
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more = {"groups": draw(st.integers(1, 20)), "channels": 1, "filters": 1, "depthwise": True}
        more["tile"] = (draw(st.integers(1, 4)), 8)
    else:
        more = {"groups": draw(st.integers(1, 3)), "channels": draw(st.integers(1, 9))}
        more |= {"filters": draw(st.integers(1, 20)), "tile": (draw(st.integers(1, 30)), 16)}
    return conv(
        "drawn", _some(draw, 5, 9), kernel, stride, dilation, (0, *_some(draw, 0, 2)[1:]),
        batch=draw(st.integers(1, 2)), bias=draw(st.booleans()), residual=draw(st.booleans()),
        gaps=(draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        activation=draw(st.sampled_from(Activation)), **more,
    )  # fmt: skip


DRAWN: dict[str, st.SearchStrategy[Case]] = {"windows": _conv()}
