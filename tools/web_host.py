"""What a static host sends with each file of the site: MIME types and the isolation headers.

One statement for the loopback server and for the headless browser. Standard library only.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

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
