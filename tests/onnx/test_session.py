"""InferenceSession: onnxruntime's names and errors, where a model comes from, what is fed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.linear import FLOAT, INT64, X, expected, external, info, linear, model
from tilework.engine.devices import get_device
from tilework.hal import Program
from tilework.onnx.session import InferenceSession
from tools.minilm import write_pieces

pytestmark = pytest.mark.onnx


@pytest.fixture
def session() -> Any:
    with InferenceSession(linear()) as made:
        yield made
        # Whatever the test did, the session still works.
        np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))


# -- where a model comes from ------------------------------------------------------------


def test_path_bytes_and_proto(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(linear().SerializeToString())
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), linear()):
        with InferenceSession(source) as made:
            np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))


def test_url(tmp_path: Path) -> None:
    import http.server
    import threading
    from functools import partial

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "m.onnx").write_bytes(linear().SerializeToString())
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with InferenceSession(f"{url}/m.onnx") as made:
            np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))
        with pytest.raises(tilework.NoSuchFile, match=r"absent.onnx: .*404.*; check the address"):
            InferenceSession(f"{url}/absent.onnx")
        external(tmp_path)
        with InferenceSession(f"{url}/model.onnx") as made:
            np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))
        write_pieces(tmp_path / "model.onnx.data", tmp_path, 20)
        (tmp_path / "model.onnx.data").unlink()
        with InferenceSession(f"{url}/model.onnx") as made:
            np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_no_model() -> None:
    with pytest.raises(tilework.NoSuchFile, match=r"nowhere\.onnx' is not there, seen from /.*URL"):
        InferenceSession("nowhere.onnx")
    with pytest.raises(tilework.NoSuchFile, match="tests' is a folder; give the path of"):
        InferenceSession(Path(__file__).parents[1])
    with pytest.raises(tilework.InvalidArgument, match="int"):
        InferenceSession(5)
    with pytest.raises(tilework.InvalidArgument, match="SessionOptions"):
        InferenceSession(linear(), {"threads": 2})  # type: ignore[arg-type]
    with pytest.raises(tilework.InvalidProtobuf, match=r"^the model: .*truncated"):
        InferenceSession(b"this is no model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page: the server answered"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "is a Git LFS pointer"),
        (b"PK\x03\x04\x14\x00\x08\x08", "is a zip archive"),
        (b"\x1f\x8b\x08\x00", "is packed with gzip"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5"),
        (b"\x18\x00\x00\x00ORTM\x00\x00", "is onnxruntime's own format"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "is TensorFlow Lite"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"w":{"dtype":"F32"', "is a safetensors file"),
        (b"\x08\x08", "has no graph"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(tilework.InvalidProtobuf, match=r"^model '.*model\.onnx'") as caught:
        InferenceSession(path)
    assert words in str(caught.value)


def test_a_truncated_model_is_refused() -> None:
    data = linear().SerializeToString()
    before = get_device(0).statistics.in_use
    for length in range(0, len(data), 7):
        with pytest.raises((tilework.InvalidProtobuf, tilework.InvalidGraph)):
            InferenceSession(data[:length])
    assert get_device(0).statistics.in_use == before


def test_an_unknown_operator_is_named() -> None:
    made = model([helper.make_node("Unheard", ["x"], ["y"], "the node")],
                 [info("x", FLOAT, [1])], [info("y", FLOAT, [1])])  # fmt: skip
    with pytest.raises(tilework.NotImplemented, match=r"Unheard.*the node"):
        InferenceSession(made)


def test_an_attribute_that_is_not_there_is_named() -> None:
    """Of a node that might join rows to a cache, which is looked for before anything is planned."""
    made = model([helper.make_node("Concat", ["x", "new"], ["y"], "the node")],
                 [info("x", FLOAT, [2]), info("new", FLOAT, [1])],
                 [info("y", FLOAT, [3])])  # fmt: skip
    with pytest.raises(tilework.InvalidGraph, match=r"the node.*axis"):
        InferenceSession(made).run(None, {"x": np.ones(2, "f4"), "new": np.ones(1, "f4")})


# -- what it says of itself ------------------------------------------------------------


def shapes_model() -> Any:
    nodes = [
        helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("a", "b", "c")
    ]
    unnamed = info("b", INT64, [None, 2])
    return model(
        nodes,
        [info("a", FLOAT, ["batch", 3]), unnamed, info("c", TensorProto.BOOL, [])],
        [info("a_out", FLOAT, ["batch", 3]), info("b_out", INT64, [None, 2]),
         info("c_out", TensorProto.BOOL, [])],
    )  # fmt: skip


def test_inputs_and_outputs_as_onnxruntime_shows_them() -> None:
    ours = InferenceSession(shapes_model())
    theirs = onnxruntime.InferenceSession(shapes_model().SerializeToString())
    for mine, other in (
        (ours.get_inputs(), theirs.get_inputs()),
        (ours.get_outputs(), theirs.get_outputs()),
    ):
        assert [(a.name, a.type, a.shape) for a in mine] == [
            (a.name, a.type, a.shape) for a in other
        ]
    a, b, c = X, np.array([[1, 2]]), np.array(True)
    results = ours.run(["c_out", "a_out", "b_out"], {"a": a, "b": b, "c": c})
    for result, wanted in zip(results, (c, a, b), strict=True):
        assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(result, wanted)


def test_metadata_options_and_providers(session: InferenceSession) -> None:
    assert session.get_modelmeta().producer_name == "test"
    assert session.get_modelmeta().graph_name == "made"
    assert session.get_providers() == ["TileworkExecutionProvider", "CPUExecutionProvider"]
    options = tilework.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = tilework.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.something", "1")
    with InferenceSession(linear(), options, providers=["CPUExecutionProvider"]) as one:
        assert one.device.threads == 1
        np.testing.assert_allclose(one.run(None, {"x": X}, tilework.RunOptions())[0], expected(X))
        assert one.get_session_options() is options
    with pytest.raises(AttributeError):
        options.intra_op_threads = 2  # type: ignore[attr-defined]
    options.intra_op_num_threads = -1
    with pytest.raises(tilework.InvalidArgument, match="-1"):
        InferenceSession(linear(), options)


def test_explains_its_plan(session: InferenceSession) -> None:
    text = session.explain({"x": (2, 3)})
    assert "f32_gemm" in text
    assert "matmul + relu" in text


# -- what is fed ------------------------------------------------------------


def test_arrays_of_any_layout_and_lists(session: InferenceSession) -> None:
    wide = np.zeros((2, 6), np.float32)
    wide[:, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    for fed in (
        np.asfortranarray(X), wide[:, ::2], X[::-1][::-1], read_only, X.tolist(),
        [[1, 2, 3], [4, 5, 6]],
    ):  # fmt: skip
        np.testing.assert_allclose(session.run(None, {"x": fed})[0], expected(X))
    assert session.run(["y"], {"x": np.zeros((0, 3), np.float32)})[0].shape == (0, 4)


def test_results_are_the_caller_s(session: InferenceSession) -> None:
    (first,) = session.run(None, {"x": X})
    kept = first.copy()
    session.run(None, {"x": X + 1})
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # writable


WRONG: list[tuple[Any, str]] = [
    ({}, r"\['x'\] are missing"),
    ({"z": X}, "'z'.*'x'"),
    ({"x": X, "z": X}, "'z'"),
    ({"x": X[0]}, r"rank.*'x'.*got 1.*expected 2.*batch, 3"),
    ({"x": X[:, :2]}, r"'x'.*axis 1 has 2, expected 3"),
    ({"x": X.astype(np.float64)}, r"'x'.*float64.*float32.*astype"),
    ({"x": X.astype(">f4")}, "'x'.*>f4"),
    ({"x": [[1, 2, 3], [4]]}, "'x'"),
    ({"x": ["a", "b"]}, "'x'"),
    ({"x": None}, "'x'"),
    ([X], "list"),
]


@pytest.mark.parametrize(("feeds", "words"), WRONG)
def test_wrong_feeds(session: InferenceSession, feeds: Any, words: str) -> None:
    before = session.device.statistics
    with pytest.raises(tilework.InvalidArgument, match=words) as caught:
        session.run(None, feeds)
    assert isinstance(caught.value, ValueError)
    assert session.device.statistics == before


def test_wrong_output_names(session: InferenceSession) -> None:
    with pytest.raises(tilework.InvalidArgument, match=r"'z'.*'y'"):
        session.run(["z"], {"x": X})
    with pytest.raises(tilework.InvalidArgument, match="list"):
        session.run("y", {"x": X})


def test_inputs_that_disagree_are_named() -> None:
    made = model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [info("a", FLOAT, ["n"]), info("b", FLOAT, ["n"])],
        [info("y", FLOAT, ["n"])],
    )
    with InferenceSession(made) as session:
        with pytest.raises(tilework.InvalidArgument, match="'a' and 'b' disagree about 'n': 3 and"):
            session.run(None, {"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)})
        y = session.run(None, {"a": X[0], "b": X[0]})[0]
        np.testing.assert_array_equal(y, X[0] * 2)


def test_an_index_outside_fails_the_run_and_nothing_else() -> None:
    made = model(
        [helper.make_node("Gather", ["table", "i"], ["y"], "look-up")],
        [info("i", INT64, ["n"])],
        [info("y", FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((9000, 2), np.float32), "table")],
    )
    with InferenceSession(made) as session:
        with pytest.raises(tilework.InvalidIndex, match=r"look-up.*index outside") as caught:
            session.run(None, {"i": np.array([1, 9000])})
        assert caught.value.kernel == "gather"
        assert isinstance(caught.value, tilework.InvalidArgument)  # what onnxruntime raises
        assert session.run(None, {"i": np.array([1, -1])})[0].shape == (2, 2)


def test_default_values_of_inputs_may_be_overridden() -> None:
    made = linear()
    made.graph.input.append(info("b", FLOAT, [4]))
    with InferenceSession(made) as session:
        assert [one.name for one in session.get_inputs()] == ["x"]
        assert [one.name for one in session.get_overridable_initializers()] == ["b"]
        np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))
        other = session.run(None, {"x": X, "b": np.full(4, 100, np.float32)})[0]
        theirs = onnxruntime.InferenceSession(made.SerializeToString())
        wanted = theirs.run(None, {"x": X, "b": np.full(4, 100, np.float32)})[0]
        np.testing.assert_allclose(other, wanted)
        np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))


def test_shapes_that_hang_on_what_is_fed() -> None:
    made = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [info("x", FLOAT, ["n"]), info("shape", INT64, ["rank"])],
        [info("y", FLOAT, None)],
    )
    with InferenceSession(made) as session:
        x = np.arange(6, dtype=np.float32)
        for shape in ((2, 3), (3, -1), (6,), (2, 3)):
            y = session.run(None, {"x": x, "shape": np.array(shape)})[0]
            np.testing.assert_array_equal(y, x.reshape(shape))
        with pytest.raises(tilework.InvalidArgument, match="reshaped"):
            session.run(None, {"x": x, "shape": np.array([4])})


# -- running beside others -------------------------------------------------------------------------


def test_threads_of_python_take_turns() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with InferenceSession(linear()) as one, InferenceSession(linear()) as two:

        def work(number: int) -> bool:
            x = np.full((1 + number % 7, 3), number, np.float32)
            (y,) = (one, two)[number % 2].run(None, {"x": x})
            return bool(np.array_equal(y, expected(x)))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(200)))


def test_a_replay_costs_little_python(session: InferenceSession) -> None:
    """What `run` adds to the bare submission: checks, two copies, a look-up; microseconds."""
    import time

    feeds = {"x": X}
    session.run(None, feeds)
    (graph,) = session._sessions.values()
    (program,) = graph.plan(feeds)._segments
    assert isinstance(program, Program)
    arena = graph._held.shared.arena
    assert arena is not None

    def least(action: Any) -> float:
        times = []
        for _ in range(400):
            began = time.perf_counter()
            action()
            times.append(time.perf_counter() - began)
        return min(times) * 1e6

    bare = least(lambda: session.device.submit(program, (arena,)))
    assert least(lambda: session.run(None, feeds)) - bare < 50


# -- the package ------------------------------------------------------------


def test_the_device_says_what_it_is() -> None:
    text = repr(tilework.device())
    assert "arena memory" in text
    assert "thread" in text
    assert tilework.device().reason in text


def test_ready_waits_for_the_threads() -> None:
    import asyncio

    assert asyncio.run(tilework.ready())


def test_importing_is_light() -> None:
    code = (
        "import sys; sys.path.insert(0, 'pyapp'); import tilework, json;"
        "print(json.dumps([m for m in ('numpy', 'wasmtime', 'tilework.onnx') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(found.stdout) == []
    assert set(tilework.__all__) <= set(dir(tilework))
    assert not {"sys", "Any", "import_module"} & set(dir(tilework))


def test_modules_that_are_named_after_the_package_need_no_import() -> None:
    code = (
        "import sys; sys.path.insert(0, 'pyapp'); import tilework;"
        "print(tilework.onnxruntime.__name__, tilework.onnx.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["tilework.onnxruntime", "tilework.onnx"]


def test_a_printed_session_says_what_it_takes_and_gives() -> None:
    with InferenceSession(linear().SerializeToString()) as session:
        assert str(session) == (
            "<InferenceSession: x tensor(float) [batch, 3] → y tensor(float) [batch, 4]>"
        )


def test_own_integers_of_a_page_are_taken_for_int64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NumPy's default integer has 32 bits; elsewhere int32 for int64 is a mistake."""
    nodes = [helper.make_node("Add", ["i", "i"], ["j"])]
    made = model(nodes, [info("i", INT64, [2])], [info("j", INT64, [2])])
    short = np.array([3, -4], np.int32)
    with InferenceSession(made) as session:
        with pytest.raises(tilework.InvalidArgument, match="actual int32, expected int64"):
            session.run(None, {"i": short})
        monkeypatch.setattr("tilework.onnx.feeds._OWN_INTEGERS", np.dtype(np.int32))
        [doubled] = session.run(None, {"i": short})
    assert doubled.dtype == np.int64
    assert doubled.tolist() == [6, -8]
