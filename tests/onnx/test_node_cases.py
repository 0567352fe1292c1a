"""ONNX's own node cases, for every operator that the front has: load, interpret, compare.

A case runs when all operators of its model are in OPERATORS and all its tensors are of dtypes that
tilework has, so an operator that is added brings its cases along. `python tests/onnx/
test_node_cases.py` prints how many there are and which operators the others wait for.
"""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from tilework.core.dtypes import BY_ONNX
from tilework.ir.narrow import adopt, widen
from tilework.ir.reference import run_reference
from tilework.onnx.model import OLDEST_OPSET, load_graph
from tilework.onnx.ops import DOMAINS, OPERATORS

pytestmark = pytest.mark.onnx

FEWEST = 1860  # the number of cases that ran when this was written, rounded down


@cache
def cases() -> dict[str, Any]:
    """All node cases of the installed onnx package by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases' own arithmetic overflows on purpose
        return {case.name: case for case in collect_testcases("")}


def operators(model: Any) -> set[tuple[str, str]]:
    """The operators that the model uses and does not define itself."""
    own = {(f.domain, f.name) for f in model.functions}
    nodes = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    for node in nodes:  # grows: nodes of graphs inside nodes come behind
        nodes += [inner for one in node.attribute for inner in one.g.node]
    return {(DOMAINS.get(node.domain, node.domain), node.op_type) for node in nodes} - own


def typed(model: Any) -> bool:
    """Whether the model's inputs and outputs hold tensors of dtypes that tilework has."""
    return all(
        tensor_type(value.type).elem_type in BY_ONNX
        for value in [*model.graph.input, *model.graph.output]
    )


def tensor_type(kind: Any) -> Any:
    """The type of the tensors that a value is, or that are in it."""
    wrap = kind.WhichOneof("value")
    if wrap in ("sequence_type", "optional_type"):
        return tensor_type(getattr(kind, wrap).elem_type)
    return kind.tensor_type


def old(model: Any) -> bool:
    return any(o.version < OLDEST_OPSET for o in model.opset_import if o.domain in ("", "ai.onnx"))


def runnable() -> list[str]:
    """Names of the cases that must pass."""
    return [
        name
        for name, case in cases().items()
        if operators(case.model) <= OPERATORS.keys()
        and typed(case.model)
        and not old(case.model)
    ]


def as_value(value: Any) -> Any:
    """Cases hold arrays, scalars, messages, lists of arrays, and None."""
    if value is None:
        return None
    if isinstance(value, list):
        return [as_value(one) for one in value]
    if isinstance(value, onnx.SequenceProto):
        return as_value(numpy_helper.to_list(value))
    if isinstance(value, onnx.OptionalProto):
        return as_value(numpy_helper.to_optional(value))
    if isinstance(value, onnx.TensorProto):
        return adopt(numpy_helper.to_array(value))
    return adopt(np.asarray(value))


def agree(result: Any, wanted: Any, rtol: float, atol: float) -> None:
    """One dtype, one shape, and numbers that are near enough; sequences item by item."""
    if wanted is None or isinstance(wanted, list):
        assert type(result) is type(wanted)
        for one, right in zip(result or (), wanted or (), strict=True):
            agree(one, right, rtol, atol)
        return
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype == object:
        np.testing.assert_array_equal(result, wanted)
    else:
        np.testing.assert_allclose(widen(result), widen(wanted), rtol=rtol, atol=atol)


def expected(name: str, result: Any, wanted: Any) -> Any:
    """`wanted`, or noughts and ones where it is what one implementation happened to draw."""
    if not name.startswith("test_bernoulli"):
        return wanted
    return np.where(result == 0, result, 1).astype(wanted.dtype).reshape(wanted.shape)


@pytest.mark.parametrize("name", runnable())
def test_case(name: str) -> None:
    case = cases()[name]
    graph = load_graph(case.model.SerializeToString()).graph
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        feeds = {v.name: as_value(a) for v, a in zip(graph.inputs, inputs, strict=True)}
        results = run_reference(graph, feeds)
        for value, wanted in zip(graph.outputs, map(as_value, outputs), strict=True):
            result = results[value.name]
            agree(result, expected(name, result, wanted), case.rtol, case.atol)


def test_enough_cases_run() -> None:
    assert len(runnable()) >= FEWEST


def main() -> None:
    waiting: Counter[str] = Counter()
    for case in cases().values():
        waiting.update(".".join(filter(None, o)) for o in operators(case.model) - OPERATORS.keys())
    print(f"{len(runnable())} of {len(cases())} cases run. Cases that wait for an operator:")
    print(", ".join(f"{name} {number}" for name, number in waiting.most_common()))


if __name__ == "__main__":
    main()
