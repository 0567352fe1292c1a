"""How many tests of the HAL and the kernels have passed, for each engine, mode and thread count.

Filled by the desktop's own run and by the pages (tests/browser/test_in_page.py); printed when
pytest ends, and written as JSON with `--counts FILE`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.browser.in_page.pages import SUITES

DESKTOP = ("desktop", "arena")
Key = tuple[str, str, int | None]
# Plain, as it travels: counts, what is absent, the pages' lines.
Dump = tuple[list[tuple[Key, dict[str, int]]], dict[str, str], list[str]]
_THREADS = re.compile(r"\b(\d+)-threads\b")
_KINDS = {"passed": "passed", "failed": "failed", "skipped": "not_applicable"}


@dataclass(slots=True)
class Tally:
    """Counts by (engine, mode, threads); threads is None for tests without a device of the suite's,
    which open their own or need none."""

    counts: dict[Key, Counter[str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)  # a line for each that has ended

    def add(
        self,
        engine: str,
        mode: str,
        test: str,
        outcome: str,
        threads: Collection[int] | None = None,
    ) -> None:
        """One test by its id, which names its device's number of threads, if it is of `threads`."""
        found = _THREADS.search(test)
        count = int(found[1]) if found else None
        if threads is not None and count not in threads:
            count = None
        self.counts.setdefault((engine, mode, count), Counter())[_KINDS[outcome]] += 1

    def dump(self) -> Dump:
        """All of it in plain tuples, for another process's `include`."""
        counts = [(key, dict(counter)) for key, counter in self.counts.items()]
        return counts, self.absent, self.pages

    def include(self, dump: Dump) -> None:
        """Adds what another process has counted."""
        counts, absent, pages = dump
        for key, counter in counts:
            self.counts.setdefault(key, Counter()).update(counter)
        self.absent |= absent
        self.pages += pages

    def rows(self) -> list[dict[str, str | int | None]]:
        """What `--counts` writes."""
        return [
            {"engine": engine, "mode": mode, "threads": threads}
            | {kind: counter[kind] for kind in _KINDS.values()}
            for (engine, mode, threads), counter in sorted(self.counts.items(), key=_order)
        ]

    def lines(self) -> list[str]:
        """The same for people."""
        head = ("engine", "mode", "threads", "passed", "failed", "not applicable")
        table = [head, *(tuple(map(_cell, row.values())) for row in self.rows())]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        absent = [f"{engine}: not run: {why}" for engine, why in self.absent.items()]
        return [*self.pages, "", *lines, *absent]


def _order(item: tuple[Key, Counter[str]]) -> tuple[str, str, int]:
    (engine, mode, threads), _ = item
    return engine, mode, threads or 0


def _cell(value: str | int | None) -> str:
    return "own" if value is None else str(value)


def counted(path: str) -> bool:
    """Whether a test of this file, run on the desktop, is one of the suites'."""
    return path.startswith(tuple(f"tests/{name}/" for name in SUITES))
