"""onnxruntime's Python functions: options, values, bindings, profiling, what is printed."""

from __future__ import annotations

import json
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.test_script import model
from tilework import onnxruntime as ort
from tilework.core.errors import Fail, InvalidArgument, RuntimeException
from tilework.onnxruntime.capi import onnxruntime_pybind11_state as state

pytestmark = pytest.mark.onnx

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
PAST = np.zeros((0, 3), np.float32)
FEEDS = {"x": X, "past": PAST}


@pytest.fixture(scope="module")
def session() -> Any:
    with ort.InferenceSession(model()) as made:
        yield made


# -- names -------------------------------------------------------------------------------------


def test_the_module_has_onnxruntime_s_names() -> None:
    assert ort.__version__ == ort.get_version_string() == "1.31.1"
    assert "tilework" in ort.get_build_info()
    assert ort.get_device() == "CPU"
    assert "CPUExecutionProvider" in ort.get_available_providers()
    for name in ("Fail", "InvalidArgument", "NoSuchFile", "NotImplemented", "InvalidGraph"):
        assert getattr(state, name) is getattr(tilework, name)
        assert getattr(ort.capi.onnxruntime_pybind11_state, name) is getattr(state, name)
    for name in ("EPFail", "NoModel", "ModelLoaded", "EngineError"):
        assert issubclass(getattr(state, name), Exception)


def test_install_refuses_when_onnxruntime_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    assert sys.modules["onnxruntime"] is onnxruntime
    with pytest.raises(Fail, match="imported before"):
        ort.install()
    monkeypatch.delitem(sys.modules, "onnxruntime")
    for name in [one for one in sys.modules if one.startswith("onnxruntime.")]:
        monkeypatch.delitem(sys.modules, name)
    ort.install()
    ort.install()  # a second time changes nothing
    import onnxruntime as installed
    from onnxruntime.capi import onnxruntime_pybind11_state as theirs

    assert (installed, theirs) == (ort, state)


def test_printed_as_onnxruntime_prints() -> None:
    assert str(ort.GraphOptimizationLevel.ORT_ENABLE_ALL) == "GraphOptimizationLevel.ORT_ENABLE_ALL"
    assert repr(ort.ExecutionMode.ORT_PARALLEL) == "<ExecutionMode.ORT_PARALLEL: 1>"
    assert str(ort.NodeArg("x", "tensor(float)", ["n", 3])) == (
        "NodeArg(name='x', type='tensor(float)', shape=['n', 3])"
    )


def test_providers(session: ort.InferenceSession) -> None:
    pairs: list[Any] = [("CPUExecutionProvider", {"use_arena": 0})]
    with ort.InferenceSession(model(), providers=pairs) as one:
        assert one.get_providers() == ["CPUExecutionProvider"]
        assert one.get_provider_options() == {"CPUExecutionProvider": {"use_arena": "0"}}
        one.set_providers(["TileworkExecutionProvider"], [{"a": "b"}])
        assert one.get_provider_options() == {"TileworkExecutionProvider": {"a": "b"}}
        one.disable_fallback()
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
            one.set_providers(["CUDAExecutionProvider", "CPUExecutionProvider"])
        assert one.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InvalidArgument, match=r"providers\[0\]"):
        ort.InferenceSession(model(), providers=[3])
    with pytest.raises(InvalidArgument, match="2 provider_options"):
        ort.InferenceSession(model(), providers=["CPUExecutionProvider"], provider_options=[{}, {}])


def test_speaks_from_the_severity_on_that_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for level, default, said in ((0, 2, True), (-1, 2, False), (-1, 1, True), (3, 0, False)):
        options = ort.SessionOptions()
        options.log_severity_level, options.logid = level, "mine"
        ort.set_default_logger_severity(default)
        ort.InferenceSession(model(), options).close()
        printed = capsys.readouterr().err
        assert ("[I:tilework:mine] classifier" in printed) is said, (level, default)
    ort.set_default_logger_severity(2)
    with pytest.raises(Fail, match="severity 7"):
        ort.set_default_logger_severity(7)


