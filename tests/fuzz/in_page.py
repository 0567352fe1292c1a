"""The fuzzer inside a page: fetches the pack, opens the device, posts each model as it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tests.conformance.page import fetch_pack, open_device
from tests.fuzz.runner import Fuzzer

_TOLD = 25  # models between two words of progress


async def run(task: Mapping[str, Any], post: Callable[[str], None]) -> None:
    """Runs models `task["first"]` to `task["end"]` of `task["seed"]` on `task["threads"]`."""
    pack, device = await fetch_pack(), await open_device(task["threads"])
    fuzzer = Fuzzer(pack, task["seed"], task["threads"])
    for number in range(task["first"], task["end"]):
        post(json.dumps({"kind": "start", "id": str(number)}))
        outcome = asdict(fuzzer.run(number))
        row = {**outcome, "resident": device.memory.reserved, "peak": 0}
        post(json.dumps({"kind": "row", "row": row}))
        if number % _TOLD == 0:
            print(f"{number - task['first']} of {task['end'] - task['first']}")
