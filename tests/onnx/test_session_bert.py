"""Whole BERT encoders through sessions, against onnxruntime: numbers, fusions, one submission.

The small ones are written by the demo's exporter (LayerNormalization as one operator and as nine)
and in the spelling of SDPA exports; the real MiniLM is the demo's own file.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.test_bert import config, feeds, weights
from tilework.engine.devices import get_device
from tilework.engine.plan import Plan
from tilework.onnx.session import InferenceSession
from tilework.plan.step import Dispatch, HostStep
from tools.minilm import export
from tools.project import BUILD

pytestmark = pytest.mark.onnx

MINILM = BUILD / "models" / "minilm" / "model.onnx"


def plan_of(session: InferenceSession, fed: dict[str, Any]) -> tuple[Plan, dict[str, int]]:
    """The plan, and how often each rewrite fired at load and for the shapes."""
    (graph,) = session._sessions.values()
    plan = graph.plan(fed)
    counts = dict(graph.fired.counts)
    for rule, count in plan.draft.fired.counts.items():
        counts[rule] = counts.get(rule, 0) + count
    return plan, counts


def kernels(plan: Plan) -> list[str]:
    assert not any(isinstance(step, HostStep) for step in plan.draft.steps)
    return [step.kernel.name for step in plan.draft.steps if isinstance(step, Dispatch)]


@pytest.fixture(scope="module", params=[False, True], ids=["opset17", "opset14"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = config(2)
    return export(made, weights(made), tmp_path_factory.mktemp("bert"), decomposed=request.param)


@pytest.mark.parametrize("threads", [1, 2])
def test_small_bert(model: Path, threads: int) -> None:
    options = tilework.SessionOptions(intra_op_num_threads=threads)
    theirs = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with InferenceSession(model, options) as ours:
        for batch, length in ((1, 5), (3, 16), (2, 1), (1, 5)):
            fed = feeds(batch, length)
            for result, right in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
                assert result.shape == right.shape
                np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-4)


def test_small_bert_is_fused_whole(model: Path) -> None:
    with InferenceSession(model) as session:
        plan, counts = plan_of(session, feeds(3, 16))
    made = kernels(plan)
    assert counts["attention"] == made.count("f32_attention") == 2
    assert made.count("f32_layer_norm") == 5
    assert made.count("f32_gemm") == 8  # four a layer: joined projections, output, two dense
    assert "strided_copy" not in made  # no transpose is executed
    assert "f32_gemm_pack_b" not in made  # weights are packed before
    assert counts["gelu"] == counts["matmul + gelu"] == 2
    assert counts["matmul + residual"] == 4
    assert len(plan.draft.segments()) == 1  # one submission


# -- as SDPA exports write it ------------------------------------------------------------


def sdpa_model(hidden: int = 24, heads: int = 3) -> Any:
    """One layer of attention: scale from the shape, √scale on both sides, a boolean mask."""
    random = np.random.default_rng(5)
    stored: list[Any] = []
    nodes: list[Any] = []

    def keep(array: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(array), f"c{len(stored)}"))
        return str(stored[-1].name)

    def op(kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name, **attrs))
        return name

    def i64(*values: int) -> str:
        return keep(np.array(values, np.int64))

    def f32(value: float) -> str:
        return keep(np.array(value, np.float32))

    def project(perm: list[int]) -> str:
        weight = keep((random.standard_normal((hidden, hidden)) * 0.2).astype(np.float32))
        bias = keep(random.standard_normal(hidden).astype(np.float32))
        y = op("Add", op("MatMul", "x", weight), bias)
        y = op("Reshape", y, i64(0, -1, heads, hidden // heads))
        return op("Transpose", y, perm=perm)

    q, k, v = project([0, 2, 1, 3]), project([0, 2, 1, 3]), project([0, 2, 1, 3])
    size = op("Slice", op("Shape", q), i64(-1), i64(2**31 - 1))
    root = op("Sqrt", op("Cast", size, to=TensorProto.FLOAT))
    scale = op("Sqrt", op("Div", f32(1.0), root))
    k = op("Transpose", k, perm=[0, 1, 3, 2])
    scores = op("MatMul", op("Mul", q, scale), op("Mul", k, scale))
    wide = op("Unsqueeze", op("Cast", "mask", to=TensorProto.BOOL), i64(1, 2))
    hidden_keys = op("Where", wide, f32(0.0), f32(float(np.finfo(np.float32).min)))
    weights_ = op("Softmax", op("Add", scores, hidden_keys), axis=-1)
    y = op("Transpose", op("MatMul", weights_, v), perm=[0, 2, 1, 3])
    y = op("Reshape", y, i64(0, -1, hidden))
    y = op("Add", op("Add", op("MatMul", y, keep(np.eye(hidden, dtype=np.float32))),
                     keep(np.zeros(hidden, np.float32))), "x")  # fmt: skip
    inner = op("Mul", op("Mul", y, op("Add", op("Erf", op("Mul", y, f32(math.sqrt(0.5)))),
                                      f32(1.0))), f32(0.5))  # fmt: skip
    nodes.append(helper.make_node("Identity", [inner], ["out"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "sdpa",
        [value("x", TensorProto.FLOAT, ["b", "s", hidden]),
         value("mask", TensorProto.INT64, ["b", "s"])],
        [value("out", TensorProto.FLOAT, ["b", "s", hidden])],
        stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_sdpa_spelling() -> None:
    made = sdpa_model()
    theirs = onnxruntime.InferenceSession(made.SerializeToString())
    fed = {
        "x": np.random.default_rng(1).standard_normal((2, 7, 24)).astype(np.float32),
        "mask": np.array([[1] * 7, [1] * 4 + [0] * 3]),
    }
    with InferenceSession(made) as session:
        (result,), (right,) = session.run(None, fed), theirs.run(None, fed)
        np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-5)
        plan, counts = plan_of(session, fed)
    assert counts["attention"] == counts["projections joined"] == 1
    made_of = kernels(plan)
    assert made_of.count("f32_gemm") == 2
    assert "strided_copy" not in made_of


# -- MiniLM ------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> Any:
    assert MINILM.is_file(), "run: python3 build.py build"
    with InferenceSession(MINILM) as session:
        yield session


def tokens(batch: int, length: int) -> dict[str, Any]:
    random = np.random.default_rng(batch * 1000 + length)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length - length // 3 :] = 0
    return {
        "input_ids": random.integers(0, 30000, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, length), np.int64),
    }


@pytest.mark.parametrize(("batch", "length"), [(1, 16), (16, 24), (1, 128), (2, 256)])
def test_minilm_is_onnxruntime_s(minilm: InferenceSession, batch: int, length: int) -> None:
    theirs = onnxruntime.InferenceSession(str(MINILM), providers=["CPUExecutionProvider"])
    fed = tokens(batch, length)
    results, wanted = minilm.run(None, fed), theirs.run(None, fed)
    for result, right in zip(results, wanted, strict=True):
        assert np.abs(result - right).max() < 1e-4
    cosine = (results[1] * wanted[1]).sum(axis=1)
    assert cosine.min() > 0.9999


def test_minilm_is_fused_whole(minilm: InferenceSession) -> None:
    plan, counts = plan_of(minilm, tokens(1, 128))
    made = kernels(plan)
    assert counts["attention"] == counts["projections joined"] == 6
    assert made.count("f32_layer_norm") == 13
    assert counts["gelu"] == counts["matmul + gelu"] == 6
    assert made.count("f32_gemm") == 24
    assert "strided_copy" not in made
    assert len(plan.draft.segments()) == 1
    assert len(made) <= 60


def test_minilm_plans_quickly(minilm: InferenceSession) -> None:
    """For a new shape; the first plan also loads kernels and packs the weights."""
    plan_of(minilm, tokens(1, 8))
    times = []
    for length in (9, 10, 11, 12, 13):
        began = time.perf_counter()
        plan_of(minilm, tokens(1, length))
        times.append(time.perf_counter() - began)
    assert min(times) < 0.12, f"{[round(1e3 * t) for t in times]} ms"


def test_minilm_holds_each_weight_once_more_packed(minilm: InferenceSession) -> None:
    """The raw weights lie in the external data; on top of it there are the packed ones."""
    plan_of(minilm, tokens(1, 16))
    data = MINILM.with_name("model.onnx.data").stat().st_size
    packed = 6 * (4 * 384 * 384 + 2 * 384 * 1536) * 4
    (graph,) = minilm._sessions.values()
    assert packed <= graph._held.shared.store.nbytes < packed + 3_000_000
    assert get_device(0).statistics.in_use >= data + packed
