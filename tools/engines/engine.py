"""What a browser is to us: it opens a page of a host and calls JavaScript functions in it.

Also how programs are started and ended that a browser here needs.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tools.web_host import Host

_T = TypeVar("_T")
POLL = 0.05  # seconds between two looks at something that will come


class EngineError(Exception):
    """The browser, or the page in it, does not do as told; the message says what it said."""


class EnginePage(Protocol):
    """An open page. Its requests may only be answered while one of these methods runs."""

    console: list[str]  # what the page has said so far, where the engine tells

    def goto(self, path: str) -> None:
        """Loads a page of the host by its URL path."""

    def evaluate(self, function: str, argument: object = None) -> Any:
        """Calls a JavaScript function, awaits it; argument and result travel as JSON."""

    def wait_for(self, function: str, seconds: float) -> None:
        """Waits until the function returns something true; TimeoutError when it does not."""


class Engine(Protocol):
    """One browser. `absent` says in words what this machine lacks for it; "" when nothing."""

    name: str

    def absent(self) -> str: ...

    def packages(self) -> tuple[str, ...]:
        """The Debian packages that bring it, for a machine that is ours to install on."""

    def open(self, host: Host) -> AbstractContextManager[EnginePage]:
        """A page that sees `host` at one origin, a secure context, and nothing else."""


def call(function: str, argument: object) -> str:
    """An expression whose value is a promise of the function's result as JSON."""
    return f"(async () => JSON.stringify(await ({function})({json.dumps(argument)})) ?? null)()"


def answering(function: str, argument: object) -> str:
    """The same as a script of WebDriver, which is given a function to call at the end.

    Evaluated by the window: Firefox would give the script a global object of its own.
    """
    return (
        "const done = arguments[arguments.length - 1];\n"
        f"window.eval({json.dumps(call(function, argument))}).then((text) => done({{ text }}),\n"
        "  (error) => done({ error: `${error} ${error.stack}` }));"
    )


def answer(said: Mapping[str, Any]) -> Any:
    """What such a script was told: the function's result, or its error as EngineError."""
    if "error" in said:
        raise EngineError(said["error"])
    return None if said.get("text") is None else json.loads(said["text"])


def poll(look: Callable[[], _T | None], seconds: float, what: str, every: float = POLL) -> _T:
    """The first true thing that `look` returns; TimeoutError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(every)


@contextmanager
def program(
    *command: str | Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    keep: Collection[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile, its output in a file; ended, by force after a while.

    `keep` are the descriptors that it inherits.
    """
    with log.open("wb") as output:
        running = subprocess.Popen(
            [str(c) for c in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=tuple(keep),
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
