"""Two models as they are published, out of their own wheels, against onnxruntime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tilework
from tools.project import sha256_file

pytestmark = pytest.mark.onnx

# Where the file lies in its package, and its SHA-256.
SILERO = (
    "faster_whisper/assets/silero_vad_v6.onnx",
    "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
)
PITCH = (
    "basic_pitch/saved_models/icassp_2022/nmp.onnx",
    "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
)


def published(which: tuple[str, str]) -> str:
    """The model's path; the package is not imported, for it asks for others."""
    place, digest = which
    package, _, rest = place.partition("/")
    found = find_spec(package)
    assert found is not None and found.origin, f"`python3 build.py test` installs {package}"
    path = Path(found.origin).parent / rest
    assert sha256_file(path) == digest
    return str(path)


def voice(samples: int) -> Any:
    """Something like a voice: harmonics of a pitch that moves, louder and softer, in noise."""
    random, at = np.random.default_rng(samples), np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 3 * at)) / 16000
    tones = sum(np.sin(k * phase) / k for k in range(1, 25))
    loud = 0.1 + 0.1 * np.sin(2 * np.pi * 4 * at)
    return (tones * loud + 0.01 * random.standard_normal(samples)).astype(np.float32)


def test_silero_vad_with_its_states() -> None:
    path = published(SILERO)
    reference = onnxruntime.InferenceSession(path)
    windows = voice(64 * 576).reshape(64, 576)
    zeros = np.zeros((1, 1, 128), np.float32)
    with tilework.InferenceSession(path) as session:
        speech, *_ = session.run(None, {"input": windows, "h": zeros, "c": zeros})
        wanted = reference.run(None, {"input": windows, "h": zeros, "c": zeros})[0]
        # An LSTM of 64 steps: rounding grows a few times from step to step.
        np.testing.assert_allclose(speech, wanted, atol=1e-5)
        assert wanted.max() - wanted.min() > 0.1
        found, h, c = [], zeros, zeros
        for first, end in ((0, 1), (1, 2), (2, 12), (12, 64)):
            one, h, c = session.run(None, {"input": windows[first:end], "h": h, "c": c})
            found.append(one)
        np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-5)
        assert session.where() == "kernel"


@pytest.mark.parametrize("batch", [1, 2])
def test_basic_pitch(batch: int) -> None:
    path = published(PITCH)
    reference = onnxruntime.InferenceSession(path)
    (name,) = (one.name for one in reference.get_inputs())
    feeds = {name: voice(batch * 43844).reshape(batch, 43844, 1)}
    with tilework.InferenceSession(path) as session:
        found, wanted = session.run(None, feeds), reference.run(None, feeds)
        assert session.where() == "kernel"
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
