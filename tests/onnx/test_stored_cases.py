"""The models that the onnx package stores with inputs and outputs: small graphs, old opsets.

As with the node cases, a model runs when the front has all its operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.onnx.test_node_cases import agree, as_value
from tilework.ir.graph import Value
from tilework.ir.opdefs.registry import OPS, info_of
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


def values(folder: Path, kind: str, declared: Sequence[Value]) -> list[Any]:
    """input_0.pb, input_1.pb, ... of a data set."""
    result = []
    for number, value in enumerate(declared):
        message: Any = onnx.SequenceProto() if value.wraps else onnx.TensorProto()
        message.ParseFromString((folder / f"{kind}_{number}.pb").read_bytes())
        result.append(as_value(message))
    return result


@pytest.mark.parametrize("path", runnable(), ids=lambda path: path.parent.name)
def test_stored_case(path: Path) -> None:
    loaded = load_graph(path.read_bytes())
    graph = loaded.graph
    needed = [value for value in graph.inputs if value.name not in loaded.defaults]
    data_sets = sorted(path.parent.glob("test_data_set_*"))
    assert data_sets
    for data_set in data_sets:
        feeds: dict[str, Any] = {name: one.array for name, one in loaded.defaults.items()}
        fed = values(data_set, "input", needed)
        feeds.update((value.name, one) for value, one in zip(needed, fed, strict=True))
        results = run_reference(graph, feeds)
        outputs = values(data_set, "output", graph.outputs)
        for value, wanted in zip(graph.outputs, outputs, strict=True):
            agree(results[value.name], wanted, 1e-3, 1e-5)
        if not any(OPS[node.op].dynamic for node in graph.nodes):
            known = infer_graph(graph, {name: info_of(array) for name, array in feeds.items()})
            for value, wanted in zip(graph.outputs, outputs, strict=True):
                assert known[value.name].shape == wanted.shape


def test_enough_models_run() -> None:
    assert len(runnable()) >= FEWEST
