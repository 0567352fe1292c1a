"""Serves a static host on loopback: dist/ for a person's own browser, and what no test can have
without a server (WebKitGTK, which shows no requests; workers that a worker starts by URL).
"""

from __future__ import annotations

import functools
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tools.project import BuildError
from tools.web_host import Answer, Host, static_host


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, host: Host) -> None:
        self._host = host
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        answer = self._host.answer(path)
        if answer.status == 404 and self._host.find(f"{path}/"):
            answer = Answer(301, {"Location": f"{path}/"}, b"")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing about requests: the browser's console does."""


def _server(host: Host, port: int) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, host=host))


@contextmanager
def serving(host: Host) -> Iterator[str]:
    """The origin at which a thread serves `host` meanwhile."""
    with _server(host, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serve_site(root: Path, port: int, page: str) -> int:
    """Serve until interrupted; with a page, open it in the person's browser."""
    try:
        server = _server(static_host(root, isolated=True), port)
    except OSError as error:
        raise BuildError(
            f"Port {port} cannot be used ({error.strerror}); choose another with --port."
        ) from None
    url = f"http://localhost:{server.server_port}/{page}"
    print(f"  {url}  (Ctrl-C ends it)", flush=True)
    if page:
        webbrowser.open(url)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
