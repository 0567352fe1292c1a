"""Where things are, what the project is called, and how a step says that it cannot go on.

Owns the paths and pyproject.toml's content; never builds anything. Every other tool imports it.
Standard library only: build.py needs it before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
BUILD = ROOT / "build"
DIST = ROOT / "dist"
PACKAGE = ROOT / "pyapp" / "tilework"
KERNELS = ROOT / "kernels"
WEB = ROOT / "web"

VENV_BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
VENV_PYTHON = VENV_BIN / ("python.exe" if os.name == "nt" else "python")


class BuildError(Exception):
    """A step cannot go on. The message is one or two sentences and says what to do.

    `details` is what a program printed; a person sees it above the message.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@cache
def pyproject() -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def version() -> str:
    """The project's version; pyproject.toml is the only place that states it."""
    return str(pyproject()["project"]["version"])


def families() -> list[str]:
    """The kernel families: the folders of kernels/ that hold a .wit of their own name."""
    return sorted(p.parent.name for p in KERNELS.glob("*/*.wit") if p.stem == p.parent.name)


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    remedy: str = "",
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    show: bool = False,
) -> str:
    """Run a program and return what it printed; with `show`, let it print to the terminal.

    Raises BuildError: `what` failed, and the `remedy`; its details are the end of the output.
    """
    sys.stdout.flush()
    try:
        done = subprocess.run(
            [str(c) for c in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(f"{what}: there is no program {command[0]}. {remedy}".rstrip()) from None
    if done.returncode:
        said = "\n".join((done.stdout or "").strip().splitlines()[-40:])
        raise BuildError(f"{what} failed (exit {done.returncode}). {remedy}".rstrip(), said)
    return done.stdout or ""


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """All files below a folder, sorted, without caches; only those with one of the suffixes."""
    found = (
        p
        for p in folder.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and (not suffixes or p.suffix in suffixes)
    )
    return sorted(found)


def digest(parts: Iterable[Path | str]) -> str:
    """One hash of texts and of files' names and contents; a missing file counts as missing."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            line = f"text {part}"
        else:
            name = part.relative_to(ROOT) if part.is_relative_to(ROOT) else part
            line = f"file {name} {sha256_file(part) if part.is_file() else 'missing'}"
        total.update(line.encode() + b"\n")
    return total.hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file at once: readers see the old content or the new, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
