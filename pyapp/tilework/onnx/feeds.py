"""What the caller feeds → contiguous arrays of the model's dtypes, checked before any device work.

Every error is InvalidArgument (a ValueError) and names the input, what came and what is expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import DType, ort_type
from tilework.core.errors import InvalidArgument
from tilework.engine.devices import Device
from tilework.engine.resident import Fed, Resident, host_array
from tilework.ir.graph import MAP, OPTIONAL, SEQUENCE, Value
from tilework.ir.narrow import adopt
from tilework.onnx.value import OrtValue

Array = NDArray[Any]

# In a page NumPy's own integers have 32 bits, as pointers do. A script that feeds `np.array([1])`
# to an input of int64 means those that NumPy has elsewhere.
_OWN_INTEGERS = np.dtype(int)
_INT64 = np.dtype(np.int64)


class Feeds:
    """The checks of one model's inputs; `optional` ones have defaults of the model."""

    def __init__(
        self, inputs: Sequence[Value], optional: frozenset[str], device: Device
    ) -> None:
        self._device = device
        self._values = {value.name: value for value in inputs}
        self._dtypes = {value.name: np.dtype(value.dtype.numpy) for value in inputs}
        self._required = [value.name for value in inputs if value.name not in optional]

    def check(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The arrays by name; an OrtValue of the session's device stays there.

        Sequences are lists of arrays, optionals None or what they hold. Raises InvalidArgument.
        """
        if not isinstance(given, Mapping):
            raise InvalidArgument(
                f"feeds are a {type(given).__name__}; expected a dict from input name to array"
            )
        arrays = {}
        for name, value in given.items():
            expected = self._values.get(name)
            if expected is None:
                known = ", ".join(repr(one) for one in self._values)
                raise InvalidArgument(f"invalid input name {name!r}; the model's inputs: {known}")
            arrays[name] = self._value(name, value, expected, expected.wraps)
        for name in self._required:
            if name not in arrays:
                missing = [one for one in self._required if one not in arrays]
                raise InvalidArgument(
                    f"required inputs {missing} are missing from the feeds {list(arrays)}; "
                    "feed an array for each"
                )
        return arrays

    def _value(
        self, name: str, value: object, expected: Value, wraps: tuple[str, ...]
    ) -> Any:
        if not wraps:
            return self._array(name, value, expected)
        if isinstance(value, OrtValue):
            value = value.held()
        if wraps[0] == OPTIONAL:
            return None if value is None else self._value(name, value, expected, wraps[1:])
        if wraps[0].startswith(MAP):
            return _checked_map(name, value, expected, wraps[0].removeprefix(MAP))
        if not isinstance(value, (list, tuple)):
            raise InvalidArgument(
                f"input {name!r} is a {type(value).__name__}; expected a list, it is a sequence "
                f"({value_type(expected)})"
            )
        items = [self._value(name, item, expected, wraps[1:]) for item in value]
        return [host_array(one) if isinstance(one, Resident) else one for one in items]

    def _array(self, name: str, value: object, expected: Value) -> Fed:
        dtype = self._dtypes[name]
        if isinstance(value, np.ndarray) and value.dtype == dtype and value.flags.c_contiguous:
            self._check_shape(name, value.shape, expected)
            return value
        if isinstance(value, OrtValue):
            value = value.fed(self._device)
        if isinstance(value, Resident):
            if value.dtype is not expected.dtype:
                raise InvalidArgument(
                    f"unexpected data type of input {name!r}: actual {ort_type(value.dtype)}, "
                    f"expected {ort_type(expected.dtype)}"
                )
            self._check_shape(name, value.shape, expected)
            return value
        if isinstance(value, np.ndarray):
            array: Array = adopt(value)
        else:
            array = _converted(name, value, dtype)
        if dtype == _INT64 and array.dtype == _OWN_INTEGERS:
            array = array.astype(dtype)
        if array.dtype != dtype:
            raise InvalidArgument(
                f"unexpected data type of input {name!r}: actual {array.dtype}, expected "
                f"{expected.dtype} ({ort_type(expected.dtype)}); {_remedy(expected.dtype)}"
            )
        if not array.flags.c_contiguous:
            array = np.array(array, order="C")
        self._check_shape(name, array.shape, expected)
        return array

    def _check_shape(self, name: str, given: tuple[int, ...], expected: Value) -> None:
        shape = expected.shape
        if shape is None:
            return
        if len(shape) != len(given):
            raise InvalidArgument(
                f"invalid rank for input {name!r}: got {len(given)} {list(given)}, expected "
                f"{len(shape)} {_shown(shape)}; reshape it or add the axes that are missing"
            )
        for axis, (extent, got) in enumerate(zip(shape, given, strict=True)):
            if isinstance(extent, int) and extent != got:
                raise InvalidArgument(
                    f"invalid dimensions for input {name!r}: axis {axis} has {got}, expected "
                    f"{extent}; got {list(given)}, expected {_shown(shape)}"
                )

    def conflict(self, arrays: Mapping[str, Any]) -> str:
        """Which symbolic extent two inputs disagree about, in words; "" when none."""
        seen: dict[str, tuple[str, int]] = {}
        for name, array in arrays.items():
            if not isinstance(array, (np.ndarray, Resident)):
                continue
            for extent, got in zip(self._values[name].shape or (), array.shape, strict=False):
                if not isinstance(extent, str) or not extent:
                    continue
                other, first = seen.setdefault(extent, (name, got))
                if first != got:
                    return (
                        f"inputs {other!r} and {name!r} disagree about '{extent}': "
                        f"{first} and {got}"
                    )
        return ""


def value_type(value: Value) -> str:
    """The type string that onnxruntime shows, e.g. `seq(tensor(float))`."""
    words = ort_type(value.dtype)
    for wrap in reversed(value.wraps):
        if wrap.startswith(MAP):
            words = f"map({wrap.removeprefix(MAP)},{words})"
        else:
            words = f"{'seq' if wrap == SEQUENCE else wrap}({words})"
    return words


def _checked_map(name: str, value: object, expected: Value, keys: str) -> dict[Any, Any]:
    """A dict whose keys and values are Python's own str, int or float."""
    what = f"input {name!r} is a {value_type(expected)}"
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{what}; expected a dict, got a {type(value).__name__}")
    as_key: type = str if keys == "string" else int
    kind = expected.dtype.kind
    as_value: type = str if kind == "s" else float if kind == "f" else int
    found = {}
    for key, one in value.items():
        if isinstance(key, str) is not (as_key is str) or isinstance(one, str) is not (kind == "s"):
            raise InvalidArgument(f"{what}; the dict has {key!r}: {one!r}")
        try:
            found[as_key(key)] = as_value(one)
        except (TypeError, ValueError):
            raise InvalidArgument(f"{what}; the dict has {key!r}: {one!r}") from None
    return found


def _converted(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Numbers and nested lists in the input's dtype; what has an array interface, as it is."""
    try:
        if isinstance(value, (list, tuple, int, float, bool, str)):
            array = adopt(np.asarray(value))
            if array.dtype.kind == "O":
                return array
            if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
                raise InvalidArgument(
                    f"input {name!r}: the numbers are {array.dtype}, expected {dtype}"
                )
            return array.astype(dtype)
        return adopt(np.asarray(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(
            f"input {name!r} is a {type(value).__name__} that makes no array of {dtype}: {error}"
        ) from None


def _remedy(dtype: DType) -> str:
    if dtype.wide:
        return f"feed an array of ml_dtypes, or of the structured dtype {dtype.numpy}"
    return f"convert it with .astype(numpy.{'str_' if dtype.kind == 's' else dtype.numpy})"


def _shown(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(extent) or "?" for extent in shape) + "]"
