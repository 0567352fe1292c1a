"""Canonical form: what does nothing goes away, chains become one, equal nodes become the same.

Each rule states what it needs to know; where a shape or dtype is not known yet it waits for the
second run, after specialisation. Fusions (the other files) then meet fewer spellings.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tilework.core.shapes import broadcast_two
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import FOLD_LIMIT, OPS, DataDependent, Info, infer_node
from tilework.passes.editor import Editor

# Neutral element of the second operand; of either operand for the commutative ones.
NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


def drop_dead(editor: Editor) -> None:
    """Nodes whose outputs nobody reads."""
    editor.drop_dead()


def fold_constants(editor: Editor) -> None:
    """Nodes over small constants become constants, by the operations' references.

    Large ones stay nodes: the session computes them once, on the device.
    """
    for node in editor:
        if node.op not in OPS or not node.outputs:
            continue
        infos: list[Info | None] = []
        for name in node.inputs:
            if not name:
                infos.append(None)
                continue
            constant = editor.constants.get(name)
            if constant is None:
                break
            array = constant.array
            if array is None or array.size > FOLD_LIMIT:
                break
            infos.append(Info(constant.dtype, constant.shape, array))
        else:
            try:
                _, results = infer_node(node, infos)
            except DataDependent:
                continue  # a sequence, or a graph to run: no constant
            if all(result.value is not None for result in results):
                _fold(editor, node, results)


def _fold(editor: Editor, node: Node, results: list[Info]) -> None:
    kept = [name for name in node.outputs if name in editor.outputs]
    if kept:
        return  # the planner gives a constant graph output; the node is its producer
    editor.replace(node, [], "constant folded")
    for name, result in zip(node.outputs, results, strict=False):
        if name and result.value is not None:
            editor.set_constant(name, result.value)


def merge_equal(editor: Editor) -> None:
    """Common subexpressions: of two nodes alike the second's readers read the first.

    Single numbers are the same by their value; exporters write one for each node that reads it.
    """
    numbers: dict[Any, str] = {}
    same = {}
    for name, constant in editor.constants.items():
        if constant.array is not None and constant.array.size == 1:
            value = (constant.dtype, constant.shape, constant.array.tobytes())
            same[name] = numbers.setdefault(value, name)
    seen: dict[Any, Node] = {}
    for node in editor:
        if node.op in OPS and OPS[node.op].random:
            continue
        try:
            inputs = tuple(same.get(name, name) for name in node.inputs)
            key = (node.op, inputs, tuple(sorted(node.attrs.items())))
            first = seen.setdefault(key, node)
        except TypeError:  # an attribute that is an array
            continue
        if first is node or len(first.outputs) != len(node.outputs):
            continue
        for old, new in zip(node.outputs, first.outputs, strict=True):
            if old:
                editor.redirect(old, new, "equal nodes merged")


# Inputs of which these read the shape alone.
_SHAPES = {"row_positions": (0,), "causal_bias": (0, 1), "padding_bias": (1, 2)}


def share_shapes(editor: Editor) -> None:
    """What hangs on shapes alone is asked of the first value that has them: all layers' masks and
    positions become equal nodes."""
    firsts: dict[Any, str] = {}
    for node in editor:
        places = _SHAPES.get(node.op, ())
        inputs = list(node.inputs)
        for place in places:
            shape = editor.concrete(inputs[place])
            if shape is not None:
                key = (editor.dtype(inputs[place]), shape)
                inputs[place] = firsts.setdefault(key, inputs[place])
        if tuple(inputs) != node.inputs:
            editor.replace(node, [replace(node, inputs=tuple(inputs))], "shapes shared")


def simplify(editor: Editor) -> None:
    """Identities, casts to the same dtype, neutral elements, chains of transposes and reshapes."""
    for node in editor:
        if not node.inputs or not node.inputs[0]:
            continue
        kept = _same_as(editor, node)
        if kept is not None:
            editor.redirect(node.outputs[0], kept, f"{node.op} without effect")
            continue
        if node.op == "transpose":
            _merge_transposes(editor, node)
        elif node.op in ("reshape", "flatten", "squeeze", "unsqueeze"):
            _merge_reshapes(editor, node)


def _same_as(editor: Editor, node: Node) -> str | None:
    """The input that the node's output equals, element for element and in shape, or None."""
    x = node.inputs[0]
    if node.op == "identity":
        return x
    if node.op == "cast":
        known = editor.dtype(x)
        return x if known is not None and known.name == node.attrs.get("to") else None
    if node.op == "transpose":
        perm: Any = node.attrs.get("perm")
        return x if perm is not None and tuple(perm) == tuple(range(len(perm))) else None
    if node.op in ("reshape", "expand", "flatten", "squeeze", "unsqueeze", "tile", "slice"):
        shape = editor.concrete(node.outputs[0])
        if node.op == "slice" and not _forwards(editor, node):
            return None  # the same elements in another order
        return x if shape is not None and shape == editor.concrete(x) else None
    if node.op in NEUTRAL and len(node.inputs) == 2:
        return _neutral(editor, node)
    return None


