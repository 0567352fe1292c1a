"""Recurrent taggers as PyTorch exports them: all on kernels, as onnxruntime computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.quantization import quantize_dynamic

import tilework
from tests.onnx.tagger import TAGS, tagger

pytestmark = pytest.mark.onnx


def compared(content: bytes, x: Any, threads: int) -> str:
    """Asserts that both give the same; the plan."""
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    options = tilework.SessionOptions(intra_op_num_threads=threads)
    with tilework.InferenceSession(content, options) as session:
        (found,) = session.run(None, {"x": x})
        assert session.where() == "kernel"
        text = str(session.plan())
    assert found.shape == (*x.shape[:2], TAGS)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return text


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (1, 23), (5, 12)])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_tagger(kind: str, batch: int, steps: int, threads: int) -> None:
    ids = np.random.default_rng(steps).integers(0, 50, (batch, steps))
    compared(tagger(kind, 12, 20, words=50), ids.astype(np.int64), threads)


@pytest.mark.parametrize(
    ("kind", "threads", "hidden", "dispatches"),
    # On two threads each direction of a layer is one dispatch, in a tile; on four each step is cut,
    # unless there is too little to do.
    [
        ("LSTM", 1, 160, 4),
        ("GRU", 2, 160, 4),
        ("LSTM", 2, 160, 4),
        ("LSTM", 4, 160, 4 * 30),
        ("LSTM", 4, 20, 4),
    ],
)
def test_all_steps_are_one_dispatch_where_directions_occupy_the_threads(
    kind: str, threads: int, hidden: int, dispatches: int
) -> None:
    x = np.random.default_rng(0).standard_normal((1, 30, 12), np.float32)
    text = compared(tagger(kind, 12, hidden), x, threads)
    assert text.count(f"f32_{kind.lower()}_step ") == dispatches


def test_more_steps_than_a_plan_has_room_for() -> None:
    x = np.random.default_rng(0).standard_normal((1, 5000, 3), np.float32)
    compared(tagger("LSTM", 3, 4), x, 2)


def test_a_tagger_that_onnxruntime_has_quantised(tmp_path: Path) -> None:
    """Its LSTMs become DynamicQuantizeLSTM, its product one of bytes."""
    whole, small = tmp_path / "tagger.onnx", tmp_path / "small.onnx"
    whole.write_bytes(tagger("LSTM", 12, 20))
    quantize_dynamic(whole, small, op_types_to_quantize=["LSTM", "MatMul"])
    content = small.read_bytes()
    assert b"DynamicQuantizeLSTM" in content
    x = np.random.default_rng(0).standard_normal((1, 9, 12), np.float32)
    (wanted,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    with tilework.InferenceSession(content) as session:
        (found,) = session.run(None, {"x": x})
        assert session.where() == "kernel"
    # A sum that is rounded otherwise moves a byte of the next step's state by one.
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=5e-3)
