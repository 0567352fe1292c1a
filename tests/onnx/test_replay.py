"""Runs that repeat the one before: they give the same, and whatever has changed is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import helper

import tilework
from tests.onnx.linear import FLOAT, INT64, X, expected, info, linear, model
from tilework.engine.plan import Plan
from tilework.engine.session import GraphSession
from tilework.onnx.options import RunOptions, SessionOptions
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every plan that is run the long way."""
    taken: list[int] = []
    run: Callable[..., Any] = Plan.run

    def counted(*arguments: Any) -> Any:
        taken.append(1)
        return run(*arguments)

    monkeypatch.setattr(Plan, "run", counted)
    return taken


@pytest.fixture
def session(long_ways: list[int]) -> Iterator[InferenceSession]:
    """One that has run twice, so that the next run like those is repeated."""
    with InferenceSession(linear()) as made:
        for _ in range(2):
            made.run(None, {"x": X})
        assert len(long_ways) == 2
        yield made


def answers(session: InferenceSession, x: Any) -> None:
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected(x), rtol=1e-6)


def test_the_third_run_of_a_kind_repeats(session: InferenceSession, long_ways: list[int]) -> None:
    first = session.run(None, {"x": X})[0]
    kept = first.copy()
    for factor in (2, -1, 0):
        answers(session, X * np.float32(factor))
    assert (first == kept).all()  # each run's results are its own
    assert len(long_ways) == 2


def test_copies_are_counted(session: InferenceSession) -> None:
    before = session.device.statistics
    (y,) = session.run(None, {"x": X})
    after = session.device.statistics
    assert after.copied_in - before.copied_in == X.nbytes
    assert after.copied_out - before.copied_out == y.nbytes
    assert after.in_use == before.in_use


def test_another_shape_and_back(session: InferenceSession, long_ways: list[int]) -> None:
    large = np.tile(X, (1000, 1))  # the arena has to grow: it moves
    for x in (large, X, X[:1], X, X, large, X, X, X):
        answers(session, x)
    assert 2 < len(long_ways) < 11


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda x: np.asfortranarray(x), id="order"),
        pytest.param(lambda x: np.repeat(x, 2, axis=0)[::2], id="strides"),
        pytest.param(lambda x: x.tolist(), id="list"),
        pytest.param(lambda x: x.view(type("Own", (np.ndarray,), {})), id="subclass"),
    ],
)
def test_another_layout_or_type(
    session: InferenceSession, long_ways: list[int], changed: Callable[[Any], Any]
) -> None:
    x = np.ascontiguousarray(X[::-1])
    np.testing.assert_allclose(session.run(None, {"x": changed(x)})[0], expected(x), rtol=1e-6)
    assert len(long_ways) == 3


def test_errors_are_those_of_a_first_run(session: InferenceSession, long_ways: list[int]) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"x": X.astype(np.float64)}, "unexpected data type"),
        ({"x": X[0]}, "invalid rank"),
        ({"x": X[:, :1]}, "invalid dimensions"),
        ({}, "missing"),
        ({"y": X}, "invalid input name"),
        ({"x": X, "y": X}, "invalid input name"),
        ([X], "expected a dict"),
    ]
    for feeds, words in wrong:
        with pytest.raises(tilework.InvalidArgument, match=words):
            session.run(None, feeds)
    with pytest.raises(tilework.InvalidArgument, match="invalid output name"):
        session.run(["z"], {"x": X})
    assert len(long_ways) == 2
    answers(session, X)


def test_options_and_profiling_are_heeded(long_ways: list[int]) -> None:
    options = SessionOptions()
    options.enable_profiling = True
    with InferenceSession(linear(), options) as session:
        for _ in range(4):
            session.run(None, {"x": X})
        assert len(long_ways) == 4
        assert session.profile is not None and len(session.profile.recorder.events) >= 4
        session._profile = None  # as end_profiling does, without a file
        for _ in range(4):
            answers(session, X)
        assert len(long_ways) == 5
        stopped = RunOptions()
        stopped.terminate = True
        with pytest.raises(tilework.Fail, match="terminate"):
            session.run(None, {"x": X}, stopped)
        answers(session, X)


