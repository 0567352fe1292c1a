"""Decoders whose caches grow: planned for many lengths at once, against onnxruntime at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

import tests.onnx.gpt as gpt
from tests.onnx.gpt import HEADS, LAYERS, SIZE, WIDTH, WORDS, Writer
from tests.onnx.rows import peer
from tilework.engine import stages
from tilework.engine.devices import get_device
from tilework.onnx.options import SessionOptions
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt, "ROOM", 256)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[stages.Stage]]:
    """Every stage that is planned, in order."""
    made: list[stages.Stage] = []

    class Counted(stages.Stage):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(stages, "Stage", Counted)
    yield made


def exported() -> bytes:
    """As PyTorch's exporter writes a decoder with a cache: positions and a causal mask from ranges
    over shapes, a padding mask that grows with the cache."""
    w = Writer()
    zero, one, two = (w.store(np.array(n)) for n in (0, 1, 2))
    last, axes = w.store(np.array([-1])), [w.store(np.array([n])) for n in (0, 1, 2, 3)]
    rows = w.op("Gather", w.op("Shape", "ids"), one)
    batch = w.op("Gather", w.op("Shape", "ids"), zero)
    past = w.op("Gather", w.op("Shape", "key_0"), two)
    keys = w.op("Gather", w.op("Shape", "mask"), one)
    place = w.op("Range", past, w.op("Add", past, rows), one)
    places = w.op("Unsqueeze", place, axes[0])
    x = w.op("Add", w.op("Gather", w.weight(WORDS, WIDTH), "ids"),
             w.op("Gather", w.weight(gpt.ROOM, WIDTH), places))  # fmt: skip
    shape = w.op("Concat", *(w.op("Unsqueeze", n, axes[0]) for n in (rows, keys)), axis=0)
    lowest = numpy_helper.from_array(np.array([-3e38], "f4"))
    full = w.op("ConstantOfShape", shape, value=lowest)
    column = w.op("Reshape", place, w.store(np.array([-1, 1])))
    ahead = w.op("Greater", w.op("Range", zero, keys, one), column)
    causal = w.op("Mul", full, w.op("Cast", ahead, to=TensorProto.FLOAT))
    extents = [w.op("Unsqueeze", n, axes[0]) for n in (batch, rows, keys)]
    wide = w.op("Concat", extents[0], axes[1], *extents[1:], axis=0)
    causal = w.op("Unsqueeze", w.op("Unsqueeze", causal, axes[0]), axes[0])
    causal = w.op("Expand", causal, wide)
    padding = w.op("Unsqueeze", w.op("Unsqueeze", "mask", axes[1]), axes[1])
    padded = w.op("Equal", w.op("Cast", padding, to=TensorProto.FLOAT), w.store(np.array(0, "f4")))
    mask = w.op("Where", w.op("Expand", padded, wide), w.store(np.array(-3e38, "f4")), causal)
    for layer in range(LAYERS):
        y = w.op("LayerNormalization", x, w.norm(), w.weight(WIDTH))
        form = w.op("Concat", w.op("Unsqueeze", batch, axes[0]), last,
                    w.store(np.array([HEADS])), w.store(np.array([SIZE])), axis=0)  # fmt: skip
        q, k, v = (
            w.op("Transpose", w.op("Reshape", w.op("MatMul", y, w.weight(WIDTH, WIDTH)), form),
                 perm=[0, 2, 1, 3])
            for _ in range(3)
        )  # fmt: skip
        k = w.op("Concat", f"key_{layer}", k, axis=2, out=[f"new_key_{layer}"])
        v = w.op("Concat", f"value_{layer}", v, axis=2, out=[f"new_value_{layer}"])
        held = w.op("Shape", k, start=2, end=3)
        seen = w.op("Slice", mask, axes[0], held, axes[3])
        scores = w.op("Mul", w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2])),
                      w.store(np.array(SIZE**-0.5, "f4")))  # fmt: skip
        z = w.op("MatMul", w.op("Softmax", w.op("Add", scores, seen), axis=-1), v)
        z = w.op("Reshape", w.op("Transpose", z, perm=[0, 2, 1, 3]), w.store(np.array([0, 0, -1])))
        x = w.op("Add", x, w.op("MatMul", z, w.weight(WIDTH, WIDTH)))
    w.op("MatMul", x, w.weight(WIDTH, WORDS), out=["logits"])
    fed = {"ids": gpt.IDS, "mask": (TensorProto.INT64, ["batch", "columns"])}
    return w.decoder(fed, HEADS)


def multi_head() -> bytes:
    """com.microsoft.MultiHeadAttention with a past, as onnxruntime fuses it."""
    w = Writer()
    x = w.op("Add", w.op("Gather", w.weight(WORDS, WIDTH), "ids"),
             w.op("Gather", w.weight(gpt.ROOM, WIDTH), "positions"))  # fmt: skip
    for layer in range(LAYERS):
        q, k, v = (w.op("MatMul", x, w.weight(WIDTH, WIDTH)) for _ in range(3))
        w.op("MultiHeadAttention", q, k, v, "", "", "", f"key_{layer}", f"value_{layer}",
             out=[f"a{layer}", f"new_key_{layer}", f"new_value_{layer}"], domain=gpt.MICROSOFT,
             num_heads=HEADS, unidirectional=1)  # fmt: skip
        x = w.op("Add", x, w.op("MatMul", f"a{layer}", w.weight(WIDTH, WIDTH)))
    w.op("MatMul", x, w.weight(WIDTH, WORDS), out=["logits"])
    return w.decoder({"ids": gpt.IDS, "positions": gpt.IDS}, HEADS)


MODELS = [gpt.gpt2, gpt.llama, gpt.plain, gpt.modern, exported, multi_head]


def follow(
    session: Any, value: Callable[[Any], Any], steps: list[int], batch: int = 2
) -> list[Any]:
    """The logits of so many rows at each step, of words that do not hang on the results."""
    words = np.random.default_rng(1)
    names = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    caches = [
        value(np.zeros([batch if n == "batch" else 0 if n == "past" else n for n in one.shape],
                       "f4"))
        for one in session.get_inputs()[2:]
    ]  # fmt: skip
    found, known = [], 0
    for rows in steps:
        ids = words.integers(0, WORDS, (batch, rows))
        second = np.tile(np.arange(known, known + rows), (batch, 1))
        if "mask" in names:
            second = np.ones((batch, known + rows), np.int64)
        feeds = dict(zip(names, [value(ids), value(second), *caches], strict=True))
        logits, *caches = session.run_with_ort_values(outputs, feeds)
        known += rows
        found.append(logits.numpy())
    return [*found, *(one.numpy() for one in caches)]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_many_lengths_have_one_plan(
    model: Callable[[], bytes], rows: int, planned: list[stages.Stage]
) -> None:
    content = model()
    steps = [5, *[rows] * (200 // rows)]
    batch = 2 if rows == 1 else 1  # all that onnxruntime's GroupQueryAttention takes
    wanted = follow(peer(content), onnxruntime.OrtValue.ortvalue_from_numpy, steps, batch)
    with InferenceSession(content) as ours:
        found = follow(ours, OrtValue.ortvalue_from_numpy, steps, batch)
        assert ours.where() == "kernel"
        # The prompt, the first step, up to 128 rows and up to 256; one more where a width is met.
        assert len(planned) <= 5
        del planned[:]
        follow(ours, OrtValue.ortvalue_from_numpy, steps, batch)
        assert not planned
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_a_grown_plan_gives_the_same_bits(
    model: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, steps = model(), [4, *[1] * 20, 2, 2, 2, 2, *[1] * 10]
    with InferenceSession(content) as ours:
        found = follow(ours, OrtValue.ortvalue_from_numpy, steps)
    monkeypatch.setattr(stages, "growing_axes", lambda before, now: None)
    with InferenceSession(content) as ours:
        wanted = follow(ours, OrtValue.ortvalue_from_numpy, steps)
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_arrays_and_bindings_share_the_plan(planned: list[stages.Stage]) -> None:
    content = gpt.plain()
    reference = peer(content)
    with InferenceSession(content) as ours:
        names = [one.name for one in ours.get_inputs()]
        outputs = [one.name for one in ours.get_outputs()]
        caches = [np.zeros((1, HEADS, 0, SIZE), "f4") for _ in names[2:]]
        for known in range(40):
            ids = np.array([[known % WORDS]], np.int64)
            feeds = dict(zip(names, [ids, np.array([[known]], np.int64), *caches], strict=True))
            wanted = reference.run(None, feeds)
            if known % 2:
                found = ours.run(None, feeds)
            else:
                binding = ours.io_binding()
                for name, array in feeds.items():
                    binding.bind_cpu_input(name, array)
                for name in outputs:
                    binding.bind_output(name)
                ours.run_with_iobinding(binding)
                found = binding.copy_outputs_to_cpu()
            for mine, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
            caches = found[1:]
        # Without a past, with one row, and the growing ones; once more where tensors stay.
        assert len(planned) <= 8


def test_memory_is_flat() -> None:
    content = gpt.gpt2()
    with InferenceSession(content) as ours:
        follow(ours, OrtValue.ortvalue_from_numpy, [5, *[1] * 200])
        before = ours.device.statistics
        follow(ours, OrtValue.ortvalue_from_numpy, [5, *[1] * 200])
        assert ours.device.statistics.in_use == before.in_use
        assert ours.device.statistics.reserved == before.reserved


def test_a_length_among_the_inputs(planned: list[stages.Stage]) -> None:
    """GroupQueryAttention whose total length is fed, as by onnxruntime's generator."""
    w = Writer()
    q, k, v = (w.op("MatMul", "x", w.weight(WIDTH, n * SIZE)) for n in (HEADS, 2, 2))
    w.op("GroupQueryAttention", q, k, v, "key", "value", "seqlens", "total",
         out=["y", "new_key", "new_value"], domain=gpt.MICROSOFT, num_heads=HEADS,
         kv_num_heads=2)  # fmt: skip
    cache = (TensorProto.FLOAT, [1, 2, "past", SIZE])
    content = w.model(
        {"x": (TensorProto.FLOAT, [1, "rows", WIDTH]), "seqlens": (TensorProto.INT32, [1]),
         "total": (TensorProto.INT32, []), "key": cache, "value": cache},
        {"y": (TensorProto.FLOAT, [1, "rows", WIDTH]), "new_key": cache, "new_value": cache},
    )  # fmt: skip
    reference = peer(content)
    random = np.random.default_rng(0)
    caches = [np.zeros((1, 2, 0, SIZE), "f4")] * 2
    with InferenceSession(content) as ours:
        for total in range(3, 33, 3):
            feeds = {
                "x": random.standard_normal((1, 3, WIDTH)).astype("f4"),
                "seqlens": np.array([total - 1], np.int32),
                "total": np.array(total, np.int32),
                "key": caches[0],
                "value": caches[1],
            }
            wanted = reference.run(None, feeds)
            found = ours.run(None, feeds)
            for mine, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
            caches = found[1:]
        assert len(planned) <= 4


