"""Caches in float16: they lie in float32 where they grow, so that a token widens its own rows only;
nobody sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tests.onnx.gpt as gpt
from tests.onnx.gpt import SIZE, gpt2, halved, llama, merged, modern, plain
from tests.onnx.merge import SWITCH
from tests.onnx.rows import peer
from tests.onnx.test_growing_cache import exported, multi_head
from tilework.engine.resident import Resident
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue
from tilework.plan.step import Dispatch

pytestmark = pytest.mark.onnx


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt, "ROOM", 256)


def given(session: Any, known: int, word: int, caches: list[Any]) -> dict[str, Any]:
    """What a word behind so many others is fed with."""
    names = [one.name for one in session.get_inputs()]
    first = caches[0]
    batch = (first.shape() if isinstance(first, OrtValue) else first.shape)[-4]
    second = np.full((batch, 1), known, np.int64)
    if "mask" in names:
        second = np.ones((batch, known + 1), np.int64)
    switch = [np.array([known > 0])] if SWITCH in names else []
    fed = [np.full((batch, 1), word, np.int64), second, *caches, *switch]
    return dict(zip(names, fed, strict=True))


class Pair:
    """Runs whose caches stay on the device, beside runs from arrays to arrays."""

    def __init__(self, content: bytes) -> None:
        self.session = InferenceSession(content)

    def nothing(self, batch: int = 1) -> list[Any]:
        shapes = [one.shape for one in self.session.get_inputs()[2:] if one.name != SWITCH]
        return [
            np.zeros([n if isinstance(n, int) else 0 if n == "past" else batch for n in shape],
                     np.float16) for shape in shapes
        ]  # fmt: skip

    def step(
        self, known: int, word: int, mine: list[Any], arrays: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        feeds = given(self.session, known, word, mine)
        values = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
                  for n, v in feeds.items()}  # fmt: skip
        logits, *mine = self.session.run_with_ort_values(None, values)
        wanted, *arrays = self.session.run(None, given(self.session, known, word, arrays))
        close(logits.numpy(), wanted)
        return mine, arrays

    def walk(self, words: int, batch: int = 1) -> tuple[list[Any], list[Any]]:
        mine, arrays = self.nothing(batch), self.nothing(batch)
        for known in range(words):
            mine, arrays = self.step(known, known % 7, mine, arrays)
        return mine, arrays


def close(mine: Any, other: Any) -> None:
    assert mine.dtype == other.dtype == np.float16
    np.testing.assert_allclose(mine.astype("f4"), other.astype("f4"), rtol=2e-2, atol=2e-2)


def same(values: list[Any], arrays: list[Any]) -> None:
    for value, array in zip(values, arrays, strict=True):
        assert value.data_type() == "tensor(float16)"
        assert value.tensor_size_in_bytes() == array.nbytes
        close(value.numpy(), array)


MODELS = [plain, exported, multi_head, llama, merged, modern, gpt2]


@pytest.mark.parametrize("model", MODELS)
def test_pasts_are_kept_and_branched(model: Callable[[], bytes]) -> None:
    pair = Pair(halved(model()))
    with pair.session:
        held = [pair.walk(9)]
        for known in range(9, 16):
            held.append(pair.step(known, known, *held[-1]))
        ways = [held[-1], held[-1], held[3]]
        for step in range(5):
            ways = [pair.step(16 + step - 4 * (n == 2), 3 * n + step, *way)
                    for n, way in enumerate(ways)]  # fmt: skip
        for way in (*held, *ways):
            same(*way)


@pytest.mark.parametrize("model", [plain, exported, llama, merged, modern])
def test_a_token_widens_its_own_rows(model: Callable[[], bytes]) -> None:
    pair = Pair(halved(model()))
    with pair.session:
        mine, arrays = pair.walk(40)
        feeds = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
                 for n, v in given(pair.session, 40, 1, mine).items()}  # fmt: skip
        places = [one.held().buffer.address for one in mine]
        _, *mine = pair.session.run_with_ort_values(None, feeds)
        assert [one.held().buffer.address for one in mine] == places
        (used,) = pair.session._sessions.values()
        (plan,) = used.latest()
        row = arrays[0].nbytes // 40
        steps = [step for step in plan.draft.steps if isinstance(step, Dispatch)]
        read = [step.bindings[0].nbytes for step in steps
                if step.kernel.name == "widen_half" and step.bindings[0] is not None]  # fmt: skip
        assert read and max(read) < 8 * row  # a cache has 40


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("model", [plain, llama, merged])
def test_beams_are_reordered(model: Callable[[], bytes], on_device: bool) -> None:
    node = helper.make_node("Gather", ["x", "order"], ["y"], axis=0)
    w = gpt.Writer()
    w.nodes.append(node)
    form = [3, "heads", "n", SIZE]
    reorder = w.model({"x": (TensorProto.FLOAT16, form), "order": (TensorProto.INT64, [3])},
                      {"y": (TensorProto.FLOAT16, form)})  # fmt: skip
    pair = Pair(halved(model()))
    random = np.random.default_rng(0)
    with pair.session, InferenceSession(reorder) as gather:
        mine, arrays = pair.nothing(3), pair.nothing(3)
        for known in range(7):
            mine, arrays = pair.step(known, int(random.integers(20)), mine, arrays)
            order = random.integers(0, 3, 3)
            fed = OrtValue.ortvalue_from_numpy(order)
            same(mine, arrays)
            arrays = [one[order] for one in arrays]
            if on_device:
                mine = [gather.run_with_ort_values(None, {"x": one, "order": fed})[0]
                        for one in mine]  # fmt: skip
            else:
                mine = [one.numpy()[order] for one in mine]


def test_written_and_read_elsewhere() -> None:
    """A past is overwritten, read by another model, by NumPy, by a run for the host."""
    pair = Pair(halved(plain()))
    form = ["b", "h", "n", "s"]
    w = gpt.Writer()
    w.op("Mul", w.op("Transpose", "x", perm=[0, 2, 1, 3]), "two", out=["y"])
    w.op("Identity", "x", out=["z"])
    w.stored.append(numpy_helper.from_array(np.array(2, np.float16), "two"))
    half = TensorProto.FLOAT16
    content = w.model({"x": (half, form)}, {"y": (half, form), "z": (half, form)})
    with pair.session, InferenceSession(content) as twice:
        past, known = pair.walk(6)
        held = past[0].held()
        assert isinstance(held, Resident)
        assert held.shelf is not None
        doubled, as_it_is = twice.run_with_ort_values(None, {"x": past[0]})
        close(doubled.numpy(), 2 * known[0].transpose(0, 2, 1, 3))
        close(as_it_is.numpy(), known[0])
        for one in twice.run(None, {"x": past[0]})[1:]:
            close(one, known[0])
        mine, arrays = pair.step(6, 3, past, known)
        past[0].update_inplace(np.full(past[0].shape(), 7, np.float16))
        np.testing.assert_array_equal(past[0].numpy(), np.float16(7))
        same(mine, arrays)
        names = [one.name for one in pair.session.get_outputs()]
        some = pair.session.run_with_ort_values(names[:2], {
            n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
            for n, v in given(pair.session, 7, 6, mine).items()})  # fmt: skip
        wanted = pair.session.run(names[:2], given(pair.session, 7, 6, arrays))
        for value, array in zip(some, wanted, strict=True):
            close(value.numpy(), array)
        same(mine, arrays)


def test_a_long_text_is_as_onnxruntime_has_it() -> None:
    """Past the room of the first shelf; numbers are what float16 holds."""
    content = halved(plain())
    reference = peer(content)
    with InferenceSession(content) as session:
        caches = [np.zeros((1, gpt.HEADS, 0, SIZE), np.float16)] * (2 * gpt.LAYERS)
        mine, other = list(map(OrtValue.ortvalue_from_numpy, caches)), caches
        for known in range(150):
            feeds = given(session, known, known % 11, mine)
            values = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
                      for n, v in feeds.items()}  # fmt: skip
            logits, *mine = session.run_with_ort_values(None, values)
            wanted, *other = reference.run(None, given(session, known, known % 11, other))
            np.testing.assert_allclose(logits.numpy().astype("f4"), wanted.astype("f4"),
                                       rtol=5e-2, atol=5e-2)  # fmt: skip
        same(mine, other)


def test_sequences_of_several_lengths_are_copied() -> None:
    """GroupQueryAttention with lengths that leave rows of the past out, which lies in float32."""
    pair = Pair(halved(llama()))
    names = [one.name for one in pair.session.get_inputs()]
    mine, arrays = pair.nothing(2), pair.nothing(2)
    masks = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 1, 1]], np.int64)
    words = np.arange(18, dtype=np.int64).reshape(2, 9)
    with pair.session:
        for first, last in ((0, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)):
            fed = [words[:, first:last].copy(), masks[:, :last].copy()]
            given = [one if isinstance(one, OrtValue) else OrtValue.ortvalue_from_numpy(one)
                     for one in (*fed, *mine)]  # fmt: skip
            values = dict(zip(names, given, strict=True))
            logits, *mine = pair.session.run_with_ort_values(None, values)
            feeds = dict(zip(names, [*fed, *arrays], strict=True))
            wanted, *arrays = pair.session.run(None, feeds)
            close(logits.numpy(), wanted)
            same(mine, arrays)
