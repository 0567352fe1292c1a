"""Softmax attention, as exporters write it, → attention(q, k, v, mask).

Reads from softmax(…) @ v upwards: weights of NaN made 0, masks that are added or hide scores, a cap
by tanh, a scale as division or product of the scores or of q and k, a factor for each row, then
q @ kᵀ. Where heads are joined to the batch, the scores may be taken apart for their masks. Keys
and values that are repeated for the heads that share them are read where they lie. Transposes are
left to the planner, for which they are views. Needs shapes; refuses whatever it does not know for
certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tilework.core.dtypes import FLOAT16, FLOAT32
from tilework.core.shapes import broadcast_two
from tilework.ir.graph import Node
from tilework.passes.editor import Editor

# A Where that writes at most this hides a key: exp(x - max) is 0 whatever is added to it.
HIDING = -1e9
_DTYPES = (FLOAT32, FLOAT16)
_REPEATS = ("repeat_heads", "share_heads")


@dataclass(slots=True)
class _Scores:
    """What stands between the softmax and q @ kᵀ."""

    q: str = ""
    k: str = ""  # (…, features, keys)
    scale: float = 1.0
    softcap: float = 0.0
    factors: list[str] = field(default_factory=list)  # of rows: q's are multiplied by them
    masks: list[_Mask] = field(default_factory=list)  # the last to be applied first
    shape: tuple[int, ...] = ()
    lead: tuple[int, int] | None = None  # batch and heads, where both are one axis of the scores


@dataclass(frozen=True, slots=True)
class _Mask:
    """scores + value, or, with a number, that where `value` is `hides`."""

    value: str
    matrices: int  # of the scores, where they are one axis; 0 where batch and heads are two
    number: float | None = None
    hides: bool = False


def fuse_attention(editor: Editor) -> None:
    """softmax(q kᵀ · scale + mask) v → attention, for rank 3 and 4."""
    for node in editor:
        if node.op != "matmul":
            continue
        weights, whole = node.inputs[0], editor.concrete(node.inputs[0])
        view = editor.producer(weights)
        if view is not None and view.op == "reshape" and editor.used_once(weights):
            weights = view.inputs[0]
        softmax = _softmax(editor, weights)
        if softmax is None or whole is None:
            continue
        shape = editor.concrete(softmax.inputs[0])
        axis = softmax.attrs.get("axis", -1)
        if shape is None or axis not in (-1, len(shape) - 1) or len(shape) not in (3, 4):
            continue
        if shape != whole and not _same_matrices(shape, whole):
            continue
        out = node.outputs[0]
        scores = _read(editor, softmax.inputs[0], shape, whole)
        if scores is None or not _fits(editor, scores, node.inputs[1], out):
            continue
        nan_zero = softmax.outputs[0] != weights
        _rewrite(editor, node, scores, {"nan_zero": 1} if nan_zero else {})


def _softmax(editor: Editor, weights: str) -> Node | None:
    """The softmax that makes `weights`, with or without where(isnan(y), 0, y) behind it."""
    node = editor.producer(weights)
    if node is None or not editor.used_once(weights):
        return None
    if node.op == "where":
        test, zero, weights = node.inputs
        asked = editor.producer(test)
        if asked is None or asked.op != "isnan" or asked.inputs[0] != weights:
            return None
        inside = len(editor.users(weights)) == 2 and weights not in editor.outputs
        if not inside or not editor.used_once(test) or editor.scalar(zero) != 0.0:
            return None
        node = editor.producer(weights)
    return node if node is not None and node.op == "softmax" else None


def _read(
    editor: Editor, name: str, shape: tuple[int, ...], whole: tuple[int, ...]
) -> _Scores | None:
    """What is between the softmax's input, of `shape`, and a product of shape `whole`."""
    found = _Scores(shape=whole)
    while True:
        node = editor.producer(name)
        if node is None or not editor.used_once(name) or editor.concrete(name) != shape:
            return None
        if len(shape) == 4 and len(whole) == 3:
            if found.lead not in (None, shape[:2]):
                return None
            found.lead = shape[0], shape[1]
        if node.op == "matmul":
            break
        plain = found.scale == 1.0 and not found.softcap and not found.factors
        if node.op in ("mul", "div"):
            step = _scalar_step(editor, node)
            rows = None if step is not None else _row_step(editor, node)
            if rows is not None and len(shape) == len(whole) and not found.softcap:
                name = rows[0]
                found.factors.append(rows[1])
                continue
            if step is None:
                return None
            name, factor = step
            found.scale *= factor
            bound = editor.producer(name)
            if bound is not None and bound.op == "tanh" and not found.softcap and factor > 0.0:
                if found.scale != factor or found.factors or not editor.used_once(name):
                    return None  # a scale behind the cap
                name, found.softcap = bound.inputs[0], factor
        elif node.op in ("add", "where") and plain:
            picked = (_added if node.op == "add" else _hidden)(editor, node, shape)
            if picked is None:
                return None
            name, mask = picked
            found.masks.append(mask)
        elif node.op == "cast" and editor.dtype(node.inputs[0]) in _DTYPES:
            name = node.inputs[0]  # float16 before: the kernel computes in float32 throughout
        elif node.op == "reshape":
            apart = editor.concrete(node.inputs[0])
            if apart is None or not _same_matrices(apart, shape):
                return None
            name, shape = node.inputs[0], apart
        else:
            return None
    if shape != found.shape:
        return None
    q, q_factor = _unscaled(editor, node.inputs[0])
    k, k_factor = _unscaled(editor, node.inputs[1])
    found.q, found.k = q, k
    found.scale *= q_factor * k_factor
    if len(shape) == 3 and found.lead is None:
        found.lead = (1, shape[0]) if found.masks else _joined(editor, q, shape[0])
    return found


