"""settle: a draft with growing numbers → the same with the numbers of one length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from tilework.core.growing import Growing, grows, most
from tilework.plan.plan import Draft
from tilework.plan.step import Dispatch, Span, Step
from tilework.plan.tensor import Storage, Tensor

Value = Callable[[int], int]


def settle(draft: Draft, value: Value) -> Draft:
    """The draft whose growing numbers are what `value` says; storages stay the same objects."""
    return replace(
        draft,
        shapes={name: _plain(shape, value) for name, shape in draft.shapes.items()},
        inputs=Ends(draft.inputs).at(value),
        outputs=Ends(draft.outputs).at(value),
        steps=[_step(step, value) for step in draft.steps],
    )


class Ends:
    """A draft's inputs or outputs, to be had for any length: equal views are computed once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._views: dict[Any, int] = {}
        self._numbers = {
            name: self._views.setdefault((one.shape, one.strides, one.offset), len(self._views))
            for name, one in tensors.items()
        }
        self._grows = any(map(grows, self._views))

    def at(self, value: Value) -> Mapping[str, Tensor]:
        """The tensors, of plain numbers."""
        if not self._grows:
            return self._tensors
        views = [_plain(view, value) for view in self._views]
        return {
            name: Tensor(one.storage, one.dtype, *views[self._numbers[name]])
            for name, one in self._tensors.items()
        }


def fix_sizes(draft: Draft) -> None:
    """Gives every storage the bytes that it has at most."""
    touched: list[Storage] = [one.storage for one in (*draft.inputs.values(),
                                                      *draft.outputs.values())]  # fmt: skip
    touched += [one for step in draft.steps for one in (*step.reads(), *step.writes())]
    for storage in (*touched, *draft.locals):
        storage.nbytes = most(storage.nbytes)


def _step(step: Step, value: Value) -> Step:
    assert isinstance(step, Dispatch)  # a draft with host steps does not grow
    params = step.params
    bindings = tuple(
        None if span is None
        else Span(span.storage, _plain(span.offset, value), _plain(span.nbytes, value))
        for span in step.bindings
    )
    return replace(
        step,
        counts=_plain(step.counts, value),
        params=None if params is None else params._make(_plain(one, value) for one in params),
        bindings=bindings,
    )


def _plain(number: Any, value: Value) -> Any:
    if isinstance(number, tuple):
        return tuple([_plain(one, value) for one in number])
    return value(cast("int", number)) if isinstance(number, Growing) else number