# -- free dimensions -----------------------------------------------------------------------------


def test_free_dimensions_by_name_and_denotation() -> None:
    dims: list[str | int] = ["batch", "rows", 3]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims, shape_denotation=["B", "R", ""])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 2)
    options.add_free_dimension_override_by_denotation("R", 4)
    options.add_free_dimension_override_by_denotation("absent", 9)
    with ort.InferenceSession(content, options) as one:
        assert one.get_inputs()[0].shape == one.get_outputs()[0].shape == [2, 4, 3]
        one.run(None, {"x": np.zeros((2, 4, 3), np.float32)})
        with pytest.raises(InvalidArgument, match="axis 0 has 1"):
            one.run(None, {"x": np.zeros((1, 4, 3), np.float32)})
    with pytest.raises(InvalidArgument, match="'rows'"):
        options.add_free_dimension_override_by_name("rows", -1)


# -- initializers ------------------------------------------------------------------------------


def test_initializers_from_elsewhere(tmp_path: Path) -> None:
    content = model()
    w, b = (np.arange(n, dtype=np.float32) / n for n in (12, 3))
    w = w.reshape(4, 3)
    options = ort.SessionOptions()
    options.add_initializer("w", ort.OrtValue.ortvalue_from_numpy(w))
    options.add_external_initializers(["b"], [ort.OrtValue.ortvalue_from_numpy(b, "tilework")])
    e = np.exp(X @ w + b)
    wanted = e / e.sum(axis=1, keepdims=True)
    with ort.InferenceSession(content, options) as one:
        np.testing.assert_allclose(one.run(None, FEEDS)[0], wanted, rtol=1e-5)
    # External data that is given so is not looked for.
    loaded = onnx.load_from_string(content)
    for tensor in loaded.graph.initializer:  # only raw bytes are put beside the file
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(loaded, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0,
              location="weights", convert_attribute=False)  # fmt: skip
    (tmp_path / "weights").rename(tmp_path / "elsewhere")
    with pytest.raises(tilework.NoSuchFile, match="weights"):
        ort.InferenceSession(tmp_path / "model.onnx")
    scale = ort.OrtValue.ortvalue_from_numpy(np.ones(1, np.float32))
    options.add_external_initializers(["scale"], [scale])
    with ort.InferenceSession(tmp_path / "model.onnx", options) as one:
        np.testing.assert_allclose(one.run(None, FEEDS)[0], wanted, rtol=1e-5)
    files = ort.SessionOptions()
    data = (tmp_path / "elsewhere").read_bytes()
    files.add_external_initializers_from_files_in_memory(["weights"], [data], [len(data)])
    with ort.InferenceSession(tmp_path / "model.onnx", files) as one:
        np.testing.assert_array_equal(
            one.run(None, FEEDS)[0], ort.InferenceSession(content).run(None, FEEDS)[0]
        )
    for name, match in (("z", "no initializer 'z'"), ("b", r"float32\[3\].*float32\[4, 3\]")):
        wrong = ort.SessionOptions()
        wrong.add_initializer(name, ort.OrtValue.ortvalue_from_numpy(w))
        with pytest.raises(InvalidArgument, match=match):
            ort.InferenceSession(content, wrong)


# -- values ------------------------------------------------------------------------------------


