"""The main job as `build.py demo` runs it: the page's embeddings are the reference's."""

from __future__ import annotations

import pytest

from tests.conftest import OpenPage
from tools.demo import ask_page, compare, reference

pytestmark = pytest.mark.browser


def test_the_page_s_embeddings_are_the_reference_s(browser_page: OpenPage) -> None:
    answered = ask_page(browser_page())
    agreement = compare(answered, reference(answered.sentences))
    assert agreement.holds(), agreement
