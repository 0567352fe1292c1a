"""A scan that takes rows from a matrix, one a turn, and sums powers → distances.

So skl2onnx writes SciPy's cdist, for nearest neighbours and Gaussian processes: the state is one
set of rows, never changed, what is scanned is the other.
"""

from __future__ import annotations

from tilework.ir.graph import Graph, Node
from tilework.passes.editor import Editor
from tilework.passes.pattern import Any, Op, Pattern, Scalar, match

_LESS = Op("sub", (Any("a"), Any("b")))
_SIZE = Op("abs", (_LESS,))


def _total(term: Pattern, op: str = "reduce_sum") -> Op:
    return Op(op, (term,), "total")


# Sums of a power of the differences, and the power where it is not the pattern's number.
_FORMS: tuple[tuple[Op, float | None], ...] = (
    (_total(_LESS, "reduce_sum_square"), 2),
    (_total(Op("mul", (_LESS, _LESS))), 2),
    (_total(Op("pow", (_LESS, Scalar(2.0)))), 2),
    (_total(_LESS, "reduce_l1"), 1),
    (_total(_SIZE), 1),
    (_total(Op("pow", (_SIZE, Scalar(name="power")))), None),
)


def fuse_distances(editor: Editor) -> None:
    """scan(state, scanned) of a body that sums |state - row|^p → distances, turned."""
    for node in editor:
        if node.op != "scan" or len(node.inputs) != 2 or editor.reads(node.outputs[0]):
            continue
        attrs = node.attrs
        body = attrs["body"]
        assert isinstance(body, Graph)
        if attrs["states"] != 1 or any((*attrs["reverse_in"], *attrs["reverse_out"])):
            continue
        power = _power(body)
        if power is None:
            continue
        out = node.outputs[1]
        apart = editor.declare(f"{out}@distances", out, ())
        editor.values.pop(apart, None)  # its shape is not known, nor needed
        new = [
            Node("distances", node.inputs, (apart,), {"power": power}, node.origin),
            Node("transpose", (apart,), (out,), {"perm": (1, 0)}, node.origin),
        ]
        editor.replace(node, new, "distances")


def _power(body: Graph) -> float | None:
    """The power, where the body is such a sum of its state (a matrix) and its row."""
    editor = Editor(body)
    shapes = [value.shape for value in body.inputs]
    if len(body.outputs) != 2 or [None if s is None else len(s) for s in shapes] != [2, 1]:
        return None
    state, row = (value.name for value in body.inputs)
    if _source(editor, body.outputs[0].name) != state:
        return None
    root = editor.producer(_source(editor, body.outputs[1].name))
    if root is None or root.attrs.get("keepdims", 1):
        return None
    if tuple(root.attrs.get("axes") or ()) not in ((1,), (-1,)):
        return None
    for form, power in _FORMS:
        found = match(editor, root, form)
        if found is not None and {found.values["a"], found.values["b"]} == {state, row}:
            return found.numbers["power"] if power is None else power
    return None


def _source(editor: Editor, name: str) -> str:
    """What the value is but for its name."""
    node = editor.producer(name)
    while node is not None and node.op == "identity":
        name = node.inputs[0]
        node = editor.producer(name)
    return name
