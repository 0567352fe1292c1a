"""Models written as text, and sessions compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import parser

from tests.onnx.rows import peer
from tilework.onnx.session import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def f32(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def model(text: str) -> Any:
    """A model of opset 17 from its graph, as onnx.parser reads it."""
    return parser.parse_model(HEAD + text)


def compare(made: Any, *feeds: dict[str, Any], turns: int = 2) -> None:
    """One session, every set of feeds, `turns` times: what onnxruntime gives."""
    theirs = peer(made.SerializeToString())
    wanted = [theirs.run(None, one) for one in feeds]
    with InferenceSession(made) as session:
        for _ in range(turns):
            for one, outputs in zip(feeds, wanted, strict=True):
                for result, right in zip(session.run(None, one), outputs, strict=True):
                    agree(result, right)


def agree(result: Any, wanted: Any) -> None:
    assert type(result) is type(wanted)
    if isinstance(wanted, list):
        for one, right in zip(result, wanted, strict=True):
            agree(one, right)
        return
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype == object:
        np.testing.assert_array_equal(result, wanted)
    else:
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)
