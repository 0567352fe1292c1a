"""Attention: all operands are read through strides, so heads are never transposed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, FLOAT32, INT64
from tilework.core.shapes import broadcast_two
from tilework.hal.kernels.attention import F32_ATTENTION, AttentionParams
from tilework.hal.kernels.move import APPEND_ROWS, AppendParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Info
from tilework.plan import tiles
from tilework.plan.bands import banded
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands, step
from tilework.plan.lowerings.elementwise import binary, compare, logical, where
from tilework.plan.lowerings.half import lies_in, stored
from tilework.plan.lowerings.move import grown
from tilework.plan.lowerings.scores import scores
from tilework.plan.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """What the kernel makes of q kᵀ before the softmax; names and meanings are the .wit's."""

    scale: float
    softcap: float
    hidden_zero: int


def _rows(b: Builder, tensor: Tensor) -> Tensor:
    """The tensor with its features side by side."""
    return tensor if tensor.strides[-1] == 1 or tensor.shape[-1] == 1 else b.copied(tensor)


def attention(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """softmax(scale q kᵀ + mask) v."""
    q, k, v, mask = [*inputs, None][:4]
    assert q is not None and k is not None and v is not None
    if q.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {q.dtype}"
    if 0 in (q.shape[3], k.shape[2]):
        return f"no kernel for {k.shape[2]} keys of {q.shape[3]} features"
    out = _output(b, node, (*q.shape[:3], v.shape[3]))
    attrs: Any = node.attrs
    scores = Scores(
        float(attrs.get("scale", 1.0)),
        float(attrs.get("softcap", 0.0)),
        2 if attrs.get("nan_zero", 0) else 0,
    )
    _attend(b, (q, k, v, mask), out, scores)
    return [out]


def _attend(
    b: Builder,
    operands: tuple[Tensor, Tensor, Tensor, Tensor | None],
    out: Tensor,
    scores: Scores,
) -> None:
    """out = softmax(scale q kᵀ + mask) v, all (batch, heads, rows, features), through strides."""
    if out.size == 0:
        return
    q, k, v = (_rows(b, tensor) for tensor in operands[:3])
    mask = operands[3]
    known = None if mask is None else b.arrays.get(mask.storage)
    if known is not None and not known.any():
        mask = None  # as of one new row, which sees all before it
    wide = None if mask is None else mask.broadcast_to((*q.shape[:3], v.shape[2]))
    group = q.shape[1] // max(k.shape[1], 1)
    if group > 1 and q.shape[2] == 1:  # heads that share keys become rows, which read them once
        mine, hiding, result = (_as_rows(tensor, group) for tensor in (q, wide, out))
        _emit(b, (mine, k, v, hiding), result, scores)
        return
    for one in range(group):  # of the heads that share keys, all firsts, all seconds, …
        mine, hiding, result = (_every(tensor, one, group) for tensor in (q, wide, out))
        _emit(b, (mine, k, v, hiding), result, scores)


def _as_rows(tensor: Tensor | None, group: int) -> Any:
    """(batch, heads / group, group, features) of one row a head."""
    if tensor is None:
        return None
    batch, heads, _, features = tensor.shape
    first, head, _, last = tensor.strides
    strides = (first, group * head, head, last)
    return replace(tensor, shape=(batch, heads // group, group, features), strides=strides)


def _every(tensor: Tensor | None, first: int, step: int) -> Any:
    if tensor is None or step == 1:
        return tensor
    shape = (tensor.shape[0], tensor.shape[1] // step, *tensor.shape[2:])
    return tensor.sliced((0, first, 0, 0), (1, step, 1, 1), shape)


def _emit(
    b: Builder,
    operands: tuple[Tensor, Tensor, Tensor, Tensor | None],
    out: Tensor,
    scores: Scores,
) -> None:
    q, k, v, mask = operands
    batch, heads, rows, features = q.shape
    keys, values = v.shape[2:]
    steps = (0, 0, 0, 0) if mask is None else mask.strides
    cut = tiles.attention_tiles(rows, keys, features, values, heads, batch, b.threads)
    params = AttentionParams(
        query_length=rows,
        key_length=keys,
        head_size=features,
        value_size=values,
        q_batch=q.strides[0],
        q_head=q.strides[1],
        q_row=q.strides[2],
        k_batch=k.strides[0],
        k_head=k.strides[1],
        k_row=k.strides[2],
        v_batch=v.strides[0],
        v_head=v.strides[1],
        v_row=v.strides[2],
        out_batch=out.strides[0],
        out_head=out.strides[1],
        out_row=out.strides[2],
        mask_batch=steps[0],
        mask_head=steps[1],
        mask_row=steps[2],
        mask_column=steps[3],
        tile_rows=cut.tile_rows,
        scale=scores.scale,
        hidden_zero=scores.hidden_zero,
        softcap=scores.softcap,
    )
    counts = cut.counts(rows, heads, batch)
    b.emit(F32_ATTENTION, counts, params, (q, k, v, mask, out), cut.scratch)


def _output(b: Builder, node: Node, shape: tuple[int, ...]) -> Tensor:
    """Heads side by side within a row when that is how the result is read on."""
    readers = b.readers(node.outputs[0])
    if readers and all(
        reader.op == "transpose" and tuple(reader.attrs.get("perm", ())) == (0, 2, 1, 3)
        for reader in readers
    ):
        batch, heads, rows, values = shape
        out = b.new(FLOAT32, (batch, rows, heads, values)).transposed((0, 2, 1, 3))
        return replace(out, shape=shape)
    return b.new(FLOAT32, shape)


# -- ONNX's Attention --------------------------------------------------------------------------


def scaled(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Caches by copies, masks by elementwise kernels, then the same."""
    q, k, v, mask, past_key, past_value, lengths = [*inputs, None, None, None, None][:7]
    assert q is not None and k is not None and v is not None
    attrs: Any = node.attrs
    if any(tensor.dtype is not FLOAT32 for tensor in (q, k, v)):
        return f"no kernel for {node.op} of {q.dtype}"
    if attrs.get("precision") not in (None, "float32"):
        return f"no kernel for a softmax in {attrs['precision']}"
    if mask is not None and mask.dtype not in (FLOAT32, BOOL):
        return f"no kernel for a mask of {mask.dtype}"
    flat = len(q.shape) == 3
    q = apart(b, q, attrs.get("q_heads", 0))
    k, v = (apart(b, one, attrs.get("kv_heads", 0)) for one in (k, v))
    before = 0 if past_key is None else past_key.shape[2]
    if 0 in (q.shape[3], before + k.shape[2]):
        return f"no kernel for {before + k.shape[2]} keys of {q.shape[3]} features"
    if past_key is not None and past_value is not None:
        held = before + k.shape[2]
        names = [*node.outputs, "", ""][1:3]
        k = grown(b, names[0], past_key, k, 2) or appended(b, past_key, k, None, before, held)
        v = grown(b, names[1], past_value, v, 2) or appended(b, past_value, v, None, before, held)
    rows, keys = q.shape[2], k.shape[2]
    hiding = _hiding(b, attrs, mask, (rows, keys), before, lengths)
    if isinstance(hiding, str):
        return hiding
    scale = attrs.get("scale") or 1 / math.sqrt(q.shape[3] or 1)
    batch, heads, values = q.shape[0], q.shape[1], v.shape[3]
    if flat:
        y = b.new(FLOAT32, (batch, rows, heads, values))
        out = y.transposed((0, 2, 1, 3))
        whole = y.reshaped((batch, rows, heads * values))
        assert whole is not None  # a dense tensor takes any shape
    else:
        whole = out = _output(b, node, (batch, heads, rows, values))
    told = whole
    if any(b.uses(name) for name in node.outputs[3:]):
        told = scores(b, attrs, q, k, float(scale), hiding)
    kernel = Scores(float(scale), max(float(attrs.get("softcap", 0.0)), 0.0), 1)
    _attend(b, (q, k, v, hiding), out, kernel)
    return [whole, k, v, told][: len(node.outputs)]


def apart(b: Builder, x: Tensor, heads: int) -> Tensor:
    """(batch, heads, rows, features) of (batch, rows, heads · features), or itself."""
    if len(x.shape) == 4:
        return x
    shape = (*x.shape[:2], heads, x.shape[2] // heads)
    view = x.reshaped(shape) or b.dense(x).reshaped(shape)
    assert view is not None  # a dense tensor takes any shape
    return view.transposed((0, 2, 1, 3))


def appended(
    b: Builder,
    past: Tensor,
    new: Tensor,
    lengths: Tensor | None,
    before: int,
    whole: int,
    output: str = "",
) -> Tensor:
    """`new` behind the first rows of a cache: `before`, or as dense int32 `lengths` say; 0 behind.

    All are (batch, heads, rows, features), the result has `whole` rows. `output`: what may have
    them where the cache is, if all sequences have `before`; the run fails where they have not.
    """
    shape = (*new.shape[:2], whole, new.shape[3])
    found = b.grown(output, past, 2, shape) if whole > past.shape[2] else None
    in_place = found is not None and found[1]
    if found is not None:
        past, new = (lies_in(b, one, found[0].dtype) for one in (past, new))
    elif past.dtype is not new.dtype:
        past = stored(b, past)
    held = None if in_place else b.dense(past)
    new = new if new.strides[3] == 1 or new.shape[3] == 1 else b.copied(new)
    y = b.new(new.dtype, shape) if found is None else found[0]
    size = new.dtype.size
    params = AppendParams(
        heads=new.shape[1],
        held=past.shape[2],
        before=before,
        fresh=new.shape[2],
        whole=whole,
        row_bytes=new.shape[3] * size,
        new_batch=new.strides[0] * size,
        new_head=new.strides[1] * size,
        new_row=new.strides[2] * size,
        room=whole if found is None else y.strides[1] // y.strides[2],
    )
    tiles = (new.shape[1], new.shape[0], 1) if 0 not in y.shape else (0, 0, 0)
    b.emit(APPEND_ROWS, tiles, params, (held, new, lengths, y), over=(3, 0))
    return y


def _hiding(
    b: Builder,
    attrs: Any,
    mask: Tensor | None,
    extents: tuple[int, int],
    before: int,
    lengths: Tensor | None,
) -> Tensor | str | None:
    """What is added to the scores: -inf where a key is hidden."""
    rows, keys = extents
    left, right = attrs.get("left", -1), attrs.get("right", -1)
    causal = bool(attrs.get("causal", 0))
    seen: Tensor | None = None
    if lengths is not None:
        if lengths.dtype is not INT64:
            return f"no kernel for lengths of {lengths.dtype}"
        seen = _within(b, attrs, lengths, extents)
        seen = _added(b, seen)
    else:
        def hidden(ahead: Array) -> Array:
            far = (ahead < -left) & (left >= 0) | (ahead > right) & (right >= 0)
            return np.asarray((ahead > 0) & causal | far)

        seen = banded(b, (rows, keys), before, hidden, -np.inf, FLOAT32)
        if not b.arrays[seen.storage].any():
            seen = None
    if mask is None:
        return seen
    if mask.dtype is BOOL:
        mask = _added(b, mask)
    if mask.shape[-1] < keys:  # keys that the mask does not know are hidden
        wide = b.new(FLOAT32, (*mask.shape[:-1], keys))
        known = mask.shape[-1]
        b.copy(mask, replace(wide, shape=mask.shape))
        rest = replace(
            wide,
            shape=(*mask.shape[:-1], keys - known),
            offset=wide.offset + known * wide.strides[-1],
        )
        nothing = b.local(np.full((1,) * len(rest.shape), -np.inf, np.float32), FLOAT32)
        b.copy(nothing.broadcast_to(rest.shape), rest)
        mask = wide
    if seen is None:
        return mask
    whole = broadcast_two(mask.shape, seen.shape)
    assert whole is not None  # infer has checked it
    return _one(binary(b, Node("add", (), ()), (mask, seen), (Info(FLOAT32, whole),)))


def _within(b: Builder, attrs: Any, lengths: Tensor, extents: tuple[int, int]) -> Tensor:
    """Which of so many keys each row sees, of sequences of `lengths`: (batch, 1, rows or 1, keys).

    The last row is the last of the sequence, so a key lies `ahead` of a row less the length.
    """
    rows, keys = extents
    left, right = attrs.get("left", -1), attrs.get("right", -1)
    key: Any = np.arange(keys, dtype=np.int64)[None]
    ahead = key + rows - np.arange(rows)[:, None]
    most = min([0] * bool(attrs.get("causal", 0)) + [right] * (right >= 0), default=None)
    tests = [("less", key)]
    if most is not None:
        tests.append(("less_or_equal", ahead - most))
    if left >= 0:
        tests.append(("greater_or_equal", ahead + left))
    if most == 0:
        del tests[0]  # the last row ends with the sequence, and none sees further
    bound = replace(lengths, shape=(*lengths.shape, 1, 1, 1), strides=(*lengths.strides, 0, 0, 0))
    seen: Tensor | None = None
    for op, places in tests:
        flags = Info(BOOL, (lengths.shape[0], 1, *places.shape))
        found = step(b, compare, op, flags, b.local(places[None, None], INT64), bound)
        if seen is not None:
            whole = Info(BOOL, (lengths.shape[0], 1, rows, keys))
            found = step(b, logical, "and", whole, seen, found)
        seen = found
    assert seen is not None  # there is always a test
    return seen


def _added(b: Builder, seen: Tensor) -> Tensor:
    """0 where it is true, else -inf."""
    numbers = [
        b.local(np.full((1,) * len(seen.shape), number, np.float32), FLOAT32)
        for number in (0.0, -np.inf)
    ]
    info = Info(FLOAT32, seen.shape)
    return _one(where(b, Node("where", (), ()), (seen, *numbers), (info,)))


def _one(lowered: Lowered) -> Tensor:
    assert not isinstance(lowered, str)  # these dtypes have kernels
    return lowered[0]


FLOATS: dict[str, Lowering] = {
    "attention": attention,
    "scaled_attention": scaled,
}
