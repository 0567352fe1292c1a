"""The simulated processor: its books are right, and it keeps to the bounds of any machine."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.processor_model import (
    Costs,
    Region,
    Simulated,
    Work,
    critical_path,
    simulate,
    total_work,
)

pytestmark = pytest.mark.unit

FREE = Costs()
DEAR = Costs(
    tile=90, transfer=60, open=40, begin=900, notice=200, wake=30_000, notify=2_000, patience=9_000
)
WORK = st.builds(Work, st.integers(0, 40), st.floats(1, 20_000).map(round))
PROGRAM = st.lists(st.lists(WORK, max_size=3).map(tuple), max_size=6)
THREADS = st.integers(1, 16)


def regions_of(done: Simulated) -> dict[int, tuple[float, float]]:
    """When the first tile of each region began and its last one ended."""
    found: dict[int, tuple[float, float]] = {}
    for ran in done.tiles:
        began, ended = found.get(ran.region, (math.inf, 0.0))
        found[ran.region] = min(began, ran.began), max(ended, ran.ended)
    return found


@given(PROGRAM, THREADS, st.sampled_from([FREE, DEAR]))
def test_every_tile_runs_once_for_as_long_as_it_takes(
    program: list[Region], threads: int, costs: Costs
) -> None:
    done = simulate(program, threads, costs)
    lengths = [[work.each for work in region for _ in range(work.tiles)] for region in program]
    wanted = {(r, t): length for r, tiles in enumerate(lengths) for t, length in enumerate(tiles)}
    assert Counter((ran.region, ran.tile) for ran in done.tiles) == Counter([*wanted])
    for ran in done.tiles:
        assert ran.ended - ran.began == pytest.approx(wanted[ran.region, ran.tile])
        assert 0 <= ran.thread < threads


@given(PROGRAM, THREADS, st.sampled_from([FREE, DEAR]))
def test_no_region_opens_early(program: list[Region], threads: int, costs: Costs) -> None:
    spans = sorted(regions_of(simulate(program, threads, costs)).items())
    for (_, (_, ended)), (_, (began, _)) in pairwise(spans):
        assert began >= ended + costs.open


@given(PROGRAM, THREADS, st.sampled_from([FREE, DEAR]))
def test_a_thread_does_one_thing_at_a_time(
    program: list[Region], threads: int, costs: Costs
) -> None:
    done = simulate(program, threads, costs)
    for thread in range(threads):
        mine = sorted((ran.began, ran.ended) for ran in done.tiles if ran.thread == thread)
        for (_, ended), (began, _) in pairwise(mine):
            assert began >= ended + costs.tile - 1e-6


@given(PROGRAM, THREADS, st.sampled_from([FREE, DEAR]))
def test_the_bounds_hold(program: list[Region], threads: int, costs: Costs) -> None:
    """No faster than the work allows, nor than the longest tiles one after the other; without
    costs no slower than greedy scheduling can be (Graham 1966), region by region."""
    ended = simulate(program, threads, costs).ended * (1 + 1e-9)
    assert ended >= total_work(program) / threads
    assert ended >= critical_path(program)
    greedy = sum(
        total_work([r]) / threads + critical_path([r]) * (threads - 1) / threads for r in program
    )
    if costs is FREE:
        assert ended <= greedy * (1 + 1e-6)


@given(PROGRAM)
def test_one_thread_takes_the_work_and_what_the_protocol_costs(program: list[Region]) -> None:
    tiles = sum(work.tiles for region in program for work in region)
    opened = sum(any(work.tiles for work in region) for region in program)
    wanted = total_work(program) + DEAR.begin + tiles * DEAR.tile + max(0, opened - 1) * DEAR.open
    assert simulate(program, 1, DEAR).ended == pytest.approx(wanted)


def test_equal_tiles_are_dealt_out_in_rounds() -> None:
    for threads in range(1, 17):
        done = simulate([(Work(40, 100),)], threads, FREE)
        assert done.ended == 100 * math.ceil(40 / threads)


def test_a_word_is_one_thread_s_at_a_time() -> None:
    """Sixteen threads of one tile each count them one after the other; those of many tiles are in
    nobody's way until then."""
    costs = Costs(transfer=50)
    assert simulate([(Work(16, 1),)], 16, costs).ended >= 50 * 15
    assert simulate([(Work(16_000, 1),)], 16, costs).ended <= 1000 + 50 * 16 * 16
    assert simulate([(Work(1000, 1),)], 1, costs).ended == 1000


@given(st.integers(1, 400), THREADS)
def test_equal_tiles_stay_with_their_threads(tiles: int, threads: int) -> None:
    """Of two regions alike each thread runs the same tiles, one behind the other."""
    done = simulate([(Work(tiles * threads, 100),)] * 2, threads, FREE)
    for thread in range(threads):
        wanted = list(range(thread * tiles, (thread + 1) * tiles))
        for region in range(2):
            mine = [ran.tile for ran in done.tiles if (ran.region, ran.thread) == (region, thread)]
            assert mine == wanted


def test_who_has_nothing_to_do_spins_and_then_sleeps() -> None:
    """One long tile, then two: the second thread comes late by a notice, or by a wake-up."""
    for length, late in ((5_000, 200), (50_000, 30_000)):
        done = simulate([(Work(1, length),), (Work(2, length),)], 2, replace(DEAR, transfer=0))
        starts = sorted(ran.began for ran in done.tiles if ran.region == 1)
        notify = DEAR.notify if late == DEAR.wake else 0
        assert len({ran.thread for ran in done.tiles if ran.region == 1}) == 2
        assert starts[1] - starts[0] == pytest.approx(abs(late - notify))


def test_the_same_every_time() -> None:
    program: list[Region] = [(Work(37, 1_000), Work(5, 9_000)), (Work(3, 100),), (Work(64, 700),)]
    assert simulate(program, 7, DEAR) == simulate(program, 7, DEAR)
