"""The demo's tokenizer against Hugging Face's `tokenizers`, which is only a test dependency."""

from __future__ import annotations

import random
import sys
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from search.tokenizer import IDEOGRAPHS, LONGEST_WORD, SPECIAL, Tokenizer
from tools.minilm import package_folder

SENTENCES = (
    "",
    " ",
    "The weather is lovely today.",
    "don't  won't\tcan't\r\nshan't",
    "Crème brûlée, naïve café — ‘curly’ “quotes”…",
    "ΣΊΣΥΦΟΣ Σίσυφος İstanbul ıssız STRASSE Straße",
    "日本語とカタカナ、中文字符。한국어 조선말",
    "e\u0301\u0327 a\u200bb a\u00adb a\u00a0b a\u3000b \ufeffbom \ufffd \x00nul \x7f",
    "$5.00 + 3^2 = ~9 `x` |y| <z> a_b #tag @name 50% [brackets] {braces} \\",
    "unaffable embeddings hyperparameterisation antidisestablishmentarianism",
    "👩‍👩‍👧 emoji 🇩🇪 ☃ ½ ² ℃ ﬁ ﷺ",
    "[CLS] inside [MASK] text[SEP] [unk] [PAD]ding",
    "मराठी हिन्दी ไทย العربيّة עִבְרִית ລາວ ქართული",
    "x" * LONGEST_WORD + " " + "x" * (LONGEST_WORD + 1),
    "é" * LONGEST_WORD + " " + "日" * 120,
)


def _settled(code: int) -> bool:
    """Whether all Unicode tables since 3.2 agree on the character, and `tokenizers` has it too.

    `tokenizers` carries tables of Unicode 8; a Python's are younger, and a few marks changed kind.
    """
    category = unicodedata.ucd_3_2_0.category(chr(code))
    return category == unicodedata.category(chr(code)) and category not in ("Cn", "Cs")


SETTLED = [code for code in range(sys.maxunicode + 1) if _settled(code)]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return Tokenizer.parse((package_folder() / "vocab.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def theirs() -> tokenizers.Tokenizer:
    reference = tokenizers.Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    reference.no_padding()
    reference.no_truncation()
    return reference


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(ours: Tokenizer, theirs: tokenizers.Tokenizer, text: str) -> None:
    assert ours.encode(text, limit=10_000) == theirs.encode(text).ids


def test_every_settled_character(ours: Tokenizer, theirs: tokenizers.Tokenizer) -> None:
    """Each on its own between two letters, so that a split, a removal and a letter all differ."""
    differing: list[str] = []
    ideograph = range(IDEOGRAPHS[0][0] + 16, IDEOGRAPHS[0][1] - 16)  # the edges will do
    codes = [code for code in SETTLED if code not in ideograph and not 0xAC10 < code < 0xD7A0]
    assert len(codes) > 20_000
    for start in range(0, len(codes), 64):
        block = codes[start : start + 64]
        text = " ".join(f"a{chr(code)}b" for code in block)
        if ours.encode(text, limit=10_000) != theirs.encode(text).ids:
            differing.extend(
                hex(code)
                for code in block
                if ours.encode(f"a{chr(code)}b") != theirs.encode(f"a{chr(code)}b").ids
            )
    assert differing == []


def test_words_of_the_vocabulary_joined_at_random(
    ours: Tokenizer, theirs: tokenizers.Tokenizer
) -> None:
    vocabulary = (package_folder() / "vocab.txt").read_text(encoding="utf-8").split()
    words = [word.removeprefix("##") for word in vocabulary if word not in SPECIAL]
    chosen = random.Random(1)
    for _ in range(2000):
        glue = chosen.choice(("", " ", "-", "'", ", "))
        text = glue.join(chosen.choices(words, k=chosen.randint(1, 12)))
        text = chosen.choice((str.upper, str.title, str))(text)
        if not all(_settled(ord(character)) for character in text):
            continue
        assert ours.encode(text, limit=10_000) == theirs.encode(text).ids


@settings(max_examples=1000)
@given(text=st.text(alphabet=st.sampled_from(SETTLED).map(chr), max_size=40))
def test_any_text(ours: Tokenizer, theirs: tokenizers.Tokenizer, text: str) -> None:
    assert ours.encode(text, limit=10_000) == theirs.encode(text).ids


@settings(max_examples=500)
@given(text=st.text(alphabet="aAeéÉßn'-.,!? \t123日本[]CLSEPMASKUN", max_size=60))
def test_everyday_text(ours: Tokenizer, theirs: tokenizers.Tokenizer, text: str) -> None:
    assert ours.encode(text, limit=10_000) == theirs.encode(text).ids


@pytest.mark.parametrize("limit", [2, 3, 16, 256])
def test_truncation(ours: Tokenizer, theirs: tokenizers.Tokenizer, limit: int) -> None:
    text = "a sentence of which only the beginning fits " * 40
    expected = theirs.encode(text).ids
    found = ours.encode(text, limit=limit)
    assert len(found) == limit
    assert found == [*expected[: limit - 1], expected[-1]]


def test_padded_arrays(ours: Tokenizer) -> None:
    rows = [ours.encode("short"), ours.encode("a rather longer sentence")]
    feeds = ours.arrays(rows, length=8)
    assert set(feeds) == {"input_ids", "attention_mask", "token_type_ids"}
    for array in feeds.values():
        assert array.dtype == np.int64 and array.shape == (2, 8)
    for row, numbers in enumerate(rows):
        assert feeds["input_ids"][row].tolist() == numbers + [0] * (8 - len(numbers))
        assert feeds["attention_mask"][row].sum() == len(numbers)
    assert ours.arrays(rows)["input_ids"].shape == (2, len(rows[1]))
    assert ours.arrays([])["input_ids"].shape == (0, 0)
    with pytest.raises(ValueError, match="a row has 6 tokens, more than the length of 4"):
        ours.arrays(rows, length=4)


def test_a_vocabulary_without_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lacks \[SEP\], \[MASK\]"):
        Tokenizer.parse("[PAD]\n[UNK]\n[CLS]\nword\n")
