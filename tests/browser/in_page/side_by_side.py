"""Runs pages side by side, as many as the machine has cores for.

A page with one thread leaves a core idle, and most of a page's time is Python on one thread; one
with as many threads as there are cores has no other page beside it, for what its tests measure and
wait for. Other tests may run meanwhile in processes of their own (pytest-xdist).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def side_by_side(
    cores: Mapping[str, int], room: int, run: Callable[[str], _T]
) -> dict[str, Future[_T]]:
    """Runs `run(name)` for each name, on threads; returns at once, with what will come of each.

    `cores` says how many of `room` cores each takes; one that wants more than there are takes all.
    The first that fits begins next.
    """
    futures: dict[str, Future[_T]] = {name: Future() for name in cores}
    wanted = {name: min(count, room) for name, count in cores.items()}
    waiting = sorted(cores, key=lambda name: -wanted[name])
    lock = threading.Lock()
    left = room

    def begin() -> None:
        nonlocal left
        for name in [*waiting]:
            if wanted[name] <= left:
                waiting.remove(name)
                left -= wanted[name]
                # A person's interrupt does not wait for pages.
                threading.Thread(target=work, args=(name,), name=name, daemon=True).start()

    def work(name: str) -> None:
        nonlocal left
        try:
            result = run(name)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            futures[name].set_exception(error)
        else:
            futures[name].set_result(result)
        with lock:
            left += wanted[name]
            begin()

    with lock:
        begin()
    return futures
