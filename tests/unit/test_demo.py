"""The demo's judgement: it must say no when an embedding is off, however it is off."""

from __future__ import annotations

import numpy as np
import pytest

from tools.demo import Answered, Floats, compare
from tools.project import BuildError

pytestmark = pytest.mark.unit


def answered(embeddings: Floats) -> Answered:
    sentences = [f"sentence {i}" for i in range(len(embeddings))]
    return Answered([], sentences, embeddings, "arena", 2, "", 1.0, {})


@pytest.fixture
def expected() -> Floats:
    rows = np.random.default_rng(1).standard_normal((5, 384)).astype(np.float32)
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / lengths).astype(np.float32)


def test_the_same_numbers_agree(expected: Floats) -> None:
    agreement = compare(answered(expected.copy()), expected)
    assert agreement.holds()
    assert agreement.difference == 0


def test_one_number_that_is_off_is_found(expected: Floats) -> None:
    embeddings = expected.copy()
    embeddings[3, 7] += 2e-4
    agreement = compare(answered(embeddings), expected)
    assert not agreement.holds()
    assert agreement.sentence == "sentence 3"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_row_of_nothing_is_found(expected: Floats, value: float) -> None:
    embeddings = expected.copy()
    embeddings[2] = value
    with np.errstate(invalid="ignore"):
        agreement = compare(answered(embeddings), expected)
    assert not agreement.holds()
    assert agreement.sentence == "sentence 2"


def test_another_shape_is_an_error(expected: Floats) -> None:
    with pytest.raises(BuildError, match="shape"):
        compare(answered(expected[:4]), expected)
