"""Graph, Node, Value and Constant: the one form in which a computation is handed down.

Built by the fronts (onnx, array), rewritten by passes, read by the planner. Nodes are in
topological order, each value has one producer, and nothing here computes.

A value is a tensor, or it wraps tensors: a sequence is a list on the host, an optional is None or
what it wraps, a map a dict of Python's own keys and numbers. An attribute may be a graph, as the
branches of an `if` and the body of a `loop`; all that such a graph reads from outside is an input
of the node and one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tilework.core.dtypes import DType
from tilework.core.shapes import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The dtype of a value of which the model does not say one; no array has it.
UNTYPED = DType("untyped", 0, "?", "", 0)

SEQUENCE, OPTIONAL = "sequence", "optional"
MAP = "map of "  # and the dtype of the keys

# An extent is a number, or the name of one that is only known at run time; "" has no name.
Extent: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Value:
    """A value's name and type. `shape` is None when even the rank is unknown.

    `wraps` says around what its tensors are, the outermost first: () for a tensor, (OPTIONAL,
    SEQUENCE) for an optional sequence of tensors; dtype and shape are those of the tensors.
    """

    name: str
    dtype: DType
    shape: tuple[Extent, ...] | None
    wraps: tuple[str, ...] = ()


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

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return count(self.shape) * self.dtype.size


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes over values. Every name in `nodes` is an input, a constant or an earlier output."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    values: Mapping[str, Value] = field(default_factory=dict)  # what is declared of the others
