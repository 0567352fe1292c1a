"""BERT's uncased WordPiece tokenizer.

Owns: text to token numbers and the padded arrays that the model takes. Knows nothing of models or
devices. In the flow: app → embed → here.

The rules are those of Google's BERT and of Hugging Face's `BertNormalizer`, `BertPreTokenizer`
and `WordPiece`: drop control characters, put spaces around CJK ideographs, decompose (NFD) and
drop accents, lower-case, split at white space and around punctuation, then cut each word into the
longest pieces that the vocabulary has. What is a letter or an accent is what this Python's
`unicodedata` says; a character younger than that table may be cut differently elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100  # characters; a longer word becomes [UNK]
CONTINUATION = "##"
# Ideographs are words of their own. Kana and Hangul are not: BERT left those as they are.
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class _Table(dict[int, str]):
    """A `str.translate` table that asks `rule` once for each character it meets."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self._rule(chr(code))
        return replacement


def _clean(character: str) -> str:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Co", "Cs") or character == "\ufffd":
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " "
    code = ord(character)
    if any(first <= code <= last for first, last in IDEOGRAPHS):
        return f" {character} "
    return character


def _fold(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Mn":
        return ""
    # ASCII's symbols ($ + < = > ^ ` | ~) split words too, although Unicode does not call them P*.
    if category[0] == "P" or (category[0] == "S" and character.isascii()):
        return f" {character} "
    # One character at a time: a whole word's lower() would turn a last Σ into ς.
    return character.lower()


class Tokenizer:
    """WordPiece over a vocabulary; the line's number in `vocab.txt` is the token's number."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """A vocabulary without BERT's five special tokens is a ValueError that names them."""
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        missing = [token for token in SPECIAL if token not in self._ids]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self.pad, self.unknown, self.start, self.end, _ = (self._ids[token] for token in SPECIAL)
        self._special = re.compile("({})".format("|".join(map(re.escape, SPECIAL))))
        self._longest = max(map(len, vocabulary))
        self._clean = _Table(_clean)
        self._fold = _Table(_fold)

    @classmethod
    def parse(cls, vocab_txt: str) -> Tokenizer:
        """From the text of a `vocab.txt`: one token a line."""
        return cls(vocab_txt.removesuffix("\n").split("\n"))

    def words(self, text: str) -> list[str]:
        """Lower-case words and single punctuation marks, as BERT's basic tokenizer cuts them."""
        decomposed = unicodedata.normalize("NFD", text.translate(self._clean))
        return decomposed.translate(self._fold).split()

    def pieces(self, word: str) -> list[int]:
        """Token numbers of one word: longest match from the left, or [UNK] for the whole word."""
        if len(word) > LONGEST_WORD:
            return [self.unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = CONTINUATION if start else ""
            for stop in range(min(len(word), start + self._longest), start, -1):
                number = self._ids.get(prefix + word[start:stop])
                if number is not None:
                    found.append(number)
                    start = stop
                    break
            else:
                return [self.unknown]
        return found

    def encode(self, text: str, limit: int = 256) -> list[int]:
        """[CLS] text [SEP] as token numbers, at most `limit` of them (≥ 2): the text's end is cut.

        A special token's own name within the text stands for that token, as in Hugging Face's.
        """
        numbers: list[int] = []
        for part in self._special.split(text):
            if part in SPECIAL:
                numbers.append(self._ids[part])
            else:
                for word in self.words(part):
                    numbers.extend(self.pieces(word))
        return [self.start, *numbers[: limit - 2], self.end]

    def arrays(
        self, encoded: Sequence[Sequence[int]], length: int | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """The model's three inputs, int64 [len(encoded), length], padded with [PAD] at the end.

        length: the longest row's when None; a row that is longer than it is a ValueError.
        """
        longest = max(map(len, encoded), default=0)
        length = longest if length is None else length
        if longest > length:
            raise ValueError(f"a row has {longest} tokens, more than the length of {length}")
        ids = np.full((len(encoded), length), self.pad, np.int64)
        mask = np.zeros_like(ids)
        for row, numbers in enumerate(encoded):
            ids[row, : len(numbers)] = numbers
            mask[row, : len(numbers)] = 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
