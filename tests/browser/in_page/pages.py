"""Which pages the suites run in: the one table of engines, modes and numbers of threads.

A mode that is added to `MODES` runs in every engine that takes all of them, and the counts of
`build.py conformance` have it, without an edit elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.project import ROOT

DRIVER = "tests/browser/in_page/driver_cases.py"
SUITES = ("hal", "kernels")


@dataclass(frozen=True, slots=True)
class Mode:
    """A memory mode, and the page in which it is what `open_device` chooses by itself."""

    isolated: bool
    threads: tuple[int, ...]
    memory: str = "own"  # web/python.js's: Pyodide's own, or a shared "heap"


MODES: Mapping[str, Mode] = {
    "arena": Mode(isolated=True, threads=(1, 2, 4)),
    "heap": Mode(isolated=True, threads=(1, 2), memory="heap"),
    "inline": Mode(isolated=False, threads=(1,)),
}
# What is run where: the modes of each engine and how many threads at most. None: all of them.
# WebKitGTK's MiniBrowser has no shared memory unless it is started with flags of its own.
TAKES: Mapping[str, tuple[Sequence[str] | None, int]] = {
    "chromium": (None, 4),
    "firefox": (("arena",), 2),
    "webkitgtk": (("inline",), 1),
}

_IN_A_NOTEBOOK = (
    ("arena", 2, "test_threads.py"),
    ("heap", 2, "test_threads.py"),
    ("inline", 1, "test_failures.py"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One page. `registered`: Python is given the bridge, as a site of our own does, or has to
    evaluate the wheel's, as in a notebook; of those only `files` run."""

    engine: str
    mode: str
    threads: tuple[int, ...]
    registered: bool = True
    files: tuple[str, ...] = ()

    @property
    def isolated(self) -> bool:
        return MODES[self.mode].isolated


def suite(name: str) -> tuple[str, ...]:
    """The test files of a suite, as paths in the repository; the driver's own are the HAL's."""
    found = sorted((ROOT / "tests" / name).glob("test_*.py"))
    files = tuple(path.relative_to(ROOT).as_posix() for path in found)
    return (DRIVER, *files) if name == "hal" else files


def cases() -> dict[str, Case]:
    """Every page by its name."""
    found = {
        f"{engine} {name}": Case(engine, name, tuple(n for n in mode.threads if n <= most))
        for engine, (modes, most) in TAKES.items()
        for name, mode in MODES.items()
        if modes is None or name in modes
    }
    for mode, threads, file in _IN_A_NOTEBOOK:
        files = (DRIVER, f"tests/hal/{file}")
        case = Case("chromium", mode, (threads,), registered=False, files=files)
        found[f"chromium {mode} in a notebook"] = case
    return found
