"""Draft: everything decided about one set of shapes, before any device memory is touched.

The planner makes it, the recorder turns it into programs. It prints itself: step by step what runs,
on which bytes, with which kernel and how many tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilework.ir.opdefs.registry import Array
from tilework.passes.pipeline import Fired
from tilework.plan.caches import Shelved
from tilework.plan.step import Dispatch, HostStep, Step
from tilework.plan.tensor import Kind, Storage, Tensor


@dataclass(frozen=True, slots=True)
class Draft:
    """`steps` are in level order; `prologue` prepares constants, in order of dependence."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    steps: Sequence[Step]
    prologue: Sequence[Step]
    locals: Mapping[Storage, Array]
    arena_bytes: int
    fired: Fired
    shelved: Mapping[str, Shelved] = field(default_factory=dict)  # of the outputs
    behind: Sequence[str] = ()  # in words: what runs after it, when this is a part of a graph

    def segments(self) -> list[list[Step]]:
        """Runs of dispatches, and each host step by itself."""
        parts: list[list[Step]] = []
        for step in self.steps:
            together = (
                isinstance(step, Dispatch) and parts and isinstance(parts[-1][-1], Dispatch)
            )
            if together:
                parts[-1].append(step)
            else:
                parts.append([step])
        return parts

    def constants(self) -> list[Storage]:
        """Session constants that the steps or outputs read, by key without repetition."""
        found: dict[str, Storage] = {}
        touched = [storage for step in self.steps for storage in step.reads()]
        touched += [tensor.storage for tensor in self.outputs.values()]
        for storage in touched:
            if storage.kind in (Kind.CONSTANT, Kind.PREPARED):
                found.setdefault(storage.key, storage)
        return list(found.values())

    def places(self) -> frozenset[str]:
        """Where its results are computed: "kernel", "host", or both.

        What is prepared once counts only where a run has nothing left to do. Views and constants
        that are only read back are "kernel"; what planning has computed already, from shapes and
        attributes, is the host's.
        """
        found = {
            "host" if isinstance(step, HostStep) else "kernel"
            for step in self.steps or self.prologue
        }
        ends = {tensor.storage for tensor in self.outputs.values()}
        return frozenset(found or {"host" if ends <= self.locals.keys() else "kernel"})

    def __str__(self) -> str:
        shapes = ", ".join(f"{name}{list(shape)}" for name, shape in self.shapes.items())
        hosts = sum(isinstance(step, HostStep) for step in self.steps)
        lines = [
            f"plan of {self.name} for {shapes}: {len(self.steps) - hosts} dispatches, "
            f"{hosts} host steps, arena {self.arena_bytes:,} bytes"
        ]
        lines += [describe(step) for step in self.steps]
        lines += [f"then {words}" for words in self.behind]
        return "\n".join(lines)


def describe(step: Step) -> str:
    """One line of a printed plan."""
    if isinstance(step, HostStep):
        return f"{step.level:4} {'on host':20} {step.reason:>24} {step.label}"
    tiles = "×".join(map(str, step.counts))
    read = sum(span.nbytes for span in step.bindings if span is not None)
    return f"{step.level:4} {step.kernel.name:20} {tiles:>10} tiles {read:12,} B {step.label}"
