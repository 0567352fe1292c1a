"""PlanView: a plan to look at, printed as text and shown in a notebook as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from tilework.engine.plan import Plan
from tilework.passes.pipeline import Fired
from tilework.plan.step import Dispatch, Step
from tilework.plan.tensor import Tensor


@dataclass(frozen=True, slots=True)
class PlanView:
    """`plans`: one, or, where sizes hang on data, those of all stages and of graphs inside nodes.
    `loaded`: what was rewritten when the session was made."""

    plans: Sequence[Plan]
    loaded: Fired

    def __str__(self) -> str:
        parts = [str(plan) for plan in self.plans]
        parts += [f"at load:\n{self.loaded}"]
        parts += [f"for these shapes:\n{plan.draft.fired}" for plan in self.plans]
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rewrites = "".join(
            f"<li>{count} × {html.escape(rule)}</li>"
            for fired in (self.loaded, *(plan.draft.fired for plan in self.plans))
            for rule, count in sorted(fired.counts.items())
        )
        tables = "".join(_table(plan) for plan in self.plans)
        return f"{tables}<p>fused and simplified:</p><ul>{rewrites}</ul>"


def _table(plan: Plan) -> str:
    head, *_ = str(plan).splitlines()
    heads = "".join(
        f"<th>{name}</th>" for name in ("level", "kernel", "tiles", "bytes", "node", "how")
    )
    body = "".join(_row(step) for step in plan.draft.steps)
    behind = "".join(f"<p>{html.escape(words)}</p>" for words in plan.draft.behind)
    return (
        f"<p>{html.escape(head)}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{behind}"
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
