"""PlanView: a plan to look at, printed as text and shown in a notebook as a table."""

from __future__ import annotations

import html
from dataclasses import dataclass

from tilework.engine.plan import Plan
from tilework.passes.pipeline import Fired
from tilework.plan.step import Dispatch, Step
from tilework.plan.tensor import Tensor


@dataclass(frozen=True, slots=True)
class PlanView:
    """`loaded`: what was rewritten when the session was made."""

    plan: Plan
    loaded: Fired

    def __str__(self) -> str:
        fired = self.plan.draft.fired
        return f"{self.plan}\n\nat load:\n{self.loaded}\n\nfor these shapes:\n{fired}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        draft = self.plan.draft
        head, *_ = str(self.plan).splitlines()
        heads = "".join(
            f"<th>{name}</th>" for name in ("level", "kernel", "tiles", "bytes", "node", "how")
        )
        body = "".join(_row(step) for step in draft.steps)
        rewrites = "".join(
            f"<li>{count} × {html.escape(rule)}</li>"
            for fired in (self.loaded, draft.fired)
            for rule, count in sorted(fired.counts.items())
        )
        return (
            f"<p>{html.escape(head)}</p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>fused and simplified:</p><ul>{rewrites}</ul>"
        )


def _row(step: Step) -> str:
    if isinstance(step, Dispatch):
        tiles = "×".join(map(str, step.counts))
        nbytes = f"{sum(span.nbytes for span in step.bindings if span is not None):,}"
        params = step.params
        fields = {} if params is None else params._asdict()
        how = ", ".join(f"{name}={value}" for name, value in fields.items() if _telling(value))
        cells = (str(step.level), step.kernel.name, tiles, nbytes, step.label, how)
    else:
        operands: list[Tensor] = [one for one in (*step.inputs, *step.outputs) if one is not None]
        nbytes = f"{sum(tensor.nbytes for tensor in operands):,}"
        cells = (str(step.level), "on host", "", nbytes, step.label, step.reason)
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _telling(value: object) -> bool:
    """Whether a parameter says something: enumerations, and numbers other than 0 and 1."""
    return not isinstance(value, tuple) and value not in (0, 1)
