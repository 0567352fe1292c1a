"""Makes the wheel's index of chapters: which module of a package holds which keys of its table.

Imports all chapters of the tables below and notes who enters what; writes build/chapters.json,
which tools/wheel.py packs as tilework/chapters.json and `tilework.core.chapters` reads. Needs
NumPy, as the tables do.

    python -m tools.chapters    prints the index
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import patch

from tools.project import BUILD, PACKAGE, ROOT, files_below, replace_file, run
from tools.steps import Line, step

INDEX = BUILD / "chapters.json"


def make_index() -> None:
    """The index in build/, as a step: in a Python of its own, which sees the package as it is."""

    def action(_: Line) -> str:
        command = [sys.executable, "-m", "tools.chapters"]
        text = run(command, what="The index of chapters", env={"PYTHONPATH": str(PACKAGE.parent)})
        replace_file(INDEX, text.encode("utf-8"))
        counts = [f"{len(chapters)} of {name}" for name, chapters in json.loads(text).items()]
        return f"chapters: {', '.join(counts)}"

    step(
        "index",
        action,
        inputs=[*files_below(PACKAGE, ".py"), ROOT / "tools" / "chapters.py"],
        outputs=[INDEX],
    )


def index() -> dict[str, dict[str, str]]:
    """Package → chapter → its keys, parted by spaces. For a Python that has imported no chapter."""
    from tilework.core.chapters import Chapters

    found: dict[str, dict[str, list[str]]] = {}
    enter = Chapters.enter

    def noting(table: Chapters[Any, Any], key: Any, value: Any) -> None:
        chapters = found.setdefault(table.package, {})
        chapters.setdefault(_chapter(table.package), []).append(table.spell(key))
        enter(table, key, value)

    with patch.object(Chapters, "enter", noting):
        # Importing a table may import chapters as well.
        from tilework.ir.opdefs import OPS
        from tilework.onnx.ops import OPERATORS
        from tilework.plan.lowerings import LOWERINGS

        tables: tuple[Chapters[Any, Any], ...] = OPS, OPERATORS, LOWERINGS
        for table in tables:
            table.load()
    return {
        package: {chapter: " ".join(sorted(keys)) for chapter, keys in sorted(chapters.items())}
        for package, chapters in found.items()
    }


def _chapter(package: str) -> str:
    """The chapter that is being executed, else the one whose part is being read."""
    frame: Any = sys._getframe(2)
    while "chapter" not in frame.f_locals:
        name: str = frame.f_globals["__name__"]
        if frame.f_code.co_name == "<module>" and name.startswith(f"{package}."):
            return name.rpartition(".")[2]
        frame = frame.f_back
    return str(frame.f_locals["chapter"])


if __name__ == "__main__":
    print(json.dumps(index(), indent=1))
