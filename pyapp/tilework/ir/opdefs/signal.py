"""Fourier transforms and what goes with them.

dft(length, axis, inverse, onesided) (x) [1 holds length, 2 axis]: x's last axis is 1 (real) or 2.
stft(step, length, onesided) (x [, window]) [2 holds step, 3 length]: x is (batch, samples, 1|2).
window(kind "hann" | "hamming" | "blackman", size, periodic, dtype) [0 holds size]
mel_weight_matrix(bins, length, rate, lower, upper, dtype) [0-4]
Computed in the dtype itself, float16 in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import normalize_axis
from tilework.ir.graph import Node
from tilework.ir.narrow import numpy_of
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _number(attrs: Attrs, name: str) -> Any:
    """An attribute that may have come as a tensor of one element."""
    value = attrs.get(name)
    return value[0] if isinstance(value, tuple) else value


def _complex(x: Array) -> Array:
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    if x.shape[-1] == 1:
        return wide[..., 0]
    return np.asarray(wide[..., 0] + np.complex64(1j) * wide[..., 1])


def _parts(values: Array, dtype: Any) -> Array:
    return np.stack([values.real, values.imag], axis=-1).astype(dtype)


# -- dft -------------------------------------------------------------------------------------------


def _normalise_dft(node: Node, infos: Sequence[Info]) -> Mapping[str, Any]:
    attrs: Any = node.attrs
    shape = infos[0].shape
    axis = normalize_axis(int(_number(attrs, "axis")), len(shape))
    if axis == len(shape) - 1:
        raise InvalidArgument("the last axis holds real and imaginary parts")
    length = _number(attrs, "length")
    if length is None:
        both = attrs.get("inverse", 0) and attrs.get("onesided", 0)
        length = 2 * (shape[axis] - 1) if both else shape[axis]
    return {"axis": axis, "length": int(length)}


def _infer_dft(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    attrs: Any = node.attrs
    shape = list(infos[0].shape)
    inverse, onesided = attrs.get("inverse", 0), attrs.get("onesided", 0)
    if len(shape) < 2 or shape[-1] not in (1, 2) or attrs["length"] < 1:
        raise fail(node, infos, "the last extent must be 1 or 2 and the length positive")
    if onesided and not inverse and shape[-1] == 2:
        raise fail(node, infos, "one side is only enough for the transform of real numbers")
    shape[attrs["axis"]] = attrs["length"] // 2 + 1 if onesided and not inverse else attrs["length"]
    shape[-1] = 1 if onesided and inverse else 2
    return [Info(infos[0].dtype, tuple(shape))]


def _dft(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    n, axis = attrs["length"], attrs["axis"]
    signal = _complex(x)
    if attrs.get("inverse", 0):
        if attrs.get("onesided", 0):
            return one(np.fft.irfft(signal, n, axis)[..., None], x.dtype)
        return (_parts(np.fft.ifft(signal, n, axis), x.dtype),)
    transform = np.fft.rfft if attrs.get("onesided", 0) else np.fft.fft
    return (_parts(transform(signal, n, axis), x.dtype),)


define(
    "dft",
    (1, 3),
    _infer_dft,
    quiet(_dft),
    values={"length": 1, "axis": 2},
    normalise=_normalise_dft,
)


# -- stft ------------------------------------------------------------------------------------------


def _normalise_stft(node: Node, infos: Sequence[Info | None]) -> Mapping[str, Any]:
    x, window = infos[0], infos[1] if len(infos) > 1 else None
    assert x is not None
    length = _number(node.attrs, "length")
    if length is None:
        length = x.shape[1] if window is None else window.shape[0]
    return {"step": int(_number(node.attrs, "step")), "length": int(length)}


def _infer_stft(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, window = infos[0], infos[1] if len(infos) > 1 else None
    assert x is not None
    check_kind(node, infos, FLOATS)
    attrs: Any = node.attrs
    step, length = attrs["step"], attrs["length"]
    if len(x.shape) != 3 or x.shape[2] not in (1, 2) or step < 1 or not 1 <= length <= x.shape[1]:
        raise fail(node, infos, f"steps of {step} and frames of {length} do not fit the signal")
    if window is not None and window.shape != (length,):
        raise fail(node, infos, f"the window must be [{length}]")
    if attrs.get("onesided", 1) and x.shape[2] == 2:
        raise fail(node, infos, "one side is only enough for the transform of real numbers")
    frames = (x.shape[1] - length) // step + 1
    bins = length // 2 + 1 if attrs.get("onesided", 1) else length
    return [Info(x.dtype, (x.shape[0], frames, bins, 2))]


def _stft(attrs: Attrs, x: Array, window: Array | None = None) -> tuple[Array, ...]:
    step, length = attrs["step"], attrs["length"]
    signal = _complex(x)
    frames = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1)[:, ::step]
    if window is not None:
        frames = frames * window
    transform = np.fft.rfft if attrs.get("onesided", 1) else np.fft.fft
    return (_parts(transform(frames, axis=-1), x.dtype),)


define(
    "stft",
    (1, 4),
    _infer_stft,
    quiet(_stft),
    values={"step": 2, "length": 3},
    normalise=_normalise_stft,
)


# -- windows and mel weights -----------------------------------------------------------------------

# a - b cos x + c cos 2x
WINDOWS = {
    "hann": (0.5, 0.5, 0.0),
    "hamming": (25 / 46, 21 / 46, 0.0),
    "blackman": (0.42, 0.5, 0.08),
}


def _infer_window(node: Node, infos: Sequence[Info]) -> list[Info]:
    size = _number(node.attrs, "size")
    if size < 0 or node.attrs["kind"] not in WINDOWS:
        raise fail(node, infos, f"cannot make a window of {size} points")
    return [Info(BY_NAME[str(node.attrs["dtype"])], (int(size),))]


def _window(attrs: Attrs) -> tuple[Array, ...]:
    size = int(_number(attrs, "size"))
    period = size if attrs.get("periodic", 1) else size - 1
    turn = np.arange(size) * (2 * np.pi / max(period, 1))
    a, b, c = WINDOWS[attrs["kind"]]
    return one(a - b * np.cos(turn) + c * np.cos(2 * turn), numpy_of(attrs["dtype"]))


define("window", (1, 1), _infer_window, _window, values={"size": 0})

_MEL = ("bins", "length", "rate", "lower", "upper")


def _infer_mel(node: Node, infos: Sequence[Info]) -> list[Info]:
    bins, length, rate, _, _ = (_number(node.attrs, name) for name in _MEL)
    if bins < 1 or length < 1 or rate < 1:
        raise fail(node, infos, "bins, dft_length and sample_rate must be positive")
    return [Info(BY_NAME[str(node.attrs["dtype"])], (int(length) // 2 + 1, int(bins)))]


def _mel(attrs: Attrs) -> tuple[Array, ...]:
    bins, length, rate, lower, upper = (_number(attrs, name) for name in _MEL)
    rows = int(length) // 2 + 1
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (lower, upper))
    step = (high - low) / (int(bins) + 2)
    hertz = 700 * (10 ** ((np.arange(int(bins) + 2) * step + low) / 2595) - 1)
    # The standard's own numbers stand on this floor, which moves an edge by up to a bin.
    edges = ((length + 1) * hertz // rate).astype(np.int64)
    weights: Array = np.zeros((rows, int(bins)))
    place: Array = np.arange(rows)
    for i in range(int(bins)):
        left, middle, right = edges[i : i + 3]
        rising = (place - left) / (middle - left) if middle > left else (place == middle) * 1.0
        falling = (right - place) / (right - middle) if right > middle else np.zeros(rows)
        up = (place >= left) & (place <= middle)
        down = (place >= middle) & (place < right)
        weights[:, i] = np.where(down, falling, np.where(up, rising, 0))
    return one(weights, numpy_of(attrs["dtype"]))


define(
    "mel_weight_matrix",
    (5, 5),
    _infer_mel,
    quiet(_mel),
    values={name: index for index, name in enumerate(_MEL)},
)
