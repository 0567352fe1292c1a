"""com.microsoft's transformer operators against onnxruntime: by reference, and on the device.

The rows are those of test_operators. All but the few in ON_HOST run on kernels from end to end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.onnx.rows import MICROSOFT, Row, answered, build, f32, i32, i64, infer_row, run_row
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx

B, S, N, H = 2, 5, 4, 8  # batch, rows, heads, features of a head
D, P = N * H, 3  # width; rows in the past


def row(op: str, *inputs: Any, outputs: int = 1, constants: Any = (), **attrs: Any) -> Row:
    return Row(op, inputs, attrs, 17, MICROSOFT, outputs, tuple(constants), 2e-5)


def attention(*more: Any, width: int = 3 * D, outputs: int = 1, **attrs: Any) -> Row:
    x, w, bias = f32(B, S, 12), f32(12, width, seed=1) / 4, f32(width, seed=2)
    return row(
        "Attention", x, w, bias, *more, outputs=outputs, constants=(1, 2), num_heads=N, **attrs
    )


def multi_head(*inputs: Any, outputs: int = 1, **attrs: Any) -> Row:
    return row("MultiHeadAttention", *inputs, outputs=outputs, num_heads=N, **attrs)


Q, K, V = f32(B, S, D), f32(B, S, D, seed=1), f32(B, S, D, seed=2)
BIAS = f32(3 * D, seed=3)
PAST = [f32(B, N, P, H, seed=4 + i) for i in range(2)]
MASK = i32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]][0], [1, 1, 1, 1, 0])
TABLES = [np.random.default_rng(n).integers(0, 256, (n, D)).astype(np.uint8) for n in (9, 7, 2, 1)]
SCALES = [np.array(1 / n, np.float32) for n in (50, 60, 70, 80, 90)]
ZEROS = [np.array(n, np.uint8) for n in (120, 110, 130, 100, 90)]
LONG = i32([1, 0, 1, 1, 1, 1, 1, 0], [1] * 8)
CUBE = (f32(B, S, S, seed=9) > -0.5).astype(np.int32) | np.eye(S, dtype=np.int32)

ROWS = [
    attention(),
    attention(unidirectional=1),
    attention(unidirectional=1, scale=0.3),
    attention(MASK),
    attention(MASK, unidirectional=1, mask_filter_value=-500.0),
    attention(CUBE),
    attention(i32(3, 5)),
    attention(i32(4, 5, 1, 0)),
    attention(LONG, f32(2, B, N, P, H), unidirectional=1, outputs=2),
    attention(None, f32(2, B, N, P, H), outputs=2),
    attention(None, None, f32(1, N, S, S)),
    attention(None, None, f32(B, 1, S, S), unidirectional=1),
    attention(outputs=2),
    attention(width=2 * D + 16, qkv_hidden_sizes=[D, D, 16]),
    multi_head(Q, K, V),
    multi_head(Q, K, V, BIAS, outputs=3),
    multi_head(Q, K, V, BIAS, unidirectional=1, scale=0.2),
    multi_head(Q, K, V, None, MASK),
    multi_head(Q, K, V, None, i32(3, 5)),
    multi_head(Q, K, V, None, None, f32(1, 1, S, S)),
    multi_head(Q, K, V, None, None, None, *PAST, outputs=3),
    multi_head(Q, K, V, BIAS, LONG, None, *PAST, outputs=3, unidirectional=1),
    multi_head(Q[:, :1], K[:, :1], V[:, :1], BIAS, None, None, *PAST, outputs=3),
    multi_head(Q, *(np.ascontiguousarray(x) for x in (f32(B, N, 7, H), f32(B, N, 7, H, seed=1)))),
    multi_head(Q, f32(B, 7, D), f32(B, 7, 16, seed=1)),
    row("RotaryEmbedding", f32(B, N, S, H), i64([0, 1, 2, 3, 4], [7, 8, 9, 3, 0]),
        f32(16, H // 2), f32(16, H // 2, seed=1)),
    row("RotaryEmbedding", f32(B, N, S, H), i64(3), f32(16, H // 2), f32(16, H // 2, seed=1),
        interleaved=1),
    row("RotaryEmbedding", f32(B, S, D), i64(0), f32(16, H // 2), f32(16, H // 2, seed=1),
        constants=(2, 3)),
    row("RotaryEmbedding", f32(B, S, D), i64(2), f32(16, 2), f32(16, 2, seed=1), num_heads=N,
        rotary_embedding_dim=4),
    row("RotaryEmbedding", f32(1, 1, 1, H), i64(2), f32(16, H // 2), f32(16, H // 2, seed=1)),
    Row("SimplifiedLayerNormalization", (f32(B, S, D), f32(D)), {"epsilon": 1e-6}, rtol=2e-5),
    Row("SimplifiedLayerNormalization", (f32(B, S, D), f32(S, D)), {"axis": 1}, outputs=2),
    row("SkipSimplifiedLayerNormalization", f32(B, S, D), f32(B, S, D, seed=1), f32(D)),
    row("SkipSimplifiedLayerNormalization", f32(B, S, D), f32(B, S, D, seed=1), f32(D), f32(D),
        epsilon=1e-3),
    row("SkipLayerNormalization", f32(B, S, D), f32(B, S, D, seed=1), f32(D), f32(D), f32(D)),
    row("SkipLayerNormalization", f32(B, S, D), f32(1, S, D, seed=1), f32(D), f32(D), f32(D)),
    row("SkipSimplifiedLayerNormalization", f32(B, S, D), f32(S, D, seed=1), f32(D), f32(D)),
    row("EmbedLayerNormalization", i32([1, 2, 3], [0, 5, 6]), i32([0, 0, 1], [1, 1, 1]),
        f32(9, D), f32(7, D, seed=1), f32(2, D, seed=2), f32(D), f32(D, seed=1),
        i32([1, 1, 0], [1, 1, 1]), outputs=3, constants=range(2, 7)),
    row("EmbedLayerNormalization", i32([1, 2, 3], [0, 5, 6]), None, f32(9, D), f32(7, D, seed=1),
        None, f32(D), f32(D, seed=1), outputs=2, constants=range(2, 7)),
    row("EmbedLayerNormalization", i32([1, 2, 3], [0, 5, 6]), None, f32(9, D), f32(7, D, seed=1),
        None, f32(D), f32(D, seed=1), None, i32([4, 5, 6], [1, 2, 3]), outputs=2,
        constants=range(2, 7)),
    row("QEmbedLayerNormalization", i32([1, 2, 3], [0, 5, 6]), i32([0, 0, 1], [1, 1, 1]),
        *TABLES[:3], *TABLES[3], TABLES[0][1], i32([1, 1, 0], [1, 1, 1]), *SCALES, *ZEROS,
        outputs=2, constants=[*range(2, 7), *range(8, 18)]),
    row("QEmbedLayerNormalization", i32([1, 2, 3], [0, 5, 6]), None, *TABLES[:2], None,
        *TABLES[3], TABLES[0][1], None, *SCALES[:2], None, *SCALES[3:], *ZEROS[:2], None,
        *ZEROS[3:], outputs=2, constants=[*range(2, 7), *range(8, 18)]),
    row("FusedGemm", f32(5, 6), f32(6, 7), f32(7), activation="Relu"),
    row("FusedGemm", f32(6, 5), f32(7, 6), f32(5, 7), transA=1, transB=1, alpha=0.5, beta=2.0,
        activation="LeakyRelu", activation_alpha=0.3),
    row("FusedGemm", f32(5, 6), f32(6, 7), activation="Tanh"),
    row("FusedConv", f32(1, 4, 8, 8), f32(6, 4, 3, 3), f32(6), activation="Relu"),
    row("FusedConv", f32(1, 4, 8, 8), f32(6, 4, 3, 3), f32(6), f32(1, 6, 8, 8, seed=5),
        activation="Relu", pads=[1, 1, 1, 1]),
    row("FusedConv", f32(1, 4, 8, 8), f32(6, 4, 3, 3), activation="Clip",
        activation_params=[0.0, 6.0]),
    row("FusedMatMul", f32(3, 4, 5), f32(3, 6, 5), transB=1, alpha=0.25),
]  # fmt: skip


def grouped(rows: int, past: int, seqlens: Any, total: int, *more: Any, **attrs: Any) -> Row:
    """4 heads on 2, features of 16."""
    batch = len(seqlens)
    q = f32(batch, rows, 4 * 16)
    k, v = (f32(batch, rows, 2 * 16, seed=s) for s in (1, 2))
    held = [f32(batch, 2, past, 16, seed=s) for s in (3, 4)] if past else [None, None]
    lengths = (i32(*seqlens), np.array(total, np.int32))
    return row(
        "GroupQueryAttention", q, k, v, *held, *lengths, *more, outputs=3, num_heads=4,
        kv_num_heads=2, **attrs,
    )  # fmt: skip


ANGLES = [f32(32, 8, seed=7), f32(32, 8, seed=8)]
GROUPED = [
    grouped(5, 0, (4, 4), 5),
    grouped(5, 8, (4, 4), 5),
    grouped(1, 8, (3, 6), 7),
    grouped(1, 6, (6, 6), 7),
    grouped(3, 4, (6,), 7),
    grouped(1, 8, (3, 6), 7, *ANGLES, do_rotary=1),
    grouped(5, 0, (4, 4), 5, *ANGLES, do_rotary=1, rotary_interleaved=1),
    grouped(5, 0, (4, 4), 5, local_window_size=2),
    grouped(1, 8, (6, 6), 7, local_window_size=3, scale=0.5),
    grouped(5, 0, (4, 4), 5, causal=0),
    grouped(1, 8, (3, 6), 7, causal=0),
    grouped(5, 0, (4, 4), 5, softcap=2.0),
    grouped(1, 8, (3, 6), 7, softcap=2.0, scale=0.5),
    grouped(5, 0, (4, 4), 5, smooth_softmax=1),
    grouped(1, 8, (6, 6), 7, None, None, None, f32(2, 1, 1, 7)),
    grouped(1, 8, (6, 6), 7, None, None, None, None, f32(4)),
    row("GroupQueryAttention", f32(2, 5, 128), None, None, None, None, i32(4, 4),
        np.array(5, np.int32), *ANGLES, outputs=3, num_heads=4, kv_num_heads=2, do_rotary=1),
]  # fmt: skip
# The RMS kernel does not give the deviation.
ON_HOST = {("SimplifiedLayerNormalization", 2)}


@pytest.mark.parametrize("packed", ["qkv", "kv"])
def test_packed_projections_are_the_same(packed: str) -> None:
    """Which onnxruntime's CPU provider does not have: against the same in three pieces."""
    q, k, v = (f32(B, S, N, H, seed=seed) for seed in range(3))
    whole = [x.reshape(B, S, D) for x in (q, k, v)]
    if packed == "qkv":
        inputs = [np.stack([q, k, v], axis=3), None, None]
    else:
        inputs = [whole[0], np.stack([k, v], axis=3), None]
    feeds = [
        {f"x{i}": x for i, x in enumerate((*sides, BIAS)) if x is not None}
        for sides in (whole, inputs)
    ]
    results = []
    for sides, fed in zip((whole, inputs), feeds, strict=True):
        model = build(multi_head(*sides, BIAS))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        with InferenceSession(model) as session:
            results += session.run(None, fed)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


@pytest.mark.parametrize("one", ROWS + GROUPED, ids=str)
def test_reference(one: Row) -> None:
    run_row(one, atol=5e-6)


@pytest.mark.parametrize("one", ROWS + GROUPED, ids=str)
def test_inference_agrees_with_the_reference(one: Row) -> None:
    infer_row(one)


@pytest.mark.parametrize("one", ROWS + GROUPED, ids=str)
def test_device(one: Row) -> None:
    model, feeds, wanted = answered(one)
    with InferenceSession(model.SerializeToString()) as session:
        for _ in range(2):
            results = session.run(None, feeds)
            for result, right in zip(results, wanted, strict=True):
                assert (result.dtype, result.shape) == (right.dtype, right.shape)
                np.testing.assert_allclose(result, right, rtol=5e-5, atol=2e-5)
        if (one.op, one.outputs) not in ON_HOST:
            assert "on host" not in str(session.plan())
