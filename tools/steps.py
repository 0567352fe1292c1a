"""Steps: a name, inputs, outputs and an action that runs only when something has changed.

Owns the stamps (one small file a step, holding the hash of its inputs), the lines that a person
reads while it works, and the lock that keeps two builds of one tree apart. Knows nothing of what
the steps do. Standard library only.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.project import BUILD, BuildError, digest, replace_file

STAMPS = BUILD / "stamps"
_TICK = 0.5  # seconds between two refreshes of a running step's line


class Line:
    """The one line of the running step. On a terminal it counts seconds and shows progress."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.monotonic()
        self._said = ""
        self._live = sys.stdout.isatty()
        self._done = threading.Event()
        self._ticker: threading.Thread | None = None
        if self._live:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()
        else:
            print(f"  {name:<24} ", end="", flush=True)

    def progress(self, text: str) -> None:
        """What the step is doing now; shown on a terminal only."""
        self._said = text

    def end(self, text: str) -> None:
        """The step's last word, with its duration unless it had nothing to do."""
        self._done.set()
        if self._ticker is not None:
            self._ticker.join()
            print(f"\r\033[K  {self._name:<24} {text}", flush=True)
        else:
            print(text, flush=True)

    def seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self._began

    def _tick(self) -> None:
        while not self._done.wait(_TICK):
            text = f"  {self._name:<24} {self.seconds():5.0f} s  {self._said}"
            print(f"\r\033[K{text[:110]}", end="", flush=True)


def step(
    name: str,
    action: Callable[[Line], str | None],
    *,
    inputs: Iterable[Path | str],
    outputs: Iterable[Path] = (),
    stamps: Path = STAMPS,
) -> bool:
    """Run `action` unless the inputs hash as they did last time and all outputs exist.

    `inputs` are files, hashed by content, and texts (versions, flags). The action returns a word
    about what it made. Returns whether it ran. Raises what the action raises; a step that failed
    leaves no stamp and runs again. An action that makes no output of the list is at fault.
    """
    outputs = list(outputs)
    key = digest(inputs)
    stamp = stamps / name.replace(" ", "-").replace("/", "-")
    line = Line(name)
    if (
        stamp.is_file()
        and stamp.read_text(encoding="ascii") == key
        and all(o.exists() for o in outputs)
    ):
        line.end("up to date")
        return False
    stamp.unlink(missing_ok=True)
    try:
        made = action(line)
    except BaseException:
        line.end(f"{line.seconds():6.1f} s  failed")
        raise
    missing = [str(o) for o in outputs if not o.exists()]
    if missing:
        line.end(f"{line.seconds():6.1f} s  failed")
        raise BuildError(f"{name}: it ran, but did not write {', '.join(missing)}.")
    replace_file(stamp, key.encode("ascii"))
    line.end(f"{line.seconds():6.1f} s  {made or ''}".rstrip())
    return True


@contextmanager
def building() -> Iterator[None]:
    """Held while steps run, so that two builds of the same tree take turns."""
    try:
        import fcntl
    except ImportError:  # no such lock on this system; builds there must not overlap
        yield
        return
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  another build of this tree is running; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
