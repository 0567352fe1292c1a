"""Times kernels one by one in a page of headless Chromium, through kernels.js."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tools.browser import open_site
from tools.project import BUILD

HERE = Path(__file__).parent
Group: TypeAlias = tuple[str, list[dict[str, Any]]]  # a title, cases run in turn


def measured(groups: Sequence[Group], milliseconds: int) -> Iterator[tuple[str, Any]]:
    """(title, pairs of a case and its milliseconds) of each group, as it ends."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(BUILD / "kernels", root, dirs_exist_ok=True)
        shutil.copy(HERE / "kernels.js", root)
        (root / "index.html").write_text("<!doctype html><title>kernels</title>")
        with open_site(root) as page:
            page.goto("http://localhost/")
            for title, cases in groups:
                times = page.evaluate(
                    "async ([c, ms]) => (await import('/kernels.js')).measure(c, ms)",
                    [cases, milliseconds],
                )
                yield title, list(zip(cases, times, strict=True))