def test_values(session: ort.InferenceSession) -> None:
    array = X.copy()
    borrowed = ort.OrtValue.ortvalue_from_numpy(array)
    array += 1
    np.testing.assert_array_equal(borrowed.numpy(), X + 1)  # it is the caller's array
    uploaded = ort.OrtValue.ortvalue_from_numpy(array, "tilework")
    array -= 1
    np.testing.assert_array_equal(uploaded.numpy(), X + 1)
    for value in (borrowed, uploaded):
        value.update_inplace(X * 2)
        np.testing.assert_array_equal(np.asarray(value), X * 2)
        assert (value.data_type(), value.shape(), value.device_name()) == (
            "tensor(float)", [2, 4], "cpu",
        )  # fmt: skip
        with pytest.raises(Fail, match="12 bytes"):
            value.update_inplace(np.zeros(3, np.float32))
        (left,), (right,) = (
            session.run(["probabilities"], {"x": given, "past": PAST}) for given in (value, X * 2)
        )
        np.testing.assert_array_equal(left, right)
    assert not uploaded.is_tensor_sequence() and not uploaded.is_sparse_tensor()
    assert not ort.OrtValue(None).has_value()
    with pytest.raises(Fail, match="NoneType"):
        ort.OrtValue(None).shape()
    with pytest.raises(Fail, match="cuda"):
        ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0)
    for kind in (np.int64, 7, "int64", np.dtype("i8")):
        assert ort.OrtValue.ortvalue_from_shape_and_type([2], kind).element_type() == 7
    with pytest.raises(InvalidArgument, match="nothing"):
        ort.OrtValue.ortvalue_from_shape_and_type([2], "nothing")
    bits = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.array([1, 2], np.int16), 4)
    assert bits.data_type() == "tensor(uint16)"


def test_one_session_s_output_is_the_next_one_s_input(session: ort.InferenceSession) -> None:
    device = session.device
    first = ort.OrtValue.ortvalue_from_numpy(X, "tilework")
    past = ort.OrtValue.ortvalue_from_numpy(np.ones((4, 3), np.float32), "tilework")
    with ort.InferenceSession(model()) as other:
        for _ in range(2):  # the first time plans are written to the device
            before = device.statistics
            (present,) = session.run_with_ort_values(["present"], {"x": first, "past": past})
            (both,) = other.run_with_ort_values(["present"], {"x": first, "past": present})
            after = device.statistics
        assert (after.copied_in, after.copied_out) == (before.copied_in, before.copied_out)
        (alone,) = session.run(["probabilities"], FEEDS)
        wanted = np.concatenate([np.ones((4, 3)), alone, alone])
        np.testing.assert_allclose(both.numpy(), wanted, rtol=1e-6)


def test_values_that_are_no_tensors() -> None:
    """A sequence and strings beside a tensor, by run, by values and by a binding."""
    kinds = {"x": TensorProto.FLOAT, "s": TensorProto.STRING, "t": TensorProto.STRING}
    x, s, t = (helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in kinds.items())
    q = helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["q"]),
        helper.make_node("StringConcat", ["s", "s"], ["t"]),
    ]
    content = helper.make_model(
        helper.make_graph(nodes, "g", [x, s], [q, t]), ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )  # fmt: skip
    floats, strings = np.array([1, 2], np.float32), np.array(["a", "b"], object)
    with ort.InferenceSession(content) as one:
        feeds = {"x": floats, "s": strings}
        values = {name: ort.OrtValue.ortvalue_from_numpy(feeds[name]) for name in feeds}
        binding = one.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("q")
        binding.bind_output("t")
        one.run_with_iobinding(binding)
        for sequence, text in (one.run_with_ort_values(None, values), binding.get_outputs()):
            assert sequence.is_tensor_sequence() and sequence.data_type() == "seq(tensor(float))"
            assert (text.data_type(), text.numpy().tolist()) == ("tensor(string)", ["aa", "bb"])
        for result in (one.run(None, feeds), binding.copy_outputs_to_cpu()):
            np.testing.assert_array_equal(result[0], [floats, floats])
            assert result[1].tolist() == ["aa", "bb"]


# -- bindings ------------------------------------------------------------------------------------


def test_bindings(session: ort.InferenceSession) -> None:
    probabilities, present = session.run(None, FEEDS)
    x = X.copy()
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_input("past", ort.OrtValue.ortvalue_from_numpy(PAST))
    binding.bind_output("present")
    target = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding.bind_ortvalue_output("probabilities", target)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(target.numpy(), probabilities)
    first = binding.get_outputs()[0]
    np.testing.assert_array_equal(first.numpy(), present)
    x *= 2  # the next run sees it; what the last one gave stays
    session.run_with_iobinding(binding, ort.RunOptions())
    other, _ = session.run(None, {"x": x, "past": PAST})
    np.testing.assert_array_equal(target.numpy(), other)
    np.testing.assert_array_equal(first.numpy(), present)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], other)


