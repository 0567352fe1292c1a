"""Quantised models through sessions, against onnxruntime: single operators, and MiniLM in int8.

Sums of bytes must be equal to the last bit. A whole network is another matter: where one sum of
floats is rounded otherwise, a byte somewhere moves by one, and the layers behind it move along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilework
from tests.onnx.test_session_bert import kernels, plan_of, tokens
from tilework.onnx.session import InferenceSession
from tilework.plan.step import HostStep
from tools.quantised import make_quantised
from tools.steps import building

pytestmark = pytest.mark.onnx

MICROSOFT = "com.microsoft"
SIGNS = [(a, b) for a in (np.uint8, np.int8) for b in (np.uint8, np.int8)]


def values(dtype: Any, *shape: int, seed: int = 0) -> Any:
    """Bytes over their whole range, or normal numbers."""
    rng = np.random.default_rng(seed + sum(shape))
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, int(info.max) + 1, shape).astype(dtype)


def model(nodes: Sequence[Any], feeds: dict[str, Any], constants: dict[str, Any]) -> bytes:
    """The last node's outputs of these nodes; the dtypes of outputs are inferred by nobody."""
    graph = helper.make_graph(
        nodes,
        "quantised",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in nodes[-1].output if name],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    opset = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return bytes(made.SerializeToString())


def node(op: str, inputs: Sequence[str], **attrs: Any) -> Any:
    domain = "" if op in ("MatMulInteger", "QLinearMatMul", "DynamicQuantizeLinear") else MICROSOFT
    return helper.make_node(op, inputs, ["y"], domain=domain, **attrs)


def both(
    op: str, inputs: Sequence[str], feeds: dict[str, Any], constants: dict[str, Any], **attrs: Any
) -> tuple[Any, Any]:
    """(ours, onnxruntime's); nothing may have run on our host."""
    data = typed(model([node(op, inputs, **attrs)], feeds, constants))
    theirs = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (wanted,) = theirs.run(None, feeds)
    with InferenceSession(data) as session:
        (found,) = session.run(None, feeds)
        plan, _ = plan_of(session, feeds)
        assert not any(isinstance(step, HostStep) for step in plan.draft.steps)
    return found, wanted


def typed(data: bytes) -> bytes:
    """The model with its outputs' types, which onnxruntime asks for."""
    made = onnx.load_from_string(data)
    last = made.graph.node[-1]
    floats = (
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "QAttention"),
        "GatherBlockQuantized",
    )
    kind = TensorProto.INT32 if last.op_type == "MatMulInteger" else TensorProto.FLOAT
    if last.op_type not in (*floats, "MatMulInteger"):
        like = last.input[7] if len(last.input) > 7 else last.input[0]
        tensors = {t.name: t.data_type for t in made.graph.initializer}
        tensors |= {v.name: v.type.tensor_type.elem_type for v in made.graph.input}
        kind = tensors[like]
    made.graph.output[0].type.tensor_type.elem_type = kind
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(("a", "b"), SIGNS)
@pytest.mark.parametrize("constant", [False, True], ids=["fed", "constant"])
@pytest.mark.parametrize("shape", [(7, 33, 13), (1, 64, 40), (40, 129, 70)])
def test_matmul_integer(a: Any, b: Any, constant: bool, shape: tuple[int, ...]) -> None:
    m, k, n = shape
    feeds = {"a": values(a, m, k), "b": values(b, k, n), "az": values(a, 1)[0:1].reshape(())}
    zeros = {"bz": values(b, n)}
    constants = {name: feeds.pop(name) for name in ("b", "az")} if constant else {}
    left, right = (
        next(d[name] for d in (feeds, constants) if name in d).astype(np.int64) for name in "ab"
    )
    az = {**feeds, **constants}["az"].astype(np.int64)
    data = model([node("MatMulInteger", ["a", "b", "az", "bz"])], feeds, {**constants, **zeros})
    with InferenceSession(typed(data)) as session:
        (found,) = session.run(None, feeds)
    wanted = (left - az) @ (right - zeros["bz"].astype(np.int64))
    np.testing.assert_array_equal(found, wanted.astype(np.int32))


