"""Dispatch and HostStep: what a lowering emits, the schedule orders and the recorder writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from tilework.hal.kernel import Kernel
from tilework.ir.graph import Node
from tilework.plan.tensor import Storage, Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """`nbytes` bytes at `offset` of a storage."""

    storage: Storage
    offset: int
    nbytes: int


@dataclass(eq=False, slots=True)
class Dispatch:
    """One kernel over counts[0] × counts[1] × counts[2] tiles. `level` is the schedule's."""

    kernel: Kernel
    counts: tuple[int, int, int]
    params: NamedTuple | None
    bindings: tuple[Span | None, ...]
    label: str
    scratch: int = 0
    level: int = -1
    over: tuple[int, int] | None = None  # (output, input): bindings that may be the same memory
    behind: bool = False  # what it writes a part of has to be there: it is read, in a way

    def reads(self) -> list[Storage]:
        """Storages that it reads."""
        read = ("input", "inout") if self.behind else ("input",)
        return [
            span.storage
            for span, binding in zip(self.bindings, self.kernel.bindings, strict=True)
            if span is not None and binding.access in read
        ]

    def writes(self) -> list[Storage]:
        """Storages that it writes; parts of one storage may be written by several dispatches."""
        return [
            span.storage
            for span, binding in zip(self.bindings, self.kernel.bindings, strict=True)
            if span is not None and binding.access != "input"
        ]


@dataclass(eq=False, slots=True)
class HostStep:
    """A node that has no kernel here: its NumPy reference runs on the host, between programs."""

    node: Node
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    reason: str
    level: int = -1
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the user calls it."""
        return self.node.origin or self.node.op

    def reads(self) -> list[Storage]:
        """Storages that it reads."""
        return [tensor.storage for tensor in self.inputs if tensor is not None]

    def writes(self) -> list[Storage]:
        """Storages that it writes."""
        return [tensor.storage for tensor in self.outputs]


Step: TypeAlias = Dispatch | HostStep