def test_a_small_table_is_not_folded_for_one_length(
    planned: list[stages.Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A causal mask of a few elements, sliced by the length, which the host could slice too."""
    monkeypatch.setattr(gpt, "ROOM", 30)
    content, steps = gpt.plain(), [3, *[1] * 27]
    with InferenceSession(content) as ours:
        found = follow(ours, OrtValue.ortvalue_from_numpy, steps)
    wanted = follow(peer(content), onnxruntime.OrtValue.ortvalue_from_numpy, steps)
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
    assert len(planned) <= 5


@pytest.mark.parametrize("place", ["cpu", "tilework"])
def test_one_buffer_is_past_and_present(place: str, planned: list[stages.Stage]) -> None:
    """GroupQueryAttention's caches of a fixed size, bound as inputs and as outputs: only the mask
    grows."""
    content, most = gpt.llama(), 48
    reference = peer(content)
    # Values of "tilework" are on the device that was opened first: the session is to be there too.
    options = SessionOptions(intra_op_num_threads=get_device().threads)
    with InferenceSession(content, options) as ours:
        names = [one.name for one in ours.get_inputs()]
        outputs = [one.name for one in ours.get_outputs()]
        shape = (1, gpt.SHARED, most, SIZE)
        held = [OrtValue.ortvalue_from_numpy(np.zeros(shape, "f4"), place) for _ in names[2:]]
        caches = [np.zeros(shape, "f4") for _ in names[2:]]
        known = count = 0
        for rows in (4, *[1] * 40):
            ids = np.full((1, rows), known % WORDS, np.int64)
            known += rows
            mask = np.ones((1, known), np.int64)
            binding = ours.io_binding()
            binding.bind_cpu_input("ids", ids)
            binding.bind_cpu_input("mask", mask)
            for name, value in zip(names[2:], held, strict=True):
                binding.bind_ortvalue_input(name, value)
            binding.bind_output("logits")
            for name, value in zip(outputs[1:], held, strict=True):
                binding.bind_ortvalue_output(name, value)
            before = ours.device.statistics
            ours.run_with_iobinding(binding)
            if place == "tilework" and len(planned) == count:  # written where they are
                after = ours.device.statistics
                assert after.allocated - before.allocated < 4096
                assert after.copied_in - before.copied_in == ids.nbytes + mask.nbytes
            count = len(planned)
            feeds = dict(zip(names, [ids, mask, *caches], strict=True))
            wanted, *caches = reference.run(None, feeds)
            found = binding.copy_outputs_to_cpu()[0]
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        assert len(planned) <= 4
        mine, other = (cache[:, :, :known] for cache in (held[0].numpy(), caches[0]))
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-5)


def test_what_runs_on_the_host_is_planned_for_each_length() -> None:
    """A node without a kernel, whose reference needs arrays of plain shapes."""
    w = Writer()
    w.op("Concat", "past", "new", axis=1, out=["all"])
    w.op("Mul", "all", w.op("Det", "square"), out=["y"])
    cache, new = ((TensorProto.FLOAT, [1, rows, 4]) for rows in ("past", 1))
    content = w.model(
        {"past": cache, "new": new, "square": (TensorProto.FLOAT, [3, 3])},
        {"y": (TensorProto.FLOAT, [1, "n", 4]), "all": cache},
    )
    reference = peer(content)
    with InferenceSession(content) as ours:
        past = np.zeros((1, 2, 4), "f4")
        for step in range(8):
            feeds = {"past": past, "new": np.full((1, 1, 4), step, "f4"),
                     "square": np.eye(3, dtype="f4") * 2}  # fmt: skip
            wanted, past = reference.run(None, feeds)
            np.testing.assert_allclose(ours.run(None, feeds)[0], wanted)
