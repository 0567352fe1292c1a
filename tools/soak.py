"""Long runs, with progress: what a test does a few dozen times, done as often as is asked for.

    --loads N    N modules loaded and unloaded while submissions run on all threads
    --kills N    N workers of a page ended in the middle of their work

On the desktop, and with --page in a headless page as well (--page heap, --page inline: that mode).
Prints the figures; not 0 where anything was wrong or did not come back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from tools.project import PACKAGE, BuildError
from tools.steps import Line

if str(PACKAGE.parent) not in sys.path:
    sys.path.insert(0, str(PACKAGE.parent))

PATIENCE = 1800  # seconds for a page
MODES = ("arena", "heap", "inline")
_IN_PAGE = """
import dataclasses, json
from tests.hal.traffic import come_and_go
from tilework.hal import open_device

device = open_device(task["threads"] or None)
assert await device.ready()
figures = come_and_go(device, task["loads"], print)
device.close()
json.dumps({**dataclasses.asdict(figures), "words": str(figures)})
"""
_KILLS = """
import json
from tests.hal.kills import kill_workers

json.dumps(await kill_workers(task["threads"] or None, task["kills"], print))
"""


def main(arguments: list[str]) -> int:
    """Runs what was asked for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="build.py soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--loads", type=int, default=0, metavar="N")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    parser.add_argument("--threads", type=int, default=None, help="one for each core by default")
    parser.add_argument("--page", nargs="?", const="arena", choices=MODES, default=None)
    options = parser.parse_args(arguments)
    if not options.loads and not options.kills:
        parser.error("say what is to be soaked, e.g. --loads 1000")
    good = not options.kills or _kills(options.page or "arena", options.kills, options.threads)
    if not options.loads:
        return 0 if good else 1
    good &= _loads("desktop", lambda tell: _on_the_desktop(options.loads, options.threads, tell))
    if options.page:
        page: str = options.page
        good &= _loads(page, lambda tell: _in_a_page(page, options.loads, options.threads, tell))
    return 0 if good else 1


def _loads(where: str, run: Callable[[Callable[[str], None]], dict[str, Any]]) -> bool:
    line = Line(f"loads, {where}")
    try:
        figures = run(line.progress)
    except BaseException:
        line.end("failed")
        raise
    line.end(figures["words"])
    return not (figures["bytes_kept"] or figures["spans_kept"] or figures["slots_kept"])


def _kills(mode: str, kills: int, threads: int | None) -> bool:
    line = Line(f"kills, {mode}")
    task = {"kills": kills, "threads": threads or 0}
    try:
        figures = _page(mode, _KILLS, task, line.progress)
    except BaseException:
        line.end("failed")
        raise
    line.end(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    return not (figures["wrong"] or figures["hangs"])


def _on_the_desktop(
    loads: int, threads: int | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    from dataclasses import asdict

    from tests.hal.traffic import come_and_go
    from tilework.hal import open_device

    device = open_device(threads)
    before = _resident()
    figures = come_and_go(device, loads, tell)
    grown = (_resident() - before) / loads
    device.close()
    words = f"{figures}; the process grew by {grown:.0f} bytes a load"
    return {**asdict(figures), "words": words}


def _resident() -> int:
    """Bytes of memory that the process has at the most so far; 0 where nobody says."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_a_page(
    mode: str, loads: int, threads: int | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    return _page(mode, _IN_PAGE, {"loads": loads, "threads": threads or 0}, tell)


def _page(mode: str, entry: str, task: object, tell: Callable[[str], None]) -> dict[str, Any]:
    from tests.browser.in_page.outside import host, run
    from tests.browser.in_page.pages import MODES as PAGES
    from tools.engines import ENGINES
    from tools.project import DIST

    known = PAGES[mode]
    with ENGINES["chromium"].open(host(DIST, known.isolated)) as page:
        ended = run(
            page,
            entry,
            task,
            registered=True,
            seconds=PATIENCE,
            memory=known.memory,
            tell=tell,
        )
    if ended.fault:
        raise BuildError(f"the page failed: {ended.fault}", "\n".join(ended.printed[-20:]))
    told: dict[str, Any] = json.loads(ended.value)
    return told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
