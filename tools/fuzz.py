"""Mutated models through load and run: no hang, no crash, a result or a typed error each.

    --models N     how many models; 10,000 by default
    --seed S       which; a model's number and the seed name it for ever
    --first N      the number of the first one
    --page         in a page in Chromium, mode arena, instead of on the desktop engine
    --threads N    of the device; 2 by default
    --json FILE    every bug with its number, base, mutation and traceback

The models are those of ONNX's backend suite, real networks among them, mutated by tests/fuzz. On
the desktop a process a core runs them and is watched: one that says nothing for two minutes hangs,
one that goes has crashed; either is a bug of the model that it was at. Prints the figures; not 0
where there was a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools import case_pages
from tools.cases import make_pack
from tools.project import ROOT, BuildError
from tools.steps import Line

Row = dict[str, Any]
Tell = Callable[[str], None]

HANG = 120.0  # seconds without a word
PAGE = 1800.0  # seconds for a page
_SHOWN = 20  # bugs
_ENTRY = """
from tests.fuzz.in_page import run
await run(task, post)
"""


def main(arguments: Sequence[str]) -> int:
    """Runs them, prints the figures; 1 when there was a bug."""
    parser = argparse.ArgumentParser(
        prog="build.py fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    make_pack()
    line = Line(f"fuzz, {'chromium' if options.page else 'desktop'}")
    figures = Figures()

    def tell(text: str) -> None:
        line.progress(f"{figures.models:,} of {options.models:,}, {len(figures.bugs)} bugs, {text}")

    try:
        end = options.first + options.models
        if options.page:
            _in_a_page(options.first, end, options.seed, options.threads, figures, tell)
        else:
            _on_the_desktop(options.first, end, options.seed, figures, tell)
    except BaseException:
        line.end("failed")
        raise
    line.end(f"{figures.models:,} models in {line.seconds():.0f} s")
    print("\n".join(figures.lines()), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures.bugs, indent=1) + "\n", encoding="utf-8")
    return 1 if figures.bugs else 0


@dataclass(slots=True)
class Figures:
    """What has come of the models so far."""

    models: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    bugs: list[Row] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak: tuple[int, int] = (0, -1)
    resident: list[int] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """One model's outcome."""
        self.models += 1
        self.ends[row["end"]] += 1
        self.mutations.update(filter(None, row["mutation"].split(", ")))
        self.slowest = max(self.slowest, (row["seconds"], row["number"]))
        self.peak = max(self.peak, (row.get("peak", 0), row["number"]))
        self.resident.append(row.get("resident", 0))
        if row["bug"]:
            self.bugs.append(row)

    def lost(self, number: int, why: str) -> None:
        """The model that a process or a page did not come back from."""
        row = {"number": number, "base": "", "mutation": "", "end": why, "seconds": 0.0, "bug": why}
        self.add({**row, "resident": self.resident[-1] if self.resident else 0})

    def lines(self) -> list[str]:
        """For people."""
        ends = ", ".join(f"{end} {count:,}" for end, count in self.ends.most_common())
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.mutations.most_common())
        tenth = max(1, len(self.resident) // 10)
        tenths = [self.resident[n : n + tenth] for n in range(0, len(self.resident), tenth)]
        most = ", ".join(str(max(part) >> 20) for part in tenths[:10])
        lines = [
            f"  ends: {ends}",
            f"  mutations: {kinds}",
            f"  slowest {self.slowest[0]:.2f} s (number {self.slowest[1]}), most memory taken by a "
            f"model {self.peak[0] >> 20} MiB (number {self.peak[1]})",
            f"  memory, the most in each tenth of the models: {most} MiB",
            f"  bugs: {len(self.bugs)}",
        ]
        for bug in self.bugs[:_SHOWN]:
            words = bug["bug"].strip().splitlines()[-1][:200]
            lines.append(f"    {bug['number']} {bug['base']} ({bug['mutation']}): {words}")
        return lines


# -- where they run ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Worker:
    """A process that runs every `step`-th model from `next` on."""

    next: int
    step: int
    end: int
    seed: int
    process: subprocess.Popen[bytes] | None = None
    heard: float = 0.0
    rest: bytes = b""

    def start(self) -> None:
        """From the model that is next."""
        command = [sys.executable, "-m", "tests.fuzz.worker"]
        numbers = map(str, (self.seed, self.next, self.step, self.end))
        self.process = subprocess.Popen(
            [*command, *numbers], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.heard = time.monotonic()

    def stop(self) -> None:
        """Ends it by force."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def hear(self, figures: Figures) -> bool:
        """Takes what it has written; whether it still writes."""
        assert self.process is not None and self.process.stdout is not None  # it was started
        said = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + said).split(b"\n")
        for line in lines:
            figures.add(json.loads(line))
            self.next += self.step
            self.heard = time.monotonic()
        return bool(said)


def _on_the_desktop(first: int, end: int, seed: int, figures: Figures, tell: Tell) -> None:
    count = os.cpu_count() or 1
    workers = [_Worker(first + n, count, end, seed) for n in range(count) if first + n < end]
    waiting = selectors.DefaultSelector()

    def begin(worker: _Worker) -> None:
        worker.rest = b""
        worker.start()
        assert worker.process is not None and worker.process.stdout is not None
        waiting.register(worker.process.stdout, selectors.EVENT_READ, worker)

    def lose(worker: _Worker, why: str) -> None:
        assert worker.process is not None and worker.process.stdout is not None
        waiting.unregister(worker.process.stdout)
        worker.stop()
        if worker.next < end:
            figures.lost(worker.next, why)
            worker.next += worker.step
        if worker.next < end:
            begin(worker)

    try:
        for worker in workers:
            begin(worker)
        while waiting.get_map():
            for key, _ in waiting.select(timeout=1):
                worker = key.data
                if not worker.hear(figures):
                    status = worker.process.wait()
                    lose(worker, f"the process ended with {status}")
            for worker in [key.data for key in waiting.get_map().values()]:
                if time.monotonic() - worker.heard > HANG:
                    lose(worker, f"no word for {HANG:.0f} s")
            tell(f"{figures.slowest[0]:.1f} s the slowest")
    finally:
        for worker in workers:
            worker.stop()


def _in_a_page(
    first: int, end: int, seed: int, threads: int, figures: Figures, tell: Tell
) -> None:
    def task(left: Sequence[int]) -> object:
        return {"first": left[0], "end": left[-1] + 1, "seed": seed, "threads": threads}

    numbers = range(first, end)
    found = case_pages.rows(_ENTRY, numbers, task, PAGE, tell)
    for number, row in zip(numbers, found, strict=True):
        if isinstance(row, str):
            figures.lost(number, row)
        else:
            figures.add(row)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildError as error:
        sys.exit("\n".join(filter(None, [error.details, f"fuzz: {error}"])))
