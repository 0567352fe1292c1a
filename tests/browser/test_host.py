"""The host without a server: what the tests' pages are given must be what a static host gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import pipeline
from tools.browser import LARGEST_BODY, console_of, open_site
from tools.project import BuildError
from tools.web_host import mime_type

pytestmark = pytest.mark.browser

FETCH = "url => fetch(url).then(async r => [r.status, r.headers.get('content-type'), r.url])"


@pytest.fixture
def folder(tmp_path: Path, browser: object) -> Path:
    """A small site; `browser` keeps one browser running for this file."""
    (tmp_path / "index.html").write_text("<title>top</title>", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("<title>sub</title>", encoding="utf-8")
    (tmp_path / "sub" / "a b.mjs").write_text("export const x = 1;", encoding="utf-8")
    (tmp_path / "empty.wasm").write_bytes(b"\0asm\1\0\0\0")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGEST_BODY + 1)
    return tmp_path


@pytest.mark.parametrize("isolated", [True, False])
def test_isolation_is_what_was_asked_for(folder: Path, isolated: bool) -> None:
    with open_site(folder, isolated) as page:
        page.goto("http://localhost/")
        assert page.evaluate("crossOriginIsolated") is isolated
        assert page.evaluate("isSecureContext") is True


def test_files_have_their_types(folder: Path) -> None:
    with open_site(folder) as page:
        page.goto("http://localhost/")
        assert page.evaluate(FETCH, "empty.wasm")[:2] == [200, "application/wasm"]
        assert page.evaluate("import('./sub/a b.mjs').then(m => m.x)") == 1
        assert page.evaluate("WebAssembly.compileStreaming(fetch('empty.wasm')).then(String)")


def test_folders_show_their_index(folder: Path) -> None:
    with open_site(folder) as page:
        page.goto("http://localhost/sub/?query=1#fragment")
        assert page.title() == "sub"


def test_what_is_missing_is_404_and_named(folder: Path) -> None:
    with open_site(folder) as page:
        page.goto("http://localhost/")
        assert page.evaluate(FETCH, "nothing.js")[0] == 404
        assert "404: /nothing.js" in console_of(page)


def test_nothing_outside_the_folder_is_given(folder: Path) -> None:
    with open_site(folder / "sub") as page:
        page.goto("http://localhost/")
        assert page.evaluate(FETCH, "/..%2findex.html")[0] == 404


def test_a_body_that_would_end_the_page_is_refused(folder: Path) -> None:
    with open_site(folder) as page:
        page.goto("http://localhost/")
        assert page.evaluate(FETCH, "large")[0] == 413
        assert any("cut it into pieces" in line for line in console_of(page))


def test_other_hosts_are_refused(folder: Path) -> None:
    with open_site(folder) as page:
        page.goto("http://localhost/")
        said = page.evaluate("fetch('http://example.invalid/x').catch(e => e.name)")
        assert said == "TypeError"
        assert "refused, not same-origin: http://example.invalid/x" in console_of(page)


def test_an_error_carries_what_the_page_said(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught, open_site(folder) as page:
        page.goto("http://localhost/")
        page.evaluate("console.warn('seven')")
        _ = 1 / 0
    assert "console warning: seven" in caught.value.__notes__[0]


def test_types_of_what_the_site_holds() -> None:
    assert mime_type("a.mjs") == "text/javascript; charset=utf-8"
    assert mime_type("a.html") == "text/html; charset=utf-8"
    assert mime_type("model.onnx.data.000") == "application/octet-stream"


def test_serving_without_a_site_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.pipeline.DIST", tmp_path)
    with pytest.raises(BuildError, match=r"python3 build\.py build"):
        pipeline.serve(0)
