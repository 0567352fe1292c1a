"""Fourier transforms, of any length that fits a thread's scratch, and of windowed frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32
from tilework.core.shapes import count
from tilework.hal.kernels.signal import F32_DFT, DftParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Info
from tilework.plan.builder import Builder, is_constant
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor

WORK = 65536  # points log2 points a tile, by signal.wit
POINT = 64  # bytes of scratch
MOST_RADIX = 31  # of kernels/signal/transform.h


def points_of(length: int) -> int:
    """Points of the transforms that a transform of this length is made of."""
    rest = length
    for radix in range(2, MOST_RADIX + 1):
        while rest % radix == 0:
            rest //= radix
    return length if rest == 1 else 1 << (2 * length - 2).bit_length()


def _parts(values: Array) -> Array:
    return np.stack([values.real, values.imag], -1).astype(np.float32)


def turned(points: int) -> Array:
    """(points, 2): exp(-2 pi i k / points)."""
    return _parts(np.exp(np.arange(points) * (-2j * np.pi / points)))


def chirped(length: int, points: int) -> Array:
    """(length + points, 2): exp(-pi i n n / length), and the transform of its conjugate over
    points (Bluestein 1970)."""
    n: Array = np.arange(length, dtype=np.int64)
    chirp = np.exp(n * n % (2 * length) * (-1j * np.pi / length))
    around: Array = np.zeros(points, np.complex128)
    around[:length] = chirp.conj()
    around[points - length + 1 :] = chirp[:0:-1].conj()
    return _parts(np.concatenate([chirp, np.fft.fft(around) / points]))


def _transform(
    b: Builder, x: Tensor, window: Tensor | None, y: Tensor, real: bool, **sizes: int
) -> None:
    """Emits the kernel; `sizes` are its record's, but for what is derived here."""
    length = sizes["length"]
    points = points_of(length)
    lines = sizes["outer"] * sizes["inner"]
    groups = -(-lines // (8 if real else 4))
    each = max(WORK // (points * max(points.bit_length() - 1, 1)), 1)
    each = max(min(each, -(-groups // b.threads)), 1)
    turns = b.local(turned(points), FLOAT32)
    chirp = None if points == length else b.local(chirped(length, points), FLOAT32)
    params = DftParams(points=points, tile_groups=each, **sizes)
    operands = (x, window, turns, chirp, y)
    counts = (-(-groups // each) if y.size else 0, 1, 1)
    b.emit(F32_DFT, counts, params, operands, POINT * points)


def _refused(node: Node, length: int, *operands: Tensor | None) -> str:
    present = [tensor for tensor in operands if tensor is not None]
    for tensor in present:
        if tensor.dtype is not FLOAT32:
            return f"no kernel for {node.op} of {tensor.dtype}"
    if POINT * points_of(length) > SCRATCH:
        return f"{length} points are more than scratch holds"
    # What is computed once does not see the turns, which are the plan's.
    return "computed once" if all(map(is_constant, present)) else ""


def dft(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Along one axis; the last one holds real and imaginary parts."""
    x = inputs[0]
    assert x is not None
    attrs: Any = node.attrs
    axis, length = attrs["axis"], attrs["length"]
    reason = _refused(node, length, x)
    if reason:
        return reason
    inverse, onesided = bool(attrs.get("inverse", 0)), bool(attrs.get("onesided", 0))
    x = b.dense(x)
    shape = results[0].shape
    y = b.new(FLOAT32, shape)
    parts, each = x.shape[-1], shape[-1]
    inner = count(x.shape[axis + 1 : -1])
    _transform(
        b, x, None, y, parts == 1 and not inverse,
        outer=count(x.shape[:axis]),
        inner=inner,
        x_outer=x.shape[axis] * inner * parts,
        x_inner=parts,
        x_step=inner * parts,
        y_outer=shape[axis] * inner * each,
        y_inner=each,
        y_step=inner * each,
        given=min(x.shape[axis], length),
        length=length,
        bins=shape[axis],
        parts=parts,
        inverse=int(inverse),
        mirrored=int(inverse and onesided),
    )  # fmt: skip
    return [y]


def stft(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Frames are read where they lie in the signal, times the window."""
    x, window = [*inputs, None][:2]
    assert x is not None
    attrs: Any = node.attrs
    length, step = attrs["length"], attrs["step"]
    reason = _refused(node, length, x, window)
    if reason:
        return reason
    x = b.dense(x)
    batch, frames, bins, _ = results[0].shape
    parts = x.shape[2]
    y = b.new(FLOAT32, results[0].shape)
    _transform(
        b, x, None if window is None else b.dense(window), y, parts == 1,
        outer=batch,
        inner=frames,
        x_outer=x.shape[1] * parts,
        x_inner=step * parts,
        x_step=parts,
        y_outer=frames * bins * 2,
        y_inner=bins * 2,
        y_step=2,
        given=length,
        length=length,
        bins=bins,
        parts=parts,
        inverse=0,
        mirrored=0,
    )  # fmt: skip
    return [y]


FLOATS: dict[str, Lowering] = {
    "dft": dft,
    "stft": stft,
}
