#!/usr/bin/env python3
"""tilework's one command: set up, build, demonstrate, test, measure, check.

    python3 build.py demo [--open]        everything, then semantic search in a headless browser
    python3 build.py test [pytest args]   everything, then the whole test suite
    python3 build.py conformance [--suite hal|kernels] [--json FILE]
                                          the HAL's and the kernels' suites in every engine and mode
    python3 build.py conformance --suite onnx [--engine desktop] [--only 'test_cast*'] [--json FILE]
                                          ONNX's backend suite, in Chromium on two threads
    python3 build.py bench [--engine firefox] [--json FILE]
                                          tilework beside onnxruntime-web in one page
    python3 build.py soak --loads 1000 [--page]
                                          modules that come and go under load, for long
    python3 build.py fuzz --models 100000 --seed 1 [--page]
                                          mutated models: a result or a typed error each
    python3 build.py scaling [--case C]   the processor on 1 to 16 threads, by simulation
    python3 build.py build                the wheel and the static site in dist/
    python3 build.py kernel FOLDER        a kernel of your own, C or Zig, as FOLDER.wasm
    python3 build.py serve [--port N]     dist/ on loopback, with the isolation headers
    python3 build.py check                ruff, mypy, tsc, import table
    python3 build.py clean [--all]        remove build/ and dist/; --all: .venv and .cache too

Runs on a bare Python 3.11 or later: makes .venv and starts itself again in there. The steps are
in tools/, each runs only when its inputs have changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit("build.py: Python 3.11 or later is needed; start it with a newer python3.")

from tools.project import BUILD, CACHE, DIST, ROOT, VENV, VENV_PYTHON, BuildError, remove
from tools.steps import building

SUITES = ("hal", "kernels", "onnx")  # of `conformance`


def main(arguments: list[str]) -> int:
    """Run one sub-command; returns the exit status."""
    options, rest = _options(arguments)
    if options.command == "clean":
        return _clean(options.all)
    if Path(sys.prefix).resolve() != VENV.resolve():
        _make_environment()
        if options.command != "kernel":  # whose paths are the caller's
            os.chdir(ROOT)
        command = [str(VENV_PYTHON), str(ROOT / "build.py"), *arguments]
        if os.name == "nt":
            return subprocess.call(command)
        sys.stdout.flush()
        os.execv(command[0], command)
    from tools import pipeline

    if options.command == "demo":
        return pipeline.demo(options.open, options.port)
    if options.command == "test":
        return pipeline.test(rest)
    if options.command == "conformance":
        if "onnx" in options.suite:
            return pipeline.onnx_conformance(arguments[1:])
        if rest:
            sys.exit(f"build.py: conformance does not know {' '.join(rest)}")
        return pipeline.conformance(options.suite, options.json)
    if options.command == "bench":
        return pipeline.bench(rest)
    if options.command == "soak":
        return pipeline.soak(rest)
    if options.command == "fuzz":
        return pipeline.fuzz(rest)
    if options.command == "scaling":
        return pipeline.scaling(rest)
    if options.command == "serve":
        return pipeline.serve(options.port)
    if options.command == "kernel":
        return pipeline.kernel(options.folder, options.out, options.build)
    if options.command == "check":
        return pipeline.check()
    pipeline.build(options.only)
    return 0


def _options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo")
    demo.add_argument("--open", action="store_true", help="in a browser of your own instead")
    demo.add_argument("--port", type=int, default=8000)
    commands.add_parser("test", add_help=False)
    conformance = commands.add_parser("conformance")
    conformance.add_argument("--suite", action="append", choices=SUITES, default=[])
    conformance.add_argument("--json", type=Path, help="where the counts go")
    commands.add_parser("bench", add_help=False)
    commands.add_parser("soak", add_help=False)
    commands.add_parser("scaling", add_help=False)
    commands.add_parser("fuzz", add_help=False)
    build = commands.add_parser("build")
    build.add_argument("--only", choices=["kernels", "wheel", "site"], default="site")
    commands.add_parser("serve").add_argument("--port", type=int, default=8000)
    kernel = commands.add_parser("kernel")
    kernel.add_argument("folder", type=Path)
    kernel.add_argument("-o", "--out", type=Path)
    kernel.add_argument("--build", choices=["simd", "relaxed"], default="simd")
    commands.add_parser("check")
    commands.add_parser("clean").add_argument("--all", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("test", "conformance", "bench", "soak", "scaling", "fuzz"):
        parser.error(f"{options.command} does not know {' '.join(rest)}")
    return options, rest


def _make_environment() -> None:
    if (VENV / "made").is_file() and VENV_PYTHON.exists():
        return
    with building():
        if not (VENV / "made").is_file():
            _make_anew()


def _make_anew() -> None:
    print(f"  making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    remove(VENV)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        remove(VENV)
        raise BuildError(
            "This Python cannot make a virtual environment; on Debian and Ubuntu: "
            "apt-get install python3-venv.",
            (made.stdout + made.stderr).strip(),
        )
    (VENV / "made").write_text(sys.version, encoding="utf-8")


def _clean(everything: bool) -> int:
    for folder in [BUILD, DIST, *([VENV, CACHE] if everything else [])]:
        remove(folder)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildError as error:
        sys.stdout.flush()
        details = [error.details, *getattr(error, "__notes__", [])]
        sys.exit("\n".join([*filter(None, details), f"build.py: {error}"]))
    except PermissionError as error:
        sys.exit(
            f"build.py: {error.filename} may not be written by this user; it may be left from a "
            "run as another user: remove build, dist, .cache and .venv as that user."
        )
    except KeyboardInterrupt:
        sys.exit("\nbuild.py: interrupted")
