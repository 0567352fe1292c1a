"""How a plan scales on 1 to 16 threads: simulated with measured times, beside the real ones.

    python3 build.py scaling [--case minilm_128] [--json FILE]

Plans each case for each number of threads, as a session would; runs that plan's dispatches one by
one on one thread, which gives the time of a tile; and has tools/processor_model.py work through
these tiles by the processor's protocol, whose costs are measured here too. Beside that stands the
real time on 1 and 2 threads, which means little on a machine that has other things to do; a tile's
time is its thread's own. On the desktop's engine; inputs and outputs stay on the device.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tools.processor_model import Costs, Region, Work, critical_path, simulate, total_work
from tools.project import BUILD, PACKAGE, BuildError

if str(PACKAGE.parent) not in sys.path:
    sys.path.insert(0, str(PACKAGE.parent))

from tilework.core.dtypes import from_numpy
from tilework.engine.plan import Plan
from tilework.engine.recorder import Event, Recorder
from tilework.engine.resident import Resident
from tilework.engine.session import GraphSession
from tilework.hal import Device, open_device
from tilework.hal.kernels.probe import WORK, WorkParams
from tilework.ir.opdefs.registry import Info
from tilework.onnx.options import SessionOptions
from tilework.onnx.session import InferenceSession
from tilework.plan.cut import cut
from tilework.plan.plan import Draft
from tilework.plan.planner import make_draft
from tilework.plan.step import HostStep, Step

THREADS = (1, 2, 3, 4, 6, 8, 12, 16)
REAL = (1, 2)
MINILM = BUILD / "models" / "minilm" / "model.onnx"
SEQUENCES = (16, 128, 256)
# What threads cost each other, assumed where this machine is too busy to measure it: a cache line
# that goes from core to core, and the upper ends of what a spin and a futex took in Chromium 156.
TOGETHER = Costs(transfer=100, notice=300, wake=50_000, notify=10_000)
IDLE = 0.5  # the load up to which two threads are taken to have a core each

Feeds = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A case on a number of threads. Times in milliseconds; `real` where it was measured."""

    case: str
    threads: int
    tiles: int
    regions: int
    simulated: float
    speedup: float
    bound: float  # the speed-up that work and critical path allow
    real: float | None = None
    real_speedup: float | None = None


# -- the protocol's costs ------------------------------------------------------------------------


def measure_costs() -> Costs:
    """Nanoseconds, on this machine's engine: the best of many short runs. See `Costs`."""
    one = open_device(1)
    try:
        nothing = _fastest(one, [(1, 0)])
        tile = (_fastest(one, [(20_000, 0)]) - nothing) / 20_000
        opening = max(0.0, (_fastest(one, [(1, 0)] * 2_000) - nothing) / 2_000 - tile)
        alone = replace(TOGETHER, tile=tile, open=opening, begin=nothing - tile)
        # Two threads that do not run at the same time measure the machine's other work.
        return alone if os.getloadavg()[0] > IDLE else _between_two(one, alone)
    finally:
        one.close()


def _between_two(one: Device, alone: Costs) -> Costs:
    """The rest: what it takes two threads to run a tile each, beyond the tile, is a delay."""
    two = open_device(2)
    try:
        _wait_for(two)
        many = _fastest(two, [(4_000, 0)]) - _fastest(one, [(4_000, 0)])
        step = (_fastest(one, [(1, 200_000)]) - alone.begin) / 200_000
        short, long = round(20_000 / step), round(200_000 / step)
        pairs, single = _fastest(two, [(2, short)] * 8), _fastest(one, [(1, short)] * 8)
        asleep, awake = _fastest(two, [(1, long), (2, long)]), _fastest(one, [(1, long)] * 2)
        waking = _fastest(two, [(1, long)] * 2)
        return replace(
            alone,
            transfer=max(0.0, many / 4_000),
            notice=max(0.0, (pairs - single) / 8),
            wake=max(0.0, asleep - awake),
            notify=max(0.0, waking - awake),
        )
    finally:
        two.close()


def _fastest(device: Device, regions: Sequence[tuple[int, int]]) -> float:
    """Nanoseconds of a program of regions of so many tiles of so many steps each."""
    out = device.allocate(4 * max(tiles for tiles, _ in regions))
    commands = device.command_buffer("costs")
    for tiles, steps in regions:
        commands.dispatch(WORK, (tiles, 1, 1), WorkParams(steps), [out])
        commands.barrier()
    program = commands.finish()
    best = min(_timed(device, lambda: device.submit(program)) for _ in range(600))
    program.free()
    out.free()
    return best


def _timed(device: Device, run: Callable[[], object]) -> float:
    """Nanoseconds; on one thread its own, whatever else the machine does."""
    clock = time.thread_time_ns if device.threads == 1 else time.perf_counter_ns
    began = clock()
    run()
    return clock() - began


def _wait_for(device: Device) -> None:
    until = time.monotonic() + 10
    while device.ready_threads < device.threads and time.monotonic() < until:
        time.sleep(0.001)


# -- cases ---------------------------------------------------------------------------------------


def cases() -> Iterator[tuple[str, str | bytes, Feeds]]:
    """Name, model and inputs."""
    from tools.bench_models import matmul_model

    random = np.random.default_rng(4)
    square = random.standard_normal((1024, 1024), dtype=np.float32)
    yield "matmul_const_1024", matmul_model(1024, constant=True), {"a": square}
    for length in SEQUENCES:
        ids = random.integers(0, 30_000, (1, length))
        ones, zeros = np.ones((1, length), np.int64), np.zeros((1, length), np.int64)
        feeds = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
        yield f"minilm_{length}", str(MINILM), feeds


