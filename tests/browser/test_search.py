"""The search page as a person meets it: answers, both memory modes, and everything that can fail.

One page a kind of start, because a start takes seconds; the tests below read what it left.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from search.corpus import EXAMPLES, load_sentences
from tests.conftest import OpenPage
from tools.browser import console_of
from tools.minilm import PIECE_BYTES

pytestmark = pytest.mark.browser

PAGE = "http://localhost/search/"
PATIENCE = 180_000  # milliseconds; a start takes ten seconds on an idle machine
FIRST, THIRD = "model.onnx.data.000", "model.onnx.data.002"

Floats = NDArray[np.float32]


def start(page: Any, query: str = "") -> None:
    page.goto(PAGE + query)


def wait_ready(page: Any) -> None:
    page.wait_for_selector("body[data-state=ready]", timeout=PATIENCE)


def wait_failure(page: Any) -> tuple[str, str]:
    """The type and the words of the failure that the page shows."""
    page.wait_for_selector("#failure:not([hidden])", timeout=PATIENCE)
    return page.inner_text("#failure-type"), page.inner_text("#failure-text")


def result_of(page: Any, query: str = "?auto") -> dict[str, Any]:
    start(page, query)
    page.wait_for_function("globalThis.RESULT !== undefined", timeout=PATIENCE)
    result: dict[str, Any] = page.evaluate("globalThis.RESULT")
    assert "error" not in result, result["error"]
    return result


def vectors_of(result: dict[str, Any]) -> Floats:
    flat = np.frombuffer(base64.b64decode(result["embeddings"]), "<f4")
    return flat.reshape(len(result["sentences"]), -1)


def answer(dist: Path, name: str, change: Callable[[bytes], bytes]) -> Callable[[Any], None]:
    """A route's handler that serves a file of the site with its content changed."""
    (path,) = dist.rglob(name)

    def handle(route: Any) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Cross-Origin-Embedder-Policy": "require-corp",
        }
        route.fulfill(body=change(path.read_bytes()), headers=headers)

    return handle


def missing(route: Any) -> None:
    route.fulfill(status=404, body="not found")


def withhold_weights(page: Any) -> None:
    """Leaves the pieces unanswered: for starts that fail before they are needed, 90 MB less."""
    page.route("**/model.onnx.data.0*", lambda route: None)


@pytest.fixture(scope="module")
def kept() -> dict[str, Floats]:
    """Embeddings by kind of start, so that the kinds can be compared."""
    return {}


@pytest.mark.parametrize(
    ("kind", "isolated", "query"),
    [
        ("all threads", True, "?auto"),
        ("one thread", True, "?auto&threads=1"),
        ("shared heap", True, "?auto&memory=heap"),
        ("not isolated", False, "?auto"),
        ("no heap to share", False, "?auto&memory=heap"),
    ],
)
def test_five_queries(
    browser_page: OpenPage, kept: dict[str, Floats], kind: str, isolated: bool, query: str
) -> None:
    page = browser_page(isolated=isolated)
    result = result_of(page, query)
    assert [(q["query"], q["hits"][0]["sentence"]) for q in result["queries"]] == list(EXAMPLES)
    for one in result["queries"]:
        scores = [hit["score"] for hit in one["hits"]]
        assert scores == sorted(scores, reverse=True) and one["ms"] > 0
    assert result["sentences"] == load_sentences()
    vectors = vectors_of(result)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for other in kept.values():
        np.testing.assert_allclose(vectors, other, atol=1e-6)
    kept[kind] = vectors

    cores = page.evaluate("navigator.hardwareConcurrency")
    threads = cores if kind in ("all threads", "shared heap") else 1
    mode = "heap" if kind == "shared heap" else "arena" if isolated else "inline"
    assert (result["mode"], result["threads"]) == (mode, threads)
    assert page.inner_text("#status").startswith(
        f"{threads} thread{'' if threads == 1 else 's'} · {result['mode']} · "
    )
    assert result["reason"][1:] and result["reason"][1:] in page.inner_text("#reason")
    if not isolated:
        assert "isolated" in page.inner_text("#reason")
    said = console_of(page)
    assert not [line for line in said if re.match("refused|page error|console error|404", line)]