def test_bindings_by_pointer(session: ort.InferenceSession) -> None:
    probabilities, _ = session.run(None, FEEDS)
    result, value = np.zeros((2, 3), np.float32), ort.OrtValue.ortvalue_from_numpy(X, "tilework")
    target = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    for pointer in (X.ctypes.data, value.data_ptr()):
        for goal in (result.ctypes.data, target.data_ptr()):
            binding = session.io_binding()
            binding.bind_input("x", "cpu", 0, np.float32, [2, 4], pointer)
            binding.bind_cpu_input("past", PAST)
            binding.bind_output("probabilities", "cpu", 0, np.float32, [2, 3], goal)
            session.run_with_iobinding(binding)
    np.testing.assert_array_equal(result, probabilities)
    np.testing.assert_array_equal(target.numpy(), probabilities)
    with pytest.raises(InvalidArgument, match=r"float32\[9, 9\]"):
        binding.bind_input("x", "cpu", 0, np.float32, [9, 9], value.data_ptr())
    with pytest.raises(Fail, match="element_type"):
        binding.bind_output("probabilities", buffer_ptr=1)


def test_what_does_not_fit_a_binding(session: ort.InferenceSession) -> None:
    binding = session.io_binding()
    with pytest.raises(Fail, match="'z'"):
        binding.bind_cpu_input("z", X)
    with pytest.raises(Fail, match="list"):
        binding.bind_cpu_input("x", [1.0])  # type: ignore[arg-type]
    with pytest.raises(RuntimeException, match="no output"):
        session.run_with_iobinding(binding)
    binding.bind_output("probabilities")
    with pytest.raises(RuntimeException, match="missing"):
        session.run_with_iobinding(binding)
    binding.bind_cpu_input("x", X.astype(np.float64))
    binding.bind_cpu_input("past", PAST)
    with pytest.raises(RuntimeException, match="float64"):
        session.run_with_iobinding(binding)
    binding.bind_cpu_input("x", X)
    for device in ("tilework", "cpu"):
        wrong = ort.OrtValue.ortvalue_from_numpy(np.zeros((3, 2), np.float32), device)
        binding.bind_ortvalue_output("probabilities", wrong)
        with pytest.raises(RuntimeException, match=r"\[3, 2\]"):
            session.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    binding.bind_output("z")
    with pytest.raises(RuntimeException, match="'z'"):
        session.run_with_iobinding(binding)


# -- runs that end otherwise -----------------------------------------------------------------------


def test_run_async(session: ort.InferenceSession) -> None:
    ended: list[Any] = []
    done = threading.Semaphore(0)

    def callback(outputs: list[Any], user_data: object, error: str) -> None:
        ended.append((outputs, user_data, error))
        done.release()

    session.run_async(["probabilities"], FEEDS, callback, "first")
    assert done.acquire(timeout=60)
    session.run_async(None, {"x": X}, callback, "second")
    assert done.acquire(timeout=60)
    (outputs, name, error), (nothing, other, reason) = ended
    np.testing.assert_array_equal(outputs[0], session.run(["probabilities"], FEEDS)[0])
    assert (name, error, nothing, other) == ("first", "", [], "second")
    assert "past" in reason
    session.run_async(None, None, callback, "third")  # type: ignore[arg-type]
    assert done.acquire(timeout=60)
    assert ended[2][0] == [] and "NoneType" in ended[2][2]


def deep() -> bytes:
    """Many products in one submission, each of many tiles."""
    size, count = 512, 100
    weights = numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")
    names = ["x", *(f"v{i}" for i in range(count)), "y"]
    nodes = [
        helper.make_node("MatMul", [a, "w"], [b])
        for a, b in pairwise(names)
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [size, size]) for n in "xy")
    graph = helper.make_graph(nodes, "deep", [x], [y], [weights])
    content: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return content