def _forwards(editor: Editor, node: Node) -> bool:
    """Whether no step of a slice is negative."""
    steps: Any = node.attrs.get("steps")
    if len(node.inputs) > 4 and node.inputs[4]:
        steps = editor.array(node.inputs[4])
        if steps is None:
            return False
    return steps is None or all(step > 0 for step in steps)


def _neutral(editor: Editor, node: Node) -> str | None:
    pairs = [node.inputs]
    if node.op in ("add", "mul"):
        pairs.append((node.inputs[1], node.inputs[0]))
    for x, other in pairs:
        if editor.scalar(other) != NEUTRAL[node.op]:
            continue
        shape, wide = editor.shape(x), editor.constants[other].shape
        if not wide or (shape is not None and len(wide) <= len(shape)):
            # x + 0.0 turns -0.0 into 0.0 and nothing else.
            return x
    return None


def _merge_transposes(editor: Editor, node: Node) -> None:
    inner = editor.producer(node.inputs[0])
    outer_perm: Any = node.attrs.get("perm")
    if inner is None or inner.op != "transpose" or outer_perm is None:
        return
    inner_perm: Any = inner.attrs.get("perm")
    if inner_perm is None:
        return
    perm = tuple(inner_perm[axis] for axis in outer_perm)
    merged = Node("transpose", inner.inputs, node.outputs, {"perm": perm}, node.origin)
    editor.replace(node, [merged], "transposes merged")


def _merge_reshapes(editor: Editor, node: Node) -> None:
    inner = editor.producer(node.inputs[0])
    if inner is not None and inner.op == "transpose":
        _apart_again(editor, node, inner)
        return
    if inner is None or inner.op not in ("reshape", "flatten", "squeeze", "unsqueeze"):
        return
    shape = editor.concrete(node.outputs[0])
    if shape is None or math.prod(shape) == 0:
        return
    merged = Node(
        "reshape", inner.inputs[:1], node.outputs, {"shape": shape, "allow_zero": 1}, node.origin
    )
    editor.replace(node, [merged], "reshapes merged")


def _apart_again(editor: Editor, node: Node, turn: Node) -> None:
    """Leading axes joined, the last two exchanged, and taken apart again: only exchanged."""
    joined = editor.producer(turn.inputs[0])
    if joined is None or joined.op != "reshape" or turn.attrs.get("perm") != (0, 2, 1):
        return
    x, out = joined.inputs[0], node.outputs[0]
    before, within, after = (editor.concrete(one) for one in (x, turn.inputs[0], out))
    if before is None or within is None or after is None or len(after) < 3:
        return
    apart = (*after[:-2], after[-1], after[-2])
    if apart[-2:] != within[-2:] or math.prod(apart) != math.prod(within):
        return
    new = []
    if before != apart:
        shape = {"shape": apart, "allow_zero": 1}
        view = editor.declare(f"{out}@apart", x, apart)
        new.append(Node("reshape", (x,), (view,), shape, node.origin))
        x = view
    axes = len(apart)
    perm = (*range(axes - 2), axes - 1, axes - 2)
    new.append(Node("transpose", (x,), (out,), {"perm": perm}, node.origin))
    editor.replace(node, new, "transpose of joined axes")


def drop_expands(editor: Editor) -> None:
    """An Expand whose reader broadcasts anyway is not needed (shapes must be known)."""
    for node in editor:
        if node.op not in ("add", "sub", "mul", "div", "where", "and", "or"):
            continue
        result = editor.concrete(node.outputs[0])
        if result is None:
            continue
        for index, name in enumerate(node.inputs):
            inner = editor.producer(name)
            if inner is None or inner.op != "expand":
                continue
            shapes = [
                editor.concrete(inner.inputs[0] if i == index else other)
                for i, other in enumerate(node.inputs)
            ]
            wide: tuple[int, ...] | None = ()
            for shape in shapes:
                wide = None if wide is None or shape is None else broadcast_two(wide, shape)
            if wide == result:
                inputs = list(node.inputs)
                inputs[index] = inner.inputs[0]
                new = Node(node.op, tuple(inputs), node.outputs, node.attrs, node.origin)
                editor.replace(node, [new], "expand left to broadcasting")
                break


def sink_scalars(editor: Editor) -> None:
    """view(x · c) → view(x) · c for a number c: attention then finds its scale in one place."""
    for node in editor:
        if node.op not in ("reshape", "transpose", "squeeze", "unsqueeze", "flatten"):
            continue
        scale = editor.producer(node.inputs[0])
        if scale is None or scale.op not in ("mul", "div") or not editor.used_once(node.inputs[0]):
            continue
        x, number = scale.inputs
        if editor.scalar(number) is None and scale.op == "mul":
            x, number = number, x
        shape = editor.concrete(node.outputs[0])
        if editor.scalar(number) is None or shape is None:
            continue
        if editor.concrete(x) != editor.concrete(scale.outputs[0]):
            continue
        if len(editor.constants[number].shape) > len(shape):
            continue
        out = node.outputs[0]
        inner = editor.declare(f"{out}@unscaled", x, shape)
        view = Node(node.op, (x, *node.inputs[1:]), (inner,), node.attrs, node.origin)
        new = Node(scale.op, (inner, number), (out,), scale.attrs, scale.origin)
        editor.replace(node, [view, new], "scalar moved past a view")
