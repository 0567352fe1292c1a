"""The fuzzer itself and some hundred of its models; `build.py fuzz` runs as many as asked for."""

from __future__ import annotations

import time
from functools import cache
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilework
from tests.conformance.runner import Pack
from tests.fuzz import runner
from tests.fuzz.mutate import KINDS, mutate, put_together, take_apart
from tests.fuzz.runner import Fuzzer
from tilework.onnx.proto import ModelProto
from tools.cases import read_pack

pytestmark = pytest.mark.onnx


@cache
def fuzzer() -> Fuzzer:
    return Fuzzer(Pack(*read_pack()), seed=0)


def test_what_is_put_together_says_what_was_taken_apart() -> None:
    pack = fuzzer().pack
    for case in pack.index[::20]:
        content = bytes(pack.read(case["model"]))
        again = put_together(take_apart(ModelProto, content))
        assert onnx.load_from_string(again) == onnx.load_from_string(content)


def test_every_kind_of_mutation_is_drawn_and_changes_something() -> None:
    pack, found = fuzzer().pack, set[str]()
    content = bytes(pack.read(pack.index[100]["model"]))
    for number in range(400):
        kinds, mutated = mutate(content, Random(number), [b"Add", b"Mul"])
        if mutated != content and "," not in kinds:
            found.add(kinds)
    assert found == set(KINDS)


def test_a_number_names_a_model_for_ever() -> None:
    assert [fuzzer().make(n)[1:] for n in range(50)] == [fuzzer().make(n)[1:] for n in range(50)]
    assert fuzzer().make(7)[2] != Fuzzer(fuzzer().pack, seed=1).make(7)[2]


def test_models_end_with_a_result_or_a_typed_error() -> None:
    outcomes = [fuzzer().run(number) for number in range(400)]
    assert not [outcome for outcome in outcomes if outcome.bug]
    assert {"result", "InvalidProtobuf", "InvalidGraph"} <= {outcome.end for outcome in outcomes}


def test_what_is_no_typed_error_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> None:
        raise KeyError("nobody knows")

    monkeypatch.setattr(runner.Fuzzer, "_load_and_run", wrong)
    assert "nobody knows" in fuzzer().run(0).bug


