"""Group normalisation: as PyTorch's exporter writes it, and with what follows it.

Shapes have to be known: they say where groups become channels of an instance normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.fused import ACTIVATIONS
from tilework.ir.opdefs.registry import Array
from tilework.passes.conv import along
from tilework.passes.editor import Editor
from tilework.passes.epilogue import activated, activation

NORMS = ("instance_normalization", "group_normalization")


def fuse_group_norm(editor: Editor) -> None:
    """reshape(instance_normalization(reshape(x))) → group_normalization(x)."""
    for node in editor:
        if node.op != "reshape":
            continue
        inner = editor.producer(node.inputs[0])
        if inner is None or inner.op != NORMS[0] or not editor.used_once(node.inputs[0]):
            continue
        before = editor.producer(inner.inputs[0])
        if before is None or before.op != "reshape" or activated(inner):
            continue
        x = before.inputs[0]
        shape, cut = editor.concrete(x), editor.concrete(inner.inputs[0])
        scale, bias = (editor.array(name) for name in inner.inputs[1:])
        if shape is None or cut is None or scale is None or bias is None:
            continue
        if len(shape) < 3 or shape != editor.concrete(node.outputs[0]):
            continue
        if shape[0] != cut[0] or 0 in shape or shape[1] % cut[1]:
            continue
        own = shape[1] // cut[1]
        vectors = (
            editor.add_constant(f"{node.outputs[0]}@{part}", np.repeat(array, own))
            for part, array in (("scale", scale), ("bias", bias))
        )
        attrs = {"epsilon": inner.attrs.get("epsilon", 1e-5), "groups": cut[1]}
        new = Node("group_normalization", (x, *vectors), node.outputs, attrs, inner.origin)
        editor.replace(node, [new], "group norm")


def fuse_norm_channels(editor: Editor) -> None:
    """A product or sum with one constant a channel → the norm's own scale and bias."""
    for node in editor:
        if node.op not in ("mul", "add"):
            continue
        for name, other in (node.inputs, node.inputs[::-1]):
            norm = _taker(editor, name)
            shape = None if norm is None else editor.concrete(name)
            if norm is None or shape is None or editor.concrete(node.outputs[0]) != shape:
                continue
            vector = along(editor, other, shape[1], len(shape))
            scale, bias = (editor.array(constant) for constant in norm.inputs[1:])
            if vector is None or scale is None or bias is None:
                continue
            if node.op == "mul":
                numbers: tuple[Array, Array] = scale * vector, bias * vector
            else:
                numbers = scale, bias + vector
            vectors = (
                editor.add_constant(f"{node.outputs[0]}@{part}", np.asarray(array))
                for part, array in zip(("scale", "bias"), numbers, strict=True)
            )
            new = Node(norm.op, (norm.inputs[0], *vectors), node.outputs, norm.attrs, norm.origin)
            editor.replace(node, [new], f"norm + {node.op} by channel")
            break


def fuse_norm_activation(editor: Editor) -> None:
    """activation(norm) → its epilogue."""
    for node in editor:
        name = activation(node)
        if name not in ACTIVATIONS or name == "none":
            continue
        norm = _taker(editor, node.inputs[0])
        if norm is None:
            continue
        attrs: dict[str, Any] = {**norm.attrs, "activation": name}
        new = Node(norm.op, norm.inputs, node.outputs, attrs, norm.origin)
        editor.replace(node, [new], f"norm + {name}")


def _taker(editor: Editor, name: str) -> Node | None:
    node = editor.producer(name)
    if node is None or node.op not in NORMS or activated(node) or not editor.used_once(name):
        return None
    return node if editor.dtype(name) is FLOAT32 else None
