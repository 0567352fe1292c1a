"""The fuzzer inside a page: fetches the pack, opens the device, posts each model as it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pyodide.http import pyfetch  # Pyodide only

import tilework
from tests.conformance.runner import Pack
from tests.fuzz.runner import Fuzzer

_TOLD = 25  # models between two words of progress


async def run(task: Mapping[str, Any], post: Callable[[str], None]) -> None:
    """Runs models `task["first"]` to `task["end"]` of `task["seed"]` on `task["threads"]`."""
    index = await (await pyfetch("/conformance/index.json")).json()
    pieces = 1 + max(entry["model"][0] for entry in index)
    contents = [await (await pyfetch(f"/conformance/{n}.bin")).bytes() for n in range(pieces)]
    device = tilework.device(task["threads"])
    assert await tilework.ready(), f"not all threads have started: {device}"
    fuzzer = Fuzzer(Pack(index, contents), task["seed"], task["threads"])
    for number in range(task["first"], task["end"]):
        post(json.dumps({"kind": "start", "id": str(number)}))
        outcome = asdict(fuzzer.run(number))
        row = {**outcome, "resident": device.memory.reserved, "peak": 0}
        post(json.dumps({"kind": "row", "row": row}))
        if number % _TOLD == 0:
            print(f"{number - task['first']} of {task['end'] - task['first']}")
