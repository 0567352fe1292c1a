"""Cases of Fourier transforms: every radix and their products, primes by the chirp, both
directions, frames that overlap, what is padded and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import SCRATCH, Case, Tolerance, refused, short, up
from tests.kernels.windows import values
from tilework.hal.kernels.signal import F32_DFT, DftParams
from tilework.plan.lowerings.signal import chirped, points_of, turned

Array = NDArray[Any]


def dft(
    length: int, outer: int = 1, inner: int = 3, parts: int = 1, inverse: int = 0, half: int = 0,
    given: int | None = None, windowed: bool = False, tile: int = 1, special: bool = False,
) -> Case:  # fmt: skip
    """x is (outer, given, inner, parts), transformed along the second axis."""
    given = length if given is None else given
    x = values(outer, given, inner, parts, seed=length)
    if special:
        x[0, :, 0] = x[-1, :, -1] = np.nan
    window = values(length, seed=1) if windowed else None
    wide = x[..., 0] + 1j * (x[..., 1] if parts == 2 else 0)
    bins = length if not half or inverse else length // 2 + 1
    if half and inverse:
        y = np.fft.irfft(wide.astype(np.complex128), length, axis=1)[..., None]
    else:
        room = np.zeros((outer, length, inner), np.complex128)
        room[:, :given] = wide
        if window is not None:
            room *= window[:, None]
        made = (np.fft.ifft if inverse else np.fft.fft)(room, axis=1)[:, :bins]
        y = np.stack([made.real, made.imag], -1)
    if special:  # a lane that has no number left must not touch its neighbours
        y[0, :, 0] = y[-1, :, -1] = np.nan
        if parts == 1:  # which turn nothing real into anything imaginary
            y[0, :: length // 2, 0, 1] = y[-1, :: length // 2, -1, 1] = 0
    each = y.shape[-1]
    points = points_of(length)
    params = DftParams(
        outer, inner, given * inner * parts, parts, inner * parts, bins * inner * each, each,
        inner * each, given, length, bins, points, tile, parts, inverse, half and inverse,
    )  # fmt: skip
    lanes = 8 if parts == 1 and not inverse else 4
    groups = up(outer * inner, lanes)
    chirp = None if points == length else chirped(length, points).ravel()
    return Case(
        F32_DFT, (up(groups, tile), 1, 1), params,
        [x.ravel(), window, turned(points).ravel(), chirp, np.full(y.size, -1, np.float32)],
        {4: y.ravel()}, Tolerance(8, 4e-6 * length**0.5 / (length if inverse else 1) + 1e-7),
        scratch=64 * points,
        note=f"{length} {outer} {inner} {parts} {inverse} {half} {given} {windowed} {special}",
    )  # fmt: skip


def frames(samples: int, length: int, step: int) -> Case:
    """Frames that overlap in x."""
    x, window = values(2, samples), values(length, seed=2)
    count, bins = (samples - length) // step + 1, length // 2 + 1
    cut = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), length, 1)[:, ::step]
    made = np.fft.rfft(cut * window)
    y = np.stack([made.real, made.imag], -1)
    params = DftParams(
        2, count, samples, step, 1, count * bins * 2, bins * 2, 2, length, length, bins, length, 2,
        1, 0, 0,
    )  # fmt: skip
    return Case(
        F32_DFT, (up(up(2 * count, 8), 2), 1, 1), params,
        [x.ravel(), window, turned(length).ravel(), None, np.full(y.size, -1, np.float32)],
        {4: y.ravel()}, Tolerance(8, 4e-6 * length**0.5), scratch=64 * length,
        note=f"frames {samples} {length} {step}",
    )  # fmt: skip


WHOLE = dft(6, 2)
ROUND = dft(37)


CASES: list[Case] = [
    *(dft(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 25, 27, 30, 31, 64, 77, 400)),
    *(dft(n) for n in (37, 41, 74, 101)),
    *(dft(n, parts=2, inner=5) for n in (1, 2, 6, 13, 20, 43)),
    *(dft(n, parts=parts, inverse=1) for n in (1, 3, 8, 15, 47) for parts in (1, 2)),
    *(dft(n, half=1, inner=9) for n in (1, 2, 7, 12, 53)),
    *(dft(n, parts=2, inverse=1, half=1, given=n // 2 + 1) for n in (1, 2, 7, 12, 59)),
    dft(12, parts=2, inverse=1, half=1, given=4),
    dft(12, inverse=1, half=1, given=7),
    *(dft(8, outer, inner, tile=2) for outer, inner in ((1, 1), (3, 5), (1, 17), (9, 1))),
    *(dft(10, given=given, windowed=True) for given in (10, 6, 1)),
    dft(10, given=0),
    dft(8, inner=12, special=True),
    dft(9, inner=7, parts=2, special=True),
    frames(50, 16, 4), frames(40, 10, 3), frames(400, 400, 1),
    *(refused(WHOLE, **one) for one in (
        {"length": 0}, {"tile_groups": 0}, {"parts": 0}, {"parts": 3}, {"given": 7}, {"bins": 7},
        {"mirrored": 1}, {"points": 0}, {"points": 37})),
    refused(ROUND, points=64),
    refused(WHOLE, SCRATCH, scratch=64 * 5),
    *(one for case in (WHOLE, ROUND, dft(6, windowed=True)) for one in short(case)),
]  # fmt: skip
