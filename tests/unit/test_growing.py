"""Numbers as functions of a length: whatever was decided for one length holds where it says so."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilework.core.growing import Growth, at_hand, grows, most

MOST = 40
Step = tuple[str, int, int]
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}
DECISIONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*ARITHMETIC, *DECISIONS]), st.integers(0, 12), st.integers(0, 12)
    ),
    max_size=12,
)


def work(length: Any, steps: Sequence[Step]) -> tuple[list[Any], list[bool]]:
    """Numbers made of the length and of small ones, and what was decided on the way."""
    numbers: list[Any] = [length, 1, 2, 3, 7, -2, length + 1]
    decided = []
    for op, a, b in steps:
        x, y = numbers[a % len(numbers)], numbers[b % len(numbers)]
        if op in DECISIONS:
            decided.append(bool(DECISIONS[op](x, y)))
            continue
        if op in ("//", "%"):
            decided.append(b % len(numbers) == 5 or bool(y > 0))  # 5 is the -2
            if not decided[-1]:
                continue
        numbers.append(ARITHMETIC[op](x, y))
    return numbers, decided


@given(st.integers(0, MOST), STEPS)
def test_what_holds_for_another_length_is_what_it_would_be(
    length: int, steps: list[Step]
) -> None:
    growth = Growth(length, MOST)
    numbers, decided = work(growth.length, steps)
    plain, wanted = work(length, steps)
    assert [at_hand(number) for number in numbers] == plain
    assert decided == wanted
    indices = [growth.index(number) for number in numbers]
    table = growth.table()
    limits = [most(number) for number in numbers]
    for other in range(MOST + 5):
        values = table.at(other)
        if values is None:
            assert other != length
            continue
        plain, wanted = work(other, steps)
        assert decided == wanted
        assert [values[index] for index in indices] == plain
        assert all(number <= limit for number, limit in zip(plain, limits, strict=True))


def test_sums_and_quotients_hold_for_every_length() -> None:
    growth = Growth(5, 64)
    keys = growth.length + 3
    shape = (2, keys, 16)
    assert keys > 0 and keys != -1 and 2 * keys * 16 // 32 == keys
    assert (64 * keys) % 64 == 0 and (64 * keys) // keys == 64
    assert -(-keys // 4) >= 1
    assert grows(shape) and not grows((1, (2, 3)))
    assert (growth.low, growth.high, growth.pinned) == (0, 64, "")


@pytest.mark.parametrize(
    "take",
    [int, float, str, repr, range, hex, lambda n: [0][n:], lambda n: np.arange(n),
     lambda n: np.array([1, n], np.int64), lambda n: n / 2, round, lambda n: f"{n}"],
)  # fmt: skip
def test_a_plain_number_pins_the_length(take: Callable[[Any], Any]) -> None:
    growth = Growth(5, 64)
    assert str(take(growth.length)) == str(take(5))
    assert growth.pinned
    assert growth.table().at(5) is not None
    assert growth.table().at(6) is None


def test_equal_by_chance_pins_the_length() -> None:
    growth = Growth(16, 64)
    assert growth.length == 16
    assert growth.pinned


def test_words_that_grow_are_found() -> None:
    growth = Growth(5, 64)
    length = growth.length

    def pack() -> bytes:
        return struct.pack("<IIiI", 7, length, 5, 4 * length + 1)

    content, words = growth.packed(pack)
    assert content == struct.pack("<IIiI", 7, 5, 5, 21)
    assert [(place, at_hand(number)) for place, number in words] == [(4, 5), (12, 21)]
    assert not growth.pinned