def test_terminate_ends_a_run_from_another_thread() -> None:
    x = np.zeros((512, 512), np.float32)
    with ort.InferenceSession(deep()) as one:
        one.run(None, {"x": x})  # plans
        began = time.perf_counter()
        one.run(None, {"x": x})
        whole = time.perf_counter() - began
        options = ort.RunOptions()
        timer = threading.Timer(whole / 10, lambda: setattr(options, "terminate", True))
        timer.start()
        with pytest.raises(Fail, match="terminate"):
            one.run(None, {"x": x}, options)
        timer.join()
        with pytest.raises(Fail, match="terminate"):  # until it is taken back
            one.run(None, {"x": x}, options)
        options.terminate = False
        np.testing.assert_array_equal(one.run(None, {"x": x}, options)[0], x)


# -- seeing --------------------------------------------------------------------------------------


def test_profiling(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "trace")
    options.intra_op_num_threads = 2
    x = np.zeros((512, 4), np.float32)
    with ort.InferenceSession(model(), options) as one:
        wanted = one.run(None, {"x": x, "past": PAST})
        for _ in range(2):
            results = one.run(None, {"x": x, "past": PAST})
        np.testing.assert_array_equal(results[0], wanted[0])
        profile = one.profile
        assert profile is not None and 0 < time.time_ns() - one.get_profiling_start_time_ns() < 1e12
        rows = profile.rows()
        assert {row.calls for row in rows} == {3}
        assert [row.total for row in rows] == sorted((row.total for row in rows), reverse=True)
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert "Softmax 'softmax'" in str(profile) and "f32_softmax" in str(profile)
        assert profile._repr_html_().count("<tr>") == len(rows) + 1
        file = one.end_profiling()
        assert one.end_profiling() == ""
        one.run(None, {"x": x, "past": PAST})
        assert len(profile.events) == 3 * len(rows)
    events = json.loads(Path(file).read_text())
    runs = [event for event in events if event["name"] == "model_run"]
    nodes = [event for event in events if event["cat"] == "Node"]
    assert (len(runs), len(nodes)) == (3, len(profile.events))
    for node in nodes:  # each lies within a run
        assert any(r["ts"] <= node["ts"] and node["ts"] + node["dur"] <= r["ts"] + r["dur"] + 1
                   for r in runs)  # fmt: skip
    # A worker has a track of what it ran; whoever ran it, every tile was counted.
    assert {event["tid"] for event in events if event["cat"] == "Tiles"} <= {1}
    assert all(sum(map(int, node["args"]["tiles"].split(","))) > 0 for node in nodes)
    with ort.InferenceSession(model()) as plain:
        assert (plain.profile, plain.end_profiling()) == (None, "")
        assert plain.get_profiling_start_time_ns() == 0


def test_plans_are_printed_and_shown() -> None:
    with ort.InferenceSession(model()) as one:
        with pytest.raises(Fail, match="has not run yet"):
            one.plan()
        one.run(None, FEEDS)
        latest, asked = one.plan(), one.plan({"x": (2, 4), "past": (0, 3)})
        assert str(latest) == str(asked) == repr(latest)
        assert "f32_softmax" in str(latest) and "Softmax 'softmax'" in str(latest)
        shown = latest._repr_html_()
        (draft,) = (plan.draft for plan in latest.plans)
        assert shown.count("<tr>") == len(draft.steps) + 1
        assert all(step.label.replace("'", "&#x27;") in shown for step in draft.steps)
        assert f"{draft.arena_bytes:,} bytes" in shown


def test_plans_of_all_stages_are_shown() -> None:
    """Where sizes hang on data there are several, one behind the other."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "first"),
        helper.make_node("NonZero", ["r"], ["places"], "cutting"),
        helper.make_node("Add", ["places", "places"], ["y"], "behind"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y])
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with ort.InferenceSession(content) as one:
        (places,) = one.run(None, {"x": np.array([0, 3, -1, 2], np.float32)})
        np.testing.assert_array_equal(places, [[2, 6]])
        for shown in (str(one.plan()), one.plan()._repr_html_()):
            for name in ("Relu", "NonZero", "Add"):
                assert name in shown
