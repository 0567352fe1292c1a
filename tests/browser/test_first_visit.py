"""What somebody sees who comes to the site for the first time, and what the landing page's example
does when it is typed into a stock Pyodide, as it stands."""

from __future__ import annotations

import pytest

from tests.conftest import OpenPage
from tools.project import ROOT
from tools.speed_page import measured, page, rows

pytestmark = pytest.mark.browser

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = """async (example) => {
  const { loadPyodide } = await import("/pyodide/pyodide.mjs");
  const printed = [];
  const pyodide = await loadPyodide({ stdout: (text) => printed.push(text) });
  await pyodide.loadPackage(["numpy", "micropip"]);
  await pyodide.runPythonAsync(example);
  return printed.join("\\n");
}"""


def test_the_landing_page_s_example_runs_as_it_stands(browser_page: OpenPage) -> None:
    landing = browser_page(isolated=False)
    landing.goto("http://localhost/")
    landing.wait_for_function("document.getElementById('wheel').textContent.endsWith('.whl')")
    printed = landing.evaluate(RUN, landing.inner_text("pre code"))
    # softmax of (4, 7, 10) by formula: input is three ones, the weight's columns sum to these
    assert "\n[[0.002355" in printed
    assert "inline" in printed


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", "It runs in this browser, on 4 threads."),
        ("WebAssembly.validate = () => false;", "It does not run in this browser, "),
        (
            "Object.defineProperty(Navigator.prototype, 'serviceWorker', { value: undefined });",
            "It runs in this browser, on one thread: this window has no service worker",
        ),
    ],
    ids=["all", "no SIMD", "no service worker"],
)
def test_it_says_what_this_browser_will_do(
    browser_page: OpenPage, before: str, said: str
) -> None:
    landing = browser_page(isolated=False)
    cores = "Object.defineProperty(Navigator.prototype, 'hardwareConcurrency', { value: 4 });"
    landing.add_init_script(cores + before)
    landing.goto("http://localhost/")
    assert landing.inner_text("#here").startswith(said)


@pytest.mark.parametrize("path", ["", "speed/", "conformance/", "search/"])
def test_no_page_is_wider_than_a_phone(browser_page: OpenPage, path: str) -> None:
    shown = browser_page()
    shown.set_viewport_size({"width": 360, "height": 740})
    shown.goto(f"http://localhost/{path}")
    assert shown.evaluate("document.documentElement.scrollWidth") == 360
    links = shown.locator("nav a")
    assert links.all_inner_texts() == ["Search", "Speed", "Conformance"]
    current = shown.locator("nav [aria-current=page]").all_inner_texts()
    assert [word.lower() + "/" for word in current] == ([path] if path else [])


def test_the_page_of_figures_has_the_readme_s(browser_page: OpenPage) -> None:
    shown = browser_page()
    shown.goto("http://localhost/speed/")
    cells = [row.split() for row in shown.locator("tbody tr").all_inner_texts()]
    said = rows(README)
    assert len(said) > 30
    assert [(c[0], c[1], c[4]) for c in cells] == [(r[0], r[3], r[6]) for r in said]
    room = "(e) => e.clientWidth - e.scrollWidth"
    assert shown.locator(".scroll").evaluate(room) == 0  # of a desktop, for every column
    assert "Chromium" in measured(README)
    with pytest.raises(ValueError, match="no table"):
        page("$rows $measured", "")
