"""If, Loop, Scan and functions through sessions, against onnxruntime."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import tilework
from tests.onnx.texts import compare, f32, model
from tilework.core.errors import Fail, InvalidGraph, RuntimeException
from tilework.engine.devices import get_device
from tilework.onnx.options import RunOptions
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


# -- if ------------------------------------------------------------

BRANCHES = """
branches (float[n, 4] x, {fed}) => (float[m, k] y, float[m, k] z)
<float[4, 4] w = {{0.5, 1, 0, 0, 0, 1, 0, 2, 0, 0, 1, 0, 3, 0, 0, 1}}, float zero = {{0}}> {{
  s = Relu(x)
  {condition}
  y, z = If (c) <
    then_branch = yes () => (float[m, k] a, float[m, k] b) {{
      a = MatMul(s, w)
      b = Neg(a)
    }},
    else_branch = no () => (float[m, k] a, float[m, k] b) {{
      a = Transpose(x)
      b = Identity(s)
    }}>
}}
"""
CONDITIONS = {
    "fed": ("bool c", ""),
    "of shape": (
        "float unused", "two = Constant<value_int = 2>() d = Shape<start = 0, end = 1>(x) "
        "e = Squeeze(d) c = Greater(e, two)",
    ),
    "of data": ("float unused", "t = ReduceMax<keepdims = 0>(x) c = Greater(t, zero)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONDITIONS)
def test_only_the_branch_that_is_taken_runs(kind: str) -> None:
    fed, condition = CONDITIONS[kind]
    made = model(BRANCHES.format(fed=fed, condition=condition))
    extra = [{"c": np.array(flag)} for flag in (True, False)]
    if kind != "fed":
        extra = [{"unused": np.array(0, np.float32)}] * 2
    arrays = [abs(f32(3, 4)), -abs(f32(2, 4))]
    compare(made, *({"x": x, **more} for x, more in zip(arrays, extra, strict=True)))
    with InferenceSession(made) as session:
        session.run(None, {"x": arrays[1], **extra[1]})
        steps = str(session.plan())
        if kind != "of data":  # then the plan has the branch itself, and nothing is left to decide
            assert "then" not in steps


def test_a_branch_that_would_fail_does_no_harm() -> None:
    made = model("""
    guarded (float[n] x) => (float[m] y) <int64 zero = {0}, int64[1] far = {7}> {
      n = Size(x)
      l = ReduceSum<keepdims = 0>(x)
      i = Cast<to = 7>(l)
      c = Greater(i, zero)
      y = If (c) <then_branch = yes () => (float[m] a) { a = Gather(x, far) },
                  else_branch = no () => (float[m] a) { a = Neg(x) }>
    }""")
    with InferenceSession(made) as session:
        few = np.array([-1, -2, -3], np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": few})[0], -few)
        with pytest.raises(RuntimeException, match="Gather"):
            session.run(None, {"x": -few})
        np.testing.assert_array_equal(session.run(None, {"x": few})[0], -few)
        np.testing.assert_array_equal(session.run(None, {"x": np.ones(9, np.float32)})[0], [1])


# -- loop and scan ------------------------------------------------------------

POWERS = """
powers (float[n, n] x, int64 count, float limit) => (float[n, n] y, float[t, n] rows) {
  yes = Constant<value = bool {1}>()
  y, rows = Loop (count, yes, x) <body = turn (int64 i, bool go, float[n, n] s)
      => (bool more, float[n, n] next, float[n] row) {
    p = MatMul(s, x)
    h = Constant<value_float = 0.5>()
    next = Mul(p, h)
    row = ReduceSum<keepdims = 0>(next, axis)
    top = ReduceMax<keepdims = 0>(next)
    more = Less(top, limit)
  }>
}
"""


def powers() -> Any:
    made = model(POWERS)
    made.graph.initializer.append(helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [0]))
    return made


def test_a_loop_ends_by_its_count_or_its_condition() -> None:
    x = abs(f32(5, 5))
    ends = [(6, 1e30), (6, 3.0), (1, 1e30), (100, 50.0)]
    sets = [
        {"x": x, "count": np.array(n), "limit": np.array(most, np.float32)} for n, most in ends
    ]
    compare(powers(), *sets)


def test_a_loop_that_never_turns_gives_what_it_was_given() -> None:
    x = f32(3, 3)
    with InferenceSession(powers()) as session:
        feeds = {"x": x, "count": np.array(0), "limit": np.array(1, np.float32)}
        y, rows = session.run(None, feeds)
        np.testing.assert_array_equal(y, x)
        assert rows.shape == (0, 0)
        assert rows.dtype == np.float32


def test_what_a_loop_carries_stays_on_the_device() -> None:
    """A turn uploads its number and flag at most, and reads its condition."""
    x = abs(f32(64, 64)) / 64
    with InferenceSession(powers()) as session:
        feeds = {"x": x, "limit": np.array(1e30, np.float32)}
        for count in (2, 40, 2, 40):
            session.run(None, {**feeds, "count": np.array(count)})
        traffic = []
        for count in (2, 40):
            before = session.device.statistics
            session.run(None, {**feeds, "count": np.array(count)})
            after = session.device.statistics
            traffic.append(
                (after.copied_in - before.copied_in, after.copied_out - before.copied_out)
            )
        more_in, more_out = (b - a for a, b in zip(*traffic, strict=True))
        rows = 38 * 64 * 4
        assert more_out == rows + 38  # one row a turn is asked for, one byte is the condition
        assert more_in <= 38 * 2000  # records of the copies that stack the rows; no state
        assert more_in < 38 * x.nbytes / 4


NESTED = """
nested (float[n] x, int64 outer, int64 inner) => (float[n] y, float[t, n] all)
<float[1] step = {0.25}> {
  yes = Constant<value = bool {1}>()
  twice = Add(x, x)
  y, all = Loop (outer, yes, x) <body = one (int64 i, bool go, float[n] s)
      => (bool go_on, float[n] next, float[n] seen) {
    go_on = Identity(go)
    f = Cast<to = 1>(i)
    a = Add(s, f)
    next = Loop (inner, yes, a) <body = two (int64 j, bool g, float[n] r)
        => (bool go_still, float[n] r2) {
      go_still = Identity(g)
      m = Mul(twice, step)
      n1 = Add(r, m)
      c = Cast<to = 9>(j)
      r2 = If (c) <then_branch = odd () => (float[n] o) { o = Sub(n1, f) },
                   else_branch = even () => (float[n] o) { o = Add(n1, s) }>
    }>
    seen = Mul(next, step)
  }>
}
"""


def test_graphs_in_graphs_read_what_is_around_them() -> None:
    sizes = [(3, 2), (1, 4), (2, 0)]
    compare(
        model(NESTED),
        *({"x": f32(4), "outer": np.array(a), "inner": np.array(b)} for a, b in sizes),
    )


SCAN = """
scan (float[k] h, float[b, t, k] x, float[t, k] z)
    => (float[k] last, float[k, t] out, float[t, k] p)
