"""Pages with a Content-Security-Policy, and pages that are not ours: the site with the strictest
policy that WebAssembly allows, and the wheel where nothing else of ours is.

These pages have a server on loopback: a worker that Python's worker starts by its URL asks for its
script where Playwright does not see it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tools.browser import console_of, open_host
from tools.engines import ENGINES
from tools.engines.engine import EngineError, poll
from tools.engines.firefox import Firefox
from tools.serve import serving
from tools.web_host import ISOLATION, Answer, Host
from tools.wheel import wheel_name

pytestmark = pytest.mark.browser

STRICT = "worker-src 'self'; script-src 'self' 'wasm-unsafe-eval'"
PATIENCE = 180_000  # milliseconds

# Two pages that have Pyodide and a wheel, as a notebook has. What they have
# computed is written into the body, by a script of their own: a policy may forbid to evaluate one.
PAGE = b"<!doctype html><title>not ours</title><body><script type=module src=/page.js></script>"
SCRIPT = """
const { dataset } = document.body;
const where = new URLSearchParams(location.search).get("where");
const asked = await (await fetch("/asked.json")).json();
try {
  dataset.result = JSON.stringify(await { worker: inWorker, window: inWindow }[where](asked));
} catch (error) {
  dataset.result = JSON.stringify({ error: String(error) });
}

// Python in a worker from a blob of its own.
function inWorker({ wheel, entry }) {
  const text = `
    onmessage = async ({ data: { wheel, entry, base } }) => {
      try {
        const { loadPyodide } = await import(base + "python/pyodide.mjs");
        const pyodide = await loadPyodide({ indexURL: base + "python/" });
        await pyodide.loadPackage(["numpy", "micropip"]);
        await pyodide.pyimport("micropip").install(base + wheel);
        postMessage({ value: await pyodide.runPythonAsync(entry) });
      } catch (error) {
        postMessage({ error: String(error) });
      }
    };`;
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => resolve({ error: `worker: ${event.message}` });
    worker.postMessage({ wheel, entry, base: new URL("./", location.href).href });
  });
}

// In the page's own thread, where Python may not block.
async function inWindow({ wheel, entry }) {
  const { loadPyodide } = await import(new URL("python/pyodide.mjs", location.href).href);
  const pyodide = await loadPyodide({ indexURL: new URL("python/", location.href).href });
  await pyodide.loadPackage(["numpy", "micropip"]);
  await pyodide.pyimport("micropip").install(new URL(wheel, location.href).href);
  return { value: await pyodide.runPythonAsync(entry) };
}
"""
# What a page itself may do; the function that is called from outside may evaluate all the same.
EVALUATE = """() => new Promise((resolve) => setTimeout(() => {
  try {
    resolve((0, eval)("1"));
  } catch (error) {
    resolve(error.name);
  }
}))"""
# Not with wait_for_function, which evaluates in the page.
RESULT = """() => new Promise((resolve) => {
  const timer = setInterval(() => {
    if (globalThis.RESULT === undefined) return;
    clearInterval(timer);
    resolve(globalThis.RESULT);
  }, 50);
})"""
# Every one of 4096 tiles says which thread ran it.
COMPUTE = """
import asyncio, json
from tilework.hal import open_device
from tilework.hal.kernels.probe import TRACE, TraceParams

device = open_device(2)
try:
    ready = await device.ready()
except Exception as error:
    ready = f"{type(error).__name__}: {error}"
out, seen = device.allocate(4096 * 4), device.allocate(4096 * 4)
out.write(bytes(4096 * 4))
commands = device.command_buffer()
commands.dispatch(TRACE, (4096, 1, 1), TraceParams(1), [out, seen])
program = commands.finish()
device.submit(program)
right = out.read() == (1).to_bytes(4, "little") * 4096
for _ in range(2000):
    settled = device.driver.passed(device.executables.generation)
    if settled:
        break
    await asyncio.sleep(0.01)
