"""Layer normalisation written as nine small operations → layer_normalization."""

from __future__ import annotations

from typing import Any as AnyValue

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
    """x̂ = (x - mean) / sqrt(mean((x - mean)²) + ε); x̂ γ + β with constant vectors γ, β."""
    for node in editor:
        if node.op != "add":
            continue
        for form in NORMALISED:
            whole = Op("add", (Op("mul", (form, Any("gamma"))), Any("beta")))
            found = match(editor, node, whole)
            if found is None or not _vectors(editor, found.values):
                continue
            new = Node(
                "layer_normalization",
                (found.values["x"], found.values["gamma"], found.values["beta"]),
                node.outputs,
                {"axis": -1, "epsilon": found.numbers["epsilon"]},
                node.origin,
            )
            editor.replace(node, [new], "layer norm")
            break


def _vectors(editor: Editor, values: AnyValue) -> bool:
    gamma, beta = editor.constants.get(values["gamma"]), editor.constants.get(values["beta"])
    if gamma is None or beta is None or len(gamma.shape) != 1 or gamma.shape != beta.shape:
        return False
    shape = editor.shape(values["x"])
    # The extent may be a name before specialisation; a constant vector of more than one element
    # would not have been accepted by the model otherwise.
    last = shape[-1] if shape else None
    return last == gamma.shape[0] if isinstance(last, int) else gamma.shape[0] > 1
