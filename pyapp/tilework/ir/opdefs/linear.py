"""Linear algebra that is more than one product.

einsum(equation) (x...): letters, one ellipsis a term, implicit or explicit result
det (x): of the last two axes
hardmax(axis)   lp_normalization(axis, p 1|2)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import (
    FLOATS,
    NUMBERS,
    check_kind,
    infer_unary,
    one,
    quiet,
    same_dtype,
)
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail


def _infer_einsum(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    terms, result = parse_einsum(str(node.attrs["equation"]), [len(i.shape) for i in infos])
    if not terms:
        raise fail(node, infos, f"the equation '{node.attrs['equation']}' {result}")
    extents: dict[str, int] = {}
    for term, info in zip(terms, infos, strict=True):
        for letter, extent in zip(term, info.shape, strict=True):
            known = extents.setdefault(letter, extent)
            if known != extent and 1 not in (known, extent):
                raise fail(node, infos, f"'{letter}' is {known} and {extent}")
            extents[letter] = max(known, extent) if 0 not in (known, extent) else 0
    return [Info(same_dtype(node, infos), tuple(extents[letter] for letter in result))]


def parse_einsum(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """One letter an axis of each operand and of the result; the axes of an ellipsis are letters
    beyond Latin. ([], what is wrong) where the equation does not fit the ranks."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    raw = left.split(",")
    if len(raw) != len(ranks):
        return [], f"has {len(raw)} terms for {len(ranks)} operands"
    terms, widest = [], 0
    for term, rank in zip(raw, ranks, strict=True):
        letters = term.replace("...", "")
        hidden = rank - len(letters)
        if term.count("...") > 1 or (not letters.isalpha() and letters):
            return [], f"has the malformed term '{term}'"
        if hidden < 0 or (hidden and "..." not in term):
            return [], f"has a term '{term}' for {rank} axes"
        widest = max(widest, hidden)
        terms.append((term, hidden))
    # An ellipsis' axes are aligned at the end, as NumPy broadcasts.
    spare = "".join(chr(0x100 + i) for i in range(widest))
    full = [term.replace("...", spare[widest - hidden :]) for term, hidden in terms]
    if arrow:
        if right.count("...") > 1 or (not right.replace("...", "x").isalpha() and right):
            return [], f"has the malformed result '{right}'"
        result = right.replace("...", spare)
    else:
        joined = "".join(left.replace(",", "").replace("...", ""))
        result = spare + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    if len(set(result)) != len(result) or not set(result) <= set("".join(full)):
        return [], f"has a result '{result}' with axes twice, or that no operand has"
    return full, result


def _einsum(attrs: Attrs, *xs: Array) -> tuple[Array, ...]:
    # NumPy reads the same language; a copy, since a result may be a view of an operand.
    return one(np.array(np.einsum(attrs["equation"], *xs)), xs[0].dtype)


define("einsum", (1, -1), _infer_einsum, quiet(_einsum))


def _infer_det(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    shape = infos[0].shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise fail(node, infos, "needs square matrices")
    return [Info(infos[0].dtype, shape[:-2])]


def _det(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    return one(np.linalg.det(wide), x.dtype)


define("det", 1, _infer_det, quiet(_det))


def _hardmax(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    axis = attrs["axis"]
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    if x.size == 0:
        return (x,)
    first = np.expand_dims(np.argmax(x, axis=axis), axis)
    return one(np.arange(x.shape[axis]).reshape(shape) == first, x.dtype)


define("hardmax", 1, infer_unary(FLOATS), _hardmax, normalise=normalise_axis)


def _infer_lp(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    if node.attrs.get("p", 2) not in (1, 2):
        raise fail(node, infos, f"p is {node.attrs['p']}, only 1 and 2 are norms here")
    return [Info(infos[0].dtype, infos[0].shape)]


def _lp(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    axis: Any = attrs["axis"]
    if attrs.get("p", 2) == 1:
        norm = np.sum(np.abs(x), axis=axis, keepdims=True)
    else:
        norm = np.sqrt(np.sum(x * x, axis=axis, keepdims=True))
    return one(np.where(norm == 0, 0, x / norm), x.dtype)


define("lp_normalization", 1, _infer_lp, quiet(_lp), normalise=normalise_axis)
