"""Maps: dicts of Python's own keys and numbers, on the host.

zip_map(classes) (scores) -> a list of one dict a row, from class to score
map_values(keys, dtype) (m) -> (1, keys): the map's values of these keys, 0 or "" where it has none
map_cast(dtype, extent) (m of int64 keys) -> (1, n): the values in their keys' order, or, with an
extent, each at the place that its key says

Source: onnx/defs/traditionalml, ZipMap, DictVectorizer and CastMap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME
from tilework.core.errors import InvalidArgument
from tilework.ir.opdefs.registry import Array, Attrs, define_dynamic


def _zip_map(attrs: Attrs, scores: Array) -> tuple[list[dict[Any, Any]]]:
    classes = attrs["classes"]
    rows = scores.reshape(-1, scores.shape[-1]) if scores.ndim else scores.reshape(1, 1)
    if rows.shape[1] != len(classes):
        raise InvalidArgument(f"rows of {rows.shape[1]} scores for {len(classes)} classes")
    return ([dict(zip(classes, row, strict=True)) for row in rows.tolist()],)


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument("takes a map")
    return value


def _numbers(values: list[Any], name: str) -> Array:
    """A row of the values in the dtype."""
    try:
        made: Array = np.empty((1, len(values)), BY_NAME[name].numpy)
        made[0, :] = [str(one) for one in values] if name == "string" else values
    except ValueError as error:  # a string that is no number
        raise InvalidArgument(str(error)) from None
    return made


def _map_values(attrs: Attrs, value: Any) -> tuple[Array]:
    found = _mapping(value)
    absent = "" if attrs["dtype"] == "string" else 0
    return (_numbers([found.get(key, absent) for key in attrs["keys"]], attrs["dtype"]),)


def _map_cast(attrs: Attrs, value: Any) -> tuple[Array]:
    found, name, extent = _mapping(value), attrs["dtype"], attrs.get("extent")
    if extent is None:
        return (_numbers([found[key] for key in sorted(found)], name),)
    absent = "0" if name == "string" else 0
    beyond = [key for key in found if not 0 <= key < extent]
    if beyond:
        raise InvalidArgument(f"the map has the key {beyond[0]}; keys are from 0 to {extent - 1}")
    return (_numbers([found.get(key, absent) for key in range(extent)], name),)


define_dynamic("zip_map", 1, _zip_map)
define_dynamic("map_values", 1, _map_values)
define_dynamic("map_cast", 1, _map_cast)
