"""What a static host answers: files of folders with their MIME types, and the isolation headers.

One statement for the loopback server and for every headless browser. Standard library only.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".whl": "application/zip",
}


def mime_type(path: Path | str) -> str:
    """The Content-Type of a file by its name."""
    kind = _TYPES.get(Path(path).suffix) or mimetypes.guess_type(str(path))[0]
    kind = kind or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and a body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Host:
    """A static host, but for redirects: a folder must be asked for with its slash.

    `folders` are by the URL path that they are shown at, "/" or "/in-page/"; the longest wins.
    `files` are by whole URL path and go before folders. `headers` come with every answer.
    """

    folders: Mapping[str, Path]
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def answer(self, path: str) -> Answer:
        """What a request for `path`, as it stands in a URL without its query, is answered."""
        if path in self.files:
            return self._answer(200, mime_type(path), self.files[path])
        file = self.find(path)
        if file is None:
            return self._answer(404, "text/plain", b"not found")
        return self._answer(200, mime_type(file), file.read_bytes())

    def find(self, path: str) -> Path | None:
        """The file that is shown at `path`; None when there is none inside the folder."""
        prefix = max((p for p in self.folders if path.startswith(p)), key=len, default=None)
        if prefix is None:
            return None
        root = self.folders[prefix].resolve()
        file = (root / unquote(path[len(prefix) :]).lstrip("/")).resolve()
        if path.endswith("/"):
            file = file / "index.html"
        return file if file.is_relative_to(root) and file.is_file() else None

    def _answer(self, status: int, kind: str, body: bytes) -> Answer:
        own = {"Content-Type": kind, "Cache-Control": "no-store"}
        return Answer(status, {**own, **self.headers}, body)


def static_host(root: Path, isolated: bool) -> Host:
    """One folder at the top, with or without the headers that isolate its pages."""
    return Host({"/": root}, ISOLATION if isolated else {})
