"""com.microsoft's attention operators and what belongs to them, of the graph's own operations.

Sources: the operators' definitions in onnxruntime's ContribOperators.md, and its CPU provider where
they leave something open.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import BOOL, FLOAT32
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import MICROSOFT, operator


def _heads(ctx: Context, x: str, count: int) -> str:
    """(batch, rows, count · features) -> (batch, rows, count, features)."""
    return ctx.emit("reshape", x, shape=(0, 0, count, -1))


def _turned(ctx: Context, x: str) -> str:
    """Rows and heads exchanged."""
    return ctx.emit("transpose", x, perm=(0, 2, 1, 3))


def _merged(ctx: Context, x: str) -> str:
    """(batch, heads, rows, features) -> (batch, rows, heads · features)."""
    return ctx.emit("reshape", _turned(ctx, x), shape=(0, 0, -1))


def _joined(ctx: Context, biases: Sequence[str]) -> str:
    """The sum of those that there are; "" of none."""
    total = ""
    for bias in filter(None, biases):
        total = ctx.emit("add", total, bias) if total else bias
    return total


def _refuse(
    ctx: Context, node: OnnxNode, attributes: Sequence[str], inputs: dict[int, str]
) -> None:
    """NotImplemented for a use that is not covered; the attributes' defaults are 0 and NONE."""
    for name in attributes:
        if node.attrs.get(name) not in (None, 0, "NONE"):
            raise ctx.unsupported(f"{name}={node.attrs[name]!r}")
    for index, name in inputs.items():
        if node.input(index):
            raise ctx.unsupported(f"the input {name}")


def _padding(ctx: Context, node: OnnxNode, mask: str, q: str, k: str) -> str:
    """What a mask adds to the scores: nothing where it is not 0, else the filter value."""
    if not mask:
        return ""
    rank = ctx.rank(mask)
    number = node.attrs.get("mask_filter_value", -10000.0)
    if rank == 1:
        return ctx.emit_many("padding_bias", (mask, q, k), 1, {"filter": number})[0]
    if rank not in (2, 3):
        known = "rank is not declared" if rank is None else f"rank is {rank}"
        raise ctx.unsupported(f"the mask '{mask}', whose {known},")
    axes = (1, 2) if rank == 2 else (1,)
    seen = ctx.emit("cast", ctx.emit("unsqueeze", mask, axes=axes), to=BOOL.name)
    return ctx.emit("where", seen, ctx.scalar(0.0, q), ctx.scalar(number, q))


def _attended(
    ctx: Context,
    node: OnnxNode,
    q: str,
    k: str,
    v: str,
    bias: str,
) -> str:
    """softmax(scale q kᵀ + bias) v, all (batch, heads, rows, features)."""
    scale, cap = node.attrs.get("scale", 0.0), node.attrs.get("softcap", 0.0)
    return ctx.emit("attention", q, k, v, bias, scale=scale, softcap=cap)


# -- Attention ---------------------------------------------------------------------------------


@operator("Attention", (2, 7), MICROSOFT)
def attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Inputs: x, weights of q, k and v, bias, mask, past, attention bias, past's length."""
    _refuse(
        ctx, node, ("do_rotary", "past_present_share_buffer"), {6: "past_sequence_length"}
    )
    x, weights = node.inputs[:2]
    product = ctx.emit("matmul", x, weights)
    if node.input(2):
        product = ctx.emit("add", product, node.input(2))
    return _self_attention(ctx, node, product, node.input(3), node.input(4), node.input(5))


@operator("QAttention", (5, 9), MICROSOFT)
def quantised_attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Attention whose projection is of bytes; bytes' scales and zeros are among the inputs."""
    _refuse(ctx, node, ("do_rotary", "past_present_share_buffer"), {})
    x, weights, bias, x_scale, weights_scale = node.inputs[:5]
    mask, x_zero, weights_zero, past = (node.input(place) for place in range(5, 9))
    operands = (x, weights, x_scale, weights_scale, x_zero, weights_zero, bias)
    product = ctx.emit("quantized_matmul", *operands, to=FLOAT32.name)
    return _self_attention(ctx, node, product, mask, past, "")


def _self_attention(
    ctx: Context, node: OnnxNode, product: str, mask: str, past: str, bias: str
) -> Sequence[str]:
    """(result, present) of q, k and v side by side; `past` has the keys and values before them."""
    count = node.attrs["num_heads"]
    sizes = node.attrs.get("qkv_hidden_sizes") or None
    parts = ctx.emit_many("split", (product,), 3, {"axis": 2, "sizes": sizes, "parts": 3})
    q, k, v = (_turned(ctx, _heads(ctx, part, count)) for part in parts)
    present = ""
    if past or node.wants(1):
        both = [ctx.emit("unsqueeze", one, axes=(0,)) for one in (k, v)]
        present = ctx.emit("concat", *both, axis=0)
    if past:
        present = ctx.emit("concat", past, present, axis=3)
        sides = ctx.emit_many("split", (present,), 2, {"axis": 0, "sizes": (1, 1)})
        k, v = (ctx.emit("squeeze", side, axes=(0,)) for side in sides)
    biases = [_padding(ctx, node, mask, q, k), bias]
    if node.attrs.get("unidirectional", 0):
        biases.append(ctx.emit("causal_bias", q, k))
    return (_merged(ctx, _attended(ctx, node, q, k, v, _joined(ctx, biases))), present)


