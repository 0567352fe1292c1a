"""Constants that hang on how far apart row and column are: causal masks, triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tilework.core.dtypes import DType
from tilework.core.growing import most
from tilework.ir.opdefs.registry import Array
from tilework.plan.builder import Builder
from tilework.plan.tensor import Tensor


def banded(
    b: Builder,
    extents: tuple[int, int],
    before: int,
    hidden: Callable[[Array], Array],
    number: float,
    dtype: DType,
) -> Tensor:
    """(rows, keys): `number` where `hidden` says so of how far a key lies ahead of its query, else
    0. Query i is key `before` + i.

    With lengths that grow it is a view of one constant, farther left the longer they are.
    """
    rows, keys = extents
    room = most(before)
    wide = room + most(keys - before)
    ahead = np.arange(wide) - room - np.arange(rows)[:, None]
    zero = np.zeros((), dtype.numpy)
    bias = b.local(np.where(hidden(ahead), np.asarray(number, dtype.numpy), zero), dtype)
    return replace(bias, shape=(rows, keys), offset=room - before)
