"""WebKitGTK's MiniBrowser, through the WebDriver of Debian's webkit2gtk-driver, under Xvfb.

WebDriver shows no requests, so a server on loopback answers them. The five WebDriver commands that
a page needs are plain HTTP and fit in this file.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tools.engines.engine import EngineError, EnginePage, answer, answering, poll, program
from tools.serve import serving
from tools.web_host import Host

_LIBRARIES = Path("/usr/lib")
_START = 30  # seconds until the driver listens
_PATIENCE = 120  # seconds for one command
_POLL = 0.25  # seconds between two looks: each is a request of its own


class WebKitGTK:
    """See `Engine`."""

    name = "webkitgtk"

    def absent(self) -> str:
        missing = [n for n in ("WebKitWebDriver", "Xvfb") if not shutil.which(n)]
        missing += [] if _browser() else ["MiniBrowser"]
        return f"there is no {' and no '.join(missing)}" if missing else ""

    def packages(self) -> tuple[str, ...]:
        return ("webkit2gtk-driver", "xvfb")

    @contextmanager
    def open(self, host: Host) -> Iterator[EnginePage]:
        with tempfile.TemporaryDirectory(
            prefix="tilework-webkit-", ignore_cleanup_errors=True
        ) as folder:
            log = Path(folder) / "said.txt"
            home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), folder)
            with _display(Path(folder)) as display, serving(host) as origin:
                port = _free_port()
                # Its sandbox needs user namespaces, which containers do not have.
                unboxed = {"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1"}
                plain = {"WEBKIT_DISABLE_COMPOSITING_MODE": "1", "DISPLAY": display}
                environment = {**os.environ, **home, **unboxed, **plain}
                driver = ["WebKitWebDriver", f"--port={port}"]
                with program(*driver, log=log, env=environment):
                    page = _Page(port, origin)
                    try:
                        yield page
                    finally:
                        page.close()


def _browser() -> Path | None:
    found = sorted(_LIBRARIES.glob("*/webkit2gtk-4.*/MiniBrowser"))
    return found[-1] if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _display(folder: Path) -> Iterator[str]:
    """An X server of our own; it chooses a free number and writes it to a pipe."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24"]
    with program(*command, "-nolisten", "tcp", log=folder / "xvfb.txt", keep=(writer,)) as running:
        os.close(writer)
        with os.fdopen(reader) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise EngineError(f"Xvfb does not start (exit {running.wait()})")
        yield f":{number}"


class _Page:
    """One WebDriver session with one window."""

    def __init__(self, port: int, origin: str) -> None:
        self.console: list[str] = []  # WebDriver tells nothing
        self._port = port
        self._origin = origin
        self._session = ""
        poll(self._listens, _START, "WebKitWebDriver")
        options = {"binary": str(_browser()), "args": ["--automation"]}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        said = self._ask("POST", "/session", {"capabilities": capabilities})
        self._session = f"/session/{said['sessionId']}"
        timeouts = {"script": _PATIENCE * 1000, "pageLoad": _PATIENCE * 1000}
        self._ask("POST", "/timeouts", timeouts)

    def goto(self, path: str) -> None:
        self._ask("POST", "/url", {"url": self._origin + path})

    def evaluate(self, function: str, argument: object = None) -> Any:
        script = answering(function, argument)
        said = self._ask("POST", "/execute/async", {"script": script, "args": []})
        return answer(said)

    def wait_for(self, function: str, seconds: float) -> None:
        question = f"() => Boolean(({function})())"
        poll(lambda: self.evaluate(question), seconds, function, _POLL)

    def close(self) -> None:
        """Ends the browser; one that has ended by itself is no fault here."""
        with suppress(EngineError):
            self._ask("DELETE", "", None)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: object) -> Any:
        text = None if body is None else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            connection.request(method, self._session + path, text)
            value = json.loads(connection.getresponse().read())["value"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(f"WebKitWebDriver ended at {path}: {error}") from None
        finally:
            connection.close()
        if isinstance(value, dict) and value.get("error") and "message" in value:
            raise EngineError(f"{value['error']}: {value['message']}")
        return value
