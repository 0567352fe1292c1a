"""One process of the desktop's fuzzing: a line of JSON for each model as it ends.

    python -m tests.fuzz.worker SEED FIRST STEP END

Runs models FIRST, FIRST + STEP, … below END. Who starts it (tools/fuzz.py) watches the lines: one
that does not come is a hang, a process that goes is a crash.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tools.project import PACKAGE

sys.path.insert(0, str(PACKAGE.parent))

from tests.conformance.runner import Pack
from tests.fuzz.runner import Fuzzer
from tilework.core.config import LARGEST_TENSOR
from tools.cases import read_pack

# Bytes that a model may take more than the process had: the largest operand, result and a copy.
GROWTH = 3 * LARGEST_TENSOR
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_COLLECT = 500  # models between two full collections


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes; 0 where the system does not tell."""
    if not _STATUS.is_file():
        return 0
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def main(arguments: list[str]) -> None:
    """Runs them; see above."""
    seed, first, step, end = map(int, arguments)
    fuzzer = Fuzzer(Pack(*read_pack()), seed)
    for done, number in enumerate(range(first, end, step)):
        if done % _COLLECT == 0:
            gc.collect()
        resident = memory("VmRSS")
        if resident:
            _RESET.write_text("5", encoding="ascii")  # the peak starts anew
        outcome = asdict(fuzzer.run(number))
        peak = memory("VmHWM") - resident
        if peak > GROWTH and not outcome["bug"]:
            outcome["bug"] = f"took {peak >> 20} MiB of memory"
        print(json.dumps({**outcome, "resident": resident, "peak": peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
