"""Firefox, through WebDriver BiDi on its own socket; requests are answered from disk, no server.

Playwright drives only a Firefox of its own build, and puppeteer-core brings 25 npm packages that
want Node 22; the eight BiDi commands that a page needs fit in this file. Needs websocket-client.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tools.engines.engine import POLL, EngineError, EnginePage, call, poll, program
from tools.web_host import Host

ORIGIN = "http://localhost"
_PROGRAMS = ("firefox-esr", "firefox")
_START = 60  # seconds until Firefox listens
_ANSWER = 60  # seconds for one command
# A fresh profile asks Mozilla's hosts for updates, lists and experiments; a test's must not. Its
# viewer of JSON would put a page of its own in the place of site.json.
_PREFERENCES = {
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
        if not _program():
            return "there is no Firefox or Firefox-ESR"
        if not importlib.util.find_spec("websocket"):
            return "Python's websocket-client is not installed"
        return ""

    def packages(self) -> tuple[str, ...]:
        return ("firefox-esr",)

    @contextmanager
    def open(self, host: Host) -> Iterator[EnginePage]:
        with tempfile.TemporaryDirectory(
            prefix="tilework-firefox-", ignore_cleanup_errors=True
        ) as folder:
            profile = Path(folder)
            lines = [
                f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in _PREFERENCES.items()
            ]
            (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
            log = profile / "said.txt"
            command = [_program(), "--headless", "--no-remote", "--profile", folder]
            with program(*command, "--remote-debugging-port", "0", log=log) as running:
                # Firefox writes its socket's address there once it listens.
                address = profile / "WebDriverBiDiServer.json"
                try:
                    poll(lambda: address.is_file() or running.poll() is not None, _START, "Firefox")
                    where = json.loads(poll(lambda: _text(address), 1, "Firefox's address"))
                except TimeoutError:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    raise EngineError(f"Firefox does not start: {said[-2000:]}") from None
                page = _Page(f"ws://{where['ws_host']}:{where['ws_port']}/session", host)
                try:
                    yield page
                finally:
                    page.close()


def _program() -> str:
    return next(filter(None, map(shutil.which, _PROGRAMS)), "")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class _Page:
    """One BiDi session with one tab. Events are handled while a command waits for its answer."""

    def __init__(self, url: str, host: Host) -> None:
        import websocket

        self.console: list[str] = []
        self._host = host
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._timeout = websocket.WebSocketTimeoutException
        self._ended = (websocket.WebSocketException, OSError)
        # Firefox refuses a connection that names an origin.
        self._socket = websocket.create_connection(url, timeout=_ANSWER, suppress_origin=True)
        self._command("session.new", capabilities={})
        events = ["network.beforeRequestSent", "log.entryAdded"]
        self._command("session.subscribe", events=events)
        self._command("network.addIntercept", phases=["beforeRequestSent"])
        tree = self._command("browsingContext.getTree")
        self._tab = tree["contexts"][0]["context"]

    def goto(self, path: str) -> None:
        self._command(
            "browsingContext.navigate", context=self._tab, url=ORIGIN + path, wait="complete"
        )

    def evaluate(self, function: str, argument: object = None) -> Any:
        said = self._command(
            "script.evaluate",
            expression=call(function, argument),
            target={"context": self._tab},
            awaitPromise=True,
        )
        if said["type"] == "exception":
            raise EngineError(said["exceptionDetails"]["text"])
        text = said["result"].get("value")
        return None if text is None else json.loads(text)

    def wait_for(self, function: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"() => Boolean(({function})())"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{function} was not true within {seconds:.0f} s")
            self._listen(POLL)

    def close(self) -> None:
        """Ends Firefox; a socket that is closed already has seen it end."""
        with suppress(EngineError):
            self._command("browser.close")
        self._socket.close()

    # -- the protocol --------------------------------------------------------------------------

    def _send(self, method: str, **parameters: Any) -> int:
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        try:
            self._socket.send(json.dumps(message))
        except self._ended as error:
            raise EngineError(f"Firefox ended before {method}: {error}") from None
        return self._asked

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, **parameters)
        deadline = time.monotonic() + _ANSWER
        while number not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EngineError(f"Firefox does not answer {method}")
            self._listen(left)
        answer = self._answers.pop(number)
        if answer["type"] == "error":
            raise EngineError(f"{method}: {answer['error']}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _listen(self, seconds: float) -> None:
        """Takes in what arrives within the time, one message at least if there is one."""
        self._socket.settimeout(seconds)
        try:
            text = self._socket.recv()
        except self._timeout:
            return
        except self._ended as error:
            raise EngineError(f"Firefox ended: {error}") from None
        if not text:
            raise EngineError("Firefox closed the connection")
        message = json.loads(text)
        if message.get("id") is not None:
            # Nobody waits for the answers to what `_answer` sends; a page may be gone by then.
            self._answers[message["id"]] = message
        elif message.get("method") == "log.entryAdded":
            entry = message["params"]
            self.console.append(f"console {entry['level']}: {entry['text']}")
        elif message.get("method") == "network.beforeRequestSent":
            self._answer(message["params"])

    def _answer(self, event: dict[str, Any]) -> None:
        if not event["isBlocked"]:
            return
        request = event["request"]["request"]
        url = urlsplit(event["request"]["url"])
        if f"{url.scheme}://{url.netloc}" != ORIGIN:
            if url.scheme in ("data", "blob", "about"):
                self._send("network.continueRequest", request=request)
                return
            self.console.append(f"refused, not same-origin: {event['request']['url']}")
            self._send("network.failRequest", request=request)
            return
        answer = self._host.answer(url.path)
        if answer.status != 200:
            self.console.append(f"{answer.status}: {url.path}")
        headers = [
            {"name": name, "value": {"type": "string", "value": value}}
            for name, value in answer.headers.items()
        ]
        self._send(
            "network.provideResponse",
            request=request,
            statusCode=answer.status,
            reasonPhrase="OK" if answer.status == 200 else "Not Found",
            headers=headers,
            body={"type": "base64", "value": base64.b64encode(answer.body).decode("ascii")},
        )