class _OwnTime(Recorder):
    """Nanoseconds of each step on the one thread that runs it."""

    def time(self, device: Device, step: Step, run: Callable[[], None]) -> None:
        spent = round(_timed(device, run))
        self.events.append(Event(step.label, "", 0, spent))


def tile_times(
    session: GraphSession, feeds: Feeds, counts: Sequence[int], seconds: float
) -> dict[int, list[Region]]:
    """For each number of threads the regions of its plan, with the tiles' times on one thread.

    All plans take turns for so many seconds; the fastest run of each dispatch counts.
    """
    # The parts of a session, so that a plan for many threads can be run on one.
    shared = session._stages.shared
    infos = {name: Info(from_numpy(one.dtype), one.shape) for name, one in feeds.items()}
    now = cut(session.graph, infos).now
    drafts = {count: make_draft(now, shared.constants, count) for count in counts}
    shared.grow(max(draft.arena_bytes for draft in drafts.values()))
    plans = {count: Plan(shared.device, draft, shared.store) for count, draft in drafts.items()}
    best: dict[int, list[int]] = {}
    until = time.monotonic() + seconds
    while not best or time.monotonic() < until:
        for count, plan in plans.items():
            recorder = _OwnTime()
            plan.run(feeds, list(plan.draft.outputs), shared.arena, recorder=recorder)
            spent = [event.ended for event in recorder.events]
            best[count] = [*map(min, best.get(count, spent), spent)]
    for plan in plans.values():
        plan.free()
    submission = _fastest(shared.device, [(1, 0)])
    return {count: _regions(draft, best[count], submission) for count, draft in drafts.items()}


def _regions(draft: Draft, spent: Sequence[int], submission: float) -> list[Region]:
    """A plan's regions, from the nanoseconds of each of its dispatches as one submission."""
    works: dict[int, list[Work]] = {}
    for step, nanoseconds in zip(draft.steps, spent, strict=True):
        if isinstance(step, HostStep):
            raise BuildError(f"{step.label} runs on the host, which is no work of the processor's")
        tiles = step.counts[0] * step.counts[1] * step.counts[2]
        each = max(0.0, nanoseconds - submission) / max(1, tiles)
        works.setdefault(step.level, []).append(Work(tiles, each))
    return [tuple(works[level]) for level in sorted(works)]


def real_times(model: str | bytes, feeds: Feeds, seconds: float) -> dict[int, float]:
    """Milliseconds of the fastest run on 1 and 2 threads, which take turns for so many seconds.

    Inputs and outputs are on the device.
    """
    best: dict[int, float] = {}
    with ExitStack() as stack:
        runs = [(count, _runner(stack, model, feeds, count)) for count in REAL]
        until = time.monotonic() + seconds
        while not best or time.monotonic() < until:
            for count, run in runs:
                began = time.perf_counter_ns()
                run()
                spent = (time.perf_counter_ns() - began) / 1e6
                best[count] = min(best.get(count, spent), spent)
    return best


def _runner(
    stack: ExitStack, model: str | bytes, feeds: Feeds, threads: int
) -> Callable[[], object]:
    session = stack.enter_context(_session(model, threads))
    graph, device = session._session(frozenset()), session.device
    _wait_for(device)
    fed = {name: Resident.of(device, array) for name, array in feeds.items()}
    names = [value.name for value in graph.graph.outputs]
    made = graph.run_resident(fed, names, dict.fromkeys(names))
    kept = dict(zip(names, made, strict=True))
    for tensor in (*fed.values(), *made):
        stack.callback(tensor.buffer.free)
    return lambda: graph.run_resident(fed, names, kept)


def _session(model: str | bytes, threads: int) -> InferenceSession:
    return InferenceSession(model, SessionOptions(intra_op_num_threads=threads))


def rows_of(name: str, model: str | bytes, feeds: Feeds, costs: Costs, seconds: float) -> list[Row]:
    """A case on all numbers of threads."""
    rows: list[Row] = []
    with _session(model, 1) as session:
        planned = tile_times(session._session(frozenset()), feeds, THREADS, seconds)
    real = real_times(model, feeds, seconds)
    alone = simulate(planned[1], 1, costs).ended
    for threads, regions in planned.items():
        ended = simulate(regions, threads, costs).ended
        least = max(total_work(regions) / threads, critical_path(regions))
        measured = real.get(threads)
        rows.append(
            Row(
                name,
                threads,
                sum(work.tiles for region in regions for work in region),
                len(regions),
                ended / 1e6,
                alone / ended,
                alone / least,
                measured,
                None if measured is None else real[1] / measured,
            )
        )
    return rows


# -- the command ---------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Prints the tables; the exit status."""
    parser = argparse.ArgumentParser(
        prog="build.py scaling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--case", action="append", default=[], help="only this one")
    parser.add_argument("--seconds", type=float, default=10, help="for each measurement of a case")
    parser.add_argument("--json", type=Path, help="where the figures go as well")
    options = parser.parse_args(arguments)
    costs = measure_costs()
    words = ", ".join(f"{name} {value:,.0f}" for name, value in asdict(costs).items())
    print(f"costs of the protocol, ns: {words}", flush=True)
    rows: list[Row] = []
    for name, model, feeds in cases():
        if not options.case or name in options.case:
            found = rows_of(name, model, feeds, costs, options.seconds)
            print(table(found), flush=True)
            rows += found
    if options.json:
        said = {"costs": asdict(costs), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return 0 if rows else 1


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| case | threads | tiles | simulated, ms | speed-up | at most | real, ms | speed-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        real = f"{row.real:.2f} | {row.real_speedup:.2f}" if row.real is not None else " | "
        lines.append(
            f"| {row.case} | {row.threads} | {row.tiles} in {row.regions} | {row.simulated:.2f} | "
            f"{row.speedup:.2f} | {row.bound:.2f} | {real} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
