"""GELU in the spellings that exporters write, with erf in any order and with tanh, SiLU (and so
quick GELU), and hard swish."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    terms = [Op("mul", (cube, Scalar(0.044715))) for cube in cubes]
    terms.append(Op("mul", (X, Op("mul", (X, Op("mul", (X, Scalar(0.044715))))))))  # as JAX has it
    for term in terms:
        inner = Op("add", (X, term))
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


def _of(**numbers: float) -> Callable[[Editor, Node], bool]:
    """Whether the node's attributes are these numbers, as near as float32 has them."""

    def check(editor: Editor, node: Node) -> bool:
        found = {name: node.attrs.get(name) for name in numbers}
        return all(
            isinstance(value, (int, float)) and math.isclose(value, numbers[name], rel_tol=1e-6)
            for name, value in found.items()
        )

    return check


def _hard_swish_forms() -> list[Op]:
    """x clip(x + 3, 0, 6) / 6, or x times a hard sigmoid of slope 1/6."""
    gate = Op("clip", (Op("add", (X, Scalar(3.0))),), check=_of(min=0.0, max=6.0))
    sigmoid = Op("hard_sigmoid", (X,), check=_of(alpha=1 / 6, beta=0.5))
    forms = [Op("mul", (X, sigmoid))]
    for op, number in (("div", 6.0), ("mul", 1 / 6)):
        forms.append(Op(op, (Op("mul", (X, gate)), Scalar(number))))
        forms.append(Op("mul", (X, Op(op, (gate, Scalar(number))))))
    return forms


HARD_SWISH = tuple(_hard_swish_forms())


def fuse_hard_swish(editor: Editor) -> None:
    """Decomposed hard swish → hard_swish."""
    for node in editor:
        if node.op not in ("mul", "div"):
            continue
        found = next((f for form in HARD_SWISH if (f := match(editor, node, form))), None)
        if found is not None:
            new = Node("hard_swish", (found.values["x"],), node.outputs, {}, node.origin)
            editor.replace(node, [new], "hard swish")


def _silu_forms() -> list[Op]:
    """x sigmoid(x), and x sigmoid(alpha x)."""
    scaled = Op("mul", (X, Scalar(None, "alpha")))
    return [Op("mul", (X, Op("sigmoid", (inner,)))) for inner in (X, scaled)]


SILU = tuple(_silu_forms())


def fuse_silu(editor: Editor) -> None:
    """x sigmoid(alpha x) → silu(alpha)."""
    for node in editor:
        if node.op != "mul":
            continue
        found = next((f for form in SILU if (f := match(editor, node, form))), None)
        if found is not None:
            attrs = {"alpha": found.numbers.get("alpha", 1.0)}
            new = Node("silu", (found.values["x"],), node.outputs, attrs, node.origin)
            editor.replace(node, [new], "silu")