def _same_matrices(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether both are so many matrices of the same size, one behind the other."""
    return (
        {len(one), len(other)} <= {3, 4}
        and one[-2:] == other[-2:]
        and math.prod(one[:-2]) == math.prod(other[:-2])
    )


def _joined(editor: Editor, q: str, matrices: int) -> tuple[int, int]:
    """Batch and heads of a q that is reshaped from both; one batch of all heads else."""
    node = editor.producer(q)
    if node is not None and node.op == "reshape":
        joined, apart = editor.concrete(q), editor.concrete(node.inputs[0])
        if joined and apart and len(apart) == 4 and _same_matrices(apart, joined):
            return apart[0], apart[1]
    return 1, matrices


def _scalar_step(editor: Editor, node: Node) -> tuple[str, float] | None:
    """(x, factor) when the node multiplies or divides x by one known number."""
    x, other = node.inputs
    number = editor.scalar(other)
    if number is None and node.op == "mul":
        x, other = other, x
        number = editor.scalar(other)
    if number is None or number == 0.0:
        return None
    if editor.concrete(x) != editor.concrete(node.outputs[0]):
        return None
    return x, number if node.op == "mul" else 1.0 / number


def _unscaled(editor: Editor, name: str) -> tuple[str, float]:
    factor = 1.0
    while True:
        node = editor.producer(name)
        if node is None or node.op not in ("mul", "div") or not editor.used_once(name):
            return name, factor
        step = _scalar_step(editor, node)
        if step is None:
            return name, factor
        name, factor = step[0], factor * step[1]


def _row_step(editor: Editor, node: Node) -> tuple[str, str] | None:
    """(x, factor) when the node multiplies whole rows of x, (…, 1, 1) or (…, rows, 1)."""
    shape = editor.concrete(node.outputs[0])
    if node.op != "mul" or shape is None:
        return None
    for x, factor in (node.inputs, node.inputs[::-1]):
        by = editor.concrete(factor)
        if by is not None and by[-1:] == (1,) and editor.concrete(x) == shape:
            if broadcast_two(shape, by) == shape and _leads_to_matmul(editor, x):
                return x, factor
    return None


def _added(editor: Editor, node: Node, shape: tuple[int, ...]) -> tuple[str, _Mask] | None:
    """(scores, mask): the operand that comes from a matmul, and the other one."""
    for scores, mask in (node.inputs, node.inputs[::-1]):
        wide = editor.concrete(mask)
        if editor.concrete(scores) != shape or wide is None:
            continue
        if broadcast_two(shape, wide) == shape and _leads_to_matmul(editor, scores):
            return scores, _Mask(mask, _matrices(shape))
    return None


def _hidden(editor: Editor, node: Node, shape: tuple[int, ...]) -> tuple[str, _Mask] | None:
    """Where(condition, scores, -inf) or the reverse → the scores, and what hides them."""
    condition, yes, no = node.inputs
    wide = editor.concrete(condition)
    for scores, filler, hides in ((yes, no, False), (no, yes, True)):
        number = editor.scalar(filler)
        if number is None or number > HIDING or editor.concrete(scores) != shape:
            continue
        if wide is None or broadcast_two(shape, wide) != shape:
            return None
        if _leads_to_matmul(editor, scores):
            return scores, _Mask(condition, _matrices(shape), number, hides)
    return None


def _matrices(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else 0


def _leads_to_matmul(editor: Editor, name: str, depth: int = 8) -> bool:
    node = editor.producer(name)
    if node is None or depth == 0:
        return False
    inner: tuple[str, ...] = node.inputs[:1]
    if node.op in ("mul", "div"):
        step = _scalar_step(editor, node) or _row_step(editor, node)
        inner = () if step is None else (step[0],)
    elif node.op in ("add", "where"):
        inner = node.inputs[-2:]
    elif node.op not in ("reshape", "tanh", "cast"):
        return node.op == "matmul"
    return any(_leads_to_matmul(editor, one, depth - 1) for one in inner)


def _composed(editor: Editor, scores: _Scores, out: str, new: list[Node]) -> str:
    """All masks as one that is added to (batch, heads, rows, keys); "" of none."""
    total, wide = "", tuple[int, ...]()
    dtype = editor.dtype(out)
    assert dtype is not None  # _fits has asked
    for at, mask in enumerate(reversed(scores.masks)):
        name = _of_four(editor, mask, scores, f"{out}@of{at}", new)
        both = broadcast_two(wide, editor.concrete(name) or ())
        assert both is not None  # both broadcast to the scores
        if mask.number is None and not total:
            total, wide = name, both
            continue
        made = f"{out}@mask{at}"
        if mask.number is None:
            new.append(Node("add", (total, name), (made,), {}, "mask"))
        else:
            numbers = np.zeros((), dtype.numpy), np.array(mask.number, dtype.numpy)
            zero, hidden = (editor.add_constant(f"{made}@fill", one) for one in numbers)
            pair = (hidden, total or zero) if mask.hides else (total or zero, hidden)
            new.append(Node("where", (name, *pair), (made,), {}, "mask"))
        total, wide = editor.declare(made, out, both), both
    return total


def _of_four(editor: Editor, mask: _Mask, scores: _Scores, name: str, new: list[Node]) -> str:
    """The mask where batch and heads are two axes, if they were one when it was applied."""
    shape = editor.concrete(mask.value) or ()
    if not mask.matrices or scores.lead is None or len(shape) < 3 or shape[0] == 1:
        return mask.value
    apart = (*scores.lead, *shape[1:])
    new.append(_reshape(mask.value, name, apart, "mask"))
    return editor.declare(name, mask.value, apart)


def _fits(editor: Editor, scores: _Scores, v: str, out: str) -> bool:
    """Whether q, k and v are floats of a kernel and agree exactly, without broadcasting."""
    if editor.dtype(out) not in _DTYPES:
        return False
    q, k, value = (editor.concrete(name) for name in (scores.q, scores.k, v))
    if q is None or k is None or value is None:
        return False
    rank = len(scores.shape)
    return (
        len(q) == len(k) == len(value) == rank
        and q[:-2] == k[:-2] == value[:-2]
        and q[-1] == k[-2]
        and scores.shape == (*q[:-1], k[-1])
        and value[-2] == k[-1]
        and 0 not in (*q, *k, *value)
    )


def _shared(editor: Editor, name: str) -> tuple[str, tuple[int, ...]] | None:
    """(x, its shape) where `name` is x, (batch, heads, rows, features), with each head repeated.

    As exporters write it: unsqueeze to (batch, heads, 1, rows, features), expand, reshape.
    """
    node, whole = editor.producer(name), editor.concrete(name)
    if node is not None and node.op == "cast":
        node = editor.producer(node.inputs[0])
    if node is None or whole is None or len(whole) != 4:
        return None
    if node.op in _REPEATS:
        shape = editor.concrete(node.inputs[0])
        return None if shape is None else (node.inputs[0], shape)
    wide = editor.concrete(node.inputs[0])
    expand = editor.producer(node.inputs[0])
    if node.op != "reshape" or expand is None or expand.op != "expand" or wide is None:
        return None
    one = editor.concrete(expand.inputs[0])
    view = editor.producer(expand.inputs[0])
    if one is None or view is None or view.op not in ("unsqueeze", "reshape"):
        return None
    batch, heads, rows, features = whole
    if len(one) != 5 or one[2] != 1 or wide != (*one[:2], wide[2], *one[3:]):
        return None
    if (wide[0], wide[1] * wide[2], *wide[3:]) != (batch, heads, rows, features):
        return None
    shape = (batch, one[1], rows, features)
    return (view.inputs[0], shape) if editor.concrete(view.inputs[0]) == shape else None


def _as(editor: Editor, name: str, like: str, made: str, new: list[Node]) -> str:
    """The value in the dtype of `like`."""
    dtype, shape = editor.dtype(like), editor.concrete(name)
    if dtype is None or editor.dtype(name) in (dtype, None):
        return name
    new.append(Node("cast", (name,), (made,), {"to": dtype.name}, "attention"))
    return editor.declare(made, like, shape)


def _turned(editor: Editor, name: str) -> str | None:
    """The (batch, heads, rows, features) whose last two axes `name` has exchanged."""
    node = editor.producer(name)
    if node is None or node.op != "transpose" or node.attrs.get("perm") != (0, 1, 3, 2):
        return None
    return node.inputs[0]


def _rewrite(editor: Editor, node: Node, scores: _Scores, attrs: dict[str, int]) -> None:
    out, v = node.outputs[0], node.inputs[1]
    rank = len(scores.shape)
    new: list[Node] = []
    for at, factor in enumerate(scores.factors):
        scaled = editor.declare(f"{out}@q{at}", scores.q)
        new.append(Node("mul", (scores.q, factor), (scaled,), {}, node.origin))
        scores.q = scaled
    shapes = {name: editor.concrete(name) or () for name in (scores.q, scores.k, v)}
    inputs, outputs = [scores.q, "", v], out
    k = _turned(editor, scores.k)
    bases = [None if k is None else _shared(editor, k), _shared(editor, v)]
    if bases[0] and bases[1] and bases[0][1][:3] == bases[1][1][:3]:
        inputs[1:] = [base[0] for base in bases if base]
    else:
        perm = (*range(rank - 2), rank - 1, rank - 2)
        turned = f"{out}@k"
        new.append(Node("transpose", (scores.k,), (turned,), {"perm": perm}, node.origin))
        k_shape = tuple(shapes[scores.k][axis] for axis in perm)
        inputs[1] = editor.declare(turned, scores.k, k_shape)
    for index, name in enumerate(inputs):
        inputs[index] = _as(editor, name, out, f"{out}@{'qkv'[index]}f", new)
    if rank == 3:
        assert scores.lead is not None  # _read has found it
        for index, (name, shape) in enumerate(
            zip(inputs, (shapes[scores.q], k_shape, shapes[v]), strict=True)
        ):
            four = f"{out}@{'qkv'[index]}4"
            apart = (*scores.lead, *shape[1:])
            new.append(_reshape(name, four, apart, node.origin))
            inputs[index] = editor.declare(four, out, apart)
        whole = (*scores.lead, shapes[scores.q][1], shapes[v][-1])
        outputs = editor.declare(f"{out}@4", out, whole)
    if scores.masks:
        inputs.append(_composed(editor, scores, out, new))
    known = {"scale": scores.scale, **attrs}
    if scores.softcap:
        known["softcap"] = scores.softcap
    new.append(Node("attention", tuple(inputs), (outputs,), known, node.origin))
    if rank == 3:
        result = (*shapes[scores.q][:2], shapes[v][-1])
        new.append(_reshape(outputs, out, result, node.origin))
    editor.replace(node, new, "attention")


def _reshape(x: str, y: str, shape: tuple[int, ...], origin: str) -> Node:
    return Node("reshape", (x,), (y,), {"shape": shape, "allow_zero": 1}, origin)
