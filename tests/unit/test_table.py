"""Function indices: ranges that are apart, joined again, and never index 0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilework.hal.table import Table

pytestmark = pytest.mark.unit


def test_ranges_are_used_again_and_joined() -> None:
    table = Table()
    a, b, c = table.take(4), table.take(1), table.take(8)
    assert (a, b, c) == (1, 5, 6)
    table.give(a)
    assert table.take(5) == 14
    assert table.take(2) == 1
    table.give(b)
    assert table.take(3) == 3
    for first in (c, 14, 1, 3):
        table.give(first)
    assert (table.taken, table.top) == (0, 1)
    with pytest.raises(KeyError):
        table.give(a)


@given(st.lists(st.one_of(st.integers(0, 9), st.just(-1)), max_size=60), st.randoms())
def test_ranges_are_apart(orders: list[int], rng: object) -> None:
    table = Table()
    mine: dict[int, int] = {}
    for slots in orders:
        if slots >= 0:
            first = table.take(slots)
            taken = {i for at, length in mine.items() for i in range(at, at + length)}
            assert first > 0 and not taken & set(range(first, first + max(1, slots)))
            mine[first] = max(1, slots)
        elif mine:
            first = rng.choice(sorted(mine))  # type: ignore[attr-defined]
            table.give(first)
            del mine[first]
        assert table.taken == sum(mine.values())
        assert table.top == max((at + length for at, length in mine.items()), default=1)
    for first in mine:
        table.give(first)
    assert table.take(100) == 1
