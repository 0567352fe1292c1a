"""Caches that grow where they lie, in a page: held pasts, branches, the next word; in all modes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tests.onnx.gpt import gpt2, halved, llama, plain
from tools.engines import ENGINES

pytestmark = pytest.mark.browser

# Words one by one with caches on the device, beside runs from arrays to arrays, which are copied.
RUN = """
import base64, json
import numpy as np
import tilework
from tilework.onnxruntime import OrtValue

await tilework.ready()
found = {"mode": tilework.device().mode, "grown": []}

def close(mine, other):
    near = 1e-2 if other.dtype == np.float16 else 1e-4
    assert mine.dtype == other.dtype
    np.testing.assert_allclose(mine.astype("f4"), other.astype("f4"), rtol=near, atol=near)

def follow(session, names, words, caches, arrays, known):
    held = []
    for word in words:
        ids = np.full((1, 1), word, np.int64)
        second = np.full((1, 1), known, np.int64)
        if names[1] == "mask":
            second = np.ones((1, known + 1), np.int64)
        given = [v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
                 for v in (ids, second, *caches)]
        before = tilework.device().memory.allocated
        logits, *caches = session.run_with_ort_values(None, dict(zip(names, given)))
        taken = tilework.device().memory.allocated - before
        wanted, *arrays = session.run(None, dict(zip(names, (ids, second, *arrays))))
        close(logits.numpy(), wanted)
        held.append((caches, arrays))
        known += 1
    return held, taken

for model in task["models"]:
    with tilework.InferenceSession(base64.b64decode(model)) as session:
        inputs = session.get_inputs()
        names = [one.name for one in inputs]
        empty = [np.zeros([n if isinstance(n, int) else 0 if n == "past" else 1
                           for n in one.shape], "f2" if "16" in one.type else "f4")
                 for one in inputs[2:]]
        held, _ = follow(session, names, range(12), empty, empty, 0)
        ways = [follow(session, names, [word] * 9, *held[-1], 12)[0] for word in (20, 30)]
        found["grown"].append(follow(session, names, [1], *ways[0][-1], 21)[1])
        for caches, arrays in (*held, *ways[0], *ways[1]):
            for value, array in zip(caches, arrays, strict=True):
                close(value.numpy(), array)
json.dumps(found)
"""


def half() -> bytes:
    """Weights and caches in float16."""
    return halved(plain())


@pytest.mark.parametrize("mode", ["heap", "inline", "arena"])
def test_caches_grow_in_a_page(dist: Path, browser: object, mode: str) -> None:
    del browser
    task = {"models": [base64.b64encode(one()).decode() for one in (gpt2, llama, half)]}
    with ENGINES["chromium"].open(host(dist, MODES[mode].isolated)) as page:
        ended = run(page, RUN, task, registered=True, seconds=120, memory=MODES[mode].memory)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    found = json.loads(ended.value)
    assert found["mode"] == mode
    # The logits, and what a run takes besides; a cache of 21 rows has 5 kB and more.
    assert [grown < 4096 for grown in found["grown"]] == [True] * 3, found