def test_matmul_integer_of_batches() -> None:
    feeds = {"a": values(np.uint8, 2, 1, 5, 20), "b": values(np.int8, 3, 20, 9)}
    found, wanted = both("MatMulInteger", ["a", "b"], feeds, {})
    np.testing.assert_array_equal(found, wanted)
    feeds = {"a": values(np.uint8, 2, 3, 5, 20)}
    found, wanted = both("MatMulInteger", ["a", "b"], feeds, {"b": values(np.int8, 20, 9)})
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("a", "b"), [(np.uint8, np.uint8), (np.uint8, np.int8)])
@pytest.mark.parametrize("columns", [False, True])
def test_matmul_integer_to_float(a: Any, b: Any, columns: bool) -> None:
    feeds = {"a": values(a, 6, 40)}
    constants = {
        "b": values(b, 40, 24),
        "s": np.array(0.02, np.float32),
        "t": np.abs(values(np.float32, 24)) * 0.01 if columns else np.array([0.01], np.float32),
        "az": np.array(100, a),
        "bz": values(b, 24) if columns else np.array([3], b),
        "bias": values(np.float32, 24),
    }
    inputs = ["a", "b", "s", "t", "az", "bz", "bias"]
    found, wanted = both("MatMulIntegerToFloat", inputs, feeds, constants)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_dynamic_quantize_matmul(bias: bool) -> None:
    feeds = {"x": values(np.float32, 2, 9, 48)}
    constants = {
        "b": values(np.int8, 48, 20),
        "t": np.array([0.01], np.float32),
        "bz": np.array([0], np.int8),
        "bias": values(np.float32, 20),
    }
    inputs = ["x", "b", "t", "bz", "bias"][: 4 + bias]
    constants = {name: constants[name] for name in inputs[1:]}
    found, wanted = both("DynamicQuantizeMatMul", inputs, feeds, constants)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("a", "b"), [(np.uint8, np.uint8), (np.int8, np.int8)])
