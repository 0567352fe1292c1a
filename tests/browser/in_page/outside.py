"""The outer half: packs what the page needs, starts the worker, gathers what it says.

Any engine of tools/engines will do. The pure Python packages are those of .venv, so that the page
runs the pytest that pyproject.toml pins; Hypothesis has compiled code there and comes from its
last pure wheel instead.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.hal import own
from tools import fetch
from tools.engines import EngineError, EnginePage
from tools.project import KERNELS, ROOT
from tools.web_host import ISOLATION, Host

HERE = Path(__file__).resolve().parent
_BARE_HOST = "tests/kernels/bare_host.py"
_FOLDERS = ("hal", "kernels", "conformance", "fuzz")
_PURE = ("pytest", "pluggy", "iniconfig", "pygments", "sortedcontainers")
_START = """(start) => {
  globalThis.said = [];
  globalThis.finished = false;
  const say = (text) => {
    globalThis.said.push(text);
    const { kind } = JSON.parse(text);
    if (kind === "done" || kind === "failure") globalThis.finished = true;
  };
  const worker = new Worker("/in-page/worker.js", { type: "module" });
  worker.onmessage = ({ data }) => say(data);
  worker.onerror = ({ message }) => say(JSON.stringify({
    kind: "failure", text: message || "worker.js or what it imports could not be loaded",
  }));
  worker.postMessage(start);
}"""
_FINISHED = "() => globalThis.finished"
_TAKE = "() => globalThis.said.splice(0)"
_RUN_TESTS = """
import json
from tests.browser.in_page.runner import run
await run(task["arguments"], task["threads"], post)
"""


@dataclass(frozen=True, slots=True)
class Inner:
    """One test's end, inside the page. `words` is its traceback, or why it was skipped."""

    id: str
    outcome: str
    words: str
    seconds: float

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]


@dataclass(slots=True)
class Outcome:
    """What a page's worker said until it was done, failed, or ran out of time."""

    tests: list[Inner] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)  # whatever else the entry has posted, in order
    running: str = ""  # what was started and has not ended
    value: Any = None
    fault: str = ""  # why not everything ran; empty when everything did
    seconds: float = 0.0  # from an open page until it was done

    def count(self, outcome: str) -> int:
        return sum(test.outcome == outcome for test in self.tests)

    @property
    def line(self) -> str:
        """The totals in words."""
        counts = ", ".join(f"{self.count(o)} {o}" for o in ("passed", "failed", "skipped"))
        seconds = sum(test.seconds for test in self.tests)
        threads = "/".join(str(d["threads"]) for d in self.devices)
        fault = f"; {self.fault.splitlines()[0]}" if self.fault else ""
        took = f"{seconds:.0f} s of the page's {self.seconds:.0f}"
        return f"{counts} in {took}, threads {threads}{fault}"


PYODIDE = "/pyodide/"  # the site's own
NEXT_PYODIDE = "/next-pyodide/"


def host(site: Path, isolated: bool) -> Host:
    """The built site, with what the worker needs besides at /in-page/, and the next Pyodide."""
    files = {"/in-page/packages.zip": packages(), "/in-page/project.zip": project()}
    folders = {"/": site, "/in-page/": HERE, NEXT_PYODIDE: fetch.NEXT_PYODIDE.folder}
    return Host(folders, ISOLATION if isolated else {}, files)


def run_tests(
    page: EnginePage,
    arguments: Sequence[str],
    threads: Sequence[int],
    *,
    registered: bool,
    seconds: float,
    memory: str = "own",
    pyodide: str = PYODIDE,
) -> Outcome:
    """Runs test files in a worker of `page`; the files' paths are as in the repository."""
    task = {"arguments": list(arguments), "threads": list(threads)}
    return run(
        page,
        _RUN_TESTS,
        task,
        registered=registered,
        seconds=seconds,
        memory=memory,
        pyodide=pyodide,
    )


