"""The language models of gpt.py against onnxruntime: caches stay on the device, all on kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from tests.onnx.gpt import generate, gpt2, llama, merged, modern, plain
from tests.onnx.rows import peer
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx


@pytest.mark.parametrize("model", [gpt2, llama, plain, merged, modern])
def test_generates_as_onnxruntime(model: Callable[[], bytes]) -> None:
    content = model()
    wanted, right = generate(peer(content), onnxruntime.OrtValue.ortvalue_from_numpy, 6)
    with InferenceSession(content) as ours:
        found, logits = generate(ours, OrtValue.ortvalue_from_numpy, 6)
        for mine, other in zip(logits, right, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found, wanted)
        assert ours.where() == "kernel"
        before = ours.device.statistics.copied_out
        _, again = generate(ours, OrtValue.ortvalue_from_numpy, 6)
        # Nothing but the logits was read: the caches have stayed where they were.
        copied = ours.device.statistics.copied_out - before
        assert copied == sum(one.nbytes for one in again)