# -- MultiHeadAttention ------------------------------------------------------------------------


@operator("MultiHeadAttention", (1, 10), MICROSOFT)
def multi_head_attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Inputs: query, key, value, bias, padding mask, attention bias, past key, past value."""
    _refuse(ctx, node, (), {8: "past_sequence_length", 9: "cache_indirection"})
    if node.wants(3):
        raise ctx.unsupported("the output qk")
    count = node.attrs["num_heads"]
    q, k, v = _projected(ctx, node, count)
    if node.input(6):
        k, v = (ctx.emit("kv_append", node.input(6 + i), new) for i, new in enumerate((k, v)))
    biases = [_padding(ctx, node, node.input(4), q, k), node.input(5)]
    if node.attrs.get("unidirectional", 0):
        biases.append(ctx.emit("causal_bias", q, k))
    return (_merged(ctx, _attended(ctx, node, q, k, v, _joined(ctx, biases))), k, v)


def _projected(ctx: Context, node: OnnxNode, count: int) -> tuple[str, str, str]:
    """q, k and v as (batch, heads, rows, features), with their bias."""
    query, key, value, bias = (node.input(index) for index in range(4))
    parts = _bias_parts(ctx, query, bias)
    if not key:  # (batch, rows, heads, 3, features)
        each = ctx.emit_many("split", (query,), 3, {"axis": 3, "sizes": (1, 1, 1)})
        sides = [ctx.emit("squeeze", one, axes=(3,)) for one in each]
    elif not value:  # (batch, rows, heads, 2, features)
        each = ctx.emit_many("split", (key,), 2, {"axis": 3, "sizes": (1, 1)})
        sides = [_heads(ctx, query, count), *(ctx.emit("squeeze", x, axes=(3,)) for x in each)]
    elif ctx.rank(key) == 4:  # (batch, heads, rows, features), projected before
        q = _heads(ctx, query, count)
        if bias:
            q = ctx.emit("add", q, ctx.emit("reshape", parts[0], shape=(count, -1)))
        return _turned(ctx, q), key, value
    else:
        sides = [_heads(ctx, one, count) for one in (query, key, value)]
    if bias:
        sides = [
            ctx.emit("add", side, ctx.emit("reshape", part, shape=(count, -1)))
            for side, part in zip(sides, parts, strict=True)
        ]
    q, k, v = (_turned(ctx, side) for side in sides)
    return q, k, v


def _bias_parts(ctx: Context, query: str, bias: str) -> Sequence[str]:
    """The bias of q, k and v; v's may be shorter or longer than the others."""
    if not bias:
        return ()
    sizes = None
    declared = ctx.values.get(query)
    shape = declared.shape if declared is not None else None
    if shape is not None and len(shape) == 3 and isinstance(shape[2], int):
        if bias in ctx.constants:
            sizes = (shape[2], shape[2], ctx.constants[bias].shape[0] - 2 * shape[2])
    return ctx.emit_many("split", (bias,), 3, {"axis": 0, "sizes": sizes, "parts": 3})


# -- GroupQueryAttention -----------------------------------------------------------------------


