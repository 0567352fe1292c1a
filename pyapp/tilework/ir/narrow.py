"""Values of narrow dtypes as NumPy numbers and back, exactly: widen, narrow, convert, adopt.

Owns the formats of the floats of 4, 6 and 8 bits and of bfloat16. `core.dtypes` says how a narrow
array is held. Sources: OCP 8-bit Floating Point Specification 1.0, OCP Microscaling Formats 1.0,
Noune et al. 2022 (the fnuz formats), ONNX Cast-25 (what saturates and how).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import BFLOAT16, BY_NAME, FLOAT8E8M0, FOREIGN, DType, from_numpy
from tilework.core.errors import InvalidArgument

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Format:
    """sign | exponent | mantissa. `special`: what is no finite number.

    "ieee": the highest exponent; "fn": only all ones, a NaN; "fnuz": only minus zero, a NaN;
    "": nothing.
    """

    exponent: int
    mantissa: int
    bias: int
    special: str


_FORMATS = {
    "float8e4m3fn": _Format(4, 3, 7, "fn"),
    "float8e4m3fnuz": _Format(4, 3, 8, "fnuz"),
    "float8e5m2": _Format(5, 2, 15, "ieee"),
    "float8e5m2fnuz": _Format(5, 2, 16, "fnuz"),
    "float6e2m3": _Format(2, 3, 1, ""),
    "float6e3m2": _Format(3, 2, 3, ""),
    "float4e2m1": _Format(2, 1, 1, ""),
}


@cache
def _magnitudes(name: str) -> tuple[Array, int]:
    """What the codes without sign bit stand for, as if none were special, then how many of them
    are finite; one more than there are codes, for rounding beyond the largest."""
    form = _FORMATS[name]
    codes = np.arange((1 << (form.exponent + form.mantissa)) + 1)
    exponent, fraction = codes >> form.mantissa, codes & ((1 << form.mantissa) - 1)
    scaled = np.where(exponent > 0, fraction + (1 << form.mantissa), fraction)
    power = np.maximum(exponent, 1) - form.bias - form.mantissa
    finite = codes.size - 1
    if form.special == "ieee":
        finite -= 1 << form.mantissa
    elif form.special == "fn":
        finite -= 1
    return np.ldexp(scaled.astype(np.float64), power), finite


@cache
def _table(name: str) -> Array:
    """float32 by code."""
    if name == FLOAT8E8M0.name:
        powers = np.ldexp(np.float32(1), np.arange(255) - 127)
        return np.append(powers, np.float32(np.nan))
    form = _FORMATS[name]
    values, finite = _magnitudes(name)
    half = values[:-1].copy()
    half[finite:] = np.nan
    if form.special == "ieee":
        half[finite] = np.inf
    table = np.concatenate([half, -half]).astype(np.float32)
    if form.special == "fnuz":
        table[half.size] = np.nan
    return table


def bits_of(array: Array) -> Array:
    """The integers that a narrow array holds; a view."""
    return np.asarray(array[from_numpy(array.dtype).name])


def plain(array: Array) -> Array:
    """The array with a buffer that `memoryview` knows: of a narrow one the integers; a view."""
    return array if array.dtype.names is None else bits_of(array)


def of_bits(bits: Array, dtype: DType) -> Array:
    """The narrow array that holds these integers; a view where the integers' width is its own."""
    target = np.dtype(dtype.numpy)
    held = np.ascontiguousarray(bits, dtype=target[0]).reshape(bits.shape)
    return np.asarray(held.view(target)).reshape(bits.shape)


def signed(codes: Array, bits: int) -> Array:
    """Two's complement numbers of so many low bits of bytes, as int8."""
    sign = np.uint8(1 << (bits - 1))
    return np.asarray((codes ^ sign).view(np.int8) - np.int8(sign))


def widen(array: Array) -> Array:
    """The same values in the NumPy dtype `DType.wide`; an array of any other dtype as it is."""
    if array.dtype.names is None:
        return array
    dtype = from_numpy(array.dtype)
    bits = bits_of(array)
    if dtype is BFLOAT16:
        return np.asarray((bits.astype(np.uint32) << 16).view(np.float32)).reshape(bits.shape)
    if dtype.kind == "f":
        return np.asarray(_table(dtype.name)[bits])
    return np.asarray(bits, dtype=dtype.wide)


def narrow(array: Array, dtype: DType, saturate: bool = True, rounding: str = "up") -> Array:
    """Numbers in a narrow dtype.

    Floats round to nearest, ties to even, from float64 in one step. Beyond the largest: bfloat16 is
    infinite; other floats the largest with `saturate`, else infinite or NaN, as the dtype has it;
    those without either the largest. float8e8m0 rounds as `rounding` says ("up", "down",
    "nearest") and has no sign. Integers lose a fraction, then all but their low bits.
    Raises InvalidArgument for another rounding.
    """
    values = np.asarray(array)
    with np.errstate(all="ignore"):
        if dtype is BFLOAT16:
            return of_bits(_bfloat16(values), dtype)
        if dtype is FLOAT8E8M0:
            return of_bits(_power_of_two(values, saturate, rounding), dtype)
        if dtype.kind == "f":
            return of_bits(_small_float(values.astype(np.float64), dtype.name, saturate), dtype)
        whole = values.astype(np.int64)
    low = (whole & ((1 << dtype.bits) - 1)).astype(np.uint8)
    return of_bits(signed(low, dtype.bits) if dtype.kind == "i" else low, dtype)


