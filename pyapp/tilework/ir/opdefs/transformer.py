"""What transformers have around attention: caches, masks, positions, RMS normalisation.

kv_append (past, new [, seqlens, total]) -> present: rows behind each other along axis 2 of
    (batch, heads, rows, features). Without seqlens all of past counts. With them
    (com.microsoft.GroupQueryAttention) sequence i of the batch has seqlens[i] + 1 rows afterwards,
    or, when total is the number of new rows, none before; present has max(rows of past, total),
    the rest 0. InvalidArgument for rows beyond past or total.
first_rows (x [, total]): at most total rows of (batch, heads, rows, features).
repeat_heads (x): attr times; each head of (batch, heads, rows, features) so often, side by side.
causal_bias (q, k [, seqlens, total]) -> (batch or 1, 1, rows of q, rows of k): 0 where a query may
    see a key, else the lowest number. attrs causal, window: how many keys a query sees, its own the
    last of them, -1 for all. seqlens and total as above.
row_positions (x [, seqlens, total]) -> (batch or 1, rows): which row of its sequence each new one
    is.
padding_bias (lengths, q, k): attr filter; lengths of 1 axis as com.microsoft.Attention takes them:
    (batch) ends, (2 batch) ends then starts, (3 batch + 2) ends and two running sums, which say no
    more. Gives (batch, 1, 1, rows of k): 0 inside, filter outside.
rotate_pairs (x, cos, sin): attr interleaved; x is (batch, heads, rows, features), cos and sin
    (batch or 1, rows, pairs). Turns the pairs (i, i + pairs), or with interleaved (2 i, 2 i + 1),
    by their angles; features behind the pairs stay.
rms_normalization (x, scale) -> y [, inverse deviation]: attrs axis, epsilon
residual_rms_normalization (x, residual, scale) -> y [, sum]

Only total decides a shape and has to be known when a plan is made; seqlens are data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import INT64
from tilework.core.errors import InvalidArgument
from tilework.core.shapes import broadcast_two, count
from tilework.ir.graph import Node
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet, same_dtype
from tilework.ir.opdefs.layout import normalise_axis
from tilework.ir.opdefs.registry import FOLD_LIMIT, OPS, Array, Attrs, Info, define, fail


def from_the_start(attrs: Attrs, rows: int) -> bool:
    """Whether `rows` new ones are all that there is of each sequence."""
    return attrs.get("total") is not None and _total(attrs) == rows


def _before(attrs: Attrs, rows: int, seqlens: Array | None) -> Array | None:
    """How many rows each sequence has before the `rows` new ones; None: as many as there are."""
    if seqlens is None:
        return None
    counts = seqlens.reshape(-1).astype(np.int64) + 1 - rows
    return np.zeros_like(counts) if from_the_start(attrs, rows) else counts


def _total(attrs: Attrs) -> int:
    total = attrs["total"]
    found: int = total[0] if isinstance(total, tuple) else total
    return found


def _check_lengths(node: Node, infos: Sequence[Info | None], place: int, batch: int) -> None:
    lengths = infos[place] if len(infos) > place else None
    if lengths is not None and (count(lengths.shape) != batch or "total" not in node.attrs):
        raise fail(node, infos, "seqlens must be one for each sequence, and total be given")


# -- caches ------------------------------------------------------------------------------------


def _infer_append(node: Node, infos: Sequence[Info]) -> list[Info]:
    past, new = infos[0], infos[1]
    if len(past.shape) != 4 or len(new.shape) != 4:
        raise fail(node, infos, "past and new must be (batch, heads, rows, features)")
    if past.shape[:2] != new.shape[:2] or past.shape[3] != new.shape[3]:
        raise fail(node, infos, "past and new must agree in all but their rows")
    _check_lengths(node, infos, 2, new.shape[0])
    rows = past.shape[2] + new.shape[2]
    if len(infos) > 2 and infos[2] is not None:
        rows = max(past.shape[2], _total(node.attrs))
    return [Info(same_dtype(node, infos[:2]), (*new.shape[:2], rows, new.shape[3]))]


def _append(
    attrs: Attrs, past: Array, new: Array, seqlens: Array | None = None
) -> tuple[Array, ...]:
    rows, held = new.shape[2], past.shape[2]
    before = _before(attrs, rows, seqlens)
    if before is None:
        return (np.concatenate([past, new], axis=2),)
    whole = max(held, _total(attrs))
    present = np.zeros((*new.shape[:2], whole, new.shape[3]), new.dtype)
    for index, length in enumerate(before.tolist()):
        if not 0 <= length <= min(held, whole - rows):
            raise InvalidArgument(f"seqlens {seqlens} go beyond past or total")
        present[index, :, :length] = past[index, :, :length]
        present[index, :, length : length + rows] = new[index]
    return (present,)


define("kv_append", (2, 4), _infer_append, _append, values={"total": 3}, raw=True)


def _infer_first(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape = infos[0].shape
    if len(shape) != 4:
        raise fail(node, infos, "x must be (batch, heads, rows, features)")
    return [Info(infos[0].dtype, (*shape[:2], min(shape[2], _total(node.attrs)), shape[3]))]


define(
    "first_rows",
    (1, 2),
    _infer_first,
    lambda attrs, x: (x[:, :, : _total(attrs)],),
    values={"total": 1},
    raw=True,
)


def _infer_repeat(node: Node, infos: Sequence[Info]) -> list[Info]:
    shape = infos[0].shape
    if len(shape) != 4:
        raise fail(node, infos, "x must be (batch, heads, rows, features)")
    times: Any = node.attrs["times"]
    return [Info(infos[0].dtype, (shape[0], shape[1] * times, *shape[2:]))]


define(
    "repeat_heads",
    1,
    _infer_repeat,
    lambda attrs, x: (np.repeat(x, attrs["times"], axis=1),),
    raw=True,
)


# -- masks and positions -----------------------------------------------------------------------


def _infer_causal(node: Node, infos: Sequence[Info]) -> list[Info]:
    q, k = infos[0], infos[1]
    if len(q.shape) != 4 or len(k.shape) != 4:
        raise fail(node, infos, "q and k must be (batch, heads, rows, features)")
    _check_lengths(node, infos, 2, q.shape[0])
    rows = q.shape[2]
    apart = len(infos) > 2 and infos[2] is not None and not from_the_start(node.attrs, rows)
    return [Info(q.dtype, (q.shape[0] if apart else 1, 1, rows, k.shape[2]))]


def causal_hidden(attrs: Attrs, rows: int) -> Callable[[Array], Array]:
    """Says of how far a key lies ahead of each of `rows` queries whether it is hidden."""
    window = attrs.get("window", -1)

    def hidden(ahead: Array) -> Array:
        last = 0 if attrs.get("causal", 1) else (rows - 1 - np.arange(rows))[:, None]
        return np.asarray((ahead > last) | (ahead <= -window) & (window >= 0))

    return hidden


def _causal(
    attrs: Attrs, q: Array, k: Array, seqlens: Array | None = None
) -> tuple[Array, ...]:
    rows, keys = q.shape[2], k.shape[2]
    before = _before(attrs, rows, seqlens)
    if before is None:
        before = np.array([keys - rows])
    elif from_the_start(attrs, rows):
        before = before[:1]
    row = np.arange(rows)[:, None] + before[:, None, None, None]  # of the query, in its sequence
    hidden = causal_hidden(attrs, rows)(np.arange(keys) - row)
    return one(np.where(hidden, np.finfo(q.dtype).min, np.zeros((), q.dtype)), q.dtype)


define("causal_bias", (2, 4), _infer_causal, _causal, values={"total": 3})


def _positions(attrs: Attrs, x: Array, seqlens: Array | None = None) -> tuple[Array, ...]:
    rows = x.shape[2]
    before = _before(attrs, rows, seqlens)
    if before is None or seqlens is None:
        return (np.arange(rows, dtype=np.int64)[None],)
    return one(before[:, None] + np.arange(rows), seqlens.dtype)


def _infer_positions(node: Node, infos: Sequence[Info]) -> list[Info]:
    if len(infos[0].shape) != 4:
        raise fail(node, infos, "x must be (batch, heads, rows, features)")
    batch, rows = infos[0].shape[0], infos[0].shape[2]
    _check_lengths(node, infos, 1, batch)
    seqlens = infos[1] if len(infos) > 1 else None
    shape, dtype = (1, rows), INT64
    if seqlens is not None:
        shape, dtype = (batch, rows), seqlens.dtype
        if not from_the_start(node.attrs, rows):
            return [Info(dtype, shape)]
    if shape[0] * rows > FOLD_LIMIT:
        return [Info(dtype, shape)]
    known = np.broadcast_to(np.arange(rows, dtype=dtype.numpy), shape)
    return [Info(dtype, shape, known)]  # known at once


define("row_positions", (1, 3), _infer_positions, _positions, values={"total": 2}, raw=True)


def padding_spans(lengths: int, batch: int) -> bool | None:
    """Whether so many lengths have starts behind their ends; None when they are not a batch's."""
    return {batch: False, 2 * batch: True, 3 * batch + 2: False}.get(lengths)


