"""Whole convolution networks against onnxruntime, on the desktop device: all of them on kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilework
from tests.onnx.rows import peer
from tools.networks import light_model, picture

pytestmark = pytest.mark.onnx

# VGG-19 and ZFNet, 0.8 GB of weights together, have no operation that AlexNet has not.
NETWORKS = (
    "resnet50", "squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121",
    "bvlc_alexnet",
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    model = light_model(name)
    data = model.SerializeToString()
    feeds = picture(model)
    (wanted,) = peer(data).run(None, feeds)
    session = tilework.InferenceSession(data)
    for _ in range(2):
        found: Any
        (found,) = session.run(None, feeds)
        assert found.shape == wanted.shape
        assert np.isfinite(wanted).all() and wanted.std() > 0
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.max()))
    assert session.where() == "kernel"
