"""Tensors that stay on the device between runs: fed where they lie, written where they shall be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tilework.core.dtypes import FLOAT32, INT64
from tilework.core.errors import InvalidArgument
from tilework.engine.devices import get_device
from tilework.engine.resident import Fed, Resident
from tilework.engine.session import GraphSession
from tilework.ir.graph import Constant, Graph, Node, Value

pytestmark = pytest.mark.onnx

DEVICE = get_device(0)


def cache() -> Graph:
    """present = past and new, one behind the other; same = past."""
    one = np.ones((), np.float32)
    return Graph(
        "cache",
        (Value("past", FLOAT32, ("p", 4)), Value("new", FLOAT32, ("n", 4))),
        tuple(Value(name, FLOAT32, None) for name in ("present", "same", "more", "known")),
        (
            Node("concat", ("past", "new"), ("present",), {"axis": 0}),
            Node("identity", ("past",), ("same",)),
            Node("add", ("past", "one"), ("more",)),
            Node("identity", ("one",), ("known",)),
        ),
        {"one": Constant(FLOAT32, (), one)},
    )


@pytest.fixture
def session() -> Iterator[GraphSession]:
    rows = np.zeros((1, 4), np.float32)
    with GraphSession(cache(), DEVICE) as warm:  # kernels are loaded once
        warm.run_resident({"past": rows, "new": rows}, ["present", "more"], {"more": None})
    before = DEVICE.statistics.in_use
    with GraphSession(cache(), DEVICE) as made:
        yield made
    assert DEVICE.statistics.in_use == before


def resident(array: np.ndarray[Any, Any]) -> Resident:
    made = Resident.make(DEVICE, FLOAT32, array.shape)
    made.write(array)
    return made


def test_a_cache_grows_without_passing_through_the_host(session: GraphSession) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    for _ in range(2):  # once to make the plans, whose programs are copied to the device
        past = resident(rows[:0])
        before = DEVICE.statistics
        for row in rows:
            feeds: dict[str, Fed] = {"past": past, "new": row[None]}
            (present,) = session.run_resident(feeds, ["present"], {"present": None})
            assert isinstance(present, Resident)
            past = present
        after = DEVICE.statistics
        assert after.copied_out == before.copied_out
        np.testing.assert_array_equal(past.read(), rows)
    assert after.copied_in - before.copied_in == rows.nbytes


def test_targets_views_and_constants(session: GraphSession) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    names = ["same", "known", "more", "present"]
    kept = resident(0 * x)
    targets: dict[str, Resident | None] = {"same": None, "known": None, "more": kept}
    for past in (resident(x), x):
        for _ in range(2):
            same, known, more, present = session.run_resident(
                {"past": past, "new": x}, names, targets
            )
            assert more is kept
            assert isinstance(same, Resident) and isinstance(known, Resident)
            np.testing.assert_array_equal(same.read(), x)
            np.testing.assert_array_equal(known.read(), np.float32(1))
            np.testing.assert_array_equal(kept.read(), x + 1)
            np.testing.assert_array_equal(present, np.concatenate([x, x]))


def test_what_is_fed_may_be_written(session: GraphSession) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    held = resident(x)
    for turn in range(1, 4):
        more, present = session.run_resident(
            {"past": held, "new": x}, ["more", "present"], {"more": held}
        )
        assert more is held
        np.testing.assert_array_equal(held.read(), x + turn)
        np.testing.assert_array_equal(present, np.concatenate([x + turn - 1, x]))


def test_a_target_of_another_kind_is_refused(session: GraphSession) -> None:
    x = np.zeros((2, 4), np.float32)
    feeds = {"past": x, "new": x}
    for wrong in (Resident.make(DEVICE, FLOAT32, (4, 2)), Resident.make(DEVICE, INT64, (2, 4))):
        with pytest.raises(InvalidArgument, match=r"'more' is float32\[2, 4\].*"):
            session.run_resident(feeds, ["more"], {"more": wrong})
    with pytest.raises(InvalidArgument, match="float64"):
        resident(x).write(x.astype(np.float64))
    with pytest.raises(InvalidArgument, match="negatives"):
        Resident.make(DEVICE, FLOAT32, (-1, 2))
    np.testing.assert_array_equal(session.run(feeds, ["more"])[0], x + 1)
