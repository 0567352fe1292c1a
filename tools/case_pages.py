"""Runs the pack's cases, or models made of them, in pages of Chromium, one page after another.

A page that ends, or that is busy for too long, loses the case that it was at; the rest go on in a
new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tools.cases import FOLDER
from tools.project import DIST, BuildError


def rows(
    entry: str,
    numbers: Sequence[int],
    task: Callable[[Sequence[int]], object],
    seconds: float,
    tell: Callable[[str], None],
) -> Iterator[Any]:
    """What `entry` posts for each number, in order; of one that its page did not come back from,
    the words why. A page is given `task` of the numbers that are left, and so many seconds.

    Raises BuildError when a page fails with no case running.
    """
    from tests.browser.in_page.outside import host, run
    from tools.engines import ENGINES
    from tools.web_host import Host

    site = host(DIST, isolated=True)
    site = Host({**site.folders, "/conformance/": FOLDER}, site.headers, site.files)
    while numbers:
        with ENGINES["chromium"].open(site) as page:
            ended = run(page, entry, task(numbers), registered=True, seconds=seconds, tell=tell)
            console = page.console[-10:]
        yield from ended.rows
        numbers = numbers[len(ended.rows) :]
        if not numbers:
            return
        if not ended.running:
            raise BuildError(
                f"the page failed: {ended.fault}", "\n".join([*ended.printed[-20:], *console])
            )
        yield f"the page did not come back: {ended.fault}"
        numbers = numbers[1:]