def run(
    page: EnginePage,
    entry: str,
    task: object,
    *,
    registered: bool,
    seconds: float,
    memory: str = "own",
    pyodide: str = PYODIDE,
    tell: Callable[[str], None] | None = None,
) -> Outcome:
    """Awaits the Python `entry` in a fresh Pyodide in a worker of `page`, which shows `host`.

    `memory` is web/python.js's: "own", or "heap" for Pyodide on a shared one. `pyodide` is the
    folder that it comes from; NEXT_PYODIDE has no NumPy. `tell` is given what the Python prints, at
    most once a second.
    """
    start = {
        "registered": registered,
        "entry": entry,
        "task": task,
        "memory": memory,
        "pyodide": pyodide,
        "numpy": pyodide == PYODIDE,
    }
    outcome = Outcome()
    began = time.monotonic()
    said: list[str] = []
    try:
        page.goto("/site.json")
        page.evaluate(_START, start)
        try:
            _wait(page, seconds, tell, said)
        except TimeoutError:
            outcome.fault = f"not done after {seconds:.0f} s"
        said += page.evaluate(_TAKE)
    except EngineError as error:
        outcome.fault = f"the page ended: {error}"
    outcome.seconds = time.monotonic() - began
    for message in map(json.loads, said):
        kind = message.pop("kind")
        if kind == "start":
            outcome.running = message["id"]
        elif kind == "test":
            outcome.tests.append(Inner(**message))
            outcome.running = ""
        elif kind == "row":
            outcome.rows.append(message["row"])
            outcome.running = ""
        elif kind == "device":
            outcome.devices.append(message)
        elif kind == "print":
            outcome.printed.append(message["text"])
        elif kind == "done":
            outcome.value = message.get("value")  # absent where it is None
        else:
            outcome.fault = message["text"]
    if outcome.running:
        outcome.fault += f", while {outcome.running} was running"
    return outcome


def _wait(
    page: EnginePage, seconds: float, tell: Callable[[str], None] | None, said: list[str]
) -> None:
    """TimeoutError unless the page finishes in time. With `tell`, takes what it says meanwhile, so
    that a page that ends has not said it for nothing."""
    until = time.monotonic() + seconds
    while tell is not None and time.monotonic() < until - 1:
        try:
            return page.wait_for(_FINISHED, 1)
        except TimeoutError:
            new = page.evaluate(_TAKE)
            said += new
            printed = [m["text"] for m in map(json.loads, new) if m["kind"] == "print"]
            if printed:
                tell(printed[-1])
    return page.wait_for(_FINISHED, max(0.1, until - time.monotonic()))


@cache
def packages() -> bytes:
    """pytest, Hypothesis and what they import, for Pyodide's site-packages."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in _PURE:
            for file in distribution(name).files or ():
                if file.suffix != ".pyc" and ".." not in file.parts:
                    archive.write(Path(str(file.locate())), str(file))
        for wheel in fetch.TEST_WHEELS:
            with zipfile.ZipFile(wheel.path) as source:
                for entry in source.namelist():
                    archive.writestr(entry, source.read(entry))
    return packed.getvalue()


@cache
def project() -> bytes:
    """The test files as they are, and what they read; the bare host is the page's own."""
    files = [ROOT / "pyproject.toml", *KERNELS.glob("*/*.wit"), *KERNELS.glob("*/cases.py")]
    files += [p for folder in _FOLDERS for p in (ROOT / "tests" / folder).glob("*.py")]
    files += [*HERE.glob("*.py"), own.README, *(ROOT / "tests" / "hal" / "own").glob("*.py")]
    files += [own.build(name) for name in own.OWN]
    content = {path.relative_to(ROOT).as_posix(): path for path in files}
    del content[_BARE_HOST]
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in content.items():
            archive.write(path, name)
        archive.writestr(_BARE_HOST, "from tests.browser.in_page.bare_host import *\n")
    return packed.getvalue()
