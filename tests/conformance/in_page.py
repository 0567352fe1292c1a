"""The runner inside a page: fetches the pack, opens the device, posts each case as it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tests.conformance.page import fetch_pack, open_device
from tests.conformance.runner import run_case

_TOLD = 20  # cases between two words of progress


async def run(task: Mapping[str, Any], post: Callable[[str], None]) -> None:
    """Runs the cases `task["numbers"]` on `task["threads"]` threads; raises when threads lack."""
    pack, device = await fetch_pack(), await open_device(task["threads"])
    words = {"mode": device.mode, "threads": device.threads, "reason": device.reason}
    post(json.dumps({"kind": "device", **words}))
    for done, number in enumerate(task["numbers"]):
        case = pack.index[number]
        post(json.dumps({"kind": "start", "id": f"{case['suite']} {case['case']}"}))
        row = run_case(pack, case, task["threads"])
        post(json.dumps({"kind": "row", "row": asdict(row)}))
        if done % _TOLD == 0:
            print(f"{done} of {len(task['numbers'])}")
