"""The wire reader: agrees with protobuf's own, copies nothing, survives any bytes."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tilework.core.errors import InvalidProtobuf, TileworkError
from tilework.onnx import proto
from tilework.onnx.model import load_graph
from tilework.onnx.proto import parse

pytestmark = pytest.mark.unit


def sample() -> Any:
    """A model with every field that the reader's tables know."""
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.5]),
        helper.make_node("Gemm", ["x", "w"], ["g"], name="gemm", alpha=0.5, transB=1),
        helper.make_node("Slice", ["g", "s", "e"], ["p"], doc_string="words"),
        helper.make_node("Softmax", ["p"], ["y"], axis=-1),
        helper.make_node("Split", ["y"], ["a", "b"], axis=1),
    ]
    stored = [
        numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w"),
        helper.make_tensor("s", TensorProto.INT64, [1], [-(2**40)]),
        helper.make_tensor("e", TensorProto.INT64, [1], [300]),
        helper.make_tensor("f", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]),
        helper.make_tensor("h", TensorProto.FLOAT16, [2], [1.0, -2.0]),
        helper.make_tensor("d", TensorProto.DOUBLE, [2], [1.0, -2.0]),
        helper.make_tensor("u", TensorProto.UINT64, [2], [1, 2**64 - 1]),
        helper.make_tensor("i", TensorProto.INT32, [2], [-1, 2**31 - 1]),
        helper.make_tensor("t", TensorProto.BOOL, [2], [True, False]),
    ]
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("a", "b")],
        stored,
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("g", TensorProto.FLOAT, [None, 4])],
    )
    model = helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, {"author": "nobody", "ключ": "значение"})
    return model


def agree(ours: Any, theirs: Any) -> None:
    """Every field that protobuf's reader found has the value that ours found."""
    names = type(ours).NUMBERS.values()
    for name in names:
        mine, right = getattr(ours, name), getattr(theirs, name)
        if isinstance(mine, proto.Message):
            agree(mine, right)
        elif isinstance(mine, memoryview):
            assert bytes(mine) == right
        elif name in ("float_data", "floats", "double_data"):
            dtype = "<f8" if name == "double_data" else "<f4"
            assert np.frombuffer(b"".join(mine), dtype).tolist() == list(right)
        elif name == "uint64_data":
            assert [number % 2**64 for number in mine] == list(right)
        elif isinstance(mine, (list, tuple)):
            assert len(mine) == len(right)
            for one, other in zip(mine, right, strict=True):
                if isinstance(one, proto.Message):
                    agree(one, other)
                else:
                    assert (bytes(one) if isinstance(one, memoryview) else one) == other
        elif mine is None:
            assert not theirs.HasField(name)
        else:
            assert mine == right


def test_agrees_with_protobuf() -> None:
    model = sample()
    agree(parse(proto.ModelProto, model.SerializeToString()), model)


def test_functions_and_subgraphs_agree() -> None:
    body = helper.make_graph([], "body", [], [])
    call = helper.make_node("If", ["c"], ["r"], then_branch=body, else_branch=body)
    function = helper.make_function(
        "own", "f", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])],
        [helper.make_opsetid("", 17)], ["alpha"],
    )  # fmt: skip
    model = helper.make_model(helper.make_graph([call], "g", [], []), functions=[function])
    agree(parse(proto.ModelProto, model.SerializeToString()), model)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_tensors_are_views_of_the_file(kind: Any) -> None:
    data = kind(sample().SerializeToString())
    model = parse(proto.ModelProto, data)
    assert model.graph is not None
    raw = model.graph.initializer[0].raw_data
    assert isinstance(raw, memoryview)
    assert raw.obj is (data.obj if kind is memoryview else data)
    assert np.shares_memory(np.frombuffer(raw, "u1"), np.frombuffer(data, "u1"))


def test_unpacked_numbers_are_read() -> None:
    """proto2 writers may repeat a tag for each number, and split a packed field in two."""
    data = b"\x08\x02\x0a\x02\x03\x04\x08\x05"  # dims: 2, packed 3 4, then 5
    data += b"\x25" + np.float32(1.5).tobytes() + b"\x22\x04" + np.float32(2.5).tobytes()
    tensor = parse(proto.TensorProto, data)
    assert tensor.dims == [2, 3, 4, 5]
    assert np.frombuffer(b"".join(tensor.float_data), "<f4").tolist() == [1.5, 2.5]


def test_unknown_fields_are_passed_over() -> None:
    extra = b"\xf8\x3e\x01\xf9\x3e12345678\xfa\x3e\x02ab\xfd\x3e1234"  # number 1007
    message = parse(proto.OperatorSetIdProto, extra + b"\x10\x11" + extra)
    assert (message.domain, message.version) == ("", 17)


NESTED = b""
for _ in range(200):  # attribute.g.node.attribute.g ...
    for tag in (b"\x2a", b"\x0a", b"\x32"):
        length, size = b"", len(NESTED)
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        NESTED = tag + length + bytes([size]) + NESTED

