"""Which steps each sub-command of build.py runs, and in which order.

Owns the order only; each step's work is in the module it calls. Runs inside .venv.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools import fetch, kernels
from tools.cases import make_pack
from tools.dependencies import install
from tools.project import DIST, ROOT, BuildError
from tools.steps import building

SUITES = ("hal", "kernels")  # those below tests/ that run on every engine
PAGES = "tests/browser/test_in_page.py"  # where they run in pages


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
    from tools.chapters import make_index
    from tools.wheel import make_wheel

    install("model")  # the index is taken from tables that import NumPy
    make_index()
    make_wheel()
    if until == "wheel":
        return
    from tools.model import make_model
    from tools.static_site import make_site

    fetch.fetch_site_parts()
    make_site()
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
    install("published")


def demo(in_own_browser: bool, port: int) -> int:
    """The main job: semantic search, headless, or served for the person's own browser."""
    if in_own_browser:
        build()
        return _serve(port, "search/")
    _ready_for_browser()
    from tools.demo import run_demo

    return run_demo()


def test(arguments: list[str]) -> int:
    """Build everything, then pytest; its closing line is the last one printed.

    The folder of a suite, as it stands, brings the pages in which that suite runs as well.
    """
    _ready_for_browser()
    _ready_for_tests(pages=_wants_pages(arguments))
    suites = [suite for suite in SUITES if f"tests/{suite}" in (a.rstrip("/") for a in arguments)]
    pages = [PAGES, *_options("--suite", suites)] if suites else []
    return _pytest([*([] if _named(arguments) else _several()), *arguments, *pages])


def conformance(suites: list[str], json_file: Path | None) -> int:
    """The suites on the desktop and in every engine and mode that the machine has, counted."""
    _ready_for_browser()
    _ready_for_tests(pages=True)
    suites = suites or list(SUITES)
    counts = _options("--counts", [str(json_file)] if json_file else [])
    tests = [f"tests/{suite}" for suite in suites]
    pages = [PAGES, *_options("--suite", suites), "-k", "not notebook and not 314"]
    return _pytest([*_several(), "-q", *tests, *pages, *counts])


def onnx_conformance(arguments: list[str]) -> int:
    """ONNX's backend suite; tools/conformance.py takes the arguments."""
    if "desktop" in arguments:
        build("wheel")
        with building():
            _install_tests()
    else:
        _ready_for_browser()
        _ready_for_tests(pages=False)
    return subprocess.call([sys.executable, "-m", "tools.conformance", *arguments], cwd=ROOT)


def _ready_for_tests(pages: bool) -> None:
    with building():
        make_pack()
        fetch.fetch_test_parts()
        fetch.fetch(fetch.ONNXRUNTIME)
        if pages:
            from tools.engines.install import install_engines

            install_engines()


def _wants_pages(arguments: list[str]) -> bool:
    """Whether pytest with these arguments would collect the pages: all tests, or theirs."""
    named = _named(arguments)
    parts = ("tests/browser", *(f"tests/{suite}" for suite in SUITES))
    return not named or any(name.startswith(parts) for name in named)


def _named(arguments: list[str]) -> list[str]:
    return [a for a in arguments if a.startswith("tests/")]


def _several() -> list[str]:
    """pytest's options to run files of tests side by side: one waits for its page, or computes on
    one thread, while another goes on."""
    return ["-n", str(min(os.cpu_count() or 1, 4)), "--dist", "loadfile"]


def _options(name: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (name, value)]


def _pytest(arguments: list[str]) -> int:
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


def soak(arguments: list[str]) -> int:
    """Long runs on the desktop, with --page in a page; tools/soak.py takes the arguments."""
    _ready_for_browser()
    _ready_for_tests(pages=False)
    return subprocess.call([sys.executable, "-m", "tools.soak", *arguments], cwd=ROOT)


def fuzz(arguments: list[str]) -> int:
    """Mutated models on the desktop, with --page in a page; tools/fuzz.py takes the arguments."""
    if "--page" in arguments:
        _ready_for_browser()
        _ready_for_tests(pages=False)
    else:
        build("wheel")
        with building():
            _install_tests()
    return subprocess.call([sys.executable, "-m", "tools.fuzz", *arguments], cwd=ROOT)


def scaling(arguments: list[str]) -> int:
    """The processor on 1 to 16 threads by simulation; tools/scaling.py takes the arguments."""
    build()
    _install_tests()
    return subprocess.call([sys.executable, "-m", "tools.scaling", *arguments], cwd=ROOT)


def serve(port: int) -> int:
    """dist/ on loopback, as it was last built."""
    if not (DIST / "site.json").is_file():
        raise BuildError("There is no site to serve yet; run: python3 build.py build")
    return _serve(port, "")


def _serve(port: int, page: str) -> int:
    from tools.serve import serve_site

    return serve_site(DIST, port, page)


def kernel(folder: Path, out: Path | None, build: str) -> int:
    """A kernel module of the caller's own."""
    with building():
        install("compile")
        kernels.generate()
        from tools.own_kernel import build_kernel

        made = build_kernel(folder, out, build)
    print(f"  {made}, {made.stat().st_size:,} bytes")
    return 0


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
