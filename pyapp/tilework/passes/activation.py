"""GELU in the spellings that exporters write, with erf in any order and with tanh, and SiLU."""

from __future__ import annotations

import math
from itertools import product

from tilework.ir.graph import Node
from tilework.passes.editor import Editor
from tilework.passes.pattern import Any, Op, Pattern, Scalar, match

X = Any("x")


def _erf_forms() -> list[Op]:
    """x/2 (1 + erf(x/√2)): the quotient as division or product, the half in any place."""
    scaled: tuple[Pattern, ...] = (
        Op("div", (X, Scalar(math.sqrt(2)))),
        Op("mul", (X, Scalar(math.sqrt(0.5)))),
    )
    halves = (lambda y: Op("mul", (y, Scalar(0.5))), lambda y: Op("div", (y, Scalar(2.0))))
    forms: list[Op] = []
    for inner, half in product(scaled, halves):
        gate = Op("add", (Op("erf", (inner,)), Scalar(1.0)))
        forms.append(half(Op("mul", (X, gate))))
        forms.append(Op("mul", (half(X), gate)))
        forms.append(Op("mul", (X, half(gate))))
    return forms


def _tanh_forms() -> list[Op]:
    """x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    cubes: tuple[Pattern, ...] = (
        Op("pow", (X, Scalar(3.0))),
        Op("mul", (X, Op("mul", (X, X)))),
    )
    forms: list[Op] = []
    for cube in cubes:
        inner = Op("add", (X, Op("mul", (cube, Scalar(0.044715)))))
        tanh = Op("tanh", (Op("mul", (inner, Scalar(math.sqrt(2 / math.pi)))),))
        gate = Op("add", (tanh, Scalar(1.0)))
        forms.append(Op("mul", (Op("mul", (X, gate)), Scalar(0.5))))
        forms.append(Op("mul", (Op("mul", (X, Scalar(0.5))), gate)))
        forms.append(Op("mul", (X, Op("mul", (gate, Scalar(0.5))))))
    return forms


FORMS: tuple[tuple[str, tuple[Op, ...]], ...] = (
    ("none", tuple(_erf_forms())),
    ("tanh", tuple(_tanh_forms())),
)


def fuse_gelu(editor: Editor) -> None:
    """Decomposed GELU → gelu(approximate)."""
    for node in editor:
        if node.op not in ("mul", "div"):
            continue
        for approximate, forms in FORMS:
            found = next((f for form in forms if (f := match(editor, node, form))), None)
            if found is None:
                continue
            new = Node(
                "gelu",
                (found.values["x"],),
                node.outputs,
                {"approximate": approximate},
                node.origin,
            )
            editor.replace(node, [new], "gelu")
            break


def fuse_silu(editor: Editor) -> None:
    """x sigmoid(x) → silu."""
    form = Op("mul", (Any("x"), Op("sigmoid", (Any("x"),))))
    for node in editor:
        if node.op != "mul":
            continue
        found = match(editor, node, form)
        if found is not None:
            new = Node("silu", (found.values["x"],), node.outputs, {}, node.origin)
            editor.replace(node, [new], "silu")
