"""Operations on strings, object arrays of str, which never leave the host.

string_concat (a, b)      string_split(delimiter, most) (x) -> tokens, int64 counts
regex_full_match(pattern) (x) -> bool      string_normalizer(change, sensitive, stopwords) (x)
tokenize(expression, separators, shortest, pad, mark) (x) -> (…, tokens): what matches the
expression, or what the separators leave; rows are filled up with `pad`
tf_idf(pool, starts, places, weights, shortest, longest, skips, mode) (x) -> float32, x strings or
integers; pool is flat, its n-grams begin at starts[n - 1]

Source: onnx/defs/text and onnx/defs/nn (StringNormalizer, TfIdfVectorizer).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.core.errors import InvalidArgument
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, define_dynamic, fail


def texts(values: Iterable[str], shape: Sequence[int]) -> Array:
    """An array of strings."""
    flat = list(values)
    made = np.empty(len(flat), dtype=object)
    made[:] = flat
    return made.reshape(shape)


def _check(*arrays: Array) -> None:
    if any(array.dtype != np.dtype(object) for array in arrays):
        raise InvalidArgument("takes strings")


def _concat(attrs: Attrs, a: Array, b: Array) -> tuple[Array]:
    _check(a, b)
    try:
        left, right = np.broadcast_arrays(a, b)
    except ValueError:
        raise InvalidArgument("the shapes do not broadcast") from None
    return (texts((x + y for x, y in zip(left.flat, right.flat, strict=True)), left.shape),)


def _split(attrs: Attrs, x: Array) -> tuple[Array, Array]:
    _check(x)
    delimiter, most = attrs.get("delimiter") or None, attrs.get("most", -1)
    pieces = [text.split(delimiter, most) for text in x.flat]
    counts = np.array([len(one) for one in pieces], dtype=np.int64)
    wide = int(counts.max(initial=0))
    tokens = [token for one in pieces for token in [*one, *[""] * (wide - len(one))]]
    return texts(tokens, (*x.shape, wide)), counts.reshape(x.shape)


def _matches(attrs: Attrs, x: Array) -> tuple[Array]:
    _check(x)
    try:
        pattern = re.compile(attrs["pattern"])
    except re.error as error:
        raise InvalidArgument(f"pattern {attrs['pattern']!r} is no expression: {error}") from None
    found = [pattern.fullmatch(text) is not None for text in x.flat]
    return (np.array(found, dtype=np.bool_).reshape(x.shape),)


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.ASCII)  # \w and \b are of ASCII in RE2, which defines them here
    except re.error as error:
        raise InvalidArgument(f"pattern {text!r} is no expression: {error}") from None


def _tokens(attrs: Attrs, text: str) -> list[str]:
    separators = attrs.get("separators") or ()
    if attrs.get("expression"):
        found = [match.group() for match in _expression(attrs["expression"]).finditer(text)]
    elif list(separators) == [""]:
        found = list(text)
    else:
        found = [text]
        for separator in map(_expression, separators):
            found = [part for one in found for part in separator.split(one)]
    return [one for one in found if one and len(one) >= attrs["shortest"]]


def _tokenize(attrs: Attrs, x: Array) -> tuple[Array]:
    """com.microsoft's Tokenizer."""
    _check(x)
    rows = [_tokens(attrs, text) for text in x.flat]
    if attrs["mark"]:
        rows = [["\x02", *row, "\x03"] for row in rows]
    wide = max(map(len, rows), default=0)
    filled = [token for row in rows for token in [*row, *[attrs["pad"]] * (wide - len(row))]]
    return (texts(filled, (*x.shape, wide)),)


_CHANGES = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


def _normalize(attrs: Attrs, x: Array) -> tuple[Array]:
    _check(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise InvalidArgument("takes a vector, or a matrix of one row")
    same = str if attrs.get("sensitive") else str.casefold
    stop = {same(word) for word in attrs.get("stopwords") or ()}
    change: Any = _CHANGES[attrs.get("change", "NONE")]
    # What has nothing left gives one empty string.
    kept = [change(word) for word in x.flat if same(word) not in stop] or [""]
    return (texts(kept, (*x.shape[:-1], len(kept))),)


define_dynamic("string_concat", 2, _concat)
define_dynamic("string_split", 1, _split, outputs=2)
define_dynamic("regex_full_match", 1, _matches)
define_dynamic("string_normalizer", 1, _normalize)
define_dynamic("tokenize", 1, _tokenize)


def _grams(attrs: Attrs) -> dict[tuple[Any, ...], tuple[int, float]]:
    """n-gram → its column and weight."""
    pool, starts, places = attrs["pool"], attrs["starts"], attrs["places"]
    weights = attrs.get("weights") or [1.0] * len(places)
    found: dict[tuple[Any, ...], tuple[int, float]] = {}
    number = 0
    for length, start in enumerate(starts, 1):
        end = starts[length] if length < len(starts) else len(pool)
        for first in range(start, end, length):
            found[tuple(pool[first : first + length])] = places[number], weights[number]
            number += 1
    return found


def _count_row(attrs: Attrs, row: Sequence[Any], grams: Any, counts: Array) -> None:
    for length in range(max(attrs["shortest"], 1), min(attrs["longest"], len(row)) + 1):
        # A single word has no gaps, so it counts once; no stride leads out of the row.
        widest = 1 if length == 1 else min(attrs["skips"] + 1, (len(row) - 1) // (length - 1))
        for stride in range(1, widest + 1):
            for first in range(len(row) - stride * (length - 1)):
                gram = tuple(row[first : first + stride * (length - 1) + 1 : stride])
                if gram in grams:
                    counts[grams[gram][0]] += 1


def _tf_idf(attrs: Attrs, x: Array) -> tuple[Array]:
    grams = _grams(attrs)
    rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    counts = np.zeros((len(rows), max(attrs["places"], default=-1) + 1), dtype=np.float32)
    for row, line in zip(rows.tolist(), counts, strict=True):
        _count_row(attrs, row, grams, line)
    if attrs["mode"] == "IDF":
        counts = (counts > 0).astype(np.float32)
    if attrs["mode"] != "TF":
        weights = np.zeros(counts.shape[1], dtype=np.float32)
        for place, weight in grams.values():
            weights[place] = weight
        counts = counts * weights
    return (counts.reshape(*x.shape[:-1], counts.shape[1]),)


def _infer_tf_idf(node: Node, infos: Sequence[Info]) -> list[Info]:
    places: Any = node.attrs["places"]
    if len(infos[0].shape) > 2 or node.attrs["mode"] not in ("TF", "IDF", "TFIDF"):
        raise fail(node, infos, "takes a vector or a matrix; mode is TF, IDF or TFIDF")
    return [Info(FLOAT32, (*infos[0].shape[:-1], max(places, default=-1) + 1))]


define("tf_idf", 1, _infer_tf_idf, _tf_idf)
