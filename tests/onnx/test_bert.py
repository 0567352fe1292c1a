"""A small BERT of random weights in PyTorch's spelling, whole: loaded, interpreted, inferred.

onnxruntime says what is right. The exporter is the demo's own (tools.minilm), with LayerNorm as
one operator (opset 17) and decomposed (opset 14), weights in external data.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tilework.core.dtypes import FLOAT32, INT64
from tilework.ir.opdefs import Info
from tilework.ir.printer import format_graph
from tilework.ir.reference import infer_graph, run_reference
from tilework.onnx.external import ExternalData
from tilework.onnx.model import LoadedModel, load_graph
from tools.minilm import Config, export
from tools.project import BUILD

pytestmark = pytest.mark.onnx

VOCABULARY = 97


def config(layers: int) -> Config:
    return Config(hidden=24, heads=3, layers=layers, intermediate=48, positions=64, epsilon=1e-12)


def weights(made: Config) -> dict[str, Any]:
    """Random weights under the names that the exporter asks for."""
    random = np.random.default_rng(7)

    def f32(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    result = {
        "embeddings.position_ids": np.arange(made.positions, dtype=np.int64)[None],
        "embeddings.word_embeddings.weight": f32(VOCABULARY, made.hidden),
        "embeddings.token_type_embeddings.weight": f32(2, made.hidden),
        "embeddings.position_embeddings.weight": f32(made.positions, made.hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(made.layers):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
        linears = {
            f"{name}.attention.output.dense": (made.hidden, made.hidden),
            f"{name}.intermediate.dense": (made.intermediate, made.hidden),
            f"{name}.output.dense": (made.hidden, made.intermediate),
        }
        for part in ("query", "key", "value"):
            linears[f"{name}.attention.self.{part}"] = (made.hidden, made.hidden)
        for linear, shape in linears.items():
            result[f"{linear}.weight"] = f32(*shape)
            result[f"{linear}.bias"] = f32(shape[0])
    for norm in norms:
        result[f"{norm}.weight"] = 1 + f32(made.hidden)
        result[f"{norm}.bias"] = f32(made.hidden)
    return result


def feeds(batch: int, length: int) -> dict[str, Any]:
    random = np.random.default_rng(batch * 100 + length)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 :] = 0
    return {
        "input_ids": random.integers(0, VOCABULARY, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, (batch, length)),
    }


def load(path: Path) -> tuple[LoadedModel, bytes]:
    data = (path.parent / "model.onnx.data").read_bytes()
    external = ExternalData.from_sizes(
        {"model.onnx.data": len(data)}, read=lambda _, offset, n: data[offset : offset + n]
    )
    return load_graph(path.read_bytes(), external), data


@pytest.fixture(scope="module", params=[False, True], ids=["opset17", "opset14"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = config(2)
    return export(made, weights(made), tmp_path_factory.mktemp("bert"), decomposed=request.param)


@pytest.mark.parametrize(("batch", "length"), [(1, 5), (3, 16), (2, 1)])
def test_oracle_is_onnxruntime(model: Path, batch: int, length: int) -> None:
    loaded, data = load(model)
    fed = feeds(batch, length)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    wanted = session.run(None, fed)
    results = run_reference(loaded.graph, fed, data)
    for value, right in zip(loaded.graph.outputs, wanted, strict=True):
        assert results[value.name].shape == right.shape
        np.testing.assert_allclose(results[value.name], right, rtol=1e-4, atol=1e-4)


def test_types_are_onnxruntime_s(model: Path) -> None:
    graph = load(model)[0].graph
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for ours, theirs in (
        (graph.inputs, session.get_inputs()),
        (graph.outputs, session.get_outputs()),
    ):
        assert [(v.name, list(v.shape or ())) for v in ours] == [(t.name, t.shape) for t in theirs]


def infos(fed: Mapping[str, Any]) -> dict[str, Info]:
    return {name: Info(INT64, array.shape) for name, array in fed.items()}


def test_shapes_are_known_before_the_run(model: Path) -> None:
    """Inference needs no data: the values of shape arithmetic are found from the shapes."""
    loaded, data = load(model)
    fed = feeds(3, 16)
    names = [name for node in loaded.graph.nodes for name in node.outputs]
    arrays = run_reference(loaded.graph, fed, data, keep=names)
    known = infer_graph(loaded.graph, infos(fed))
    assert set(names) <= known.keys()
    for name in names:
        assert (known[name].shape, known[name].dtype.numpy) == (
            arrays[name].shape,
            arrays[name].dtype.name,
        )
        value = known[name].value
        if value is not None:
            np.testing.assert_array_equal(value, arrays[name])


def test_inference_is_fast(tmp_path: Path) -> None:
    """Under 100 ms for some 600 nodes, so that planning a new shape in Pyodide is not felt."""
    made = config(12)
    loaded, _ = load(export(made, weights(made), tmp_path, decomposed=True))
    assert len(loaded.graph.nodes) > 500
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        known = infer_graph(loaded.graph, infos(feeds(1, 16)))
        best = min(best, time.perf_counter() - start)
    assert known["sentence_embedding"].shape == (1, 24)
    assert known["sentence_embedding"].dtype is FLOAT32
    assert best < 0.1


def test_the_real_model_is_onnxruntime_s() -> None:
    """all-MiniLM-L6-v2 itself, by the oracle: what the device's results are held against."""
    path = BUILD / "models" / "minilm" / "model.onnx"
    if not path.is_file():
        pytest.fail(f"there is no {path}; run: python3 build.py build")
    loaded, data = load(path)
    fed = feeds(2, 12)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = run_reference(loaded.graph, fed, data)
    for value, right in zip(loaded.graph.outputs, session.run(None, fed), strict=True):
        np.testing.assert_allclose(results[value.name], right, rtol=0, atol=1e-4)


def test_prints(model: Path) -> None:
    text = format_graph(load(model)[0].graph)
    assert "input    input_ids: int64[batch_size, sequence_length]" in text
    assert "external bytes" in text
    assert "/encoder/layer.0/attention/self" in text
