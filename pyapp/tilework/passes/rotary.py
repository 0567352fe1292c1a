"""Rotary position embedding written out, x cos + (−x₂, x₁) sin, → rotate_pairs.

Its angles come as cos and sin of all features, the second half of which repeats the first; the
operation takes one for each pair. That they do repeat is read from the graph: a concatenation of
one value with itself, or a constant, below cos, sin, casts, views, rows that are picked and
products with numbers. Needs shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT16, FLOAT32
from tilework.ir.graph import Node
from tilework.passes.editor import Editor

_VIEWS = ("unsqueeze", "reshape", "squeeze")
_EACH = ("cos", "sin", "cast")  # element by element, of one operand
TABLE = 1 << 20  # elements of a constant of angles that is looked into


@dataclass(frozen=True, slots=True)
class _Found:
    x: str
    cos: str
    sin: str


def fuse_rotary(editor: Editor) -> None:
    """x cos + concat(-x[half:], x[:half]) sin of (batch, heads, rows, features)."""
    seen: dict[str, str] = {}
    for node in editor:
        found = _matched(editor, node) if node.op == "add" else None
        if found is None or editor.dtype(found.x) not in (FLOAT32, FLOAT16):
            continue
        new: list[Node] = []
        known = dict(seen)
        cos, sin = (_angles(editor, name, known, new) for name in (found.cos, found.sin))
        if cos and sin:
            seen = known
            inputs = (found.x, cos, sin)
            new.append(Node("rotate_pairs", inputs, node.outputs, {"interleaved": 0}, node.origin))
            editor.replace(node, new, "rotary embedding")
    if seen:
        _fuse_partial(editor)


def _fuse_partial(editor: Editor) -> None:
    """concat(rotate_pairs(x[..., :n]), x[..., n:]) → rotate_pairs(x), which leaves the rest."""
    for node in editor:
        if node.op != "concat" or len(node.inputs) != 2:
            continue
        turned = editor.producer(node.inputs[0])
        if turned is None or turned.op != "rotate_pairs" or not editor.used_once(node.inputs[0]):
            continue
        x = _halves(editor, turned.inputs[0], node.inputs[1])
        if x is not None and editor.concrete(x) == editor.concrete(node.outputs[0]):
            inputs = (x, *turned.inputs[1:])
            new = Node("rotate_pairs", inputs, node.outputs, turned.attrs, node.origin)
            editor.replace(node, [new], "rotary embedding of some features")


def _matched(editor: Editor, node: Node) -> _Found | None:
    products = [editor.producer(name) for name in node.inputs]
    for straight, crossed in (products, products[::-1]):
        if straight is None or crossed is None or (straight.op, crossed.op) != ("mul", "mul"):
            return None
        for turned, sin in (crossed.inputs, crossed.inputs[::-1]):
            x = _crossed(editor, turned)
            if x is None or x not in straight.inputs:
                continue
            cos = straight.inputs[1 if straight.inputs[0] == x else 0]
            shape = editor.concrete(x)
            if shape is not None and len(shape) == 4 and shape == editor.concrete(node.outputs[0]):
                return _Found(x, cos, sin)
    return None


def _crossed(editor: Editor, name: str) -> str | None:
    """x of concat(-x[half:], x[:half]) along the last axis."""
    node, shape = editor.producer(name), editor.concrete(name)
    if node is None or node.op != "concat" or len(node.inputs) != 2 or shape is None:
        return None
    negative = editor.producer(node.inputs[0])
    if negative is None or negative.op != "neg":
        return None
    x = _halves(editor, node.inputs[1], negative.inputs[0])
    if x is None or editor.concrete(x) != shape:
        return None
    first = editor.concrete(node.inputs[1])
    return x if first is not None and 2 * first[-1] == shape[-1] else None


def _halves(editor: Editor, first: str, second: str) -> str | None:
    """x when `first` and `second` are x, cut in two along its last axis."""
    one, other = editor.producer(first), editor.producer(second)
    if one is None or other is None or one.inputs[0] != other.inputs[0]:
        return None
    shape, low, high = (editor.concrete(name) for name in (one.inputs[0], first, second))
    if shape is None or low is None or high is None:
        return None
    if low[:-1] != shape[:-1] or high[:-1] != shape[:-1] or low[-1] + high[-1] != shape[-1]:
        return None
    if one is other and one.op == "split" and len(one.outputs) == 2:
        return one.inputs[0] if one.outputs == (first, second) else None
    cuts = [_cut(node, shape) for node in (one, other)]
    return one.inputs[0] if cuts == [(0, low[-1]), (low[-1], shape[-1])] else None


def _cut(node: Node, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Where a slice along the last axis alone begins and ends."""
    attrs: Any = node.attrs
    if node.op != "slice" or tuple(attrs.get("steps") or (1,)) != (1,):
        return None
    axes, starts, ends = (tuple(attrs.get(name) or ()) for name in ("axes", "starts", "ends"))
    if axes not in ((len(shape) - 1,), (-1,)) or len(starts) != 1 or len(ends) != 1:
        return None
    begin, end, _ = slice(starts[0], ends[0]).indices(shape[-1])
    return begin, end


