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


@dataclass(frozen=True, slots=True)
class Takes:
    """What is run in an engine. `modes` None: all. The kernels, which no mode changes, run in the
    modes of `kernels_in`, None: in all."""

    threads: int  # at most
    modes: Sequence[str] | None = None
    kernels_in: Sequence[str] | None = None


TAKES: Mapping[str, Takes] = {
    # To a kernel a shared heap is what an arena is; inline's memory is not shared.
    "chromium": Takes(threads=4, kernels_in=("arena", "inline")),
    "firefox": Takes(threads=2, kernels_in=("arena",)),
    # MiniBrowser has no shared memory unless it is started with flags of its own.
    "webkitgtk": Takes(threads=1, modes=("inline",)),
}
_IN_A_NOTEBOOK = (
    ("arena", 2, "test_threads.py"),
    ("heap", 2, "test_threads.py"),
    ("inline", 1, "test_failures.py"),
)
_IN_THE_NEXT_PYODIDE = ("heap", "inline")


@dataclass(frozen=True, slots=True)
class Case:
    """One page. `registered`: Python is given the bridge, as a site of our own does, or has to
    evaluate the wheel's, as in a notebook. `next_pyodide`: 314, for which no package registry has a
    NumPy, so the layers above the HAL are not tried. With `files` only those run."""

    engine: str
    mode: str
    threads: tuple[int, ...]
    suites: tuple[str, ...] = SUITES
    registered: bool = True
    next_pyodide: bool = False
    files: tuple[str, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether its tests are counted as the engine's and the mode's."""
        return self.registered and not self.next_pyodide

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
    found = {}
    for engine, takes in TAKES.items():
        for name, mode in MODES.items():
            if takes.modes is None or name in takes.modes:
                threads = tuple(n for n in mode.threads if n <= takes.threads)
                kernels = takes.kernels_in is None or name in takes.kernels_in
                suites = SUITES if kernels else ("hal",)
                found[f"{engine} {name}"] = Case(engine, name, threads, suites)
    for name, count, file in _IN_A_NOTEBOOK:
        files = (DRIVER, f"tests/hal/{file}")
        case = Case("chromium", name, (count,), registered=False, files=files)
        found[f"chromium {name} in a notebook"] = case
    for name in _IN_THE_NEXT_PYODIDE:
        bare = tuple(file for file in suite("hal") if file != DRIVER)  # which imports NumPy
        case = Case("chromium", name, MODES[name].threads, next_pyodide=True, files=bare)
        found[f"chromium {name} in Pyodide 314"] = case
    return found