def test_what_a_kernel_refuses_is_a_bug_unless_the_data_is_at_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where: dict[str, Any] = {"kernel": "k", "tile": (0, 0, 0), "status": 1, "command": 0}
    for error, bad in (
        (tilework.KernelFailure("it will not", **where), True),
        (tilework.OutOfRange("it will not"), True),
        (tilework.InvalidIndex("it cannot", **where), False),
    ):

        def refused(*arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(runner.Fuzzer, "_load_and_run", refused)
        outcome = fuzzer().run(0)
        assert (outcome.end, bool(outcome.bug)) == (type(error).__name__, bad)


def test_what_takes_too_long_or_keeps_memory_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def keeps(*arguments: object) -> None:
        kept.append(tilework.device(2).device.allocate(64, "kept"))

    monkeypatch.setattr(runner.Fuzzer, "_load_and_run", keeps)
    assert "keeps" in fuzzer().run(0).bug
    for buffer in kept:
        buffer.free()
    monkeypatch.setattr(runner, "SECONDS", 0.01)
    monkeypatch.setattr(runner.Fuzzer, "_load_and_run", lambda *arguments: time.sleep(0.02))
    assert "took" in fuzzer().run(0).bug


# -- what it has found -----------------------------------------------------------------------------


def model(op: str, shapes: list[list[Any]], outputs: int = 1, *more: Any, **attrs: Any) -> bytes:
    """One operator on float32 inputs; `more` are constants behind them."""
    inputs = [f"x{n}" for n in range(len(shapes))]
    constants = [f"c{n}" for n in range(len(more))]
    names = [f"y{n}" for n in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, [*inputs, *constants], names, **attrs)],
        op,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(inputs, shapes, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [
            onnx.numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else value
            for name, value in zip(constants, more, strict=True)
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


def complex_of_three_floats() -> Any:
    tensor = TensorProto(name="c0", data_type=TensorProto.COMPLEX64, dims=[1])
    tensor.float_data.extend([1, 2, 3])
    return tensor


# Operands of a QLinearConv whose zero of x is one number too many.
QUANTISED: list[tuple[Any, Any]] = [
    ((1, 1, 3, 3), np.uint8), ((), np.float32), ((2,), np.uint8),
    ((2, 1, 2, 2), np.uint8), ((), np.float32), ((), np.uint8),
    ((), np.float32), ((), np.uint8),
]  # fmt: skip

FOUND: list[tuple[bytes, type[Exception], str]] = [
    (
        model("Expand", [[1]], 1, np.array([1 << 40], np.int64)),
        tilework.OutOfMemory,
        "takes 4,398,046,511,104 bytes",
    ),
    (model("Split", [[4]], 2, num_outputs=2**40), tilework.InvalidArgument, "2 outputs"),
    (
        model("Reshape", [[4]], 1, np.array([2.0, 2.0], np.float32)),
        tilework.InvalidArgument,
        "2.0",
    ),
    (
        model("MaxPool", [[1, 1, 4, 4]], kernel_shape=[2, 2], pads=[2**20, 2**20, 0, 0]),
        tilework.OutOfMemory,
        "takes",
    ),
    (
        model("QLinearConv", [], 1, *(np.ones(n, t) for n, t in QUANTISED)),
        tilework.InvalidArgument,
        r"uint8\[2\] must be one of",
    ),
    (model("ThresholdedRelu", [[4]], alpha=[1.5]), tilework.InvalidGraph, "not one like 1.0"),
    (
        model("RotaryEmbedding", [[4, 2, 3, 8], [2, 3, 4], [2, 3, 4]]),
        tilework.InvalidArgument,
        "angles for 4 × 3 rows",
    ),
    (
        model("Trilu", [[4, 4]], 1, np.array(0.5, np.float32)),
        tilework.InvalidArgument,
        "which diagonal, is 0.5",
    ),
    (model("Transpose", [[4, 4]], perm=1.5), tilework.InvalidGraph, "not what"),
    (
        model("Add", [[1]], 1, helper.make_tensor("c0", TensorProto.FLOAT, [1] * 40, [1.0])),
        tilework.InvalidProtobuf,
        "has 40 axes",
    ),
    (
        model("Add", [[1]], 1, complex_of_three_floats()),
        tilework.InvalidProtobuf,
        "3 numbers are no complex numbers",
    ),
]


@pytest.mark.parametrize(("content", "error", "words"), FOUND)
def test_what_was_found_is_a_typed_error(content: bytes, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):  # noqa: SIM117 - loading may refuse it already
        with tilework.InferenceSession(content) as session:
            shapes = {arg.name: [int(n or 0) for n in arg.shape] for arg in session.get_inputs()}
            session.run(None, {name: np.ones(n, np.float32) for name, n in shapes.items()})


def test_a_kernel_longer_than_its_image_is_not_walked_for_every_output() -> None:
    """It took minutes: every output looked at every tap, not at those that reach it."""
    draw = np.random.default_rng(0)
    x, w = draw.normal(size=4).astype(np.float32), draw.normal(size=200_000).astype(np.float32)
    content = model("ConvTranspose", [[1, 1, 4]], 1, w.reshape(1, 1, -1))
    began = time.perf_counter()
    with tilework.InferenceSession(content) as session:
        (y,) = session.run(None, {"x0": x.reshape(1, 1, 4)})
    np.testing.assert_allclose(y[0, 0], np.convolve(x, w), rtol=1e-4, atol=1e-5)
    assert time.perf_counter() - began < 30


def test_a_region_of_a_thousand_million_samples_is_refused() -> None:
    nodes = [helper.make_node("RoiAlign", ["x", "rois", "batch"], ["y"], sampling_ratio=10**9)]
    graph = helper.make_graph(
        nodes,
        "roi_align",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4]),
            helper.make_tensor_value_info("rois", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("batch", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    feeds = {
        "x": np.ones((1, 1, 4, 4), np.float32),
        "rois": np.array([[0, 0, 2, 2]], np.float32),
        "batch": np.zeros(1, np.int64),
    }
    with (
        tilework.InferenceSession(made.SerializeToString()) as session,
        pytest.raises(tilework.RuntimeException, match="samples along a bin"),
    ):
        session.run(None, feeds)