def test_a_person_on_a_host_without_headers(browser_page: OpenPage) -> None:
    """The service worker isolates the first visit; then typing, clearing and typing on."""
    page = browser_page(isolated=False, service_workers="allow")
    start(page)
    page.wait_for_function("globalThis.crossOriginIsolated", timeout=PATIENCE)
    # Typed while everything still loads: answered as soon as it can be.
    page.locator("#query").press_sequentially("Why do my houseplants need little water in December")
    page.wait_for_selector("#hits li", timeout=PATIENCE)
    assert "arena" in page.inner_text("#status")
    assert "Water your houseplants less in winter" in page.inner_text("#hits li >> nth=0")
    assert re.search(r"· [\d.]+ ms$", page.inner_text("#status"))
    page.fill("#query", "")
    page.wait_for_selector("#hits li", state="detached")
    page.get_by_role("button", name=EXAMPLES[4][0]).click()
    page.wait_for_selector("#hits li")
    assert EXAMPLES[4][1] in page.inner_text("#hits li >> nth=0")
    page.fill("#query", "<b>when was the moon landing</b> \N{ROCKET}")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelector('#hits li')?.textContent.includes('Moon in July 1969')"
    )


def test_a_missing_piece_is_named_and_can_be_tried_again(browser_page: OpenPage) -> None:
    page = browser_page()
    page.route(f"**/{THIRD}", missing)
    start(page)
    name, words = wait_failure(page)
    assert name == "NoSuchFile"
    assert THIRD in words and "404" in words
    page.unroute(f"**/{THIRD}")
    page.get_by_role("button", name="Try again").click()
    wait_ready(page)
    assert page.locator("#failure").is_hidden()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
        (lambda data: data[:-7], f"{PIECE_BYTES - 7:,} bytes, but {PIECE_BYTES:,} were expected"),
        (lambda data: data[:-1] + b"12345", f"has {PIECE_BYTES + 4:,} bytes"),
    ],
    ids=["damaged", "short", "long"],
)
def test_a_wrong_piece_is_named(
    browser_page: OpenPage, dist: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    page = browser_page()
    withhold_weights(page)
    page.route(f"**/{FIRST}", answer(dist, FIRST, change))
    start(page, "?auto")
    name, said = wait_failure(page)
    assert name == "InvalidProtobuf"
    assert FIRST in said and words in said
    assert page.evaluate("globalThis.RESULT.error").startswith(f"InvalidProtobuf: {FIRST}")


@pytest.mark.parametrize(
    ("pattern", "name", "words"),
    [
        ("**/python-worker.js", "WorkerError", "script could not be loaded"),
        ("**/model.onnx.data.json", "NoSuchFile", "model.onnx.data.json is missing on this site"),
        ("**/pyodide.asm.wasm", "InvalidExecutable", "pyodide.asm.wasm could not be started"),
        ("**/numpy-*.whl", "NoSuchFile", "numpy could not be loaded"),
        ("**/tilework-*.whl", "NoSuchFile", "whl is missing on this site"),
        ("**/search.zip", "NoSuchFile", "search.zip is missing on this site"),
    ],
)
def test_a_missing_part_is_named(
    browser_page: OpenPage, pattern: str, name: str, words: str
) -> None:
    page = browser_page()
    withhold_weights(page)
    page.route(pattern, missing)
    start(page)
    found, said = wait_failure(page)
    assert found == name and words in said


def test_a_model_that_is_none_is_named(browser_page: OpenPage, dist: Path) -> None:
    page = browser_page()
    weights = bytes(64)
    piece = {"name": FIRST, "bytes": 64, "sha256": hashlib.sha256(weights).hexdigest()}
    manifest = {"location": "model.onnx.data", "bytes": 64, "pieces": [piece]}
    content = json.dumps(manifest).encode()
    page.route("**/model.onnx.data.json", answer(dist, "model.onnx.data.json", lambda _: content))
    page.route(f"**/{FIRST}", answer(dist, FIRST, lambda _: weights))
    page.route("**/minilm/model.onnx", answer(dist, "model.onnx", lambda data: data[:1000]))
    start(page)
    name, words = wait_failure(page)
    assert name in ("InvalidProtobuf", "InvalidGraph") and words
    assert page.locator("#loading").is_hidden()


def test_the_landing_page(browser_page: OpenPage) -> None:
    page = browser_page()
    page.goto("http://localhost/")
    page.wait_for_function("document.querySelector('#wheel').textContent.endsWith('.whl')")
    wheel = page.inner_text("#wheel")
    assert page.evaluate("async (url) => (await fetch(url)).status", wheel) == 200
    for link in page.locator("a").evaluate_all("links => links.map((link) => link.href)"):
        assert page.evaluate("async (url) => (await fetch(url)).status", link) == 200, link
