"""Matrix products take along what follows them: bias, activation, residual.

Everything becomes fused_matmul: Gemm, and MatMul whose second operand is a constant matrix. Then
each follower that is the product's only reader moves into it, in the order of the kernel's
epilogue. Projections of one input that feed one attention become one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.fused import ACTIVATIONS
from tilework.passes.editor import Editor
from tilework.passes.epilogue import activated, activation, take_residuals


def _fused(node: Node, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> Node:
    trimmed = list(inputs)
    while not trimmed[-1]:
        trimmed.pop()
    return Node(
        "fused_matmul", tuple(trimmed), tuple(outputs), {**node.attrs, **attrs}, node.origin
    )


def _is_float(editor: Editor, *names: str) -> bool:
    return any(editor.dtype(name) is FLOAT32 for name in names)


def fuse_gemm(editor: Editor) -> None:
    """gemm → fused_matmul; C becomes the bias, the residual, or an add of its own."""
    for node in editor:
        if node.op != "gemm" or not _is_float(editor, *node.inputs[:2]):
            continue
        a, b, c = [*node.inputs, ""][:3]
        alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
        out = node.outputs[0]
        new: list[Node] = []
        if node.attrs.get("transpose_a", 0):
            new.append(Node("transpose", (a,), (f"{out}@a",), {"perm": (1, 0)}, node.origin))
            editor.declare(f"{out}@a", a, _reversed(editor, a))
            a = f"{out}@a"
        attrs = {"alpha": alpha, "transpose_b": int(bool(node.attrs.get("transpose_b", 0)))}
        if not c or beta == 0.0:
            new.append(Node("fused_matmul", (a, b), (out,), attrs, node.origin))
        elif beta == 1.0 and _columns(editor, b, attrs["transpose_b"]) == editor.shape(c):
            new.append(Node("fused_matmul", (a, b, c), (out,), attrs, node.origin))
        else:
            if beta != 1.0:
                scale = editor.add_constant(f"{out}@beta", np.array(beta, np.float32))
                new.append(Node("mul", (c, scale), (f"{out}@c",), {}, node.origin))
                c = editor.declare(f"{out}@c", c)
            editor.declare(f"{out}@ab", out)
            new.append(Node("fused_matmul", (a, b), (f"{out}@ab",), attrs, node.origin))
            new.append(Node("add", (f"{out}@ab", c), (out,), {}, node.origin))
        editor.replace(node, new, "gemm")


def _reversed(editor: Editor, name: str) -> Any:
    shape = editor.shape(name)
    return None if shape is None else shape[::-1]


def _columns(editor: Editor, b: str, transposed: object) -> tuple[Any, ...] | None:
    shape = editor.shape(b)
    return None if shape is None or len(shape) < 2 else (shape[-2 if transposed else -1],)


def fuse_matmul(editor: Editor) -> None:
    """matmul by a constant float matrix → fused_matmul, ready to take followers."""
    for node in editor:
        if node.op != "matmul":
            continue
        weight = editor.constants.get(node.inputs[1])
        if weight is None or len(weight.shape) != 2 or weight.dtype is not FLOAT32:
            continue
        editor.replace(node, [_fused(node, node.inputs, node.outputs)], "matmul")


def fuse_bias(editor: Editor) -> None:
    """fused_matmul + constant vector of its columns → bias."""
    for node in editor:
        if node.op != "add":
            continue
        for product_name, bias in (node.inputs, node.inputs[::-1]):
            product = _sole_product(editor, product_name)
            constant = editor.constants.get(bias)
            if product is None or constant is None or len(product.inputs) != 2:
                continue
            if activated(product):
                continue
            columns = _columns(editor, product.inputs[1], product.attrs.get("transpose_b", 0))
            if columns is None or columns != constant.shape:
                continue
            new = _fused(product, (*product.inputs, bias), node.outputs)
            editor.replace(node, [new], "matmul + bias")
            break


def _sole_product(editor: Editor, name: str) -> Node | None:
    node = editor.producer(name)
    if node is None or node.op != "fused_matmul" or not editor.used_once(name):
        return None
    return node


def fuse_activation(editor: Editor) -> None:
    """activation(fused_matmul) → its epilogue."""
    for node in editor:
        name = activation(node)
        if name not in ACTIVATIONS:
            continue
        product = _sole_product(editor, node.inputs[0])
        if product is None or len(product.inputs) > 3:
            continue
        if activated(product):
            continue
        new = _fused(product, product.inputs, node.outputs, activation=name)
        editor.replace(node, [new], f"matmul + {name}")


def fuse_residual(editor: Editor) -> None:
    """fused_matmul + a tensor of exactly its shape → residual (shapes must be known)."""

    def taker(editor: Editor, name: str) -> Node | None:
        product = _sole_product(editor, name)
        return None if product is None or len(product.inputs) > 3 else product

    def joined(product: Node, other: str, outputs: Sequence[str]) -> Node:
        return _fused(product, (*[*product.inputs, ""][:3], other), outputs)

    take_residuals(editor, taker, joined, lambda _: "matmul")


VIEWS = ("reshape", "transpose", "squeeze", "unsqueeze", "flatten")
# What may stand between a projection and its attention, and which operand comes from there.
_PASSED = {
    "concat": -1, "kv_append": 1, "rotary_embedding": 0, "rotate_pairs": 0, "repeat_heads": 0,
}  # fmt: skip


def merge_projections(editor: Editor) -> None:
    """Projections of one input that feed one attention → one product with joined weights.

    The results are slices of the joint one: views, for the attention reads through strides, and
    so do caches that take new rows and rotations.
    """
    for node in editor:
        if node.op not in ("attention", "scaled_attention"):
            continue
        products: list[Node] = []
        for name in node.inputs[:3]:
            product = _source(editor, name)
            if product is not None and all(product is not other for other in products):
                products.append(product)
        if len(products) < 2:
            continue
        first = products[0]
        alike = [p for p in products if _mergeable(editor, p) and p.inputs[0] == first.inputs[0]]
        with_bias = {len(p.inputs) for p in alike}
        if len(alike) >= 2 and len(with_bias) == 1 and _mergeable(editor, first):
            _merge(editor, alike)


def _source(editor: Editor, name: str) -> Node | None:
    node = editor.producer(name)
    while node is not None and (node.op in VIEWS or node.op in _PASSED):
        name = node.inputs[_PASSED.get(node.op, 0)]
        if not editor.used_once(name):
            return None
        node = editor.producer(name)
    return node if node is not None and node.op == "fused_matmul" else None


def _mergeable(editor: Editor, product: Node) -> bool:
    weight = editor.constants.get(product.inputs[1])
    attrs = product.attrs
    return (
        weight is not None
        and len(weight.shape) == 2
        and len(product.inputs) <= 3
        and all(name in editor.constants for name in product.inputs[1:])
        and not activated(product)
        and attrs.get("alpha", 1.0) == 1.0
        and not attrs.get("transpose_b", 0)
        and editor.concrete(product.outputs[0]) is not None
        and weight.dtype is FLOAT32
    )


def _merge(editor: Editor, products: list[Node]) -> None:
    # All read one input and constants, so the first of them in order is as good a place as any.
    places = {id(node): place for place, node in enumerate(editor)}
    products = sorted(products, key=lambda product: places[id(product)])
    first = products[0]
    sizes = tuple(editor.constants[p.inputs[1]].shape[1] for p in products)
    rows = editor.constants[first.inputs[1]].shape[0]
    total = sum(sizes)
    # The names say what is joined, so that every plan of a session finds the same packed weights.
    parts: list[Node] = []
    joined = [first.inputs[0]]
    for position in range(1, len(first.inputs)):
        names = tuple(p.inputs[position] for p in products)
        name = "+".join(names)
        shape = (rows, total) if position == 1 else (total,)
        if not editor.has(name):
            parts.append(Node("concat", names, (name,), {"axis": len(shape) - 1}, first.origin))
            editor.declare(name, names[0], shape)
        joined.append(name)
    out = f"{first.outputs[0]}@joined"
    shape_of_first = editor.concrete(first.outputs[0])
    assert shape_of_first is not None  # _mergeable has seen to it
    rank = len(shape_of_first)
    editor.declare(out, first.outputs[0], (*shape_of_first[:-1], total))
    origin = " + ".join(p.origin for p in products)
    product = Node("fused_matmul", tuple(joined), (out,), {}, origin)
    outputs = tuple(p.outputs[0] for p in products)
    split = Node("split", (out,), outputs, {"axis": rank - 1, "sizes": sizes}, first.origin)
    for other in products[1:]:
        editor.replace(other, [], "")
    editor.replace(first, [*parts, product, split], "projections joined")
