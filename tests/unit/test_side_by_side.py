"""Pages side by side: never more cores than there are, each once, errors where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from tests.browser.in_page.side_by_side import side_by_side

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("room", [1, 2, 3, 8])
def test_no_more_at_once_than_there_is_room_for(room: int) -> None:
    cores = {"four": 4, "two": 2, "a": 1, "b": 1, "c": 1, "two more": 2}
    lock = threading.Lock()
    now: dict[str, int] = {}
    most = 0
    ran: list[str] = []

    def run(name: str) -> str:
        nonlocal most
        with lock:
            now[name] = min(cores[name], room)
            most = max(most, sum(now.values()))
            ran.append(name)
        time.sleep(0.01)
        with lock:
            del now[name]
        return name.upper()

    futures = side_by_side(cores, room, run)
    assert {name: future.result(10) for name, future in futures.items()} == {
        name: name.upper() for name in cores
    }
    assert sorted(ran) == sorted(cores)
    assert most == min(room, sum(cores.values()))


def test_what_fits_does_not_wait_for_what_does_not() -> None:
    """Beside a page of two threads of three, the next of two waits and one of one does not."""
    together = threading.Barrier(2, timeout=10)

    def run(name: str) -> None:
        if name != "later":
            together.wait()

    futures = side_by_side({"first": 2, "later": 2, "small": 1}, 3, run)
    for future in futures.values():
        future.result(10)


def test_an_error_is_its_page_s_and_the_others_run() -> None:
    def run(name: str) -> int:
        return 1 // int(name)

    futures = side_by_side({"0": 1, "1": 1}, 1, run)
    with pytest.raises(ZeroDivisionError):
        futures["0"].result(10)
    assert futures["1"].result(10) == 1
