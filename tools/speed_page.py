"""The page of figures: what the README says of speed, as HTML.

The README's table is the only place where those figures stand. Knows nothing of how they are made.
Standard library only.
"""

from __future__ import annotations

import re
from html import escape
from string import Template

HEAD = "| case | 1 thread, ms | onnxruntime-web | ratio | 2 threads, ms | onnxruntime-web | ratio |"


def rows(readme: str) -> list[list[str]]:
    """The cells of each case in the README's table; ValueError when there is no such table."""
    lines = iter(readme.splitlines())
    if HEAD not in lines:  # which leaves the lines behind it
        raise ValueError(f"README.md has no table that begins with {HEAD}")
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def measured(readme: str) -> str:
    """The day and the machine: the README's sentence above the table, as HTML."""
    section = readme.partition("\n## Speed\n")[2].partition(HEAD)[0]
    words = escape(" ".join(section.split()))
    return re.sub(r"`(.*?)`", r"<code>\1</code>", words)


def page(template: str, readme: str) -> bytes:
    """The page of static/speed/ with the README's figures in it."""
    lines = []
    for name, *cells in rows(readme):
        one, one_web, one_ratio, two, two_web, two_ratio = map(escape, cells)
        # A phone has room for the first.
        shown = (one_ratio, one, one_web, two_ratio, two, two_web)
        figures = "".join(f"<td>{cell}</td>" for cell in shown)
        lines.append(f'          <tr><th scope="row">{escape(name)}</th>{figures}</tr>')
    return Template(template).substitute(rows="\n".join(lines), measured=measured(readme)).encode()
