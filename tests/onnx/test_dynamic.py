"""Sizes that hang on data, sequences, optionals and strings through sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.onnx.texts import agree, compare, f32, model
from tilework.core.errors import InvalidArgument, RuntimeException
from tilework.engine.resident import Resident
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx


# -- sizes that hang on data ------------------------------------------------------------

PICKED = """
picked (float[n, 4] x) => (float[m, 8] y, int64[2, m] where, int64 count)
<float[4, 8] w, float zero = {0}> {
  sums = ReduceSum<keepdims = 0>(x, axis)
  mask = Greater(sums, zero)
  places = NonZero(mask)
  flat = Squeeze(places, first)
  rows = Gather(x, flat)
  p = MatMul(rows, w)
  y = Relu(p)
  where = Concat<axis = 0>(places, places)
  count = Size(flat)
}
"""


def picked() -> Any:
    made = model(PICKED)
    w = onnx.numpy_helper.from_array(f32(4, 8), "w")
    for index, tensor in enumerate(made.graph.initializer):
        if tensor.name == "w":
            del made.graph.initializer[index]
            break
    for value in list(made.graph.input):
        if value.name == "w":
            made.graph.input.remove(value)
    made.graph.initializer.append(w)
    for name, axis in (("axis", 1), ("first", 0)):
        made.graph.initializer.append(
            helper.make_tensor(name, onnx.TensorProto.INT64, [1], [axis])
        )
    return made


def test_rows_are_picked_by_data() -> None:
    compare(picked(), *({"x": f32(n, 4, seed=n)} for n in (6, 1, 40, 6)), {"x": -abs(f32(3, 4))})


def test_a_shape_is_computed_from_data() -> None:
    made = model("""
    lengths (int64[n] lens, float[k] v) => (bool[n, m] mask, float[m, k] tiled)
    <int64 zero = {0}, int64 one = {1}, int64[1] last = {-1}, int64[1] first = {0}> {
      sq = Mul(lens, lens)
      root = Div(sq, lens)
      big = CumSum(root, zero)
      high = ReduceMax<keepdims = 0>(root)
      steps = Range(zero, high, one)
      row = Unsqueeze(steps, first)
      column = Unsqueeze(lens, last)
      mask = Less(row, column)
      m = Unsqueeze(high, first)
      d = Shape(v)
      both = Concat<axis = 0>(m, d)
      tiled = Expand(v, both)
    }""")
    sets = [np.array(one) for one in ([3, 1, 2], [5, 5], list(range(1, 101)))]
    compare(made, *({"lens": one, "v": f32(3)} for one in sets))


def test_boxes_unique_values_and_masks() -> None:
    made = model("""
    found (float[1, n, 4] boxes, float[1, 2, n] scores, int64[k] ids, bool[k] mask)
        => (float[m, 4] kept, int64[u] values, int64[k] inverse, int64[c] some)
    <int64 most = {5}, float iou = {0.5}, float least = {0.2}, int64[1] first = {0}> {
      at = NonMaxSuppression(boxes, scores, most, iou, least)
      column = Slice(at, two, three, one)
      flat = Squeeze(column, one)
      all = Squeeze(boxes, first)
      kept = Gather(all, flat)
      values, places, inverse, counts = Unique(ids)
      some = Compress<axis = 0>(ids, mask)
    }""")
    for name, value in (("two", 2), ("three", 3), ("one", 1)):
        made.graph.initializer.append(
            helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
        )
    random = np.random.default_rng(1)

    def feeds(n: int, k: int) -> dict[str, Any]:
        low = random.random((1, n, 2)).astype(np.float32)
        boxes = np.concatenate([low, low + random.random((1, n, 2)).astype(np.float32)], axis=2)
        return {
            "boxes": boxes,
            "scores": random.random((1, 2, n)).astype(np.float32),
            "ids": random.integers(0, 9, k),
            "mask": random.random(k) > 0.5,
        }

    compare(made, feeds(20, 30), feeds(3, 1), feeds(50, 8))


def test_memory_is_flat_over_runs_of_changing_sizes() -> None:
    random = np.random.default_rng(0)
    with InferenceSession(picked()) as session:
        most = []
        for turn in range(1000):
            session.run(None, {"x": f32(int(random.integers(1, 60)), 4, seed=turn)})
            if turn % 100 == 99:
                most.append(session.device.statistics.in_use)
        assert max(most[5:]) <= 1.1 * max(most[:5])


def test_the_plan_says_what_runs_behind_it() -> None:
    with InferenceSession(picked()) as session:
        words = session.explain({"x": (6, 4)})
        assert "then on host NonZero 'places'" in words
        assert "planned when their shapes are known" in words
        session.run(None, {"x": f32(6, 4)})
        assert session.where() == "mixed"


def test_parts_leave_their_results_on_the_device_too() -> None:
    with InferenceSession(picked()) as session:
        x = f32(6, 4)
        wanted = session.run(None, {"x": x})
        value = OrtValue.ortvalue_from_numpy(x)
        for result, right in zip(
            session.run_with_ort_values(None, {"x": value}), wanted, strict=True
        ):
            assert isinstance(result.held(), Resident)
            np.testing.assert_array_equal(result.numpy(), right)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        target = OrtValue.ortvalue_from_numpy(np.zeros_like(wanted[0]))
        binding.bind_ortvalue_output("y", target)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(target.numpy(), wanted[0])


# -- sequences, optionals, strings ------------------------------------------------------------

SEQUENCES = """
lists (float[n, 4] x, int64 at) => (seq(float[m, 4]) parts, float[p, 4] one, int64 n, float[q, 4] y)
<int64[1] zero = {0}> {
  r = Relu(x)
  halves = SplitToSequence<axis = 0>(r, size)
  more = SequenceInsert(halves, x)
  parts = SequenceErase(more, at)
  one = SequenceAt(parts, at)
  n = SequenceLength(parts)
  joined = ConcatFromSequence<axis = 0>(parts)
  y = Neg(joined)
}
"""


def lists() -> Any:
    made = model(SEQUENCES)
    made.graph.initializer.append(helper.make_tensor("size", onnx.TensorProto.INT64, [], [2]))
    return made


def test_sequences_among_tensors() -> None:
    compare(lists(), *({"x": f32(n, 4), "at": np.array(a)} for n, a in ((6, 1), (9, 0), (5, -1))))


def test_a_place_outside_a_sequence_is_a_typed_error() -> None:
    with InferenceSession(lists()) as session:
        with pytest.raises(RuntimeException, match=r"SequenceErase.*position 9.*sequence of 3"):
            session.run(None, {"x": f32(4, 4), "at": np.array(9)})
        assert session.run(["n"], {"x": f32(4, 4), "at": np.array(0)})[0] == 2


def fed_lists() -> Any:
    sequence = helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, ["n"])
    maybe = helper.make_value_info(
        "o", helper.make_optional_type_proto(sequence.type)
    )
    nodes = [
        helper.make_node("Identity", ["s"], ["t"]),
        helper.make_node("OptionalHasElement", ["o"], ["has"]),
        helper.make_node("ConcatFromSequence", ["s"], ["j"], axis=0),
        helper.make_node("Neg", ["j"], ["y"]),
    ]
    outputs = [
        helper.make_tensor_sequence_value_info("t", onnx.TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("has", onnx.TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["m"]),
    ]
    graph = helper.make_graph(nodes, "fed", [sequence, maybe], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def fed() -> Iterator[InferenceSession]:
    with InferenceSession(fed_lists()) as session:
        yield session
        items = [f32(3), f32(3, seed=1)]
        for optional, has in ((None, False), (items, True)):
            t, told, y = session.run(None, {"s": items, "o": optional})
            agree(t, items)
            assert told == has
            np.testing.assert_array_equal(y, -np.concatenate(items))


def test_lists_and_none_are_fed(fed: InferenceSession) -> None:
    assert [one.type for one in fed.get_inputs()] == [
        "seq(tensor(float))", "optional(seq(tensor(float)))",
    ]  # fmt: skip
    items = [f32(3)]
    t = fed.run(["t"], {"s": items, "o": None})[0]
    t[0][...] = 7
    assert (items[0] != 7).all()  # a result is nobody else's


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"s": f32(3), "o": None}, "input 's' is a ndarray; expected a list"),
        ({"s": [np.zeros(3, np.int32)], "o": None}, "data type of input 's'"),
        ({"s": [f32(3, 3)], "o": None}, "invalid rank for input 's'"),
        ({"s": None, "o": None}, "input 's' is a NoneType"),
        ({"s": [f32(3)], "o": f32(3)}, "input 'o' is a ndarray; expected a list"),
        ({"s": [f32(3)]}, "required inputs"),
    ],
)
def test_wrong_lists_are_refused(
    fed: InferenceSession, feeds: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        fed.run(None, feeds)


def test_strings_meet_numbers() -> None:
    made = model("""
    words (string[n] a, string[n] b, float[n] x) => (string[n] both, float[n] y, int64[n] counts) {
      both = Concat<axis = 0>(a, b)
      same = Equal(a, b)
      z = Neg(x)
      y = Where(same, x, z)
      counts = Shape(both)
    }""")
    texts = [np.array(one, object) for one in (["a", "ä", ""], ["a", "b", ""])]
    with InferenceSession(made) as session:
        feeds = {"a": texts[0], "b": texts[1], "x": np.arange(3, dtype=np.float32)}
        for _ in range(2):
            both, y, counts = session.run(None, feeds)
            assert both.tolist() == ["a", "ä", "", "a", "b", ""]
            assert y.tolist() == [0, -1, 2]
            assert counts.tolist() == [6]
