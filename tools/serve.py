"""Serves dist/ on loopback for a person's own browser. Tests never use it.

Owns the isolation headers and the MIME types of that server; both are tools/web_host.py's.
"""

from __future__ import annotations

import functools
import webbrowser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.project import BuildError
from tools.web_host import ISOLATION, mime_type


class _Handler(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        for name, value in ISOLATION.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def guess_type(self, path: object) -> str:
        return mime_type(str(path))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing about requests that went well."""


def serve_site(root: Path, port: int, page: str) -> int:
    """Serve until interrupted; with a page, open it in the person's browser."""
    handler = functools.partial(_Handler, directory=str(root))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
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
