"""Every lowering against the references, on the desktop device, over a table of shapes.

Operands come as they are, transposed, sliced and broadcast, so that strides, copies and results in
place are all met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.graphs import Maker, check, f32, run_device
from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64, UINT8, DType
from tilework.hal.kernels.elementwise import Binary
from tilework.hal.kernels.gemm import GemmParams
from tilework.ir.graph import Graph
from tilework.ir.reference import run_reference
from tilework.plan.lowerings import LOWERINGS, convert, elementwise, reduce
from tilework.plan.plan import Draft
from tilework.plan.step import Dispatch, HostStep

pytestmark = pytest.mark.kernels

POSITIVE = ("log", "sqrt", "pow")


def on_device(draft: Draft) -> bool:
    return not any(isinstance(step, HostStep) for step in draft.steps)


def kernels(draft: Draft) -> list[str]:
    return [step.kernel.name for step in draft.steps if isinstance(step, Dispatch)]


def numbers(dtype: DType, *shape: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if dtype is BOOL:
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return (random.standard_normal(shape) * 3).astype(dtype.numpy)
    low = 1 if dtype.kind == "u" else -9
    return random.integers(low, 9, shape).astype(dtype.numpy)


# -- elementwise ------------------------------------------------------------

ATTRS: dict[str, dict[str, Any]] = {
    "leaky_relu": {"alpha": 0.1},
    "elu": {"alpha": 0.7},
    "selu": {"alpha": 1.6, "gamma": 1.05},
    "hard_sigmoid": {"alpha": 0.2, "beta": 0.5},
    "clip": {"min": -0.5, "max": 1.5},
}


@pytest.mark.parametrize("op", elementwise.UNARY)
def test_unary(op: str) -> None:
    m = Maker()
    x = m.input("x", ["a", "b"])
    dense = m.op(op, x, **ATTRS.get(op, {}))
    turned = m.op(op, m.op("transpose", x, perm=(1, 0)), **ATTRS.get(op, {}))
    part = m.op(op, m.op("slice", x, starts=(1,), ends=(4,), axes=(1,), steps=(2,)),
                **ATTRS.get(op, {}))  # fmt: skip
    array = np.abs(f32(7, 5)) + 0.1 if op in POSITIVE else f32(7, 5)
    draft = check(m.graph(dense, turned, part), {"x": array}, rtol=2e-5)
    assert on_device(draft)


def test_both_forms_of_gelu() -> None:
    m = Maker()
    x = m.input("x", ["n"])
    graph = m.graph(m.op("gelu", x, approximate="tanh"), m.op("gelu", x, approximate="none"))
    assert on_device(check(graph, {"x": f32(5000)}, rtol=1e-4))


PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 4), ()), ((), (3, 4)), ((2, 1, 5), (4, 1)),
    ((1, 1), (2, 3)), ((2, 3, 1, 5), (1, 3, 4, 1)), ((0, 3), (3,)), ((20000,), (20000,)),
    ((2, 1, 2, 1, 2, 1, 2), (1, 3, 1, 3, 1, 3, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "min", "max"])
def test_binary_broadcasts(op: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    m = Maker()
    graph = m.graph(m.op(op, m.input("a", a), m.input("b", b)))
    check(graph, {"a": f32(*a), "b": f32(*b, seed=1) + np.float32(0.01)})


@pytest.mark.parametrize("dtype", [INT32, INT64])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "min", "max", "mod"])
def test_binary_of_integers(op: str, dtype: DType) -> None:
    m = Maker()
    graph = m.graph(m.op(op, m.input("a", [6, 5], dtype), m.input("b", [5], dtype)))
    divisor = np.array([3, -2, 5, 1, -7], dtype.numpy)
    assert on_device(check(graph, {"a": numbers(dtype, 6, 5), "b": divisor}))


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, 4.0, 2.5])
def test_pow(exponent: float) -> None:
    m = Maker()
    graph = m.graph(m.op("pow", m.input("x", ["n"]), m.constant(exponent)))
    x = f32(300) if exponent in (3.0, 4.0) else np.abs(f32(300))
    draft = check(graph, {"x": x}, rtol=1e-5)
    products = {3.0: 2, 4.0: 2, 2.5: 1}.get(exponent)
    assert kernels(draft) == (["f32_binary"] * products if products else ["f32_unary"])
    if exponent != 2.5:  # as fast as products are
        ops = [step.params.op for step in draft.steps if isinstance(step, Dispatch)]  # type: ignore[union-attr]
        assert Binary.POW not in ops


@pytest.mark.parametrize("dtype", [FLOAT32, INT32, INT64, BOOL])
@pytest.mark.parametrize("op", elementwise.COMPARISON)
def test_comparisons(op: str, dtype: DType) -> None:
    if dtype is BOOL and op != "equal":
        return  # ONNX orders no booleans
    m = Maker()
    graph = m.graph(m.op(op, m.input("a", [4, 5], dtype), m.input("b", [5], dtype)))
    assert on_device(check(graph, {"a": numbers(dtype, 4, 5), "b": numbers(dtype, 5, seed=2)}))


@pytest.mark.parametrize("op", ["and", "or", "xor"])
def test_logical(op: str) -> None:
    m = Maker()
    a, b = m.input("a", [4, 5], BOOL), m.input("b", [5], BOOL)
    graph = m.graph(m.op(op, a, b), m.op("not", a))
    assert on_device(check(graph, {"a": numbers(BOOL, 4, 5), "b": numbers(BOOL, 5, seed=2)}))


@pytest.mark.parametrize("dtype", [FLOAT32, INT64, UINT8, BOOL])
def test_where(dtype: DType) -> None:
    m = Maker()
    c, a, b = m.input("c", [3, 1], BOOL), m.input("a", [4], dtype), m.input("b", [], dtype)
    graph = m.graph(m.op("where", c, a, b))
    feeds = {"c": numbers(BOOL, 3, 1), "a": numbers(dtype, 4), "b": numbers(dtype)}
    assert on_device(check(graph, feeds))


@pytest.mark.parametrize("source", convert.TYPES, ids=str)
@pytest.mark.parametrize("target", convert.TYPES, ids=str)
def test_cast(source: DType, target: DType) -> None:
    m = Maker()
    graph = m.graph(m.op("cast", m.input("x", [40], source), to=target.name))
    array = np.abs(numbers(source, 40)) if target.kind == "u" else numbers(source, 40)
    assert on_device(check(graph, {"x": array}))


def test_results_go_over_operands_that_nobody_needs() -> None:
    m = Maker()
    y = m.op("exp", m.input("x", ["n"]))
    for _ in range(5):
        y = m.op("tanh", y)
    draft = check(m.graph(y), {"x": f32(1024)})
    assert draft.arena_bytes == 4096


def test_an_operand_that_is_read_again_is_not_overwritten() -> None:
    m = Maker()
    x = m.input("x", [8, 8])
    e = m.op("exp", x)
    total = m.op("add", e, m.op("transpose", e, perm=(1, 0)))  # two views of one storage
    again = m.op("mul", m.op("neg", x), x)
    check(m.graph(total, again, x), {"x": f32(8, 8)})


# -- moves ------------------------------------------------------------

Moves = Callable[[Maker, str], str]
MOVES: dict[str, Moves] = {
    "transpose": lambda m, x: m.op("transpose", x, perm=(2, 0, 1)),
    "reshape": lambda m, x: m.op("reshape", x, shape=(4, -1), allow_zero=0),
    "reshape of a transpose": lambda m, x: m.op(
        "reshape", m.op("transpose", x, perm=(1, 0, 2)), shape=(-1,), allow_zero=0
    ),
    "flatten": lambda m, x: m.op("flatten", x, axis=2),
    "slice": lambda m, x: m.op("slice", x, starts=(1, 0), ends=(3, 5), axes=(1, 2), steps=(1, 2)),
    "backwards": lambda m, x: m.op(
        "slice", x, starts=(-1, 3), ends=(-99, 0), axes=(0, 2), steps=(-1, -2)
    ),
    "backwards of a transpose": lambda m, x: m.op(
        "slice", m.op("transpose", x, perm=(2, 1, 0)), starts=(4,), ends=(1,), axes=(0,),
        steps=(-1,),
    ),
    "nothing": lambda m, x: m.op("slice", x, starts=(3,), ends=(3,), axes=(1,), steps=(1,)),
    "expand": lambda m, x: m.op("expand", m.op("unsqueeze", x, axes=(0, 2)), shape=(2, 2, 3, 4, 6)),
    "tile": lambda m, x: m.op("tile", x, repeats=(2, 1, 3)),
    "concat 0": lambda m, x: m.op("concat", x, x, x, axis=0),
    "concat 2": lambda m, x: m.op("concat", x, m.op("transpose", x, perm=(0, 1, 2)), x, axis=2),
    "squeeze": lambda m, x: m.op("squeeze", m.op("unsqueeze", x, axes=(1,)), axes=(1,)),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", [FLOAT32, INT64, BOOL], ids=str)
def test_moves(name: str, dtype: DType) -> None:
    m = Maker()
    y = MOVES[name](m, m.input("x", [2, 4, 6], dtype))
    assert on_device(check(m.graph(y), {"x": numbers(dtype, 2, 4, 6)}))


def test_split() -> None:
    m = Maker()
    a, b, c = m.op("split", m.input("x", ["n", 9]), outputs=3, axis=1, sizes=(2, 3, 4))
    draft = check(m.graph(m.op("neg", a), b, m.op("add", c, c)), {"x": f32(5, 9)})
    assert on_device(draft)


def test_views_move_nothing() -> None:
    m = Maker()
    x = m.op("reshape", m.input("x", ["b", "s", 12]), shape=(0, 0, 3, 4), allow_zero=0)
    x = m.op("transpose", m.op("unsqueeze", x, axes=(0,)), perm=(0, 1, 3, 2, 4))
    first, _ = m.op("split", m.op("squeeze", x, axes=(0,)), outputs=2, axis=2, sizes=(2, 3))
    draft = check(m.graph(m.op("add", first, first)), {"x": f32(2, 5, 12)})
    assert kernels(draft) == ["f32_binary"]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [INT32, INT64], ids=str)
def test_gather(axis: int, dtype: DType) -> None:
    m = Maker()
    i = m.input("i", [2, 3], dtype)
    turned = m.op("transpose", i, perm=(1, 0))
    constant = m.op("gather", m.constant(f32(4, 5, 6)), turned, axis=axis)
    y = m.op("gather", m.input("x", [4, 5, 6]), i, axis=axis)
    feeds = {"x": f32(4, 5, 6), "i": np.array([[0, 3, -1], [2, -4, 1]], dtype.numpy)}
    assert on_device(check(m.graph(y, constant), feeds))


# -- reductions ------------------------------------------------------------


@pytest.mark.parametrize("op", reduce.OPS)
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(op: str, axes: tuple[int, ...], keepdims: int) -> None:
    m = Maker()
    x = m.input("x", ["a", 3, 4])
    y = m.op(op, x, axes=axes, keepdims=keepdims)
    array = np.abs(f32(2, 3, 4)) + np.float32(0.1)
    assert on_device(check(m.graph(y), {"x": array}, rtol=2e-5))


def test_what_is_repeated_is_reduced_once() -> None:
    m = Maker()
    wide = m.op("expand", m.op("unsqueeze", m.input("x", [2, 5]), axes=(2,)), shape=(2, 5, 600))
    draft = check(m.graph(m.op("neg", m.op("reduce_sum", wide, axes=(1,), keepdims=0))),
                  {"x": f32(2, 5)})  # fmt: skip
    assert "strided_copy" not in kernels(draft)[:2]
    assert draft.arena_bytes < 2 * 5 * 600 * 4


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(op: str, axis: int) -> None:
    m = Maker()
    y = m.op(op, m.input("x", [3, 4, 50]), axis=axis)
    assert on_device(check(m.graph(y), {"x": f32(3, 4, 50)}))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_layer_norm(axis: int, bias: bool) -> None:
    m = Maker()
    shape = (5, 6)[axis - 1 :] if axis > 0 else (6,)
    vectors = [m.constant(f32(*shape, seed=seed)) for seed in range(1 + bias)]
    y = m.op("layer_normalization", m.input("x", [3, 5, 6]), *vectors, axis=axis, epsilon=1e-5)
    assert on_device(check(m.graph(y), {"x": f32(3, 5, 6)}))


@pytest.mark.parametrize("read_again", [False, True])
def test_residual_layer_norm(read_again: bool) -> None:
    m = Maker()
    a, b = m.input("a", ["n", 300]), m.input("b", ["n", 300])
    vectors = [m.constant(f32(300, seed=seed)) for seed in range(2)]
    y, total = m.op(
        "residual_layer_normalization", m.op("exp", a), b, *vectors, outputs=2, axis=1, epsilon=1e-6
    )
    outputs = [y, m.op("neg", total)] if read_again else [y]
    draft = check(m.graph(*outputs), {"a": f32(80, 300), "b": f32(80, 300, seed=1)})
    assert "f32_layer_norm" in kernels(draft)
    assert on_device(draft)


# -- products ------------------------------------------------------------

PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((4, 6), (6, 5)), ((1, 1), (1, 1)), ((130, 70), (70, 33)), ((3, 4, 6), (6, 5)), ((6,), (6, 5)),
    ((4, 6), (6,)), ((6,), (6,)), ((2, 3, 4, 6), (2, 3, 6, 5)), ((2, 3, 4, 6), (3, 6, 5)),
    ((2, 1, 4, 6), (1, 3, 6, 5)), ((4, 6), (3, 6, 5)), ((2, 2, 2, 2, 4, 3), (2, 1, 2, 2, 3, 5)),
    ((0, 6), (6, 5)), ((3, 4, 1), (1, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
@pytest.mark.parametrize("constant", [False, True])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], constant: bool) -> None:
    m = Maker()
    weight = f32(*b, seed=1)
    right = m.constant(weight) if constant else m.input("b", b)
    graph = m.graph(m.op("matmul", m.input("a", a), right))
    draft = check(graph, {"a": f32(*a)} | ({} if constant else {"b": weight}), atol=1e-4)
    assert on_device(draft)
    assert not constant or "f32_gemm_pack_b" not in kernels(draft)  # packed once, before


@pytest.mark.parametrize(("groups", "rank"), [(2, 4), (3, 4), (4, 4), (5, 3), (3, 5)])
def test_channels_are_shuffled_by_one_copy(groups: int, rank: int) -> None:
    side = (5, 3, 2)[: rank - 2]
    m = Maker()
    own = groups * 8
    weight = m.constant(f32(own, own, *(1,) * (rank - 2), seed=1))
    deep = m.constant(f32(own, 1, *(1,) * (rank - 2), seed=2))
    conv: dict[str, Any] = {"strides": (1,) * (rank - 2), "dilations": (1,) * (rank - 2)}
    conv["pads"] = (0,) * (2 * (rank - 2))
    x = m.op("conv", m.input("x", (2, own, *side)), weight, **conv, group=1)
    parts = m.op("reshape", x, m.constant(np.array([2, groups, 8, *side], np.int64)))
    turned = m.op("transpose", parts, perm=(0, 2, 1, *range(3, rank + 1)))
    back = m.op("reshape", turned, m.constant(np.array([2, own, *side], np.int64)))
    y = m.op("conv", back, deep, **conv, group=own)
    draft = check(m.graph(y), {"x": f32(2, own, *side)}, atol=1e-4)
    # To channels last, the shuffle, and back to rows for the caller.
    assert kernels(draft).count("strided_copy") == 3


@pytest.mark.parametrize(("rows", "columns"), [(5, 1024), (5, 1023), (3, 1024), (5, 40)])
def test_few_rows_and_much_weight_are_brought_by_writing(rows: int, columns: int) -> None:
    m = Maker()
    weight = f32(4111, columns, seed=1)
    graph = m.graph(m.op("matmul", m.input("a", (rows, 4111)), m.constant(weight)))
    draft = check(graph, {"a": f32(rows, 4111)}, atol=1e-2)
    (product,) = [step for step in draft.steps if isinstance(step, Dispatch)]
    assert isinstance(product.params, GemmParams)
    assert product.params.rewrite == (rows > 3 and columns > 1000)


@pytest.mark.parametrize("perm_a", [(0, 1, 2, 3), (0, 2, 1, 3), (1, 0, 3, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("perm_b", [(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_matmul_of_views(perm_a: tuple[int, ...], perm_b: tuple[int, ...]) -> None:
    m = Maker()
    shape_a, shape_b = (2, 3, 4, 6), (2, 3, 6, 5)
    a = m.op("transpose", m.input("a", [shape_a[i] for i in np.argsort(perm_a)]), perm=perm_a)
    b = m.op("transpose", m.input("b", [shape_b[i] for i in np.argsort(perm_b)]), perm=perm_b)
    graph = m.graph(m.op("matmul", a, b))
    feeds = {
        "a": f32(*[shape_a[i] for i in np.argsort(perm_a)]),
        "b": f32(*[shape_b[i] for i in np.argsort(perm_b)]),
    }
    assert on_device(check(graph, feeds))


@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "tanh", "sigmoid"])
@pytest.mark.parametrize("transpose_b", [0, 1])
def test_fused_matmul(activation: str, transpose_b: int) -> None:
    m = Maker()
    weight = f32(9, 16) if transpose_b else f32(16, 9)
    y = m.op(
        "fused_matmul",
        m.input("x", ["b", "s", 16]),
        m.constant(weight),
        m.constant(f32(9)),
        m.input("r", ["b", "s", 9]),
        activation=activation,
        alpha=0.5,
        transpose_b=transpose_b,
    )
    draft = check(m.graph(y), {"x": f32(2, 7, 16), "r": f32(2, 7, 9)})
    assert kernels(draft) == ["f32_gemm"]


@pytest.mark.parametrize("mask", [None, (1, 1, 7), (2, 1, 1, 7), (5, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("layout", ["heads first", "rows first"])
def test_attention(mask: tuple[int, ...] | None, layout: str) -> None:
    m = Maker()
    first = layout == "heads first"

    def operand(name: str, rows: int, size: int) -> str:
        if first:
            return m.input(name, [2, 3, rows, size])
        return str(m.op("transpose", m.input(name, [2, rows, 3, size]), perm=(0, 2, 1, 3)))

    inputs = [operand("q", 5, 8), operand("k", 7, 8), operand("v", 7, 4)]
    if mask is not None:
        inputs.append(m.input("mask", mask))
    y = m.op("attention", *inputs, scale=0.3)
    if not first:
        y = m.op("reshape", m.op("transpose", y, perm=(0, 2, 1, 3)), shape=(2, 5, 12), allow_zero=0)
    graph = m.graph(y)
    shapes = {value.name: tuple(int(n) for n in value.shape or ()) for value in graph.inputs}
    draft = check(graph, {name: f32(*shape) for name, shape in shapes.items()})
    assert kernels(draft) == ["f32_attention"]


@pytest.mark.parametrize("op", ["attention", "scaled_attention"])
@pytest.mark.parametrize(
    ("features", "keys", "values", "where"),
    [(4, 5, 0, "device"), (0, 5, 4, "host"), (4, 0, 4, "host"), (0, 0, 0, "host")],
)
def test_attention_to_nothing(op: str, features: int, keys: int, values: int, where: str) -> None:
    m = Maker()
    shapes = {"q": (1, 2, 3, features), "k": (1, 2, keys, features), "v": (1, 2, keys, values)}
    inputs = [m.input(name, list(shape)) for name, shape in shapes.items()]
    graph = m.graph(m.op(op, *inputs, scale=0.5))
    draft = check(graph, {name: f32(*shape) for name, shape in shapes.items()})
    assert on_device(draft) == (where == "device")



# -- whole plans ------------------------------------------------------------


def test_every_lowering_is_in_the_table_of_references() -> None:
    from tilework.ir.opdefs import OPS

    assert LOWERINGS.keys() <= OPS.keys()


def test_constants_are_joined_packed_and_forgotten() -> None:
    """Prepared constants leave nothing behind but what the steps read."""
    m = Maker()
    x = m.input("x", ["b", 5, 12])
    q, k, v = (
        m.op("reshape", m.op("matmul", x, m.constant(f32(12, 12, seed=i))), shape=(0, 0, 3, 4),
             allow_zero=0)
        for i in range(3)
    )  # fmt: skip
    q, k, v = (
        m.op("transpose", q, perm=(0, 2, 1, 3)),
        m.op("transpose", k, perm=(0, 2, 3, 1)),
        m.op("transpose", v, perm=(0, 2, 1, 3)),
    )
    y = m.op("matmul", m.op("softmax", m.op("matmul", q, k), axis=-1), v)
    draft = check(m.graph(y), {"x": f32(2, 5, 12)}, rtol=1e-4)
    assert kernels(draft) == ["f32_gemm", "f32_attention"]
    keys = [storage.key for storage in draft.constants()]
    assert len(keys) == 1
    assert keys[0].startswith("panels(concat")


def mixed(m: Maker) -> Graph:
    x = m.input("x", ["n", 4])
    y = m.op("eye_like", m.op("exp", x))  # which has no kernel
    z = m.op("add", y, m.op("sum_to", m.op("neg", x), x))
    return m.graph(m.op("mul", z, x), y)


def test_what_has_no_kernel_runs_on_the_host() -> None:
    draft = check(mixed(Maker()), {"x": f32(3, 4)})
    hosts = [step for step in draft.steps if isinstance(step, HostStep)]
    assert [step.node.op for step in hosts] == ["eye_like", "sum_to"]
    assert "on host" in str(draft)
    assert len(draft.segments()) >= 4


def test_outputs_may_be_inputs_and_constants() -> None:
    m = Maker()
    x = m.input("x", [3])
    c = m.constant(np.arange(3, dtype=np.float32))
    large = m.constant(f32(100, 100))
    filled = m.op("constant_of_shape", shape=(5000,), value=2.5, dtype="float32")
    graph = m.graph(x, c, m.op("transpose", large, perm=(1, 0)), filled, m.op("neg", x))
    check(graph, {"x": f32(3)})


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    m = Maker()
    y = m.op("fused_matmul", m.input("x", ["n", 64]), m.constant(f32(64, 96)), activation="gelu")
    graph = m.graph(m.op("softmax", y, axis=-1))
    feeds = {"x": f32(600, 64)}
    wanted = run_reference(graph, feeds)[graph.outputs[0].name]
    (result,), draft = run_device(graph, feeds, threads)
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-6)
    assert threads == 1 or all(
        step.counts[0] * step.counts[1] >= threads
        for step in draft.steps
        if isinstance(step, Dispatch)
    )


def test_a_printed_plan_says_what_runs() -> None:
    m = Maker()
    y = m.op("relu", m.op("matmul", m.input("x", ["n", 8]), m.constant(f32(8, 8))))
    text = str(check(m.graph(y), {"x": f32(4, 8)}))
    assert "x[4, 8]" in text
    assert "f32_gemm" in text
    assert "1×1×1" in text
    assert "matmul number 0" in text