DAMAGED = [
    (b"\x08", "ModelProto.ir_version: the message ends inside a number at byte 1 of 1"),
    (b"\x08\xff", "ir_version: the message ends inside a number at byte 1"),
    (b"\x08" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
    (b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
    (b"\x3a\x05\x0a\x09ab", "graph: a length of 5 where 4 bytes are left at byte 2"),
    (b"\x3a\x04\x0a\x09ab", r"graph.node\[0\]: a length of 9 where 2 bytes are left at byte 4"),
    (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length of 18446744073709551615"),
    (b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "more than 64 bits"),
    (b"\x38\x01", r"field 'graph' \(7\) is varint, which it cannot be at byte 0"),
    (b"\x0d1234", "field 'ir_version' .1. is 32-bit"),
    (b"\x0b\x0c", "field 'ir_version' .1. is wire type 3"),
    (b"\xfb\x3e", "wire type 3 in field 1007"),
    (b"\x00\x01", "field number 0"),
    (b"\xfd\x3e123", "field 1007 needs 4 bytes, 3 are left"),
    (b"\x3a\x05\x0a\x03\x22\x01\xff", r"graph.node\[0\].op_type: a name that is not UTF-8"),
    (b"\x3a\x08\x2a\x06\x22\x04\x31\x32\x33\x34" [:9] + b"", "a length of"),
    (b"\x12\x01", "producer_name: a length of 1 where 0"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), DAMAGED)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(InvalidProtobuf, match=message):
        parse(proto.ModelProto, data)


def test_numbers_of_the_wrong_width() -> None:
    with pytest.raises(InvalidProtobuf, match="float_data: 3 bytes do not hold 4-byte numbers"):
        parse(proto.TensorProto, b"\x22\x03abc")


def test_depth_is_limited() -> None:
    with pytest.raises(InvalidProtobuf, match="nested more than 100 deep"):
        parse(proto.AttributeProto, NESTED)


@pytest.mark.parametrize("cut", [0, 1, 10, 60, 200])
def test_truncated_models(cut: int) -> None:
    data = sample().SerializeToString()
    with pytest.raises(InvalidProtobuf):
        load_graph(data[: len(data) * cut // 256])


def mutate(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        where = source.randrange(len(changed))
        kind = source.randrange(6)
        if kind == 0:
            changed[where] = source.randrange(256)
        elif kind == 1:
            changed[where] ^= 1 << source.randrange(8)
        elif kind == 2:
            del changed[where : where + source.randrange(1, 9)]
        elif kind == 3:
            changed[where:where] = source.randbytes(source.randrange(1, 9))
        elif kind == 4:
            changed[where : where + 1] = b"\xff" * source.randrange(1, 12)
        else:
            end = where + source.randrange(1, 40)
            changed[where:where] = changed[where:end]
        if not changed:
            return b""
    return bytes(changed)


def check_only_typed_errors(data: bytes) -> bool:
    start = time.monotonic()
    try:
        load_graph(data)
        loaded = True
    except TileworkError:
        loaded = False
    assert time.monotonic() - start < 1
    return loaded


@pytest.mark.parametrize("seed", range(10))
def test_mutated_models_give_typed_errors(seed: int) -> None:
    """4,000 damaged models: each loads or raises an error of ours, and soon."""
    source = random.Random(seed)
    data = sample().SerializeToString()
    results = [check_only_typed_errors(mutate(data, source)) for _ in range(400)]
    assert not all(results)
    assert any(results)


@settings(max_examples=500)
@given(st.binary(max_size=400))
def test_any_bytes_give_typed_errors(data: bytes) -> None:
    check_only_typed_errors(data)


def test_reading_is_fast() -> None:
    """The time limit is generous: a quadratic reader would need minutes."""
    nodes = [helper.make_node("Add", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(5000)]
    data = helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString()
    start = time.perf_counter()
    model = parse(proto.ModelProto, data)
    assert model.graph is not None
    assert len(model.graph.node) == 5000
    assert time.perf_counter() - start < 1


def test_field_numbers_are_onnx_s() -> None:
    """The tables name the fields that onnx's own descriptors have under these numbers."""
    nested: dict[Any, Any] = {
        proto.DimensionProto: onnx.TensorShapeProto.Dimension,
        proto.TensorTypeProto: onnx.TypeProto.Tensor,
        proto.WrappingTypeProto: onnx.TypeProto.Sequence,
        proto.MapTypeProto: onnx.TypeProto.Map,
    }
    checked = 0
    for message in proto.Message.__subclasses__():
        if message is proto.OtherTypeProto:
            continue
        theirs: Any = nested.get(message) or getattr(onnx, message.__name__)
        numbers = {f.number: f.name for f in theirs.DESCRIPTOR.fields}
        assert message.NUMBERS.items() <= numbers.items()
        checked += len(message.NUMBERS)
    assert checked > 70
