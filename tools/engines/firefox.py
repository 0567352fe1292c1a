"""Firefox, through Marionette, its own WebDriver over a plain socket.

Not through WebDriver BiDi: while a session of BiDi is open, every tenth or so `new Worker` inside a
worker never returns (Firefox-ESR 153.7); without it, or with Marionette, all do. Marionette shows
no requests, so a server on loopback answers them.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tools.engines.engine import POLL, EngineError, answer, answering, poll, program
from tools.serve import serving
from tools.web_host import Host

_PROGRAMS = ("firefox-esr", "firefox")
_START = 60  # seconds until Firefox listens
_PATIENCE = 120  # seconds for one command
# A fresh profile asks Mozilla's hosts for updates, lists and experiments; a test's must not. Its
# viewer of JSON would put a page of its own in the place of site.json. Port 0: any that is free.
_PREFERENCES = {
    "marionette.port": 0,
    "devtools.jsonview.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "data:,",
}


class Firefox:
    """See `Engine`."""

    name = "firefox"

    def absent(self) -> str:
        return "" if _program() else "there is no Firefox or Firefox-ESR"

    def packages(self) -> tuple[str, ...]:
        return ("firefox-esr",)

    @contextmanager
    def open(self, host: Host) -> Iterator[FirefoxPage]:
        with tempfile.TemporaryDirectory(
            prefix="tilework-firefox-", ignore_cleanup_errors=True
        ) as folder:
            profile = Path(folder)
            lines = [
                f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in _PREFERENCES.items()
            ]
            (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
            log = profile / "said.txt"
            command = [_program(), "--headless", "--no-remote", "--marionette", "--profile", folder]
            with serving(host) as origin, program(*command, log=log) as running:
                # Firefox writes its port there once it listens.
                address = profile / "MarionetteActivePort"
                try:
                    poll(lambda: _text(address) or running.poll() is not None, _START, "Firefox")
                    port = int(poll(lambda: _text(address), 1, "Firefox's port"))
                except TimeoutError:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    raise EngineError(f"Firefox does not start: {said[-2000:]}") from None
                page = FirefoxPage(port, origin)
                try:
                    yield page
                finally:
                    page.close()


def _program() -> str:
    return next(filter(None, map(shutil.which, _PROGRAMS)), "")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class FirefoxPage:
    """One Marionette session with one tab.

    A message is its length in decimal, a colon and JSON: [0, number, command, parameters] from us,
    [1, number, error, result] from Firefox.
    """

    def __init__(self, port: int, origin: str) -> None:
        self.console: list[str] = []  # Marionette tells nothing
        self._origin = origin
        self._asked = 0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._stream = self._socket.makefile("rb")
        self._take()  # it introduces itself
        self._ask("WebDriver:NewSession", strictFileInteractability=False)
        timeouts = {"script": _PATIENCE * 1000, "pageLoad": _PATIENCE * 1000}
        self._ask("WebDriver:SetTimeouts", **timeouts)

    def goto(self, path: str) -> None:
        self._ask("WebDriver:Navigate", url=self._origin + path)

    def evaluate(self, function: str, argument: object = None) -> Any:
        script = answering(function, argument)
        said = self._ask("WebDriver:ExecuteAsyncScript", script=script, args=[])
        return answer(said["value"])

    def wait_for(self, function: str, seconds: float) -> None:
        question = f"() => Boolean(({function})())"
        poll(lambda: self.evaluate(question), seconds, function, POLL)

    def attribute(self, selector: str, name: str) -> str | None:
        """Of the first element, without a script: for pages whose policy forbids to evaluate."""
        using = {"using": "css selector", "value": selector}
        found = self._ask("WebDriver:FindElement", **using)["value"]
        (element,) = found.values()
        told = self._ask("WebDriver:GetElementAttribute", id=element, name=name)["value"]
        return None if told is None else str(told)

    def hide(self, seconds: float) -> None:
        """Has another tab in front of the page for so long."""
        own = self._ask("WebDriver:GetWindowHandle")["value"]
        other = self._ask("WebDriver:NewWindow", type="tab", focus=True)["handle"]
        self._ask("WebDriver:SwitchToWindow", handle=other, focus=True)
        time.sleep(seconds)
        self._ask("WebDriver:CloseWindow")
        self._ask("WebDriver:SwitchToWindow", handle=own, focus=True)

    def close(self) -> None:
        """Ends Firefox; one that has ended by itself is no fault here."""
        with suppress(EngineError):
            self._ask("Marionette:Quit", flags=["eForceQuit"])
        self._stream.close()
        self._socket.close()

    def _ask(self, command: str, **parameters: Any) -> Any:
        self._asked += 1
        message = json.dumps([0, self._asked, command, parameters]).encode()
        try:
            self._socket.sendall(b"%d:%s" % (len(message), message))
            kind, number, error, result = self._take()
        except (OSError, ValueError) as fault:
            raise EngineError(f"Firefox ended at {command}: {fault}") from None
        assert (kind, number) == (1, self._asked), "one command at a time"
        if error:
            raise EngineError(f"{command}: {error['error']}: {error['message']}")
        return result

    def _take(self) -> Any:
        digits = b""
        while not digits.endswith(b":"):
            byte = self._stream.read(1)
            if not byte:
                raise OSError("it closed the connection")
            digits += byte
        return json.loads(self._stream.read(int(digits[:-1])))
