"""The benchmark's arithmetic, its models, and one short comparison in the page itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tools import bench, fetch
from tools.bench_models import made_models, matmul_model
from tools.project import DIST


@pytest.mark.parametrize("constant", [False, True])
def test_the_models_are_products(constant: bool) -> None:
    model = onnx.load_from_string(matmul_model(64, constant))
    onnx.checker.check_model(model, full_check=True)
    values = np.random.default_rng(1).standard_normal((2, 64, 64)).astype(np.float32)
    feeds = dict(zip("ab", values, strict=True))
    if constant:
        del feeds["b"]
        values[1] = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert [i.name for i in model.graph.input] == list(feeds)
    found: Any
    (found,) = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(found, values[0] @ values[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", made_models())
def test_the_other_models_are_whole(name: str) -> None:
    made = made_models()[name]
    model = onnx.load_from_string(made.make())
    onnx.checker.check_model(model)
    (value,) = (v for v in model.graph.input if v.name == made.feed)
    declared = [d.dim_value for d in value.type.tensor_type.shape.dim]
    assert all(n in (extent, 0) for extent, n in zip(made.dims, declared, strict=True))


def test_every_case_is_there() -> None:
    names = [case["name"] for case in bench.cases(1)]
    assert len(names) == len(set(names)) == 47
    assert {case for case, _ in bench.RATIOS} <= set(names)
    figures = (
        "dispatch submit_from_python numpy_matmul_512 heap_muladd_4m wheel_gz_bytes load_ms plan_ms"
    )
    assert list(bench.FIGURES) == figures.split()


def test_spread_is_the_interquartile_range() -> None:
    assert bench.spread([1, 2, 3, 4, 5]) == 2
    assert bench.spread([3]) == 0


def test_what_is_missed_is_said_and_what_is_reached_is_not() -> None:
    rows = [
        {"case": "matmul_1024", "threads": 1, "tilework_ms": 40.0, "peer_ms": 60.0, "ratio": 1.5},
        {"case": "matmul_1024", "threads": 2, "tilework_ms": 30.0, "peer_ms": 54.0, "ratio": 1.8},
        {"case": "minilm_16", "threads": 1, "tilework_ms": 1.0, "peer_ms": 2.0, "ratio": 2.0},
        {"case": "dispatch", "us": 0.6},
        {"case": "numpy_matmul_512", "ratio": 49.0},
        {"case": "plan_ms", "ms": 499.0},
        {"case": "load_ms", "ms": 1e9},
    ]
    missed = bench.judge(rows)
    assert [line.split(":")[0] for line in missed] == [
        "matmul_1024 at 1 threads", "matmul_1024", "dispatch", "numpy_matmul_512",
    ]  # fmt: skip
    assert bench.judge([]) == []


def test_the_markdown_table_holds_the_comparisons_only() -> None:
    row = {"case": "minilm_16", "threads": 2, "tilework_ms": 7.5, "peer_ms": 15.0, "ratio": 2.0}
    lines = bench.report([row, {"case": "dispatch", "us": 0.1}]).splitlines()
    assert len(lines) == 3
    assert lines[2] == "| minilm_16 | 2 | 7.500 | 15.00 | 2.00 |"


@pytest.mark.browser
def test_a_short_comparison_in_the_page(
    dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (fetch.ONNXRUNTIME.folder / "dist" / bench.PEER_FILES[0]).is_file(), (
        "the peer is missing; run: python3 build.py test"
    )
    assert dist == DIST
    out = tmp_path / "rows.json"
    arguments = ["--only", "matmul_64", "dispatch", "--threads", "2", "--seconds", "0.1"]
    assert bench.main([*arguments, "--json", str(out)]) == 0
    first, second = json.loads(out.read_text(encoding="utf-8"))
    assert set(first) == {"case", "threads", "tilework_ms", "peer", "peer_ms", "ratio"}
    assert (first["case"], first["threads"]) == ("matmul_64", 2)
    assert first["peer"] == "onnxruntime-web 1.30.0"
    assert 0 < first["tilework_ms"] < 1000 and 0 < first["peer_ms"] < 1000
    assert first["ratio"] == pytest.approx(first["peer_ms"] / first["tilework_ms"], rel=1e-2)
    assert second["case"] == "dispatch" and 0 < second["us"] < 1000
    assert "2 threads. tilework device: arena memory, 2 threads" in capsys.readouterr().out
