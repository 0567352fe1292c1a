"""A Whisper-like encoder-decoder in the forms that exporters write, beside onnxruntime.

All of it runs on kernels, keys and values stay on the device, and greedy decoding gives the tokens
that onnxruntime gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.onnx.whisper import (
    PROMPT,
    SMALL,
    STYLES,
    TINY,
    Sizes,
    decoder,
    encoder,
    greedy,
    log_mel,
    merged,
    sound,
)
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx


def theirs(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@cache
def features(sizes: Sizes, batch: int) -> Any:
    """What the front end makes of a sound."""
    return theirs(log_mel(sizes)).run(None, {"samples": sound(sizes, batch)})[0]


def prompt(batch: int) -> Any:
    return np.tile(np.array(PROMPT, np.int64), (batch, 1))


def compare(models: Sequence[bytes], heard: Any, steps: int) -> list[list[int]]:
    """The tokens of both, which are the same; what ours runs on is asserted."""
    place = onnxruntime.OrtValue.ortvalue_from_numpy
    sessions = [theirs(content) for content in models]
    wanted, right = greedy(sessions, place, place(heard), prompt(len(heard)), steps)
    ours = [InferenceSession(content) for content in models]
    keep = OrtValue.ortvalue_from_numpy
    known = keep(heard)
    found, logits = greedy(ours, keep, known, prompt(len(heard)), steps)
    for one, other in zip(logits, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert found == wanted
    assert all(session.where() == "kernel" for session in ours)
    before = ours[0].device.statistics.copied_out
    again = greedy(ours, keep, known, prompt(len(heard)), steps)[1]
    copied = ours[0].device.statistics.copied_out - before
    assert copied == sum(one.nbytes for one in again)  # nothing else has left the device
    for session in ours:
        session.close()
    return found


def test_log_mel() -> None:
    samples = sound(SMALL, 2)
    with InferenceSession(log_mel(SMALL)) as session:
        (found,) = session.run(None, {"samples": samples})
        assert session.where() == "kernel"
    np.testing.assert_allclose(found, features(SMALL, 2), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("style", STYLES)
def test_encoder(style: str) -> None:
    content = encoder(SMALL, style)
    (wanted,) = theirs(content).run(None, {"input_features": features(SMALL, 2)})
    with InferenceSession(content) as session:
        (found,) = session.run(None, {"input_features": features(SMALL, 2)})
        assert session.where() == "kernel"
        text = str(session.plan())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert text.count("f32_attention ") == SMALL.layers
    assert "f32_softmax " not in text


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("form", ["apart", "merged"])
def test_decoder(style: str, form: str) -> None:
    heard = np.random.default_rng(3).standard_normal((2, SMALL.heard, SMALL.width), np.float32)
    models = [merged(SMALL, style)]
    if form == "apart":
        models = [decoder(SMALL, style), decoder(SMALL, style, past=True)]
    compare(models, heard, 6)


@pytest.mark.parametrize("style", STYLES)
def test_all_attention_of_a_step_is_one_kernel_each(style: str) -> None:
    keep = OrtValue.ortvalue_from_numpy
    heard = keep(np.ones((1, SMALL.heard, SMALL.width), np.float32))
    with InferenceSession(merged(SMALL, style)) as session:
        greedy([session], keep, heard, prompt(1), 2)
        text = str(session.plan())
    assert text.count("f32_attention ") == 2 * SMALL.layers
    assert "f32_softmax " not in text


def test_thirty_tokens_of_the_size_of_whisper_tiny() -> None:
    (heard,) = theirs(encoder(TINY)).run(None, {"input_features": features(TINY, 1)})
    with InferenceSession(encoder(TINY)) as session:
        (found,) = session.run(None, {"input_features": features(TINY, 1)})
        assert session.where() == "kernel"
    np.testing.assert_allclose(found, heard, rtol=1e-3, atol=1e-3)
    tokens = compare([merged(TINY)], heard, 30)
    assert len({one for (one,) in tokens}) > 3  # not one word over and over
