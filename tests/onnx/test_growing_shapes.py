"""What exporters make of a cache's length: shapes, ranges, masks and slices, planned once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from tests.onnx.gpt import Writer
from tests.onnx.rows import peer
from tilework.engine import stages
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


def ints(w: Writer, *values: int) -> str:
    return w.store(np.array(values, np.int64))


def scalar(w: Writer, value: int) -> str:
    return w.store(np.array(value, np.int64))


def expanded(w: Writer, rows: str) -> None:
    """Expand whose -1 means the axis' own extent, in PyTorch's roundabout words."""
    wanted = w.op("Concat", ints(w, 1), ints(w, -1), rows, ints(w, 4), axis=0)
    one = numpy_helper.from_array(np.array([1], np.int64))
    ones = w.op("ConstantOfShape", w.op("Shape", wanted), value=one)
    own = w.op("Equal", wanted, w.op("Mul", ones, ints(w, -1)))
    w.op("Expand", w.store(np.ones((1, 2, 1, 4), "f4")), w.op("Where", own, ones, wanted),
         out=["y"])  # fmt: skip


def triangle(w: Writer, rows: str) -> None:
    lowest = numpy_helper.from_array(np.array([-5.0], "f4"))
    shape = w.op("Concat", ints(w, 1), rows, axis=0)
    mask = w.op("ConstantOfShape", shape, value=lowest)
    w.op("Trilu", mask, scalar(w, 1), upper=1, out=["y"])


def triangle_that_moves(w: Writer, rows: str) -> None:
    before = w.op("Sub", w.op("Squeeze", rows), scalar(w, 2))
    w.op("Trilu", w.op("Transpose", "all", perm=[0, 1, 3, 2]), before, upper=0, out=["y"])


def quotients(w: Writer, rows: str) -> None:
    first = w.op("Max", w.op("Sub", rows, ints(w, 3)), ints(w, 0))
    end = w.op("Add", first, w.op("Div", rows, ints(w, 2)))
    w.op("Slice", "all", first, end, ints(w, 2), out=["y"])


def ranges(w: Writer, rows: str) -> None:
    end = w.op("Squeeze", rows)
    place = w.op("Range", scalar(w, 0), end, scalar(w, 1))
    seen = w.op("LessOrEqual", place, w.op("Sub", end, scalar(w, 2)))
    weights = w.op("Unsqueeze", w.op("Cast", seen, to=TensorProto.FLOAT), ints(w, 0))
    w.op("MatMul", weights, "all", out=["y"])


def backwards(w: Writer, rows: str) -> None:
    end = w.op("Squeeze", rows)
    place = w.op("Range", end, scalar(w, 0), scalar(w, -1))
    w.op("Mul", w.op("Unsqueeze", w.op("Cast", place, to=TensorProto.FLOAT), ints(w, 1)), "all",
         out=["y"])  # fmt: skip


def softmax(w: Writer, rows: str) -> None:
    """Attention that no pass knows."""
    scores = w.op("MatMul", "new", w.op("Transpose", "all", perm=[0, 1, 3, 2]))
    shares = w.op("Softmax", scores, axis=-1)
    shares = w.op("Add", shares, w.op("ReduceMean", shares, ints(w, 3)))
    w.op("MatMul", shares, "all", out=["y"])


def rotated(w: Writer, rows: str) -> None:
    w.op("Split", "all", num_outputs=2, axis=3, out=["first", "second"])
    w.op("Concat", w.op("Neg", "second"), "first", axis=3, out=["y"])


def repeated(w: Writer, rows: str) -> None:
    """Heads that share keys, as Llama's exports write them."""
    each = w.op("Unsqueeze", "all", ints(w, 2))
    shape = w.op("Concat", ints(w, 1, 2, 3), rows, ints(w, 4), axis=0)
    flat = w.op("Concat", ints(w, 1, 6), rows, ints(w, 4), axis=0)
    w.op("Reshape", w.op("Expand", each, shape), flat, out=["y"])


def merged(w: Writer, rows: str) -> None:
    flat = w.op("Reshape", w.op("Transpose", "all", perm=[0, 2, 1, 3]), ints(w, 0, 0, -1))
    w.op("MatMul", flat, w.store(np.ones((8, 5), "f4")), out=["y"])


def sums(w: Writer, rows: str) -> None:
    w.op("CumSum", "all", scalar(w, 2), out=["y"])


def last(w: Writer, rows: str) -> None:
    w.op("Gather", "all", w.op("Sub", rows, ints(w, 1)), axis=2, out=["y"])


def largest(w: Writer, rows: str) -> None:
    w.op("ReduceMax", "all", ints(w, 2), out=["y"])


def padded(w: Writer, rows: str) -> None:
    w.op("Pad", "all", ints(w, 0, 0, 1, 0, 0, 0, 0, 0), out=["y"])


FORMS = [expanded, triangle, triangle_that_moves, quotients, ranges, backwards, softmax, rotated,
         repeated, merged, sums, last, largest, padded]  # fmt: skip


def width(w: Writer, rows: str) -> None:
    """A number of floats that hangs on the length: planned for each."""
    w.op("Div", "all", w.op("Sqrt", w.op("Cast", rows, to=TensorProto.FLOAT)), out=["y"])


@pytest.mark.parametrize("form", [*FORMS, width])
def test_what_hangs_on_a_length_is_planned_once(
    form: Callable[[Writer, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Any] = []

    class Counted(stages.Stage):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            planned.append(self)

    monkeypatch.setattr(stages, "Stage", Counted)
    w = Writer()
    w.op("Concat", "past", "new", axis=2, out=["all"])
    form(w, w.op("Shape", "all", start=2, end=3))
    cache, new = ((TensorProto.FLOAT, [1, 2, rows, 4]) for rows in ("past", 1))
    content = w.model(
        {"past": cache, "new": new}, {"all": cache, "y": (TensorProto.FLOAT, None)}, opset=18
    )
    reference = peer(content)
    random = np.random.default_rng(0)
    past = random.standard_normal((1, 2, 2, 4)).astype("f4")
    with InferenceSession(content) as ours:
        for _ in range(20):
            row = random.standard_normal((1, 2, 1, 4)).astype("f4")
            feeds = {"past": past, "new": row}
            wanted = reference.run(None, feeds)
            for mine, other in zip(ours.run(None, feeds), wanted, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
            past = wanted[0]
        assert ours.where() == "kernel"
    if form is width:
        assert len(planned) >= 20
    else:  # the first, and those for many; a bound may be met on the way
        assert len(planned) <= 4
