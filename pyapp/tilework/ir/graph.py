"""Graph, Node, Value and Constant: the one form in which a computation is handed down.

Built by the fronts (onnx, array), rewritten by passes, read by the planner. Nodes are in
topological order, each value has one producer, and nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tilework.core.dtypes import DType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# An extent is a number, or the name of one that is only known at run time; "" has no name.
Extent: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor's name and type. `shape` is None when even the rank is unknown."""

    name: str
    dtype: DType
    shape: tuple[Extent, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `op` is a name of `ir.opdefs`; an absent optional input is the name ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""  # what the user calls it, for errors: "MatMul '/encoder/0/query'"


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor known before any run.

    Exactly one of `array` and `external` is set: `array` views the model's own bytes, `external`
    is (offset, nbytes) in the session's external data, which may live on the device only.
    """

    dtype: DType
    shape: tuple[int, ...]
    array: NDArray[np.generic] | None = None
    external: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes over values. Every name in `nodes` is an input, a constant or an earlier output."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    values: Mapping[str, Value] = field(default_factory=dict)  # what is declared of the others