@operator("GroupQueryAttention", (1, 16), MICROSOFT)
def group_query_attention(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Inputs: query, key, value, past key, past value, seqlens_k, total_sequence_length, cos, sin,
    positions, attention bias, head sink."""
    _refuse(
        ctx,
        node,
        ("k_quant_type", "v_quant_type", "kv_cache_bit_width", "sliding_window_cache", "qk_output"),
        {12: "k_scale", 13: "v_scale"},
    )
    if not (node.input(5) and node.input(6)):
        raise ctx.invalid("its inputs seqlens_k and total_sequence_length are required")
    heads, shared = node.attrs["num_heads"], node.attrs["kv_num_heads"]
    lengths, total = node.input(5), {"total": node.input(6)}
    query, key, value = (node.input(index) for index in range(3))
    if key:
        sides = [_heads(ctx, query, heads), *(_heads(ctx, x, shared) for x in (key, value))]
    else:
        packed = _heads(ctx, query, heads + 2 * shared)
        sizes = (heads, shared, shared)
        sides = list(ctx.emit_many("split", (packed,), 3, {"axis": 2, "sizes": sizes}))
    for index in (0, 1):
        if node.input(14 + index):
            epsilon = node.attrs.get("qk_norm_epsilon", 1e-6)
            sides[index] = ctx.emit(
                "rms_normalization", sides[index], node.input(14 + index), axis=-1, epsilon=epsilon
            )
    q, k, v = (_turned(ctx, side) for side in sides)
    if node.attrs.get("do_rotary", 0):
        positions = node.input(9)
        if not positions:
            (positions,) = ctx.emit_with("row_positions", q, lengths, values=total)
        turning = node.attrs.get("rotary_interleaved", 0)
        q, k = (
            _rotated(ctx, x, positions, node.input(7), node.input(8), turning) for x in (q, k)
        )
    if node.input(3):
        k, v = (
            ctx.emit_with("kv_append", node.input(3 + i), new, lengths, values=total)[0]
            for i, new in enumerate((k, v))
        )
    keys, values = (ctx.emit_with("first_rows", x, values=total)[0] for x in (k, v))
    window = node.attrs.get("local_window_size", -1)
    causal = node.attrs.get("causal", 1)
    (bias,) = ctx.emit_with(
        "causal_bias", q, keys, lengths, values=total, causal=causal, window=window
    )
    bias = _joined(ctx, (bias, node.input(10)))
    if node.attrs.get("smooth_softmax", 0) or node.input(11):
        y = _softened(ctx, node, q, keys, values, bias, heads, shared)
    else:
        y = _attended(ctx, node, q, keys, values, bias)
    return (_merged(ctx, y), k, v)


def _softened(
    ctx: Context, node: OnnxNode, q: str, k: str, v: str, bias: str, heads: int, shared: int
) -> str:
    """Attention whose softmax may give less than 1 in all."""
    if heads != shared:
        k, v = (ctx.emit("repeat_heads", x, times=heads // shared) for x in (k, v))
    scale = node.attrs.get("scale", 0.0)
    if not scale:
        features = ctx.emit("shape", q, start=3, end=4)  # known with the shapes
        root = ctx.emit("sqrt", ctx.emit("cast", features, to=ctx.dtype(q).name))
        scaled = ctx.emit("div", q, root)
    else:
        scaled = ctx.emit("mul", q, ctx.scalar(scale, q))
    scores = ctx.emit("matmul", scaled, ctx.emit("transpose", k, perm=(0, 1, 3, 2)))
    cap = node.attrs.get("softcap", 0.0)
    if cap:
        limit = ctx.scalar(cap, q)
        scores = ctx.emit("mul", ctx.emit("tanh", ctx.emit("div", scores, limit)), limit)
    scores = ctx.emit("add", scores, bias)
    # One more key, of value 0, that takes its part: score 0, or the head's sink.
    first = ctx.emit("slice", scores, starts=(0,), ends=(1,), axes=(3,), steps=(1,))
    extra = ctx.emit("mul", first, ctx.scalar(0.0, q))
    if node.input(11):
        sink = ctx.emit("reshape", node.input(11), shape=(1, heads, 1, 1))
        extra = ctx.emit("add", extra, sink)
    weights = ctx.emit("softmax", ctx.emit("concat", extra, scores, axis=3), axis=-1)
    end = (1 << 31) - 1
    kept = ctx.emit("slice", weights, starts=(1,), ends=(end,), axes=(3,), steps=(1,))
    return ctx.emit("matmul", kept, v)


# -- RotaryEmbedding ---------------------------------------------------------------------------


def _rotated(
    ctx: Context, x: str, positions: str, cos: str, sin: str, interleaved: int
) -> str:
    """x, (batch, heads, rows, features), turned by the angles of its positions."""
    angles = [ctx.emit("gather", cache, positions, axis=0) for cache in (cos, sin)]
    return ctx.emit("rotate_pairs", x, *angles, interleaved=interleaved)


@operator("RotaryEmbedding", 4, MICROSOFT)
def rotary_embedding(ctx: Context, node: OnnxNode) -> str:
    """Inputs: x, positions (one for each row, or the first row's), cos and sin of all positions."""
    _refuse(ctx, node, ("is_packed_batching",), {})
    x, positions, cos, sin = node.inputs
    rank = ctx.rank(x)
    if rank not in (3, 4):
        raise ctx.unsupported(f"'{x}', which is not declared with 3 or 4 axes,")
    wide = x
    if rank == 3:
        count = node.attrs.get("num_heads", 0)
        if count:
            split = _heads(ctx, x, count)
        elif cos in ctx.constants:
            split = ctx.emit("reshape", x, shape=(0, 0, -1, 2 * ctx.constants[cos].shape[1]))
        else:
            raise ctx.unsupported("num_heads=0 with a cos_cache that is no constant")
        wide = _turned(ctx, split)
    if ctx.rank(positions) == 1:
        positions = ctx.emit("add", ctx.emit("row_positions", wide), positions)
    y = _rotated(ctx, wide, positions, cos, sin, node.attrs.get("interleaved", 0))
    return _merged(ctx, y) if rank == 3 else y