def _angles(editor: Editor, name: str, seen: dict[str, str], new: list[Node]) -> str | None:
    """The first half of (batch or 1, 1, rows, features) as (batch or 1, rows, pairs)."""
    shape = editor.concrete(name)
    if shape is None or len(shape) != 4 or shape[1] != 1:
        return None
    half = _half(editor, name, seen, new)
    return half and _viewed(editor, half, name, (shape[0], shape[2], shape[3] // 2), seen, new)


def _viewed(
    editor: Editor, x: str, like: str, shape: tuple[int, ...], seen: dict[str, str], new: list[Node]
) -> str:
    name = f"{x}@{'×'.join(map(str, shape))}"
    if name not in seen:
        seen[name] = editor.declare(name, like, shape)
        attrs = {"shape": shape, "allow_zero": 1}
        new.append(Node("reshape", (x,), (name,), attrs, "rotary embedding"))
    return name


def _half(editor: Editor, name: str, seen: dict[str, str], new: list[Node]) -> str | None:
    """The half that `name` repeats along its last axis, of the same steps; None: it may not.

    The steps are `new` where they are asked for first; who asks later comes behind.
    """
    if name in seen:
        return seen[name]
    shape = editor.concrete(name)
    if shape is None or not shape or shape[-1] % 2:
        return None
    node = editor.producer(name)
    half: str | None = None
    if node is None:
        half = _half_of_constant(editor, name, shape, new)
    elif node.op == "concat":
        twice = len(node.inputs) == 2 and node.inputs[0] == node.inputs[1]
        half = node.inputs[0] if twice and node.attrs.get("axis") in (-1, len(shape) - 1) else None
    else:
        half = _step(editor, node, shape, seen, new)
    if half is not None:
        seen[name] = half
    return half


def _half_of_constant(
    editor: Editor, name: str, shape: tuple[int, ...], new: list[Node]
) -> str | None:
    constant = editor.constants.get(name)
    array = None if constant is None else constant.array
    pairs = shape[-1] // 2
    if array is None or array.size > TABLE or array.dtype.kind != "f":
        return None
    if not np.array_equal(array[..., :pairs], array[..., pairs:]):
        return None
    made = editor.declare(f"{name}@half", name, (*shape[:-1], pairs))
    attrs = {"axes": (len(shape) - 1,), "starts": (0,), "ends": (pairs,), "steps": (1,)}
    new.append(Node("slice", (name,), (made,), attrs, "rotary embedding"))
    return made


def _step(
    editor: Editor, node: Node, shape: tuple[int, ...], seen: dict[str, str], new: list[Node]
) -> str | None:
    """The half of what the node makes, of the half of what it reads."""
    place = 0
    if node.op in ("mul", "div"):
        place = int(node.op == "mul" and editor.scalar(node.inputs[0]) is not None)
        number = node.inputs[1 - place]
        if editor.scalar(number) is None or len(editor.shape(number) or ()) > len(shape):
            return None
    elif node.op == "gather":
        if node.attrs.get("axis") != 0 or len(editor.shape(node.inputs[0]) or ()) < 2:
            return None
    elif node.op not in (*_EACH, *_VIEWS):
        return None
    inner = editor.concrete(node.inputs[place])
    half = _half(editor, node.inputs[place], seen, new)
    if half is None or inner is None or inner[-1] != shape[-1]:
        return None
    whole = (*shape[:-1], shape[-1] // 2)
    if node.op in _VIEWS:
        return _viewed(editor, half, node.outputs[0], whole, seen, new)
    made = editor.declare(f"{node.outputs[0]}@half", node.outputs[0], whole)
    inputs = list(node.inputs)
    inputs[place] = half
    new.append(replace(node, inputs=tuple(inputs), outputs=(made,)))
    return made