json.dumps([device.mode, device.threads, ready, right, settled])
"""


@dataclass(frozen=True)
class Listening(Host):
    """A host that counts what it is asked for."""

    counts: Counter[str] = field(default_factory=Counter)

    def answer(self, path: str) -> Answer:
        self.counts[path] += 1
        return super().answer(path)

    def asked(self, path: str) -> int:
        return self.counts[path]


@contextmanager
def page_of(host: Host) -> Iterator[Any]:
    with serving(host) as origin, open_host(host, origin=origin) as page:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{origin}/index.html")
        yield page


Computed = Callable[[str, str], dict[str, Any]]


@pytest.fixture(params=["chromium", "firefox"])
def computed(request: pytest.FixtureRequest, dist: Path, tmp_path: Path) -> Computed:
    """`computed(where, policy)`: what COMPUTE says in a page of a host that is not ours."""
    absent = ENGINES[request.param].absent()
    if absent:
        pytest.skip(absent)
    asked = json.dumps({"wheel": wheel_name(), "entry": COMPUTE}).encode()
    wheel = (dist / wheel_name()).read_bytes()
    files = {"/index.html": PAGE, "/page.js": SCRIPT.encode(), "/asked.json": asked}
    folders = {"/": tmp_path, "/python/": dist / "pyodide"}

    def ask(where: str, policy: str = "") -> dict[str, Any]:
        headers = {**ISOLATION, **({"Content-Security-Policy": policy} if policy else {})}
        host = Host(folders, headers, {**files, f"/{wheel_name()}": wheel})
        found = _in_chromium if request.param == "chromium" else _in_firefox
        said: dict[str, Any] = json.loads(found(host, f"/index.html?where={where}"))
        return said

    return ask


def _in_chromium(host: Host, path: str) -> str:
    with page_of(host) as page:
        page.goto(page.url.replace("/index.html", path))
        page.wait_for_selector("body[data-result]", state="attached")
        return str(page.get_attribute("body", "data-result"))


def _in_firefox(host: Host, path: str) -> str:
    with Firefox().open(host) as page:
        page.goto(path)
        return poll(lambda: page.attribute("body", "data-result"), PATIENCE / 1000, path)


def test_the_site_works_under_a_strict_policy(dist: Path, browser: object) -> None:
    del browser
    headers = {**ISOLATION, "Content-Security-Policy": STRICT}
    host = Listening({"/": dist}, headers)
    with page_of(host) as page:
        assert page.evaluate(EVALUATE) == "EvalError"
        page.goto(page.url.replace("index.html", "search/?auto&threads=2"))
        result = page.evaluate(RESULT)
        assert "error" not in result, result["error"]
        assert (result["mode"], result["threads"]) == ("arena", 2)
        refused = [line for line in console_of(page) if "Content Security Policy" in line]
    # Only the question whether blobs may work, which web/worker-script.js asks.
    assert [line for line in refused if "blob:" not in line] == []
    # The one worker beside Python's; that it takes tiles, the page has waited for.
    assert host.asked("/web/compute-worker.js") == 1


def test_the_site_works_under_a_strict_policy_in_firefox(dist: Path) -> None:
    if Firefox().absent():
        pytest.skip(Firefox().absent())
    host = Listening({"/": dist}, {**ISOLATION, "Content-Security-Policy": STRICT})
    with Firefox().open(host) as page:
        with pytest.raises(EngineError, match="EvalError"):
            page.evaluate("() => 1")
        page.goto("/search/?auto&threads=2")
        poll(lambda: page.attribute("body", "data-state") == "ready", PATIENCE / 1000, "the site")
    assert host.asked("/web/compute-worker.js") == 1


@pytest.mark.parametrize("policy", ["", "worker-src blob:; script-src 'self' blob: 'unsafe-eval'"])
def test_the_wheel_works_from_blobs_in_a_page_that_is_not_ours(
    computed: Computed, policy: str
) -> None:
    said = computed("worker", policy)
    assert "error" not in said, said
    assert json.loads(said["value"]) == ["arena", 2, True, True, True]


def test_the_wheel_works_in_a_window_that_is_not_ours(computed: Computed) -> None:
    said = computed("window", "")
    assert "error" not in said, said
    assert json.loads(said["value"]) == ["arena", 2, True, True, True]


def test_where_blobs_are_refused_the_words_say_what_to_allow(computed: Computed) -> None:
    """Python in the window, whose policy lets no worker start: one thread, and still right."""
    said = computed("window", "worker-src 'self'; script-src 'self' 'unsafe-eval'")
    assert "error" not in said, said
    mode, threads, ready, right, settled = json.loads(said["value"])
    assert (mode, threads, right) == ("arena", 2, True)
    assert settled, "a worker that never came is waited for"
    assert "DeviceLost" in ready and "worker-src must allow blob:" in ready


def test_where_text_may_not_be_evaluated_the_words_say_what_to_do(computed: Computed) -> None:
    policy = "worker-src 'self' blob:; script-src 'self' blob: 'wasm-unsafe-eval'"
    said = computed("worker", policy)
    assert "Unsupported: this page's Content-Security-Policy forbids" in said["error"], said
