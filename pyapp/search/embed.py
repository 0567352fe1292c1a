"""Sentences to unit vectors: batches of few shapes in, rows in the callers' order out.

Owns batching and padding. Knows a session only by `run`, so that onnxruntime's does as well as
tilework's. In the flow: app → here → session.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search.tokenizer import Tokenizer

# A plan is made for each shape, so lengths are rounded up to few. Fine steps where sentences lie.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
BATCH = 16
WIDTH = 384
OUTPUT = "sentence_embedding"


class Session(Protocol):
    """What is used of onnxruntime's InferenceSession, or of tilework's."""

    def run(self, output_names: Sequence[str], feeds: dict[str, Any]) -> Sequence[Any]:
        """The named outputs, in that order."""


class Embedder:
    """all-MiniLM-L6-v2 as a function of sentences."""

    def __init__(self, session: Session, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer

    def one(self, sentence: str) -> NDArray[np.float32]:
        """float32 [384], of length 1. The sentence is embedded alone, at its rounded length."""
        return np.asarray(self._run([self._encode(sentence)])[0])

    def many(
        self, sentences: Sequence[str], progress: Callable[[int, int], object] | None = None
    ) -> NDArray[np.float32]:
        """float32 [len(sentences), 384], each row of length 1.

        `progress` is called with the number of sentences done and the number of all.
        """
        result = np.empty((len(sentences), WIDTH), np.float32)
        encoded = [self._encode(sentence) for sentence in sentences]
        done = 0
        for rows in _batches(encoded):
            batch = [encoded[row] for row in rows]
            # The last batch of a length is filled up: one shape more would be one plan more.
            batch += [batch[-1]] * (BATCH - len(batch))
            result[rows] = self._run(batch)[: len(rows)]
            done += len(rows)
            if progress is not None:
                progress(done, len(sentences))
        return result

    def _encode(self, sentence: str) -> list[int]:
        return self._tokenizer.encode(sentence, LENGTHS[-1])

    def _run(self, encoded: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        length = _rounded(max(map(len, encoded)))
        feeds = self._tokenizer.arrays(encoded, length)
        (embeddings,) = self._session.run([OUTPUT], feeds)
        return np.asarray(embeddings, np.float32)


def _rounded(length: int) -> int:
    return LENGTHS[bisect_left(LENGTHS, length)]


def _batches(encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Rows' numbers, at most BATCH at a time, of one rounded length each."""
    by_length: dict[int, list[int]] = {}
    for row, numbers in enumerate(encoded):
        by_length.setdefault(_rounded(len(numbers)), []).append(row)
    for _, rows in sorted(by_length.items()):
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]
