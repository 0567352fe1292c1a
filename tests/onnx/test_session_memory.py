"""What sessions hold: external data and its pieces, device memory, and giving it back."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import tilework
from tests.onnx.linear import FLOAT, INT64, X, expected, external, info, linear, model
from tilework.engine.devices import get_device
from tilework.onnx.session import InferenceSession
from tools.minilm import write_pieces

pytestmark = pytest.mark.onnx


@pytest.fixture
def session() -> Any:
    with InferenceSession(linear()) as made:
        yield made
        # Whatever the test did, the session still works.
        np.testing.assert_allclose(made.run(None, {"x": X})[0], expected(X))


# -- external data ------------------------------------------------------------


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    with InferenceSession(external(tmp_path)) as session:
        np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))


def test_external_data_in_pieces(tmp_path: Path) -> None:
    path = external(tmp_path)
    write_pieces(tmp_path / "model.onnx.data", tmp_path, 40)
    (tmp_path / "model.onnx.data").unlink()
    with InferenceSession(path) as session:
        np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))
    before = get_device(0).statistics.in_use
    (tmp_path / "model.onnx.data.001").write_bytes(bytes(40))
    with pytest.raises(tilework.InvalidProtobuf, match=r"data\.001.*damaged"):
        InferenceSession(path)
    (tmp_path / "model.onnx.data.001").unlink()
    with pytest.raises(tilework.NoSuchFile, match=r"data\.001"):
        InferenceSession(path)
    (tmp_path / "model.onnx.data.json").unlink()
    with pytest.raises(tilework.NoSuchFile, match=r"model\.onnx\.data"):
        InferenceSession(path)
    assert get_device(0).statistics.in_use == before


def test_external_data_handed_over(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = path.with_name("model.onnx.data").read_bytes()
    content = path.read_bytes()
    device = get_device(0)
    before = device.statistics.in_use
    with device.allocate(len(data), "weights") as buffer:
        buffer.write(data)
        for given in (
            {"model.onnx.data": data},
            {"model.onnx.data": path.with_name("model.onnx.data")},
            {"model.onnx.data": buffer},
            buffer,
        ):
            with InferenceSession(content, external_data=given) as session:
                np.testing.assert_allclose(session.run(None, {"x": X})[0], expected(X))
        assert buffer.read() == data  # it stays the caller's
    assert device.statistics.in_use == before
    with pytest.raises(tilework.NoSuchFile, match=r"model\.onnx\.data"):
        InferenceSession(content)
    with pytest.raises(tilework.NoSuchFile, match=r"model\.onnx\.data.*'other'"):
        InferenceSession(content, external_data={"other": data})
    with pytest.raises(tilework.InvalidProtobuf, match=r"model\.onnx\.data"):
        InferenceSession(content, external_data={"model.onnx.data": data[:-1]})
    with pytest.raises(tilework.InvalidArgument, match="list"):
        InferenceSession(content, external_data=[data])  # type: ignore[arg-type]


def test_external_data_does_not_leave_the_folder(tmp_path: Path) -> None:
    path = external(tmp_path)
    content = path.read_bytes().replace(b"model.onnx.data", b"../.onnx.dataaa")
    with pytest.raises(tilework.InvalidArgument, match=r"\.\."):
        InferenceSession(content, external_data={"../.onnx.dataaa": b""})


# -- memory ------------------------------------------------------------


def test_two_hundred_sessions_leave_memory_flat(tmp_path: Path) -> None:
    path = external(tmp_path)
    device = get_device(0)

    def once(number: int) -> None:
        session = InferenceSession(path)
        for rows in (1 + number % 5, 100):
            session.run(None, {"x": np.ones((rows, 3), np.float32)})
        if number % 3 == 0:
            session.close()

    once(0)
    gc.collect()
    before = device.statistics
    for number in range(200):
        once(number)
    gc.collect()
    after = device.statistics
    assert (after.in_use, after.spans) == (before.in_use, before.spans)
    assert after.reserved == before.reserved


def test_a_closed_session_says_so() -> None:
    session = InferenceSession(linear())
    session.run(None, {"x": X})
    session.close()
    session.close()
    with pytest.raises(tilework.Fail, match="closed"):
        session.run(None, {"x": X})


def test_many_shapes_stay_within_bounds() -> None:
    device = get_device(0)
    with InferenceSession(linear()) as session:
        for rows in range(1, 301):
            session.run(None, {"x": np.ones((rows, 3), np.float32)})
            if rows == 100:
                before = device.statistics
        # Plans of shapes long gone are dropped; only the arena may have grown.
        assert device.statistics.spans <= before.spans
        assert device.statistics.in_use - before.in_use < 300 * 4 * 8


def test_out_of_memory_is_typed_and_survived(session: InferenceSession) -> None:
    made = model(
        [helper.make_node("Expand", ["x", "shape"], ["h"]), helper.make_node("Exp", ["h"], ["e"]),
         helper.make_node("Add", ["e", "y"], ["z"])],
        [info("x", FLOAT, [1]), info("shape", INT64, [1]), info("y", FLOAT, ["n"])],
        [info("z", FLOAT, ["n"])],
    )  # fmt: skip
    device = get_device(0)
    feeds = {"x": X[0, :1], "shape": np.array([5]), "y": X[0, :1]}
    with InferenceSession(made) as small:
        small.run(None, feeds)  # the kernels are loaded once and stay
    before = device.statistics.in_use
    with InferenceSession(made) as large:
        feeds["shape"] = np.array([1 << 30])
        with pytest.raises(tilework.OutOfMemory):
            large.run(None, feeds)
        feeds["shape"] = np.array([5])
        assert large.run(None, feeds)[0].shape == (5,)
    assert device.statistics.in_use == before
