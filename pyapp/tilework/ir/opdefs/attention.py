"""Attention with masks, windows and caches, and what transformers put around it.

scaled_attention (q, k, v [, mask [, past_key, past_value [, lengths]]]) -> y [, present_key,
    present_value [, scores]]: ONNX's Attention. attrs q_heads, kv_heads (of inputs of rank 3),
    scale (None: 1/sqrt(features)), causal, softcap, precision (a DType's name, of softmax),
    scores (what the last output has: 0 products, 1 capped, 2 masked, 3 probabilities), left, right
    (window sizes, -1: none).
rotary_embedding (x, cos, sin [, positions]): attrs heads (of inputs of rank 3), interleaved,
    features (rotated ones; 0: all).
linear_attention (q, k, v, past, decay, beta) -> y, present: attrs q_heads, kv_heads, scale, rule.
share_heads (x, like): each head of (batch, heads, rows, features) as often as `like` has more.
causal_conv (x, weight [, bias [, past]]) -> y, present: attr activation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME, DType, from_numpy
from tilework.core.shapes import broadcast_two
from tilework.ir.graph import Node
from tilework.ir.narrow import narrow, rounded, widen
from tilework.ir.opdefs.elementwise import FLOATS, check_kind, one, quiet, sigmoid
from tilework.ir.opdefs.nn import softmax_of
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail

Shape = tuple[int, ...]

# -- scaled_attention ------------------------------------------------------------------------------


def split_heads(shape: Shape, heads: int) -> Shape:
    """(batch, heads, rows, features) of (batch, rows, heads · features), or of itself."""
    if len(shape) == 4:
        return shape
    return (shape[0], heads, shape[1], shape[2] // heads)


def _infer_attention(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    q, k, v, mask, past_key, past_value, lengths = [*infos, None, None, None, None][:7]
    assert q is not None and k is not None and v is not None
    check_kind(node, [q, k, v], FLOATS)
    attrs: Any = node.attrs
    heads, kv_heads = attrs.get("q_heads", 0), attrs.get("kv_heads", 0)
    ranks = {len(q.shape), len(k.shape), len(v.shape)}
    if ranks not in ({3}, {4}) or (ranks == {3} and (heads < 1 or kv_heads < 1)):
        raise fail(node, infos, "q, k and v must be of rank 4, or of rank 3 with numbers of heads")
    if ranks == {3} and (q.shape[2] % heads or k.shape[2] % kv_heads or v.shape[2] % kv_heads):
        raise fail(node, infos, f"features must be a multiple of {heads} and {kv_heads} heads")
    qs, ks, vs = (
        split_heads(info.shape, n) for info, n in ((q, heads), (k, kv_heads), (v, kv_heads))
    )
    if qs[0] != ks[0] or ks[:3] != vs[:3] or qs[3] != ks[3] or not ks[1] or qs[1] % ks[1]:
        raise fail(node, infos, "q, k and v must agree in batch, heads, features and keys")
    if (past_key is None) != (past_value is None):
        raise fail(node, infos, "past_key and past_value come together")
    before = past_key.shape[2] if past_key is not None and len(past_key.shape) == 4 else 0
    for past, own in ((past_key, ks), (past_value, vs)):
        if past is not None and past.shape != (*own[:2], before, own[3]):
            raise fail(node, infos, f"a cache must be {[*own[:2], 'past', own[3]]}")
    if lengths is not None and lengths.shape != qs[:1]:
        raise fail(node, infos, f"the lengths must be {list(qs[:1])}")
    keys = before + ks[2]
    scores = (*qs[:3], keys)
    if mask is not None:
        full = (*mask.shape[:-1], keys) if mask.shape and mask.shape[-1] < keys else mask.shape
        if broadcast_two(scores, full) != scores:
            raise fail(node, infos, f"mask does not broadcast to {list(scores)}")
    y = (*qs[:3], vs[3]) if len(q.shape) == 4 else (qs[0], qs[2], qs[1] * vs[3])
    return [
        Info(q.dtype, y),
        Info(k.dtype, (*ks[:2], keys, ks[3])),
        Info(v.dtype, (*vs[:2], keys, vs[3])),
        Info(q.dtype, scores),
    ][: max(len(node.outputs), 1)]


def _heads_first(x: Array, heads: int) -> Array:
    if x.ndim == 4:
        return x
    batch, rows, width = x.shape
    return x.reshape(batch, rows, heads, width // heads).transpose(0, 2, 1, 3)


def _visible(
    attrs: Attrs, rows: int, keys: int, before: int, lengths: Array | None
) -> Array | None:
    """Which keys a row sees by its place: (rows, keys), or (batch, 1, rows, keys); None: all."""
    left, right = attrs.get("left", -1), attrs.get("right", -1)
    place: Array = np.arange(rows)[:, None] + before
    if lengths is not None:
        place = np.arange(rows)[:, None] + (lengths.reshape(-1, 1, 1, 1) - rows)
    ahead = np.arange(keys) - place
    seen = np.ones(ahead.shape, bool)
    if attrs.get("causal", 0):
        seen &= ahead <= 0
    if left >= 0:
        seen &= ahead >= -left
    if right >= 0:
        seen &= ahead <= right
    if lengths is not None:
        seen = seen & (np.arange(keys) < lengths.reshape(-1, 1, 1, 1))
    return None if seen.all() else seen


def _additive(allowed: Array) -> Array:
    return np.asarray(np.where(allowed, np.float32(0), np.float32(-np.inf)))


def _bias(
    attrs: Attrs, dtype: DType, mask: Array | None, seen: Array | None, keys: int
) -> Array | None:
    """What is added to the scores, -inf where a key is hidden."""
    bias = None
    if mask is not None:
        bias = _additive(mask) if mask.dtype.kind == "b" else widen(mask)
        missing = keys - bias.shape[-1]
        if missing > 0:
            widths = [(0, 0)] * (bias.ndim - 1) + [(0, missing)]
            bias = np.pad(bias, widths, constant_values=-np.inf)
        bias = rounded(bias, dtype)
    if seen is not None:
        hidden = rounded(_additive(seen), dtype)
        bias = hidden if bias is None else bias + hidden
    return bias


def _attention(
    attrs: Attrs,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, ...]:
    dtype, rank = from_numpy(q.dtype), q.ndim
    q = _heads_first(q, attrs.get("q_heads", 0))
    k, v = (_heads_first(x, attrs.get("kv_heads", 0)) for x in (k, v))
    before = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    present = (k, v)
    q, k, v = widen(q), widen(k), widen(v)
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    rows, keys = q.shape[2], k.shape[2]
    scale = attrs.get("scale") or 1 / math.sqrt(q.shape[3])
    root = rounded(np.array(math.sqrt(scale)), dtype)
    # Both sides take the root of the scale, so that a product in float16 does not overflow.
    sides = rounded(q * root, dtype), rounded(np.swapaxes(k, -1, -2) * root, dtype)
    products = rounded(np.matmul(*sides), dtype)
    capped = products
    cap = attrs.get("softcap", 0.0)
    if cap > 0:
        capped = rounded(rounded(np.tanh(rounded(products / cap, dtype)), dtype) * cap, dtype)
    bias = _bias(attrs, dtype, mask, _visible(attrs, rows, keys, before, lengths), keys)
    masked = capped if bias is None else rounded(capped + bias, dtype)
    within = BY_NAME[attrs["precision"]] if attrs.get("precision") else dtype
    chances = softmax_of(rounded(masked, within), -1, within)
    if bias is not None:  # a row that sees nothing is 0, not NaN
        nothing = np.isneginf(np.max(bias, axis=-1, keepdims=True, initial=-np.inf))
        chances = np.where(nothing, chances.dtype.type(0), chances)
    chances = rounded(chances, dtype)
    y = rounded(np.matmul(chances, v), dtype)
    if rank == 3:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], rows, -1)
    scores = (products, capped, masked, chances)[attrs.get("scores", 0)]
    if dtype.wide:
        y, scores = narrow(y, dtype, saturate=False), narrow(scores, dtype, saturate=False)
    return (y, *present, scores)


define(
    "scaled_attention",
    (3, 7),
    _infer_attention,
    quiet(_attention),
    outputs=4,
    raw=True,
)


# -- rotary_embedding ------------------------------------------------------------------------------


def _infer_rotary(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, cos, sin = infos[0], infos[1], infos[2]
    assert x is not None and cos is not None and sin is not None
    heads: Any = node.attrs.get("heads", 0)
    if len(x.shape) not in (3, 4) or (len(x.shape) == 3 and (heads < 1 or x.shape[2] % heads)):
        raise fail(node, infos, "x must be of rank 4, or of rank 3 with a number of heads")
    features: Any = node.attrs.get("features", 0) or split_heads(x.shape, heads)[3]
    if features % 2 or features > split_heads(x.shape, heads)[3]:
        raise fail(node, infos, f"{features} features cannot be rotated: even, at most all")
    if cos.shape != sin.shape or cos.shape[-1:] != (features // 2,):
        raise fail(node, infos, f"cos and sin must have {features // 2} as their last extent")
    positions = infos[3] if len(infos) > 3 else None
    if len(cos.shape) != (3 if positions is None else 2):
        raise fail(node, infos, "cos and sin must have 2 axes with positions, else 3")
    batch, rows = x.shape[0], x.shape[-2] if len(x.shape) == 4 else x.shape[1]
    angles = cos.shape[:-1] if positions is None else positions.shape
    if angles not in ((batch, rows), (1, rows)):
        raise fail(node, infos, f"there must be angles for {batch} × {rows} rows")
    return [Info(x.dtype, x.shape)]


def _rotary(
    attrs: Attrs, x: Array, cos: Array, sin: Array, positions: Array | None = None
) -> tuple[Array, ...]:
    if x.ndim == 4:
        turned = x.transpose(0, 2, 1, 3)  # (batch, rows, heads, features)
    else:
        turned = x.reshape(*x.shape[:2], attrs["heads"], -1)
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    features = attrs.get("features", 0) or turned.shape[3]
    turning, rest = turned[..., :features], turned[..., features:]
    if attrs.get("interleaved", 0):
        a, b = turning[..., 0::2], turning[..., 1::2]
    else:
        a, b = turning[..., : features // 2], turning[..., features // 2 :]
    pair = (cos * a - sin * b, sin * a + cos * b)
    if attrs.get("interleaved", 0):
        done = np.stack(pair, axis=-1).reshape(turning.shape)
    else:
        done = np.concatenate(pair, axis=-1)
    result = np.concatenate([done, rest], axis=-1)
    return one(result.transpose(0, 2, 1, 3) if x.ndim == 4 else result.reshape(x.shape), x.dtype)


define("rotary_embedding", (3, 4), _infer_rotary, quiet(_rotary))


# -- linear_attention ------------------------------------------------------------------------------

RULES = ("linear", "gated", "delta", "gated_delta")


def _infer_linear(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    q, k, v, past, decay, beta = [*infos, None, None, None][:6]
    assert q is not None and k is not None and v is not None
    attrs: Any = node.attrs
    rule, heads, kv_heads = attrs["rule"], attrs["q_heads"], attrs["kv_heads"]
    if rule not in RULES:
        raise fail(node, infos, f"update_rule '{rule}' is not one of {', '.join(RULES)}")
    if ("gated" in rule) != (decay is not None) or ("delta" in rule) != (beta is not None):
        raise fail(node, infos, f"'{rule}' takes decay only if gated and beta only if delta")
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise fail(node, infos, f"{heads} heads must be a multiple of {kv_heads}")
    if {len(q.shape), len(k.shape), len(v.shape)} != {3}:
        raise fail(node, infos, "q, k and v must be of rank 3")
    state = (q.shape[0], kv_heads, k.shape[2] // kv_heads, v.shape[2] // kv_heads)
    fits = q.shape[:2] == k.shape[:2] == v.shape[:2] and q.shape[2] == heads * state[2]
    if not fits or k.shape[2] % kv_heads or v.shape[2] % kv_heads:
        raise fail(node, infos, "q, k and v must agree in batch, rows and features a head")
    if past is not None and past.shape != state:
        raise fail(node, infos, f"the past state must be {list(state)}")
    lasts = {"decay": (decay, (kv_heads, k.shape[2])), "beta": (beta, (kv_heads, 1))}
    for name, (info, allowed) in lasts.items():
        if info is not None and (info.shape[:-1] != q.shape[:2] or info.shape[-1] not in allowed):
            raise fail(node, infos, f"{name} must be {[*q.shape[:2], allowed[0]]}")
    y = Info(q.dtype, (*q.shape[:2], heads * state[3]))
    return [y, Info(q.dtype if past is None else past.dtype, state)][: len(node.outputs)]


def _linear(
    attrs: Attrs,
    q: Array,
    k: Array,
    v: Array,
    past: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
) -> tuple[Array, ...]:
    heads, kv_heads = attrs["q_heads"], attrs["kv_heads"]
    batch, rows = q.shape[:2]
    wide = np.float64 if q.dtype.itemsize == 8 else np.float32
    qs, ks, vs = (
        x.reshape(batch, rows, n, -1).astype(wide)
        for x, n in ((q, heads), (k, kv_heads), (v, kv_heads))
    )
    features = ks.shape[3]
    state: Array = np.zeros((batch, kv_heads, features, vs.shape[3]), wide)
    if past is not None:
        state = state + past
    scale = attrs.get("scale", 0.0) or 1 / math.sqrt(features)
    y: Array = np.zeros((batch, rows, heads, vs.shape[3]), wide)
    for i in range(rows):
        if decay is not None:
            gate = np.exp(decay[:, i].astype(wide)).reshape(batch, kv_heads, -1, 1)
            state = state * gate
        key: Array = ks[:, i]
        value: Array = vs[:, i]
        if beta is not None:
            recalled = np.matmul(key[..., None, :], state)[..., 0, :]
            rate: Array = beta[:, i, :, None].astype(wide)
            value = rate * (value - recalled)
        state = state + key[..., :, None] * value[..., None, :]
        shared = np.repeat(state, heads // kv_heads, axis=1)
        y[:, i] = scale * np.matmul(qs[:, i, :, None, :], shared)[..., 0, :]
    kept = state.astype(q.dtype if past is None else past.dtype)
    return y.reshape(batch, rows, -1).astype(q.dtype), kept


define("linear_attention", (3, 6), _infer_linear, quiet(_linear), outputs=2)


# -- causal_conv -----------------------------------------------------------------------------------


def _infer_causal(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    x, weight, bias, past = [*infos, None, None][:4]
    assert x is not None and weight is not None
    if node.attrs.get("activation", "none") not in ("none", "silu", "swish"):
        raise fail(node, infos, f"activation '{node.attrs['activation']}' is not silu or swish")
    if len(x.shape) != 3 or weight.shape[:2] != (x.shape[1], 1) or len(weight.shape) != 3:
        raise fail(node, infos, "x must be (batch, channels, length), weight (channels, 1, k)")
    state = (*x.shape[:2], weight.shape[2] - 1)
    if past is not None and past.shape != state:
        raise fail(node, infos, f"the past state must be {list(state)}")
    if bias is not None and bias.shape != x.shape[1:2]:
        raise fail(node, infos, f"bias must be {list(x.shape[1:2])}")
    return [Info(x.dtype, x.shape), Info(x.dtype, state)][: len(node.outputs)]


def _causal(
    attrs: Attrs, x: Array, weight: Array, bias: Array | None = None, past: Array | None = None
) -> tuple[Array, ...]:
    taps, length = weight.shape[2], x.shape[2]
    before = np.zeros((*x.shape[:2], taps - 1), x.dtype) if past is None else past
    line = np.concatenate([before, x], axis=2)
    wide = line.astype(np.float32) if x.dtype.itemsize < 4 else line
    total: Array = np.zeros(x.shape, wide.dtype)
    for tap in range(taps):
        total = total + wide[:, :, tap : tap + length] * weight[:, 0, tap, None]
    if bias is not None:
        total = total + bias[:, None]
    if attrs.get("activation", "none") != "none":
        total = total * sigmoid(total)
    return total.astype(x.dtype), line[:, :, line.shape[2] - (taps - 1) :]


define("causal_conv", (2, 4), _infer_causal, quiet(_causal), outputs=2)


# -- share_heads -----------------------------------------------------------------------------------


def _infer_share(node: Node, infos: Sequence[Info]) -> list[Info]:
    x, like = infos[0].shape, infos[1].shape
    if len(x) != 4 or len(like) != 4 or not x[1] or like[1] % x[1]:
        raise fail(node, infos, "both must be of rank 4, like's heads a multiple of x's")
    return [Info(infos[0].dtype, (x[0], like[1], *x[2:]))]


define(
    "share_heads",
    2,
    _infer_share,
    lambda attrs, x, like: (np.repeat(x, like.shape[1] // x.shape[1], axis=1),),
    raw=True,
)
