"""The demo's batching and corpus, with onnxruntime in tilework's place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from search.corpus import EXAMPLES, load_sentences
from search.embed import BATCH, LENGTHS, WIDTH, Embedder
from search.tokenizer import Tokenizer
from tools import minilm


class Recording:
    """A session that notes the shapes it was given."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.shapes: list[tuple[int, ...]] = []

    def run(self, names: Sequence[str], feeds: dict[str, NDArray[np.int64]]) -> Sequence[Any]:
        self.shapes.append(feeds["input_ids"].shape)
        return list(self.session.run(list(names), feeds))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.parse((minilm.package_folder() / "vocab.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("minilm")
    minilm.make(folder, dist=None)
    return onnxruntime.InferenceSession(folder / "model.onnx")


def test_batches_agree_with_single_sentences(session: Any, tokenizer: Tokenizer) -> None:
    recording = Recording(session)
    embedder = Embedder(recording, tokenizer)
    # Lengths mixed on purpose: rows have to come back in the callers' order.
    sentences = [*load_sentences()[:40], "word " * 60, "short", "word " * 1000]
    steps: list[tuple[int, int]] = []
    together = embedder.many(sentences, lambda done, total: steps.append((done, total)))
    assert all(rows == BATCH and length in LENGTHS for rows, length in recording.shapes)
    assert steps[-1] == (len(sentences), len(sentences))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert together.shape == (len(sentences), WIDTH) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.stack([embedder.one(sentence) for sentence in sentences])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_few_shapes_for_the_corpus(session: Any, tokenizer: Tokenizer) -> None:
    recording = Recording(session)
    Embedder(recording, tokenizer).many(load_sentences())
    assert len(set(recording.shapes)) <= 3


def test_an_empty_text_and_no_text(session: Any, tokenizer: Tokenizer) -> None:
    embedder = Embedder(session, tokenizer)
    assert embedder.many([]).shape == (0, WIDTH)
    assert np.isfinite(embedder.one("")).all()


def test_the_corpus() -> None:
    sentences = load_sentences()
    assert 200 <= len(sentences) <= 400
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence == sentence.strip() and sentence[-1] in ".!?"


def test_each_example_finds_its_sentence_clearly(session: Any, tokenizer: Tokenizer) -> None:
    sentences = load_sentences()
    embedder = Embedder(session, tokenizer)
    vectors = embedder.many(sentences)
    assert len(EXAMPLES) == 5
    for query, expected in EXAMPLES:
        scores = vectors @ embedder.one(query)
        second, first = np.sort(scores)[-2:]
        assert sentences[int(np.argmax(scores))] == expected
        assert first - second > 0.1