def test_qlinear_matmul(a: Any, b: Any) -> None:
    feeds = {"a": values(a, 3, 7, 40)}
    constants = {
        "as": np.array(0.02, np.float32),
        "az": np.array(11, a),
        "b": values(b, 40, 18),
        "bs": np.array(0.03, np.float32),
        "bz": np.array(5, b),
        "ys": np.array(0.7, np.float32),
        "yz": np.array(13, a),
    }
    inputs = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    found, wanted = both("QLinearMatMul", inputs, feeds, constants)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_not_a_number_becomes_the_lowest_byte(dtype: Any) -> None:
    """As in onnxruntime: a mask of -inf whose scale is infinite hides what it hid."""
    x = np.resize(np.array([np.nan, 1.0, np.inf, -np.inf, -2.0], np.float32), 37)
    scales = {"s": np.array(0.5, np.float32), "z": np.array(7, dtype)}
    made = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    graph = onnx.load_from_string(model([made], {"x": x}, scales))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph.graph.output[0].type.tensor_type.elem_type = kind
    data = graph.SerializeToString()
    (wanted,) = onnxruntime.InferenceSession(data).run(None, {"x": x})
    with InferenceSession(data) as session:
        (found,) = session.run(None, {"x": x})
    assert found[0] == np.iinfo(dtype).min
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("parts", [255, 256])
def test_softmax_of_bytes(dtype: Any, opset: int, parts: int) -> None:
    """Exact, where onnxruntime's is one off: it cuts 1 / scale, 254.99998 of 1 / 255, to 254."""
    feeds = {"x": values(dtype, 3, 5, 48)}
    least = np.iinfo(dtype).min
    numbers = {"xs": 0.05, "xz": 3, "ys": 1 / parts, "yz": least}
    kinds = {"xs": np.float32, "xz": dtype, "ys": np.float32, "yz": dtype}
    constants = {name: np.array(number, kinds[name]) for name, number in numbers.items()}
    names = ["x", *constants]
    found, wanted = both("QLinearSoftmax", names, feeds, constants, axis=1, opset=opset)
    rows = (feeds["x"].astype(np.float64) - 3) * np.float64(constants["xs"])
    if opset < 13:
        rows = rows.reshape(3, -1)
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    chances = (powers / powers.sum(axis=1, keepdims=True)).reshape(found.shape)
    exact = np.rint(chances / np.float64(constants["ys"])) + least
    np.testing.assert_array_equal(found, np.minimum(exact, np.iinfo(dtype).max))
    if parts == 256:
        np.testing.assert_array_equal(found, wanted)
    else:
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_elementwise_of_bytes(op: str) -> None:
    feeds = {"a": values(np.uint8, 4, 50), "b": values(np.uint8, 50)}
    numbers = {"as": 0.02, "bs": 0.05, "cs": 0.03}
    constants: dict[str, Any] = {n: np.array(v, np.float32) for n, v in numbers.items()}
    constants |= {n: np.array(v, np.uint8) for n, v in (("az", 100), ("bz", 128), ("cz", 90))}
    found, wanted = both(op, ["a", "as", "az", "b", "bs", "bz", "cs", "cz"], feeds, constants)
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_matmul_of_few_bits(zeros: bool, bits: int) -> None:
    k, n, block = 64, 24, 32
    blocks = k // block
    feeds = {"x": values(np.float32, 5, k)}
    constants = {
        "b": values(np.uint8, n, blocks, block * bits // 8),
        "s": np.abs(values(np.float32, n * blocks)) * 0.1,
        "z": values(np.uint8, n * -(-blocks * bits // 8)),
    }
    inputs = ["x", "b", "s", "z"][: 3 + zeros]
    constants = {name: constants[name] for name in inputs[1:]}
    attrs = {"K": k, "N": n, "bits": bits, "block_size": block}
    found, wanted = both("MatMulNBits", inputs, feeds, constants, **attrs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_bytes(causal: int, masked: bool) -> None:
    batch, rows, width, heads = 2, 6, 16, 4
    feeds = {"x": values(np.uint8, batch, rows, width)}
    mask = np.ones((batch, rows), np.int32)
    mask[1, 4:] = 0
    constants = {
        "w": values(np.int8, width, 3 * width),
        "bias": values(np.float32, 3 * width),
        "xs": np.array(0.02, np.float32),
        "ws": np.array(0.01, np.float32),
        "mask": mask,
        "xz": np.array(120, np.uint8),
        "wz": np.array(0, np.int8),
    }
    inputs = ["x", "w", "bias", "xs", "ws", "mask" if masked else "", "xz", "wz"]
    if not masked:
        del constants["mask"]
    attrs = {"num_heads": heads, "unidirectional": causal}
    found, wanted = both("QAttention", inputs, feeds, constants, **attrs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_rows_of_a_table_of_few_bits() -> None:
    rows, width, block = 12, 64, 16
    feeds = {"i": np.array([[3, 0], [11, 3]], np.int64)}
    constants = {
        "table": values(np.uint8, rows, width // 2),
        "s": np.abs(values(np.float32, rows, width // block)),
        "z": values(np.uint8, rows, width // block // 2),
    }
    attrs = {"block_size": block, "gather_axis": 0, "quantize_axis": 1, "bits": 4}
    for last in ("s", "z"):
        inputs = ["table", "i", "s", "z"][: 3 + (last == "z")]
        named = {name: constants[name] for name in inputs if name != "i"}
        found, wanted = both("GatherBlockQuantized", inputs, feeds, named, **attrs)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


# -- MiniLM ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path() -> Path:
    with building():
        return make_quantised()


@pytest.fixture(scope="module")
def minilm(path: Path) -> Iterator[InferenceSession]:
    with InferenceSession(path) as session:
        yield session


@pytest.fixture(scope="module")
def theirs(path: Path) -> list[Any]:
    """onnxruntime's sessions with and without optimisations: how far it is from itself."""
    found = []
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        providers = ["CPUExecutionProvider"]
        found.append(onnxruntime.InferenceSession(str(path), options, providers=providers))
    return found


@pytest.mark.parametrize("length", [16, 128, 256])
def test_minilm_agrees(minilm: InferenceSession, theirs: list[Any], length: int) -> None:
    fed = tokens(1, length)
    found = minilm.run(None, fed)
    for session in theirs:
        for result, wanted in zip(found, session.run(None, fed), strict=True):
            cosine = (result * wanted).sum() / np.sqrt((result**2).sum() * (wanted**2).sum())
            assert cosine > 0.97  # the float model's is 0.87 to 0.93
            assert np.sqrt(np.mean((result - wanted) ** 2)) < 0.05 * np.abs(wanted).max()


def test_minilm_is_fused_whole(minilm: InferenceSession) -> None:
    plan, counts = plan_of(minilm, tokens(1, 128))
    made = kernels(plan)  # which has found no host steps
    assert counts["matmul of bytes"] == counts["matmul of bytes + bias"] == 36
    assert counts["matmul of bytes + gelu"] == counts["attention"] == 6
    assert counts["matmul of bytes + residual"] == 12
    assert made.count("i8_gemm") == 36
    assert made.count("f32_quantize_dynamic") == made.count("f32_range") == 24
    assert "strided_copy" not in made
    assert len(plan.draft.segments()) == 1


def test_minilm_holds_its_weights_as_bytes(path: Path) -> None:
    options = tilework.SessionOptions(intra_op_num_threads=1)
    with InferenceSession(path, options) as session:
        session.run(None, tokens(1, 16))
        (graph,) = session._sessions.values()
        plan = graph.plan(tokens(1, 16))
        packed = sum(
            step.bindings[1].nbytes
            for step in plan.draft.steps
            if not isinstance(step, HostStep)
            and step.kernel.name == "i8_gemm"
            and step.bindings[1] is not None
        )
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert weights < packed < 1.3 * weights
