"""The language models of tests/onnx/test_gpt.py in a page: caches that never leave the device."""

from __future__ import annotations

import base64
import inspect
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tests.onnx.rows import peer
from tests.onnx.test_gpt import generate, gpt2, llama, modern
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

RUN = f"""
import base64, json
from collections.abc import Callable
from typing import Any
import numpy as np
import tilework
from tilework import onnxruntime as ort

{inspect.getsource(generate)}

await tilework.ready()
found = {{}}
for name, model in task.items():
    with ort.InferenceSession(base64.b64decode(model)) as session:
        generate(session, ort.OrtValue.ortvalue_from_numpy, 6)
        before = tilework.device().memory.copied_out
        tokens, logits = generate(session, ort.OrtValue.ortvalue_from_numpy, 6)
        found[name] = {{
            "tokens": [token.tolist() for token in tokens],
            "last": logits[-1].tolist(),
            "copied": tilework.device().memory.copied_out - before,
            "logits": sum(one.nbytes for one in logits),
            "where": session.where(),
        }}
json.dumps(found)
"""


def test_generates_as_onnxruntime_does_on_the_desktop(dist: Path, browser: object) -> None:
    del browser
    models = {made.__name__: made() for made in (gpt2, llama, modern)}
    task = {name: base64.b64encode(content).decode() for name, content in models.items()}
    with ENGINES["chromium"].open(host(dist, MODES["arena"].isolated)) as page:
        ended = run(page, RUN, task, registered=True, seconds=180)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    for name, found in json.loads(ended.value).items():
        tokens, logits = generate(peer(models[name]), onnxruntime.OrtValue.ortvalue_from_numpy, 6)
        np.testing.assert_array_equal(found["tokens"], tokens)
        np.testing.assert_allclose(found["last"], logits[-1], rtol=1e-3, atol=1e-4)
        assert found["where"] == "kernel"
        assert found["copied"] == found["logits"]  # the caches have stayed where they were
