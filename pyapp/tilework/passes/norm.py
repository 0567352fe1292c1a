"""Layer and RMS normalisation: their small operations → one, and the sum before it."""

from __future__ import annotations

from typing import Any as AnyValue

import numpy as np

from tilework.core.dtypes import FLOAT16, FLOAT32
from tilework.ir.graph import Node
from tilework.passes.editor import Editor
from tilework.passes.pattern import Any, Op, Pattern, Scalar, match


def _mean_of_last(editor: Editor, node: Node) -> bool:
    axes: AnyValue = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1:
        array = editor.array(node.inputs[1])
        axes = None if array is None else tuple(int(axis) for axis in array.reshape(-1))
    if isinstance(axes, int):
        axes = (axes,)
    if axes is None or len(axes) != 1 or not node.attrs.get("keepdims", 1):
        return False
    shape = editor.shape(node.inputs[0])
    return axes[0] == -1 or (shape is not None and axes[0] == len(shape) - 1)


X = Any("x")


def _mean(of: Pattern) -> tuple[Op, Op]:
    """ReduceMean with its axes as an attribute, or as an input."""
    return (
        Op("reduce_mean", (of,), check=_mean_of_last),
        Op("reduce_mean", (of, Any("axes")), check=_mean_of_last),
    )


def _forms() -> list[Op]:
    forms: list[Op] = []
    for index in range(2):
        centred = Op("sub", (X, _mean(X)[index]))
        for square in (
            Op("pow", (centred, Scalar(2.0))),
            Op("mul", (centred, centred)),
        ):
            variance = _mean(square)[index]
            deviation = Op("sqrt", (Op("add", (variance, Scalar(None, "epsilon"))),))
            forms.append(Op("div", (centred, deviation)))
            forms.append(Op("mul", (centred, Op("reciprocal", (deviation,)))))
            forms.append(Op("mul", (centred, Op("div", (Scalar(1.0), deviation)))))
    return forms


NORMALISED = tuple(_forms())


def fuse_layer_norm(editor: Editor) -> None:
    """x̂ = (x - mean) / sqrt(mean((x - mean)²) + ε); x̂ γ + β, or x̂ γ, with constant vectors γ, β.

    Two norms of one x share all but those, and become two.
    """
    for op, names in (("add", ("gamma", "beta")), ("mul", ("gamma",))):
        for node in editor:
            if node.op == op:
                _fuse_layer_norm(editor, node, names)


def _fuse_layer_norm(editor: Editor, node: Node, names: tuple[str, ...]) -> None:
    for form in NORMALISED:
        whole = Op("mul", (form, Any("gamma")))
        if len(names) > 1:
            whole = Op("add", (whole, Any("beta")))
        found = match(editor, node, whole, shared=True)
        if found is None or not _vectors(editor, found.values, names):
            continue
        new = Node(
            "layer_normalization",
            (found.values["x"], *(found.values[name] for name in names)),
            node.outputs,
            {"axis": -1, "epsilon": found.numbers["epsilon"]},
            node.origin,
        )
        editor.replace(node, [new], "layer norm")
        return


def _vectors(editor: Editor, values: AnyValue, names: tuple[str, ...]) -> bool:
    vectors = [editor.constants.get(values[name]) for name in names]
    gamma = vectors[0]
    if gamma is None or len(gamma.shape) != 1:
        return False
    if any(one is None or one.shape != gamma.shape for one in vectors):
        return False
    shape = editor.shape(values["x"])
    # The extent may be a name before specialisation; a constant vector of more than one element
    # would not have been accepted by the model otherwise.
    last = shape[-1] if shape else None
    return last == gamma.shape[0] if isinstance(last, int) else gamma.shape[0] > 1


def _rms_forms() -> list[Op]:
    """x / sqrt(mean(x²) + ε)."""
    forms: list[Op] = []
    for index in range(2):
        for square in (Op("pow", (X, Scalar(2.0))), Op("mul", (X, X))):
            inside = Op("add", (_mean(square)[index], Scalar(None, "epsilon")))
            root = Op("sqrt", (inside,))
            forms.append(Op("mul", (X, Op("reciprocal", (root,)))))
            forms.append(Op("mul", (X, Op("div", (Scalar(1.0), root)))))
            forms.append(Op("mul", (X, Op("pow", (inside, Scalar(-0.5))))))
            forms.append(Op("div", (X, root)))
    return forms


SCALED = tuple(_rms_forms())


def fuse_rms_norm(editor: Editor) -> None:
    """x / sqrt(mean(x²) + ε), and its product with a vector (shapes must be known)."""
    for node in editor:
        if node.op not in ("mul", "div"):
            continue
        found = next((f for form in SCALED if (f := match(editor, node, form))), None)
        if found is None:
            continue
        x, out = found.values["x"], node.outputs[0]
        shape, dtype = editor.concrete(x), editor.dtype(x)
        if not shape or dtype not in (FLOAT32, FLOAT16):
            continue
        attrs = {"axis": -1, "epsilon": found.numbers["epsilon"]}
        scaled = _scaled_by(editor, out, shape)
        if scaled is None:
            ones = np.ones(shape[-1:], dtype.numpy)
            gamma = editor.add_constant(f"{out}@ones", ones)
            node_of = Node("rms_normalization", (x, gamma), (out,), attrs, node.origin)
            editor.replace(node, [node_of], "rms norm")
        else:
            product, gamma = scaled
            new = Node("rms_normalization", (x, gamma), product.outputs, attrs, node.origin)
            editor.replace(product, [new], "rms norm")


def _scaled_by(editor: Editor, name: str, shape: tuple[int, ...]) -> tuple[Node, str] | None:
    """The product of `name`, (…, n), with (n), and that vector."""
    if not editor.used_once(name):
        return None
    [product] = editor.users(name)
    if product.op != "mul":
        return None
    gamma = product.inputs[1 if product.inputs[0] == name else 0]
    return (product, gamma) if editor.concrete(gamma) == shape[-1:] else None


RESIDUAL = {
    "layer_normalization": "residual_layer_normalization",
    "rms_normalization": "residual_rms_normalization",
}


def fuse_residual_norm(editor: Editor) -> None:
    """layer_normalization(a + b) of equal shapes → residual_layer_normalization; so with RMS.

    Where others read the sum too, the kernel writes it as well.
    """
    for node in editor:
        if node.op not in RESIDUAL or any(editor.reads(name) for name in node.outputs[1:]):
            continue
        total = node.inputs[0]
        add = editor.producer(total)
        shape = editor.concrete(total)
        if add is None or add.op != "add" or shape is None or editor.dtype(total) is not FLOAT32:
            continue
        if any(editor.concrete(name) != shape for name in add.inputs):
            continue
        outputs = node.outputs[:1]
        if not editor.used_once(total):
            if not _first_reader(editor, total, node):
                continue
            outputs = (*outputs, total)
        new = Node(
            RESIDUAL[node.op],
            (*add.inputs, *node.inputs[1:]),
            outputs,
            node.attrs,
            node.origin,
        )
        # In this order: the operands of the sum are never without a reader.
        kind = "layer" if node.op == "layer_normalization" else "rms"
        editor.replace(node, [new], f"residual + {kind} norm")
        if len(outputs) > 1:
            editor.replace(add, [], "")


def _first_reader(editor: Editor, name: str, node: Node) -> bool:
    """Whether `node` comes before all others that read `name`, so that it can compute it."""
    readers = {id(user) for user in editor.users(name)}
    return next((one is node for one in editor if id(one) in readers), False)
