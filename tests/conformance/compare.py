"""Whether what came out is what the suite wants, by the suite's own rule.

The rule is onnx.backend.test.runner's `assert_similar_outputs`: sequences by their elements, then
shape, then strings exactly, else dtype and numpy.testing.assert_allclose; bfloat16 within two of
its last places. What draws random numbers is compared by dtype and shape: the cases themselves say
that their values are one implementation's. Dtypes that NumPy lacks are decoded here, by a table of
its own, not by tilework's.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BFLOAT16_RTOL = 2**-6


class Format(NamedTuple):
    """A float of up to eight bits: its fields, and which patterns are no numbers."""

    signed: bool
    exponent: int  # bits
    mantissa: int  # bits
    bias: int
    nans: tuple[int, ...]
    infinities: tuple[int, ...] = ()


FORMATS = {
    "float8e4m3fn": Format(True, 4, 3, 7, (0x7F, 0xFF)),
    "float8e4m3fnuz": Format(True, 4, 3, 8, (0x80,)),
    "float8e5m2": Format(
        True, 5, 2, 15, (0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF), (0x7C, 0xFC)
    ),
    "float8e5m2fnuz": Format(True, 5, 2, 16, (0x80,)),
    "float8e8m0": Format(False, 8, 0, 127, (0xFF,)),
    "float4e2m1": Format(True, 2, 1, 1, ()),
}


@cache
def decoded(name: str) -> NDArray[np.float64]:
    """The number of every bit pattern of a format."""
    form = FORMATS[name]
    bits = form.signed + form.exponent + form.mantissa
    values = np.empty(1 << bits)
    for pattern in range(1 << bits):
        power = pattern >> form.mantissa & (1 << form.exponent) - 1
        fraction = (pattern & (1 << form.mantissa) - 1) / (1 << form.mantissa)
        negative = form.signed and pattern >> bits - 1
        if pattern in form.nans:
            value = np.nan
        elif pattern in form.infinities:
            value = np.inf
        elif power == 0 and form.mantissa:
            value = fraction * 2.0 ** (1 - form.bias)
        else:
            value = (1 + fraction) * 2.0 ** (power - form.bias)
        values[pattern] = -value if negative else value
    return values


def numbers(array: NDArray[Any]) -> NDArray[Any]:
    """The array as NumPy can compare it."""
    if array.dtype.names is None:
        return array
    (name,) = array.dtype.names
    raw: NDArray[Any] = array[name]
    if name == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return decoded(name)[raw & len(decoded(name)) - 1] if name in FORMATS else raw


def difference(wanted: Any, found: Any, rtol: float, atol: float, random: bool = False) -> str:
    """What is wrong with `found`, in words; "" when nothing is."""
    if isinstance(wanted, list):
        if not isinstance(found, (list, tuple)):
            return f"expected a sequence, got {type(found).__name__}"
        if len(wanted) != len(found):
            return f"expected a sequence of {len(wanted)}, got one of {len(found)}"
        said = [difference(a, b, rtol, atol, random) for a, b in zip(wanted, found, strict=True)]
        return next((f"element {i}: {words}" for i, words in enumerate(said) if words), "")
    if wanted is None or not isinstance(found, np.ndarray):
        right = wanted is None and found is None
        return "" if right else f"expected {type(wanted).__name__}, got {type(found).__name__}"
    if wanted.shape != found.shape:
        return f"expected shape {list(wanted.shape)}, got {list(found.shape)}"
    if wanted.dtype != found.dtype:
        return f"expected {wanted.dtype}, got {found.dtype}"
    if random:
        return ""
    try:
        if wanted.dtype == object:
            np.testing.assert_array_equal(found, wanted)
        else:
            if wanted.dtype.names == ("bfloat16",):
                rtol = max(rtol, BFLOAT16_RTOL)
            np.testing.assert_allclose(numbers(found), numbers(wanted), rtol=rtol, atol=atol)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""
