"""The page's tab is hidden while Python computes on all threads.

A browser slows down the timers of a hidden page, to one a second in Firefox. Nothing that computes
may wait for one of them: results are right, soon, and the threads go on helping.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.browser.in_page.outside import host, run
from tests.browser.in_page.pages import MODES
from tools.engines.firefox import Firefox, FirefoxPage

pytestmark = pytest.mark.browser

COMPUTE = """
import asyncio, json, struct, time
from tilework.hal import open_device
from tilework.hal.kernels.probe import TRACE, WORK, TraceParams, WorkParams

COUNT = 400
device = open_device(2)
assert await device.ready()
out, seen = device.allocate(4 * COUNT), device.allocate(4 * COUNT)
commands = device.command_buffer("load")
commands.fill(out, bytes(1))
commands.barrier()
commands.dispatch(WORK, (COUNT, 1, 1), WorkParams(20_000), [seen])
commands.barrier()
commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(7), [out, seen])
program = commands.finish()
assert await device.ready()
figures = {"runs": 0, "wrong": 0, "longest": 0.0}

def look(began):
    figures["runs"] += 1
    figures["wrong"] += struct.unpack(f"<{COUNT}I", out.read()) != (7,) * COUNT
    figures["longest"] = max(figures["longest"], time.monotonic() - began)

end = time.monotonic() + task["seconds"]
while time.monotonic() < end:
    for _ in range(5):
        began = time.monotonic()
        device.submit(program)
        look(began)
    began = time.monotonic()
    await device.queue.execute(program).finished()  # needs the event loop
    look(began)
    post(json.dumps({"kind": "print", "text": str(figures["runs"])}))
before = device.tiles_run
for _ in range(20):
    device.submit(program)
figures["helped"] = device.tiles_run[1] - before[1]
device.close()
json.dumps(figures)
"""
SECONDS = 6.0
HIDDEN = 2.5
WATCH = """() => {
  globalThis.seen = [];
  globalThis.turns = 0;
  document.addEventListener("visibilitychange", () => {
    globalThis.seen.push([document.visibilityState, globalThis.turns]);
  });
  setInterval(() => globalThis.turns++, 10);
}"""


class Hiding:
    """Firefox's page, hidden for a while as soon as Python computes. (Playwright keeps Chromium's
    pages visible.)"""

    def __init__(self, page: FirefoxPage) -> None:
        self.page = page
        self.console = page.console
        self.goto, self.evaluate = page.goto, page.evaluate
        self.seen: list[tuple[str, int]] = []

    def wait_for(self, function: str, seconds: float) -> None:
        begun = "() => globalThis.said.some((text) => JSON.parse(text).kind === 'print')"
        self.page.wait_for(begun, seconds)
        self.page.evaluate(WATCH)
        self.page.hide(HIDDEN)
        self.page.wait_for(function, seconds)
        self.seen = self.page.evaluate("() => globalThis.seen")


@pytest.mark.parametrize("mode", ["arena", "heap"])
def test_a_page_that_is_hidden_for_a_while(dist: Path, mode: str) -> None:
    firefox = Firefox()
    if firefox.absent():
        pytest.skip(firefox.absent())
    with firefox.open(host(dist, MODES[mode].isolated)) as opened:
        page = Hiding(opened)
        task = {"seconds": SECONDS}
        ended = run(page, COMPUTE, task, registered=True, seconds=120, memory=MODES[mode].memory)
        assert not ended.fault, ended.fault
    (hidden, first), (visible, last) = page.seen
    assert (hidden, visible) == ("hidden", "visible")
    assert last - first < HIDDEN * 100 / 4, "its timers were not slowed down: was it hidden?"
    figures = json.loads(ended.value)
    print(figures)
    assert figures["wrong"] == 0
    assert figures["runs"] > 20
    assert figures["longest"] < 1.5, "an await waits for a timer of the page"
    assert figures["helped"] > 0, "the worker did not come back"
