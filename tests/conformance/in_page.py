"""The runner inside a page: fetches the pack, opens the device, posts each case as it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pyodide.http import pyfetch  # Pyodide only

import tilework
from tests.conformance.runner import Pack, run_case

_TOLD = 20  # cases between two words of progress


async def run(task: Mapping[str, Any], post: Callable[[str], None]) -> None:
    """Runs the cases `task["numbers"]` on `task["threads"]` threads; raises when threads lack."""
    index = await (await pyfetch("/conformance/index.json")).json()
    pieces = 1 + max(entry["model"][0] for entry in index)
    contents = [await (await pyfetch(f"/conformance/{n}.bin")).bytes() for n in range(pieces)]
    pack = Pack(index, contents)
    device = tilework.device(task["threads"])
    assert await tilework.ready(), f"not all threads have started: {device}"
    words = {"mode": device.mode, "threads": device.threads, "reason": device.reason}
    post(json.dumps({"kind": "device", **words}))
    for done, number in enumerate(task["numbers"]):
        case = index[number]
        post(json.dumps({"kind": "start", "id": f"{case['suite']} {case['case']}"}))
        row = run_case(pack, case, task["threads"])
        post(json.dumps({"kind": "row", "row": asdict(row)}))
        if done % _TOLD == 0:
            print(f"{done} of {len(task['numbers'])}")