def _bfloat16(values: Array) -> Array:
    single = values.astype(np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    if values.dtype.kind != "f" or values.dtype.itemsize > 4:
        # Odd where the first rounding lost something, so that the second cannot see a false tie.
        wide = values.astype(np.float64)
        lost = single.astype(np.float64) != wide
        away = lost & (np.abs(single.astype(np.float64)) > np.abs(wide))
        bits = np.where(lost & np.isfinite(wide), (bits - away) | 1, bits)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _small_float(values: Array, name: str, saturate: bool) -> Array:
    form = _FORMATS[name]
    magnitudes, finite = _magnitudes(name)
    size = np.abs(values)
    middles = (magnitudes[:finite] + magnitudes[1 : finite + 1]) / 2
    low = np.searchsorted(middles, size, side="left")
    high = np.searchsorted(middles, size, side="right")
    codes = np.where(low == high, low, np.where(low % 2 == 0, low, high))
    over = codes >= finite
    sign = 1 << (form.exponent + form.mantissa)
    lowest = sign if form.special == "fnuz" else sign - 1  # NaN; 0x7F has all of fn's ones
    if not form.special:
        codes = np.where(over, finite - 1, codes)
        codes = np.where(np.isnan(values), 0, codes)
    elif saturate:
        codes = np.where(over, finite - 1, codes)
    else:
        codes = np.where(over, finite if form.special == "ieee" else lowest, codes)
    negative = np.signbit(values)
    if form.special == "fnuz":  # no minus zero: that code is the NaN
        negative &= (codes != 0) & (codes != lowest)
    codes = np.where(negative, codes | sign, codes)
    if form.special:
        codes = np.where(np.isnan(values), lowest, codes)
    return codes.astype(np.uint8)


def _power_of_two(values: Array, saturate: bool, rounding: str) -> Array:
    bits = np.abs(values.astype(np.float32)).view(np.uint32)
    exponent, fraction = bits >> 23, bits & 0x7FFFFF
    if rounding == "up":
        more = fraction > 0
    elif rounding == "nearest":
        more = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    elif rounding == "down":
        more = np.zeros(fraction.shape, bool)
    else:
        raise InvalidArgument(f"round_mode '{rounding}' is not one of up, down, nearest")
    if saturate:
        more = more & (exponent != 0xFE)
    return np.where(exponent == 0xFF, 0xFF, exponent + more).astype(np.uint8)


def rounded(array: Array, dtype: DType) -> Array:
    """Numbers as they are after having been stored in `dtype`, still in the wide NumPy dtype."""
    if not dtype.wide:
        return np.asarray(array, dtype.numpy)
    return widen(narrow(array, dtype, saturate=False))


def convert(array: Array, dtype: DType, saturate: bool = True, rounding: str = "up") -> Array:
    """Numbers in any dtype of tilework: floats lose their fraction in integers, non-zero is true.

    Strings are read and written as by onnxruntime. See `narrow` for saturate and rounding.
    """
    wide = widen(array)
    if dtype.kind == "s" or array.dtype.kind == "O":
        return _text(wide, dtype)
    if dtype.wide:
        return narrow(wide, dtype, saturate, rounding)
    if wide.dtype.kind == "c" and dtype.kind != "c":
        wide = wide.real
    with np.errstate(all="ignore"):
        return np.asarray(wide.astype(dtype.numpy))


def _text(values: Array, dtype: DType) -> Array:
    if values.dtype.kind == "O":
        if dtype.kind == "s":
            return values
        wide = "float64" if dtype.kind == "f" else "int64"
        read = values.astype(np.str_).astype(wide) if dtype.kind in "fi" else values.astype(wide)
        return convert(np.asarray(read), dtype)
    texts = [_written(value) for value in values.reshape(-1)]
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(values.shape)


def _written(value: Any) -> str:
    if isinstance(value, np.floating):
        if np.isnan(value):
            return "NaN"
        if np.isinf(value):
            return "INF" if value > 0 else "-INF"
        # onnxruntime prints eight digits of a float, as %.8g does, and seventeen of a double
        return f"{value:.17g}" if value.dtype.itemsize == 8 else f"{value:.8g}"
    return str(int(value)) if isinstance(value, np.bool_) else str(value)


def numpy_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype in which an operation computes the dtype `name`."""
    dtype = BY_NAME[name]
    return np.dtype(dtype.wide or dtype.numpy)


def adopt(array: Array) -> Array:
    """An array of ml_dtypes, or of NumPy's strings, as tilework holds it; any other as it is."""
    if array.dtype.kind == "U":
        return array.astype(object)
    dtype = FOREIGN.get(array.dtype.name) if array.dtype.names is None else None
    if dtype is None:
        return array
    dense: Array = np.ascontiguousarray(array).reshape(array.shape)
    bits: Array = dense.view(np.uint8 if dtype.size == 1 else np.uint16)
    if dtype.bits:  # ml_dtypes may leave the upper bits as they come
        bits = bits & np.uint8((1 << dtype.bits) - 1)
        if dtype.kind == "i":
            bits = signed(bits, dtype.bits)
    return of_bits(bits, dtype)
