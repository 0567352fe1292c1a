"""Workers that are ended at random moments of their work: what `build.py soak --kills N` runs.

Only a browser can end a thread, so this runs in a page. Chromium lets a worker that it was told to
end run on for two seconds, so one in a short tile finishes it and is missed by nobody; every second
round therefore has a tile that never ends.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from tilework.hal import Device, open_device
from tilework.hal._abi import Status
from tilework.hal.kernels.probe import HANG, TRACE, WORK, HangParams, TraceParams, WorkParams

COUNT = 400
PATIENCE = 0.05  # seconds of the watchdog
LATE = 60.0  # seconds after which a wait counts as a hang


class _Load:
    """A device under load: a program that takes some milliseconds and leaves 7 in every number."""

    def __init__(self, device: Device) -> None:
        self.device = device
        device.ring.patience = PATIENCE
        self.out, self.seen = device.allocate(4 * COUNT), device.allocate(4 * COUNT)
        commands = device.command_buffer("load")
        commands.fill(self.out, b"\0")
        commands.barrier()
        for value in (3, 4):
            commands.dispatch(WORK, (COUNT, 1, 1), WorkParams(20_000), [self.seen])
            commands.barrier()
            commands.dispatch(TRACE, (COUNT, 1, 1), TraceParams(value), [self.out, self.seen])
            commands.barrier()
        self.program = commands.finish()
        self.words = device.allocate(8)
        commands = device.command_buffer("hang")
        commands.dispatch(HANG, (2, 1, 1), HangParams(4_000_000_000), [self.words])
        self.hang = commands.finish()

    def right(self) -> bool:
        return struct.unpack(f"<{COUNT}I", self.out.read()) == (7,) * COUNT

    def close(self) -> None:
        self.program.free()
        self.hang.free()
        self.words.free()
        self.out.free()
        self.seen.free()
        self.device.close()


async def kill_workers(threads: int | None, kills: int, tell: Callable[[str], None]) -> Any:
    """Ends a worker `kills` times: how often results were wrong, waits hung, what memory did."""
    rng = random.Random(1)
    figures = {"kills": 0, "noticed": 0, "wrong": 0, "hangs": 0}
    load = _Load(open_device(threads))
    reserved = 0
    while figures["kills"] < kills:
        device, ring, program = load.device, load.device.ring, load.program
        assert await device.ready(), "the workers did not start again"
        hangs = figures["kills"] % 2 == 1
        if hangs:
            program = load.hang
            load.words.write(bytes(8))
        program.begin()
        table = program.bind()
        number = ring.push(program.image.address, program.state.address, table)
        ring.wait(ring.pushed, tiles=1 if hangs else rng.randint(1, COUNT))
        workers = device.driver._bridge.pool.workers  # type: ignore[attr-defined]
        workers[rng.randrange(len(workers))].terminate()
        figures["kills"] += 1
        if ring.wait(ring.pushed, LATE) < ring.pushed:
            figures["hangs"] += 1
            break
        status = ring.outcome(number).status
        ring.retire(ring.pushed)
        program.end((), table)
        if status == Status.ENDED:
            # The worker had no tile, so nobody misses it: the next round needs a whole pool.
            figures["wrong"] += hangs or not load.right()
            load.close()
            load = _Load(open_device(threads))
        else:
            figures["noticed"] += 1
            figures["wrong"] += status not in (Status.STUCK, Status.LOST)
            ring.go_on()
            device.submit(load.program)
            figures["wrong"] += not load.right()
        if figures["kills"] == kills // 2:
            reserved = load.device.statistics.reserved
        tell(f"{figures['kills']} of {kills}: {figures}")
    figures["reserved_half"] = reserved
    figures["reserved_end"] = load.device.statistics.reserved
    load.close()
    return figures
