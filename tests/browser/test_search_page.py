"""The demo's page in every memory mode: the same embeddings, and words that say why."""

from __future__ import annotations

import pytest

from search.corpus import EXAMPLES, load_sentences
from tests.conftest import OpenPage
from tools.demo import Floats, ask_page, compare, reference

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def expected() -> Floats:
    """Every sentence, embedded by onnxruntime on this machine."""
    return reference(load_sentences())


@pytest.mark.parametrize(
    ("isolated", "asked", "threads", "mode"),
    [(True, 1, 1, "arena"), (True, 2, 2, "arena"), (False, None, 1, "inline")],
)
def test_every_mode_gives_the_reference_s_embeddings(
    browser_page: OpenPage,
    expected: Floats,
    isolated: bool,
    asked: int | None,
    threads: int,
    mode: str,
) -> None:
    page = browser_page(isolated=isolated)
    answered = ask_page(page, asked)
    agreement = compare(answered, expected)
    assert agreement.holds(), agreement
    assert (answered.mode, answered.threads) == (mode, threads)
    assert [(q["query"], q["hits"][0]["sentence"]) for q in answered.queries] == list(EXAMPLES)
    if not isolated:
        assert "not cross-origin isolated" in answered.reason
        assert "not cross-origin isolated" in page.locator("#reason").inner_text()
