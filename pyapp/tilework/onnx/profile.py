"""Profile: a session's measured steps, as a trace for Chrome or Perfetto and as a table.

The trace is the JSON array of events that onnxruntime writes, with its names ("cat": "Node",
"<node>_kernel_time", times in µs), so that its readers find their way. A thread that computed a
part of a step has a track of its own with it; the calling thread has all steps. Where the step's
tiles ran within its time is not known.
"""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilework.engine.recorder import Event, Recorder

_KERNELS, _HOST = "TileworkExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Row:
    """One node of the model in all runs; times in µs."""

    label: str
    kernel: str
    calls: int
    total: float
    share: float
    nbytes: int  # of one call


@dataclass(slots=True)
class Profile:
    """Begins when it is made. `start_ns` is the wall clock's time then."""

    start_ns: int = field(default_factory=time.time_ns)
    recorder: Recorder = field(default_factory=Recorder)
    _origin: int = field(default_factory=time.perf_counter_ns)
    _sections: list[tuple[str, int, int]] = field(default_factory=list)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """What happens in the block is an event of the session."""
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            self._sections.append((name, began, time.perf_counter_ns()))

    @property
    def events(self) -> Sequence[Event]:
        """The measured steps, in order."""
        return self.recorder.events

    # -- the table -----------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Every node with what it took in all runs, the longest first."""
        found: dict[tuple[str, str], list[Event]] = {}
        for event in self.events:
            found.setdefault((event.label, event.kernel), []).append(event)
        whole = sum(event.ended - event.began for event in self.events) / 1e3 or 1.0
        rows = []
        for (label, kernel), events in found.items():
            total = sum(event.ended - event.began for event in events) / 1e3
            nbytes = sum(event.nbytes for event in events) // len(events)
            rows.append(Row(label, kernel, len(events), total, total / whole, nbytes))
        return sorted(rows, key=lambda row: -row.total)

    def __str__(self) -> str:
        lines = [f"{'ms':>10} {'share':>6} {'calls':>6} {'bytes':>12}  {'kernel':20} node"]
        lines += [
            f"{row.total / 1e3:10.3f} {row.share:6.1%} {row.calls:6} {row.nbytes:12,}  "
            f"{row.kernel or 'on host':20} {row.label}"
            for row in self.rows()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{row.total / 1e3:.3f}</td><td>{row.share:.1%}</td><td>{row.calls}</td>"
            f"<td>{row.nbytes:,}</td><td>{html.escape(row.kernel or 'on host')}</td>"
            f"<td>{html.escape(row.label)}</td></tr>"
            for row in self.rows()
        )
        heads = "".join(
            f"<th>{name}</th>" for name in ("ms", "share", "calls", "bytes", "kernel", "node")
        )
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

    # -- the trace -----------------------------------------------------------------------------

    def trace(self) -> list[dict[str, Any]]:
        """The events of the trace."""
        threads = max((len(event.tiles) for event in self.events), default=1)
        made = [
            self._named(thread, "calling thread" if not thread else f"worker {thread}")
            for thread in range(threads)
        ]
        made += [
            self._event("Session", 0, name, began, ended, {})
            for name, began, ended in self._sections
        ]
        for event in self.events:
            arguments = {
                "op_name": event.label.partition(" ")[0],
                "provider": _KERNELS if event.kernel else _HOST,
                "kernel": event.kernel,
                "shapes": event.shapes,
                "bytes": str(event.nbytes),
                "tiles": ", ".join(map(str, event.tiles)),
            }
            name = f"{event.label}_kernel_time"
            made.append(self._event("Node", 0, name, event.began, event.ended, arguments))
            for thread, tiles in enumerate(event.tiles):
                if thread and tiles:
                    part = {"node": event.label, "tiles": str(tiles)}
                    made.append(
                        self._event("Tiles", thread, event.kernel, event.began, event.ended, part)
                    )
        return sorted(made, key=lambda one: (one["ts"], -one["dur"]))

    def _event(
        self, cat: str, thread: int, name: str, began: int, ended: int, args: dict[str, str]
    ) -> dict[str, Any]:
        return {
            "cat": cat, "pid": os.getpid(), "tid": thread, "ts": (began - self._origin) / 1e3,
            "dur": (ended - began) / 1e3, "ph": "X", "name": name, "args": args,
        }  # fmt: skip

    def _named(self, thread: int, name: str) -> dict[str, Any]:
        return {
            "cat": "__metadata", "pid": os.getpid(), "tid": thread, "ts": 0, "dur": 0, "ph": "M",
            "name": "thread_name", "args": {"name": name},
        }  # fmt: skip

    def write(self, prefix: str) -> str:
        """Writes the trace to `prefix`, the time the profile began, `.json`; the file's name."""
        began = time.localtime(self.start_ns // 10**9)
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", began)
        path = Path(f"{prefix}_{stamp}_{self.start_ns // 10**6 % 1000:03}.json")
        lines = ",\n".join(json.dumps(event) for event in self.trace())
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        return str(path)