<float[3, 3] w = {1, 0, 0.5, 0, 1, 0, 0.25, 0, 1}> {
  y0 = Gather<axis = 0>(x, zero)
  last, out, p = Scan <
      num_scan_inputs = 2, scan_input_axes = [0, 0], scan_input_directions = [0, 1],
      scan_output_axes = [1, 0], scan_output_directions = [0, 1],
      body = cell (float[k] s, float[k] a, float[k] c) => (float[k] s2, float[k] o, float[k] q) {
    d = Add(a, c)
    e = MatMul(s, w)
    s2 = Add(d, e)
    o = Tanh(s2)
    q = Neg(a)
  }> (h, y0, z)
}
"""


def test_a_scan_in_both_directions_and_along_other_axes() -> None:
    made = model(SCAN)
    made.graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.INT64, [], [0]))
    feeds = [{"h": f32(3), "x": f32(2, t, 3), "z": f32(t, 3)} for t in (5, 1, 7)]
    compare(made, *feeds)


def test_an_endless_loop_can_be_ended() -> None:
    made = model("""
    endless (float[n] x) => (float[n] y) {
      yes = Constant<value = bool {1}>()
      y = Loop ("", yes, x) <body = turn (int64 i, bool go, float[n] s) => (bool on, float[n] t) {
        on = Identity(go)
        t = Relu(s)
      }>
    }""")
    # The parser has no empty inputs.
    loop = made.graph.node[-1]
    del loop.input[:]
    loop.input.extend(["", "yes", "x"])
    with InferenceSession(made) as session:
        options = RunOptions()
        timer = threading.Timer(0.3, lambda: setattr(options, "terminate", True))
        timer.start()
        began = time.monotonic()
        with pytest.raises(Fail, match="terminate"):
            session.run(None, {"x": f32(4)}, options)
        timer.join()
        assert time.monotonic() - began < 20


def test_what_loops_hold_goes_back_with_their_session() -> None:
    made = powers()
    before = 0
    for count in range(20):
        with InferenceSession(made) as session:
            session.run(
                None, {"x": f32(4, 4), "count": np.array(count), "limit": np.array(1e9, np.float32)}
            )
        if count == 2:  # the kernels' modules are loaded and stay
            before = get_device(0).statistics.in_use
    assert get_device(0).statistics.in_use == before


# -- functions ------------------------------------------------------------


def test_a_function_keeps_the_opset_that_it_imports() -> None:
    """Squeeze has its axes as an attribute until opset 12, as an input since; both are here, one
    of them in a branch of an If inside the function."""
    def branch(op: str) -> Any:
        attributes: dict[str, Any] = {"axes": [0]} if op == "Squeeze" else {}
        node = helper.make_node(op, ["r"], ["b"], **attributes)
        end = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)
        return helper.make_graph([node], op, [], [end])

    function = helper.make_function(
        "own", "Old", ["v", "c"], ["w"],
        [
            helper.make_node("Relu", ["v"], ["r"]),
            helper.make_node(
                "If", ["c"], ["w"], then_branch=branch("Squeeze"), else_branch=branch("Neg")
            ),
        ],
        [helper.make_opsetid("", 11)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Old", ["x", "c"], ["o"], domain="own"),
        helper.make_node("Unsqueeze", ["o", "axis"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, "n"]),
        helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
    ]
    end = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    axis = helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [0])
    made = helper.make_model(
        helper.make_graph(nodes, "calls", inputs, [end], [axis]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
        functions=[function],
        ir_version=8,
    )
    x = f32(1, 4)
    with InferenceSession(made) as session:
        for flag, wanted in ((True, np.maximum(x, 0)), (False, -np.maximum(x, 0)[None])):
            (result,) = session.run(None, {"x": x, "c": np.array(flag)})
            np.testing.assert_array_equal(result, wanted)


# -- graphs that contradict themselves ------------------------------------------------------------


def body(loop: Any) -> Any:
    return loop.attribute[0].g


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda loop: body(loop).node[0].input.__setitem__(0, "nowhere"), "'nowhere' is neither"),
        (lambda loop: body(loop).ClearField("output"), "its body takes 5 and gives 0"),
        (lambda loop: loop.input.append("x"), "2 values are carried; its body takes"),
        (lambda loop: loop.ClearField("attribute"), "has no body"),
        (lambda loop: setattr(body(loop).node[0], "op_type", "Nope"), "ai.onnx.Nope"),
        (lambda loop: body(loop).node[0].output.__setitem__(0, "s"), "'s' is produced twice"),
        (lambda loop: body(loop).input.append(body(loop).input[0]), "two inputs have one name"),
    ],
)
def test_bodies_that_contradict_their_loop(change: Any, words: str) -> None:
    made = powers()
    (loop,) = (node for node in made.graph.node if node.op_type == "Loop")
    change(loop)
    with pytest.raises((InvalidGraph, tilework.NotImplemented), match=words):
        InferenceSession(made)


STACKS = """
stacks (float[n] x, int64 count, int64 last)
    => (float[n] y, float[t, n] a, float[t, n] b, float[t, n] c)
{
  yes = Constant<value = bool {1}>()
  y, a, b, c = Loop (count, yes, x) <body = turn (int64 i, bool go, float[n] s)
      => (bool more, float[n] next, float[n] r1, float[n] next, float[n] r3) {
    f = Cast<to = 1>(i)
    next = Add(s, f)
    more = Less(i, last)
    r1 = Identity(s)
    r3 = Neg(x)
  }>
}
"""


def test_rows_are_stacked_however_many_there_are() -> None:
    """More than there is room for at first, of what is carried, passed and computed."""
    made = model(STACKS)
    most = np.iinfo(np.int64).max
    x = f32(8)
    with InferenceSession(made) as session:
        for count, last, turns in ((3, 99, 3), (most, 199, 200), (most, 0, 1), (70, 99, 70)):
            feeds = {"x": x, "count": np.array(count), "last": np.array(last)}
            y, a, b, c = session.run(None, feeds)
            sums = np.cumsum([x, *(np.full(8, i, np.float32) for i in range(turns))], axis=0)
            right = (sums[-1], sums[:-1], sums[1:], np.tile(-x, (turns, 1)))
            for result, wanted in zip((y, a, b, c), right, strict=True):
                assert result.shape == wanted.shape
                np.testing.assert_allclose(result, wanted, rtol=1e-5)


GROWS = """
grows (float[n] x, int64 count) => (float[m] y, float[t, k] rows) {
  yes = Constant<value = bool {1}>()
  y, rows = Loop (count, yes, x) <body = turn (int64 i, bool go, float[k] s)
      => (bool on, float[j] next, float[j] row) {
    on = Identity(go)
    next = Concat<axis = 0>(s, x)
    row = Neg(next)
  }>
}
"""


def test_what_is_carried_may_grow_but_rows_must_not() -> None:
    made = model(GROWS)
    x = f32(3)
    with InferenceSession(made) as session:
        for count in (1, 5, 3):
            (y,) = session.run(["y"], {"x": x, "count": np.array(1)})
            np.testing.assert_array_equal(y, np.tile(x, 2))
            if count > 1:
                words = r"Loop 'y': .*'row' (is not of one type|is float32\[9\])"
                with pytest.raises(RuntimeException, match=words):
                    session.run(None, {"x": x, "count": np.array(count)})
