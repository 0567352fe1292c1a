"""The encoder-decoder of tests/onnx/whisper.py in a page: from the sound to thirty tokens."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tests.onnx.test_whisper import prompt, theirs
from tests.onnx.whisper import TINY, encoder, greedy, log_mel, merged, sound
from tools.engines import ENGINES
from tools.minilm import PIECE_BYTES
from tools.web_host import Host

pytestmark = pytest.mark.browser

STEPS = 30
RUN = f"""
import json
from collections.abc import Callable, Sequence
from typing import Any
import numpy as np
from pyodide.http import pyfetch
import tilework
from tilework import onnxruntime as ort

{inspect.getsource(greedy)}

async def opened(name):
    pieces = [await (await pyfetch("/whisper/" + piece)).bytes() for piece in task["pieces"][name]]
    return ort.InferenceSession(b"".join(pieces))

await tilework.ready()
keep = ort.OrtValue.ortvalue_from_numpy
samples = np.array(task["samples"], np.float32)[None] / 32768
where = {{}}
with await opened("log_mel") as session:
    (mel,) = session.run(None, {{"samples": samples}})
    where["log_mel"] = session.where()
with await opened("encoder") as session:
    (heard,) = session.run_with_ort_values(["last_hidden_state"], {{"input_features": keep(mel)}})
    where["encoder"] = session.where()
with await opened("decoder") as session:
    prompt = np.array(task["prompt"], np.int64)
    before = tilework.device().memory.copied_out
    tokens, logits = greedy([session], keep, heard, prompt, task["steps"])
    copied = tilework.device().memory.copied_out - before
    where["decoder"] = session.where()
json.dumps({{
    "tokens": tokens,
    "mel": mel[0, :, ::100].tolist(),
    "where": where,
    "copied": copied - sum(one.nbytes for one in logits),
}})
"""


def test_thirty_tokens_are_those_of_onnxruntime_on_the_desktop(
    dist: Path, browser: object, tmp_path: Path
) -> None:
    del browser
    models = {"log_mel": log_mel(TINY), "encoder": encoder(TINY), "decoder": merged(TINY)}
    pieces: dict[str, list[str]] = {name: [] for name in models}
    for name, content in models.items():
        for at in range(0, len(content), PIECE_BYTES):
            piece = f"{name}.{at // PIECE_BYTES:03d}"
            (tmp_path / piece).write_bytes(content[at : at + PIECE_BYTES])
            pieces[name].append(piece)
    samples = np.rint(sound(TINY)[0] * 32768)
    site = host(dist, MODES["arena"].isolated)
    site = Host({**site.folders, "/whisper/": tmp_path}, site.headers, site.files)
    task = {
        "pieces": pieces,
        "samples": samples.tolist(),
        "prompt": prompt(1).tolist(),
        "steps": STEPS,
    }
    with ENGINES["chromium"].open(site) as page:
        ended = run(page, RUN, task, registered=True, seconds=300)
    assert not ended.fault, "\n".join([ended.fault, *ended.printed])
    found = json.loads(ended.value)

    feeds = {"samples": (samples / 32768).astype(np.float32)[None]}
    (mel,) = theirs(models["log_mel"]).run(None, feeds)
    # Where a band is silent, the logarithm shows the rounding of onnxruntime's own transform.
    np.testing.assert_allclose(found["mel"], mel[0, :, ::100], rtol=1e-3, atol=1e-2)
    (heard,) = theirs(models["encoder"]).run(None, {"input_features": mel})
    place = onnxruntime.OrtValue.ortvalue_from_numpy
    tokens, _ = greedy([theirs(models["decoder"])], place, place(heard), prompt(1), STEPS)
    assert found["tokens"] == tokens
    assert set(found["where"].values()) == {"kernel"}
    assert found["copied"] == 0  # besides the logits: caches have stayed where they were
