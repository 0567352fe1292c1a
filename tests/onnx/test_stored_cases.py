"""The models that the onnx package stores with inputs and outputs: small graphs, old opsets.

As with the node cases, a model runs when the front has all its operators.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tilework.ir.opdefs.registry import info_of
from tilework.ir.reference import infer_graph, run_reference
from tilework.onnx.model import load_graph
from tilework.onnx.ops import DOMAINS, OPERATORS

pytestmark = pytest.mark.onnx

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")
FEWEST = 120  # models that ran when this was written, rounded down


@cache
def runnable() -> list[Path]:
    found = []
    for folder in FOLDERS:
        for path in sorted((DATA / folder).glob("*/model.onnx")):
            nodes = onnx.load(path).graph.node
            used = {(DOMAINS.get(node.domain, node.domain), node.op_type) for node in nodes}
            if used <= OPERATORS.keys():
                found.append(path)
    return found


def arrays(folder: Path, kind: str) -> list[Any]:
    """input_0.pb, input_1.pb, ... of a data set."""
    result = []
    for number in range(len(list(folder.glob(f"{kind}_*.pb")))):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / f"{kind}_{number}.pb").read_bytes())
        result.append(numpy_helper.to_array(tensor))
    return result


@pytest.mark.parametrize("path", runnable(), ids=lambda path: path.parent.name)
def test_stored_case(path: Path) -> None:
    graph = load_graph(path.read_bytes()).graph
    data_sets = sorted(path.parent.glob("test_data_set_*"))
    assert data_sets
    for data_set in data_sets:
        fed = arrays(data_set, "input")
        feeds = {value.name: array for value, array in zip(graph.inputs, fed, strict=True)}
        results = run_reference(graph, feeds)
        known = infer_graph(graph, {name: info_of(array) for name, array in feeds.items()})
        outputs = arrays(data_set, "output")
        for value, wanted in zip(graph.outputs, outputs, strict=True):
            result = results[value.name]
            assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
            assert known[value.name].shape == wanted.shape
            np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-5)


def test_enough_models_run() -> None:
    assert len(runnable()) >= FEWEST
