"""Model bytes to graph: metadata, types, defaults, functions; each contradiction has its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilework.core import errors
from tilework.core.dtypes import FLOAT32, INT64
from tilework.core.errors import (
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    TileworkError,
)
from tilework.ir.reference import run_reference
from tilework.onnx.external import ExternalData
from tilework.onnx.model import load_graph

pytestmark = pytest.mark.unit

FLOAT = TensorProto.FLOAT


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> Any:
    return helper.make_node(op, inputs, outputs, name=f"the {op}", **attrs)


def value(name: str, shape: Sequence[Any] | None = ("n",), kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any] = (value("x"),),
    outputs: Sequence[Any] = (value("y"),),
    stored: Sequence[Any] = (),
    opset: int = 17,
    **more: Any,
) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    opsets = more.pop("opsets", {"": opset})
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()],
        ir_version=more.pop("ir_version", 8),
        **more,
    )
    data: bytes = made.SerializeToString()
    return data


def array(name: str, *values: float) -> Any:
    return numpy_helper.from_array(np.array(values, np.float32), name)


RELU = node("Relu", ["x"], ["y"])


def test_metadata() -> None:
    made = helper.make_model(
        helper.make_graph([RELU], "graph", [value("x")], [value("y")], doc_string="of the graph"),
        producer_name="tests", producer_version="2", domain="a.domain", model_version=7,
        doc_string="of the model", opset_imports=[helper.make_opsetid("ai.onnx", 17)],
    )  # fmt: skip
    helper.set_model_props(made, {"author": "nobody"})
    loaded = load_graph(made.SerializeToString())
    found = loaded.metadata
    assert (found.producer_name, found.graph_name, found.domain) == ("tests", "graph", "a.domain")
    assert (found.description, found.graph_description) == ("of the model", "of the graph")
    assert (found.version, dict(found.custom_metadata_map)) == (7, {"author": "nobody"})
    assert loaded.opsets == {"": 17}


def test_types() -> None:
    x = value("x", ["batch", 3, None, -1])
    inputs = [x, value("r", None), value("s", [], TensorProto.INT64)]
    graph = load_graph(model([RELU], inputs)).graph
    assert [(v.name, v.dtype, v.shape) for v in graph.inputs] == [
        ("x", FLOAT32, ("batch", 3, "", "")),  # -1, as PaddlePaddle writes it, is no extent
        ("r", FLOAT32, None),
        ("s", INT64, ()),
    ]
    assert graph.nodes[0].origin == "Relu 'the Relu'"
    assert graph.values["y"].dtype is FLOAT32


def test_initializers_are_not_copied() -> None:
    data = model([node("Add", ["x", "w"], ["y"])], stored=[array("w", *range(64))])
    constant = load_graph(data).graph.constants["w"]
    assert constant.array is not None
    assert np.shares_memory(constant.array, np.frombuffer(data, np.uint8))
    assert not constant.array.flags.writeable


def test_unused_initializers_are_dropped() -> None:
    assert not load_graph(model([RELU], stored=[array("w", 1.0)])).graph.constants


def test_an_initializer_that_is_an_input_is_a_default() -> None:
    data = model(
        [node("Add", ["x", "w"], ["y"])], [value("x"), value("w", [1])], stored=[array("w", 2.0)]
    )
    loaded = load_graph(data)
    assert [v.name for v in loaded.graph.inputs] == ["x", "w"]
    assert not loaded.graph.constants
    default = loaded.defaults["w"].array
    assert default is not None
    assert default.tolist() == [2.0]


def test_in_old_files_all_initializers_are_inputs_and_yet_constants() -> None:
    data = model(
        [node("Add", ["x", "w"], ["y"])],
        [value("x"), value("w", [1])],
        stored=[array("w", 2.0)],
        ir_version=3,
        opset=8,
    )
    loaded = load_graph(data)
    assert [v.name for v in loaded.graph.inputs] == ["x"]
    assert not loaded.defaults
    assert "w" in loaded.graph.constants


def test_identities_vanish_but_outputs_keep_their_names() -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Identity", ["b"], ["y"]),
        node("Identity", ["b"], ["z"]),
    ]
    graph = load_graph(model(nodes, outputs=[value("y"), value("z"), value("b")])).graph
    assert [n.op for n in graph.nodes] == ["relu", "identity", "identity"]
    results = run_reference(graph, {"x": np.array([-1, 1], np.float32)})
    assert {name: r.tolist() for name, r in results.items()} == {n: [0, 1] for n in "yzb"}


def test_an_output_may_be_a_name_only() -> None:
    """So people look inside a model: its dtype is then what the operators say."""
    named = [helper.make_empty_tensor_value_info(name) for name in ("y", "same", "where")]
    nodes = [RELU, node("Identity", ["y"], ["same"]), node("ArgMax", ["y"], ["where"])]
    loaded = load_graph(model(nodes, outputs=named))
    assert [output.dtype for output in loaded.graph.outputs] == [FLOAT32, FLOAT32, INT64]


def test_nodes_may_stand_in_any_order() -> None:
    """onnxruntime sorts what it loads; its float16 converter writes the first casts last."""
    inner = helper.make_graph([node("Neg", ["late"], ["z"])], "branch", [], [value("z", None)])
    nodes = [
        node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
        node("Cast", ["x"], ["yes"], to=TensorProto.BOOL),
        node("Exp", ["later"], ["late"]),
        node("Abs", ["x"], ["later"]),
    ]
    graph = load_graph(model(nodes, [value("x", ())], [value("y", ())])).graph
    feeds = {"x": np.array(-2.0, np.float32)}
    assert run_reference(graph, feeds)["y"] == pytest.approx(-np.exp(2.0))


def test_functions_are_inlined() -> None:
    scale = node("Constant", [], ["a"])
    reference = scale.attribute.add(name="value_float", ref_attr_name="alpha")
    reference.type = 1
    inner = helper.make_function(
        "own", "Scaled", ["v"], ["w"],
        [scale, node("Mul", ["v", "a"], ["w"])],
        [helper.make_opsetid("", 17)], ["alpha"],
    )  # fmt: skip
    outer = helper.make_function(
        "own", "Twice", ["v"], ["w"],
        [
            helper.make_node("Scaled", ["v"], ["t"], domain="own", alpha=2.0),
            helper.make_node("Scaled", ["t"], ["w"], domain="own", alpha=5.0),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    calls = [
        helper.make_node("Twice", ["x"], ["t"], domain="own"),
        helper.make_node("Twice", ["t"], ["y"], domain="own"),
    ]
    data = model(calls, functions=[inner, outer], opsets={"": 17, "own": 1})
    results = run_reference(load_graph(data).graph, {"x": np.array([1, 3], np.float32)})
    assert results["y"].tolist() == [100, 300]


def test_recursive_functions_are_refused() -> None:
    inner = helper.make_function(
        "own", "Loop", ["v"], ["w"], [helper.make_node("Loop", ["v"], ["w"], domain="own")],
        [helper.make_opsetid("own", 1)],
    )  # fmt: skip
    call = helper.make_node("Loop", ["x"], ["y"], domain="own")
    with pytest.raises(InvalidGraph, match="'Loop' is called 32 calls deep"):
        load_graph(model([call], functions=[inner], opsets={"": 17, "own": 1}))


def test_unknown_operators_are_all_named() -> None:
    nodes = [
        node("Frobnicate", ["x"], ["a"]),
        helper.make_node("Wobble", ["a"], ["y"], name="w", domain="com.example"),
    ]
    with pytest.raises(errors.NotImplemented) as caught:
        load_graph(model(nodes, opsets={"": 17, "com.example": 3}))
    text = str(caught.value)
    assert "ai.onnx.Frobnicate (opset 17, node 'the Frobnicate')" in text
    assert "com.example.Wobble (opset 3, node 'w')" in text
    assert "tilework/onnx/ops" in text


def stored_as(kind: int, dims: Sequence[int], **fields: Any) -> Any:
    return TensorProto(name="w", data_type=kind, dims=dims, **fields)


def with_constant(tensor: Any) -> bytes:
    return model([node("Add", ["x", "w"], ["y"])], stored=[tensor])


SPARSE = helper.make_sparse_tensor_type_proto(FLOAT, ["n"])
ADD = node("Add", ["x", "w"], ["y"])
CONTRADICTIONS: list[tuple[str, type[TileworkError], bytes, str]] = [
    (
        "missing input",
        InvalidGraph,
        model([ADD]),
        "Add 'the Add': its input 'w' is neither an input, nor an initializer, nor produced",
    ),
    (
        "cycle",
        InvalidGraph,
        model([node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"])]),
        "Add 'the Add': its input 'b' is produced only by Neg 'the Neg', which needs.*cycle",
    ),
    (
        "produced twice",
        InvalidGraph,
        model([RELU, node("Neg", ["x"], ["y"])]),
        "Neg 'the Neg': 'y' is produced twice in graph 'graph'",
    ),
    (
        "produces an input",
        InvalidGraph,
        model([node("Neg", ["x"], ["x"])]),
        "'x' is produced twice",
    ),
    ("output of no node", InvalidGraph, model([]), "output 'y' is produced by no node"),
    (
        "two initializers",
        InvalidGraph,
        model([ADD], stored=[array("w", 1.0), array("w", 2.0)]),
        "initializer 'w': is unnamed or there twice",
    ),
    (
        "two inputs",
        InvalidGraph,
        model([RELU], [value("x"), value("x")]),
        "two inputs have one name",
    ),
    (
        "too few inputs",
        InvalidGraph,
        model([node("Add", ["x"], ["y"])]),
        r"Add 'the Add' .ai.onnx opset 17.: 1 inputs \['x'\]; the operator takes 2",
    ),
    (
        "required input left out",
        InvalidGraph,
        model([node("MatMul", ["", "x"], ["y"])]),
        "the operator takes 2",
    ),
    (
        "too many outputs",
        InvalidGraph,
        model([node("Relu", ["x"], ["y", "z"])]),
        "2 outputs, 1 are produced",
    ),
    (
        "no opset of the domain",
        InvalidGraph,
        model([node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "Gelu 'the Gelu': the model imports no opset of its domain 'com.microsoft'",
    ),
    (
        "attribute missing",
        InvalidGraph,
        model([node("Concat", ["x"], ["y"])]),
        "Concat 'the Concat'.*its attributes are not the operator's",
    ),
    (
        "negative extent",
        InvalidGraph,
        model([RELU], [value("x", [-3])]),
        "input 'x': extent -3 of axis 0 is negative",
    ),
    (
        "input without a type",
        InvalidGraph,
        model([RELU], [helper.make_empty_tensor_value_info("x")]),
        "input 'x': has no type",
    ),
    (
        "output that nobody makes, without a type",
        InvalidGraph,
        model([RELU], outputs=[helper.make_empty_tensor_value_info("z")]),
        "output 'z'",
    ),
    (
        "opset too old",
        errors.NotImplemented,
        model([RELU], opset=5),
        "in ONNX opset 5 it has a form that is not supported, since 6 another",
    ),
    ("opset too new", errors.NotImplemented, model([RELU], opset=99), "ONNX opset 99"),
    (
        "sparse",
        errors.NotImplemented,
        model([RELU], [helper.make_value_info("x", SPARSE)]),
        "input 'x': type sparse_tensor is not supported",
    ),
    (
        "input of an unknown dtype",
        errors.NotImplemented,
        model([RELU], [value("x", ["n"], 99)]),
        "input 'x': ONNX data type 99",
    ),
    (
        "branch that is not there",
        InvalidGraph,
        model([node("If", ["x"], ["y"], then_branch=helper.make_graph([], "b", [], []))]),
        r"If 'the If' .*: has no else_branch",
    ),
    (
        "raw data too short",
        InvalidProtobuf,
        with_constant(stored_as(FLOAT, [3], raw_data=b"1234")),
        r"initializer 'w': raw_data has 4 bytes, float32\[3\] needs 12",
    ),
    (
        "typed data too short",
        InvalidProtobuf,
        with_constant(stored_as(FLOAT, [2**40], float_data=[1.0])),
        "initializer 'w': holds 1 numbers",
    ),
    (
        "typed data out of range",
        InvalidProtobuf,
        with_constant(stored_as(TensorProto.UINT8, [1], int32_data=[300])),
        "initializer 'w': holds numbers that uint8 cannot",
    ),
    (
        "negative shape",
        InvalidProtobuf,
        with_constant(stored_as(FLOAT, [-1], raw_data=b"")),
        r"initializer 'w': shape \[-1\] has a negative extent",
    ),
    (
        "constant of an unknown dtype",
        errors.NotImplemented,
        with_constant(stored_as(99, [1], raw_data=b"12")),
        "initializer 'w': ONNX data type 99",
    ),
    ("no graph", InvalidProtobuf, b"", "has no graph; the file is not an ONNX model"),
    ("not ONNX", InvalidProtobuf, b"<!DOCTYPE html><html>", "not ONNX"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "data", "message"),
    [row[1:] for row in CONTRADICTIONS],
    ids=[row[0] for row in CONTRADICTIONS],
)
def test_contradictions(error: type[TileworkError], data: bytes, message: str) -> None:
    with pytest.raises(error, match=message):
        load_graph(data)
    load_graph(model([RELU]))  # nothing of the failure stays behind


def test_shape_errors_name_node_shapes_and_remedy() -> None:
    graph = load_graph(model([node("MatMul", ["x", "w"], ["y"])], [value("x"), value("w")])).graph
    feeds = {"x": np.zeros((2, 3), np.float32), "w": np.zeros((4, 5), np.float32)}
    with pytest.raises(InvalidArgument) as caught:
        run_reference(graph, feeds)
    assert str(caught.value) == (
        "MatMul 'the MatMul': the last extent of a must be b's last but one, the others broadcast"
        " (inputs: float32[2, 3], float32[4, 5])"
    )


# -- external data ---------------------------------------------------------------------------------


def external(entries: dict[str, str], dims: Sequence[int] = (4,)) -> bytes:
    tensor = stored_as(FLOAT, dims, data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    return with_constant(tensor)


FILES = ExternalData.from_sizes({"other": 100, "w.data": 32})


def test_external_constants_say_where_they_are() -> None:
    data = external({"location": "w.data", "offset": "16", "length": "16"})
    constant = load_graph(data, FILES).graph.constants["w"]
    assert constant.array is None
    assert constant.external == (128 + 16, 16)  # `other` takes 100 bytes, bases are aligned to 64
    assert FILES.nbytes == 160


def test_small_external_constants_are_read_when_they_must_be_known() -> None:
    axes = TensorProto(name="axes", data_type=TensorProto.INT64, dims=[1])
    axes.data_location = TensorProto.EXTERNAL
    axes.external_data.add(key="location", value="d")
    axes.external_data.add(key="offset", value="8")
    stored = np.array([7, -1], np.int64).tobytes()
    files = ExternalData.from_sizes(
        {"d": 16}, read=lambda _, offset, n: stored[offset : offset + n]
    )
    data = model([node("Unsqueeze", ["x", "axes"], ["y"])], stored=[axes])
    (unsqueeze,) = load_graph(data, files).graph.nodes
    assert (unsqueeze.inputs, unsqueeze.attrs) == (("x",), {"axes": (-1,)})


WRONG = [
    ({}, InvalidArgument, "initializer 'w': external data without a location"),
    ({"location": "/etc/passwd"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "../w.data"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "a/../../w.data"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "..\\w.data"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "C:w.data"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "http://example.org/w"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "w.data\0"}, InvalidArgument, "leaves the model's folder"),
    ({"location": "absent"}, NoSuchFile, "weights are in 'absent'.*at hand: other, w.data"),
    (
        {"location": "w.data", "offset": "20"},
        InvalidProtobuf,
        "bytes 20 to 36 are outside 'w.data'",
    ),
    ({"location": "w.data", "offset": "-4"}, InvalidProtobuf, "offset '-4' is not a byte count"),
    ({"location": "w.data", "offset": "²"}, InvalidProtobuf, "is not a byte count"),
    ({"location": "w.data", "offset": "9" * 5000}, InvalidProtobuf, "is not a byte count"),
    ({"location": "w.data", "length": "8"}, InvalidProtobuf, "has length 8, .* need 16"),
]


@pytest.mark.parametrize(("entries", "error", "message"), WRONG)
def test_wrong_external_data(
    entries: dict[str, str], error: type[TileworkError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_graph(external(entries), FILES)


def test_external_data_that_was_not_given() -> None:
    with pytest.raises(NoSuchFile, match=r"weights are in 'w.data'.*at hand: none"):
        load_graph(external({"location": "w.data"}))