def test_what_else_happens_ends_it(session: InferenceSession, long_ways: list[int]) -> None:
    session.plan({"x": (5, 3)})
    answers(session, X)
    assert len(long_ways) == 3
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), expected(X), rtol=1e-6)
    answers(session, X)
    session.close()
    with pytest.raises(tilework.Fail, match="closed"):
        session.run(None, {"x": X})


def two_outputs() -> Any:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Mul", ["a", "b"], ["product"]),
    ]
    ends = [info(name, FLOAT, ["n"]) for name in ("a", "b", "sum", "product")]
    return model(nodes, ends[:2], ends[2:])


def test_outputs_by_name(long_ways: list[int]) -> None:
    a, b = np.arange(3, dtype=np.float32), np.array([5, 6, 7], np.float32)
    found = {"sum": a + b, "product": a * b}
    with InferenceSession(two_outputs()) as session:
        for names in (["product"], ["product", "sum"], ["sum", "sum"]):
            asked = list(names)
            for _ in range(4):
                results = session.run(asked, {"b": b, "a": a})
                assert len(results) == len(names)
                for name, result in zip(names, results, strict=True):
                    np.testing.assert_array_equal(result, found[name])
            asked[0] = "sum"  # the caller's list is not what is compared with
            np.testing.assert_array_equal(session.run(asked, {"a": a, "b": b})[0], a + b)
        assert len(long_ways) < 15


def test_elements_that_decide_shapes(long_ways: list[int]) -> None:
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    shape = helper.make_tensor_value_info("shape", INT64, [1])
    given = model(nodes, [info("x", FLOAT, [1]), shape], [info("y", FLOAT, ["n"])])
    x = np.array([4], np.float32)
    with InferenceSession(given) as session:
        for count in (2, 2, 2, 3, 3, 3, 2):
            (y,) = session.run(None, {"x": x, "shape": np.array([count], np.int64)})
            np.testing.assert_array_equal(y, np.full(count, 4, np.float32))


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64, np.int8, np.uint16, np.bool_])
def test_dtypes(kind: Any, long_ways: list[int]) -> None:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node("Transpose", ["x"], ["y"])]
    given = model(nodes, [info("x", dtype, [2, 5])], [info("y", dtype, [5, 2])])
    with InferenceSession(given) as session:
        for seed in range(5):
            x = np.random.default_rng(seed).integers(0, 2, (2, 5)).astype(kind)
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], x.T)


def test_no_elements(long_ways: list[int]) -> None:
    with InferenceSession(linear()) as session:
        for _ in range(4):
            assert session.run(None, {"x": X[:0]})[0].shape == expected(X[:0]).shape


def test_nodes_on_the_host_are_not_left_out(long_ways: list[int]) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Det", ["r"], ["y"])]
    given = model(nodes, [info("x", FLOAT, ["n", 2, 2])], [info("y", FLOAT, ["n"])])
    with InferenceSession(given) as session:
        for seed in range(5):
            x = np.random.default_rng(seed).random((3, 2, 2), np.float32)
            np.testing.assert_allclose(session.run(None, {"x": x})[0], np.linalg.det(x), 1e-4)
        assert session.where() == "mixed"
    assert len(long_ways) == 5


def test_threads_of_python_take_turns(session: InferenceSession) -> None:
    wrong: list[int] = []

    def run(number: int) -> None:
        x = X * np.float32(number)
        for _ in range(200):
            if not np.allclose(session.run(None, {"x": x})[0], expected(x)):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_a_session_that_is_gone_frees_all(long_ways: list[int]) -> None:
    device = InferenceSession(linear()).device
    before = device.statistics.in_use
    with InferenceSession(linear()) as session:
        for _ in range(4):
            session.run(None, {"x": X})
        graph: GraphSession = session._session(frozenset())
        assert graph.again(["y"], {"x": X}) is not None
    assert graph.again(["y"], {"x": X}) is None
    assert device.statistics.in_use == before
