"""The search demo's heart: device, session, index, answers. The Python worker calls it.

Owns the device buffer with the weights, the session and the corpus' vectors. Never touches
JavaScript: numbers and bytes come in, JSON text goes out. In the flow: web/python-worker.js → here.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import tilework
from search.corpus import EXAMPLES, load_sentences
from search.embed import Embedder
from search.tokenizer import Tokenizer

SHOWN = 8  # hits of an answer


class App:
    """Made once a page. Call reserve, receive…, load, ready, index; then search as you like."""

    def __init__(self, vocabulary: str, threads: int | None = None) -> None:
        """vocabulary: the text of vocab.txt. threads: None for as many as there are."""
        self._tokenizer = Tokenizer.parse(vocabulary)
        self._options = tilework.SessionOptions()
        self._options.intra_op_num_threads = threads or 0
        self._device = tilework.device(threads)
        self._sentences = load_sentences()

    def device(self) -> str:
        """JSON {"mode", "threads", "reason"}."""
        device = self._device
        return json.dumps({"mode": device.mode, "threads": device.threads, "reason": device.reason})

    def reserve(self, nbytes: int) -> None:
        """Room on the device for the weights; OutOfMemory when there is none."""
        self._weights = self._device.allocate(nbytes, "weights")

    def receive(self, offset: int, data: object) -> None:
        """One piece of the weights: a JS Uint8Array, copied to the device and nowhere else."""
        self._weights.write(data, offset)

    def load(self, model: object) -> None:
        """The session, from the bytes of model.onnx and the weights already received."""
        to_bytes = getattr(model, "to_bytes", None)
        content = to_bytes() if to_bytes is not None else model
        session = tilework.InferenceSession(content, self._options, external_data=self._weights)
        self._embedder = Embedder(session, self._tokenizer)

    async def ready(self) -> None:
        """Waits until all threads take work."""
        await tilework.ready()

    def index(self, progress: Callable[[int, int], object]) -> str:
        """Embeds every sentence; JSON {"sentences": their number, "examples": [queries]}."""
        began = time.perf_counter()
        self._vectors: NDArray[np.float32] = self._embedder.many(self._sentences, progress)
        self._corpus_ms = _since(began)
        # A query is a batch of one: its plans are made now, so that the first answer is quick.
        for query in (EXAMPLES[0][0], EXAMPLES[2][0]):
            self._embedder.one(query)
        return json.dumps(
            {"sentences": len(self._sentences), "examples": [query for query, _ in EXAMPLES]}
        )

    def search(self, query: str) -> str:
        """JSON {"query", "hits": [{"sentence", "score"}], "ms"}; the score is the cosine."""
        began = time.perf_counter()
        scores = self._vectors @ self._embedder.one(query)
        ms = _since(began)
        best = np.argsort(-scores, kind="stable")[:SHOWN]
        hits = [{"sentence": self._sentences[i], "score": float(scores[i])} for i in best]
        return json.dumps({"query": query, "hits": hits, "ms": ms})

    def report(self) -> str:
        """JSON {"sentences", "embeddings": base64 of float32 [n, 384], "corpus_ms"}."""
        return json.dumps(
            {
                "sentences": self._sentences,
                "embeddings": base64.b64encode(self._vectors.tobytes()).decode("ascii"),
                "corpus_ms": self._corpus_ms,
            }
        )


def _since(began: float) -> float:
    """Milliseconds since then, to hundredths."""
    return round((time.perf_counter() - began) * 1000, 2)
