"""Steps to a HAL program: bindings, and barriers between levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilework.core.growing import Growth
from tilework.hal import Buffer, Device, Program, Slot
from tilework.plan.step import Dispatch, Span

Resolve = Callable[[Span], Buffer | Slot]


def record(
    device: Device,
    steps: Sequence[Dispatch],
    resolve: Resolve,
    label: str,
    growth: Growth | None = None,
) -> Program:
    """Records `steps`, which are in level order. `resolve` says where each span lies; `growth` is
    of what grows."""
    commands = device.command_buffer(label, growth)
    level = steps[0].level if steps else 0
    for step in steps:
        if step.level != level:
            commands.barrier()
            level = step.level
        commands.dispatch(
            step.kernel,
            step.counts,
            step.params,
            [None if span is None else resolve(span) for span in step.bindings],
            scratch=step.scratch,
            label=step.label,
        )
    return commands.finish()
