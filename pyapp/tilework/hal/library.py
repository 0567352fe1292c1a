"""Where the compiled kernels and the scripts of the wheel are found."""

from __future__ import annotations

import os
from pathlib import Path

from tilework.core.errors import NoSuchFile

_PACKAGE = Path(__file__).resolve().parent.parent
BUILDS = ("relaxed", "simd")


def _directories() -> list[Path]:
    chosen = os.environ.get("TILEWORK_KERNELS")
    if chosen:
        return [Path(chosen)]
    # Inside the wheel, and in a checkout after `build.py build`.
    return [_PACKAGE / "kernels", _PACKAGE.parent.parent / "build" / "kernels"]


def kernel_module(family: str, build: str) -> bytes:
    """The bytes of `<build>/<family>.wasm`; the processor has one build only, `simd`."""
    tried = [directory / build / f"{family}.wasm" for directory in _directories()]
    for path in tried:
        if path.is_file():
            return path.read_bytes()
    raise NoSuchFile(
        f"kernel module {family!r} ({build}) is not at {' or '.join(map(str, tried))}; in a "
        "checkout run `python3 build.py build`"
    )


def script(name: str) -> str:
    """The text of one of the wheel's own scripts, e.g. `bridge.classic.js`."""
    path = _PACKAGE / "web" / name
    if not path.is_file():
        raise NoSuchFile(f"{path} is missing; the wheel is incomplete, install it again")
    return path.read_text(encoding="utf-8")