def _infer_padding(node: Node, infos: Sequence[Info]) -> list[Info]:
    lengths, q, k = infos
    if len(lengths.shape) != 1 or padding_spans(lengths.shape[0], k.shape[0]) is None:
        raise fail(node, infos, "lengths must be (batch), (2 batch) or (3 batch + 2)")
    return [Info(q.dtype, (k.shape[0], 1, 1, k.shape[2]))]


def _padding(attrs: Attrs, lengths: Array, q: Array, k: Array) -> tuple[Array, ...]:
    batch = k.shape[0]
    key = np.arange(k.shape[2])
    hidden = key >= lengths[:batch, None]
    if padding_spans(lengths.shape[0], batch):
        hidden = hidden | (key < lengths[batch:, None])
    bias = np.where(hidden, np.asarray(attrs["filter"], q.dtype), np.zeros((), q.dtype))
    return one(bias[:, None, None], q.dtype)


define("padding_bias", 3, _infer_padding, _padding)


# -- rotary embedding --------------------------------------------------------------------------


def _infer_rotary(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    x, cos, sin = infos
    if len(x.shape) != 4 or len(cos.shape) != 3 or cos.shape != sin.shape:
        raise fail(node, infos, "x must have 4 axes, cos and sin 3")
    batch, _, rows, features = x.shape
    if cos.shape[0] not in (1, batch) or cos.shape[1] != rows or 2 * cos.shape[2] > features:
        raise fail(node, infos, "cos and sin must be (batch or 1, rows, at most features / 2)")
    return [Info(same_dtype(node, infos), x.shape)]


def _rotary(attrs: Attrs, x: Array, cos: Array, sin: Array) -> tuple[Array, ...]:
    pairs = cos.shape[2]
    if attrs.get("interleaved", 0):
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    a, b, c, s = x[..., first], x[..., second], cos[:, None], sin[:, None]
    y = np.array(x)
    y[..., first] = a * c - b * s
    y[..., second] = b * c + a * s
    return (y,)


define("rotate_pairs", 3, _infer_rotary, quiet(_rotary))


# -- RMS normalisation -------------------------------------------------------------------------


def _infer_rms(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    axis: Any = node.attrs["axis"]
    shape = infos[0].shape
    if broadcast_two(shape[axis:], infos[-1].shape) != shape[axis:]:
        raise fail(node, infos, f"scale must broadcast to {list(shape[axis:])}")
    dtype = same_dtype(node, infos)
    return [
        Info(dtype, shape), Info(dtype, (*shape[:axis], *(1,) * (len(shape) - axis)))
    ][: len(node.outputs)]  # fmt: skip


def _rms(attrs: Attrs, x: Array, scale: Array) -> tuple[Array, ...]:
    axes = tuple(range(attrs["axis"], x.ndim))
    # Narrower floats are widened: ONNX's stash_type 1 computes the mean in float32.
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    mean = np.mean(wide * wide, axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(mean + wide.dtype.type(attrs.get("epsilon", 1e-5)))
    y = (wide * inverse).astype(x.dtype) * scale
    return np.asarray(y, x.dtype), np.asarray(inverse, x.dtype)


define("rms_normalization", 2, _infer_rms, quiet(_rms), outputs=2, normalise=normalise_axis)


def _infer_residual_rms(node: Node, infos: Sequence[Info]) -> list[Info]:
    if broadcast_two(infos[0].shape, infos[1].shape) != infos[0].shape:
        raise fail(node, infos, f"residual must broadcast to {list(infos[0].shape)}")
    return [_infer_rms(node, infos)[0], Info(infos[0].dtype, infos[0].shape)][: len(node.outputs)]


def _residual_rms(attrs: Attrs, x: Array, residual: Array, scale: Array) -> tuple[Array, ...]:
    total = np.asarray(x + residual)
    return OPS["rms_normalization"].reference(attrs, total, scale)[0], total


define(
    "residual_rms_normalization",
    3,
    _infer_residual_rms,
    quiet(_residual_rms),
    outputs=2,
    normalise=normalise_axis,
)
