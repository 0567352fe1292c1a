"""What products and convolutions have in common when they take along a follower.

The families differ in what may take one, where its inputs keep it and how the result is called;
`linear`, `quant` and `conv` say that in the functions that they pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tilework.ir.graph import Node
from tilework.passes.editor import Editor

# The node that computes a value, if it may take the follower and nobody else reads it.
Taker: TypeAlias = Callable[[Editor, str], Node | None]
# The node with another input, in the place of a residual, and these outputs.
WithResidual: TypeAlias = Callable[[Node, str, Sequence[str]], Node]


def take_residuals(
    editor: Editor, taker: Taker, joined: WithResidual, words: Callable[[Node], str]
) -> None:
    """A product + a tensor of exactly its shape → residual (shapes must be known).

    Where both operands are products, the one computed last takes the other as its residual.
    """
    order = {name: place for place, node in enumerate(editor) for name in node.outputs}
    for node in editor:
        if node.op != "add":
            continue
        pairs = sorted(
            (node.inputs, node.inputs[::-1]), key=lambda pair: -order.get(pair[0], -1)
        )
        for name, other in pairs:
            product = taker(editor, name)
            if product is None or name == other:
                continue
            shape = editor.concrete(node.outputs[0])
            if shape is None or not shape == editor.concrete(other) == editor.concrete(name):
                continue
            new = joined(product, other, node.outputs)
            editor.replace(node, [new], f"{words(new)} + residual")
            break


def activation(node: Node) -> str:
    """What kernels call the function that this node is; "" where none of them has it.

    Of those with numbers of their own (clip, leaky_relu, ...) the name says only which.
    """
    if node.op == "gelu":
        return "gelu" if node.attrs.get("approximate", "none") == "none" else "gelu_tanh"
    if node.op == "silu":
        alpha: Any = node.attrs.get("alpha", 1.0)
        return {1.0: "silu", 1.702: "quick_gelu"}.get(round(float(alpha), 6), "")
    return node.op


def activated(product: Node) -> bool:
    """Whether it has an activation already."""
    return bool(product.attrs.get("activation", "none") != "none")
