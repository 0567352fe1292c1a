"""The table: which lowering an operation has. One file a family of kernels, with its own part.

A family's `PLAIN` are those that move elements, and those that see to each dtype themselves. Its
`FLOATS` compute in float32; float16 and bfloat16 are converted around them. A family is imported
with its kernels' interfaces when one of its operations is first looked up (`core.chapters`).
An operation that is in none runs on the host by its reference.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from tilework.core.chapters import Chapters
from tilework.plan.lowering import Lowering
from tilework.plan.lowerings import half


def _part(family: ModuleType) -> dict[str, Lowering]:
    plain: dict[str, Lowering] = getattr(family, "PLAIN", {})
    floats: dict[str, Lowering] = getattr(family, "FLOATS", {})
    part = {name: one if name in _VIEWS else half.as_stored(one) for name, one in plain.items()}
    part = {**part, **{name: half.through_float32(one) for name, one in floats.items()}}
    return {name: _ROUNDED[name](one) if name in _ROUNDED else one for name, one in part.items()}


LOWERINGS: Chapters[str, Lowering] = Chapters("tilework.plan.lowerings", _part)

# Those that take a cache as it lies, and others than move elements: for these it is narrowed.
_VIEWS = frozenset({
    "identity", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "expand", "slice",
    "split", "concat", "kv_append", "first_rows", "repeat_heads", "share_heads",
})  # fmt: skip

# Those whose floats of two bytes are rounded in a way of their own.
_ROUNDED: dict[str, Callable[[Lowering], Lowering]] = {
    "attention": half.exactly,
    "cast": half.cast,
    "scaled_attention": half.exactly,
    "softmax": lambda lowering: half.stepwise(lowering, LOWERINGS),
}

__all__ = ["LOWERINGS"]
