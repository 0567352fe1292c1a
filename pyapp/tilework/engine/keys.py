"""What of a value a stage is made for: its dtype and shape, and elements that decide shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilework.core.dtypes import from_numpy
from tilework.engine.resident import Resident
from tilework.ir.opdefs.registry import Array, Info


def value_key(array: Array) -> Any:
    """Integers as such, so that it is seen when they grow."""
    return tuple(array.reshape(-1).tolist()) if array.dtype.kind in "iu" else array.tobytes()


def dtype_key(value: Any) -> str:
    """The dtype's name; "" of what is no tensor."""
    if isinstance(value, Resident):
        return value.dtype.name
    return from_numpy(value.dtype).name if isinstance(value, np.ndarray) else ""


def integral(value: Any) -> bool:
    """Whether its elements are whole numbers."""
    dtype = value.dtype if isinstance(value, Resident) else from_numpy(value.dtype)
    return dtype.kind in "iub"


def info_of(value: Any, known: Any) -> Info | None:
    """What is known of a tensor; None of what no device can hold."""
    if isinstance(value, Resident):
        return Info(value.dtype, value.shape, known)
    if not isinstance(value, np.ndarray) or value.dtype == object:
        return None
    return Info(from_numpy(value.dtype), value.shape, None if known is None else known.copy())
