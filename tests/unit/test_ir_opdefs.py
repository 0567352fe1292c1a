"""The operations' definitions without any front: resolution, inference, folding, errors."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from tilework.core import errors
from tilework.core.dtypes import BOOL, FLOAT32, INT32, INT64
from tilework.core.errors import InvalidArgument, InvalidGraph
from tilework.ir.graph import Node
from tilework.ir.opdefs import OPS, DataDependent, Info, evaluate, infer_node, resolve
from tilework.ir.opdefs.elementwise import erf
from tilework.ir.opdefs.registry import FOLD_LIMIT, define

pytestmark = pytest.mark.unit


def node(op: str, inputs: int, outputs: int = 1, **attrs: Any) -> Node:
    names = tuple(f"x{i}" for i in range(inputs))
    results = tuple(f"y{i}" for i in range(outputs))
    return Node(op, names, results, attrs, f"Test '{op}'")


def f32(*shape: int) -> Info:
    return Info(FLOAT32, shape)


def known(*values: int) -> Info:
    return Info(INT64, (len(values),), np.array(values, np.int64))


UNKNOWN = Info(INT64, (2,))

# node, inputs -> shapes of the outputs, attributes after resolution
RESOLVED: list[tuple[Node, list[Info], list[tuple[int, ...]], dict[str, Any]]] = [
    (node("reshape", 2), [f32(2, 3), known(3, -1)], [(3, 2)], {"shape": (3, -1)}),
    (node("transpose", 1), [f32(2, 3, 4)], [(4, 3, 2)], {"perm": (2, 1, 0)}),
    (node("reduce_sum", 2), [f32(2, 3, 4), known(-1, 0)], [(1, 3, 1)], {"axes": (0, 2)}),
    (node("reduce_sum", 1, keepdims=0), [f32(2, 3)], [()], {"axes": (0, 1), "keepdims": 0}),
    (node("unsqueeze", 1, axes=(-1, 0)), [f32(3)], [(1, 3, 1)], {"axes": (0, 2)}),
    (node("squeeze", 1), [f32(1, 3, 1)], [(3,)], {"axes": (0, 2)}),
    (node("concat", 2, axis=-1), [f32(2, 3), f32(2, 5)], [(2, 8)], {"axis": 1}),
    (node("split", 1, 3), [f32(7, 2)], [(3, 2), (3, 2), (1, 2)], {"axis": 0, "sizes": (3, 3, 1)}),
    (
        node("slice", 3),
        [f32(5, 6), known(-1), known(-99)],
        [(0, 6)],
        {"starts": (-1,), "ends": (-99,), "axes": (0,), "steps": (1,)},
    ),
    (node("softmax", 1, axis=-2), [f32(2, 3)], [(2, 3)], {"axis": 0}),
    (node("gather", 2, axis=-1), [f32(4, 5), UNKNOWN], [(4, 2)], {"axis": 1}),
    (
        node("pad", 1, pads=(1, 2), axes=(-1,)),
        [f32(2, 3)],
        [(2, 6)],
        {"pads": (0, 1, 0, 2), "axes": None, "value": 0},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "infos", "shapes", "attrs"), RESOLVED, ids=lambda v: getattr(v, "op", "")
)
def test_resolution(
    given: Node, infos: list[Info], shapes: list[tuple[int, ...]], attrs: dict[str, Any]
) -> None:
    resolved, results = infer_node(given, infos)
    assert [r.shape for r in results] == shapes
    assert dict(resolved.attrs) == attrs
    again, same = infer_node(resolved, infos[: len(resolved.inputs)])
    assert [r.shape for r in same] == shapes
    assert dict(again.attrs) == attrs


def test_what_is_known_folds_and_large_or_unknown_things_do_not() -> None:
    _, (total,) = infer_node(node("add", 2), [known(1, 2), known(10, 20)])
    assert total.value is not None
    assert total.value.tolist() == [11, 22]
    assert infer_node(node("add", 2), [known(1, 2), UNKNOWN])[1][0].value is None
    shape = known(FOLD_LIMIT + 1)
    filled = node("constant_of_shape", 1, value=1, dtype="int64")
    assert infer_node(filled, [shape])[1][0].value is None
    _, (told,) = infer_node(node("shape", 1), [f32(2, 3)])
    assert told.value is not None
    assert told.value.tolist() == [2, 3]


WRONG: list[tuple[Node, list[Info | None], type[Exception], str]] = [
    (
        node("add", 2),
        [f32(2, 3), f32(4)],
        InvalidArgument,
        r"Test 'add': shapes do not broadcast; extents must be equal or 1 "
        r"\(inputs: float32\[2, 3\], float32\[4\]\)",
    ),
    (node("add", 2), [f32(2), known(1, 2)], InvalidArgument, "takes one dtype; cast one side"),
    (node("and", 2), [f32(2), f32(2)], InvalidArgument, "'and' takes bool tensors"),
    (node("erf", 1), [known(1)], InvalidArgument, "'erf' takes floating-point tensors"),
    (node("matmul", 2), [f32(2, 3), f32(4, 5)], InvalidArgument, "last extent of a must be"),
    (node("matmul", 2), [f32(), f32(4, 5)], InvalidArgument, "last extent of a must be"),
    (node("gemm", 2), [f32(2, 3), f32(2, 3)], InvalidArgument, "inner extents differ, 3 and 2"),
    (node("reshape", 1, shape=(4,)), [f32(2, 3)], InvalidArgument, r"cannot be reshaped to \[4\]"),
    (node("reshape", 1), [f32(2, 3)], InvalidGraph, "input 1 is absent"),
    (node("reshape", 2), [f32(2), UNKNOWN], DataDependent, "its 'shape' is computed from data"),
    (node("transpose", 1, perm=(0, 0)), [f32(2, 3)], InvalidArgument, "not a permutation"),
    (node("concat", 2, axis=0), [f32(2, 3), f32(2, 4)], InvalidArgument, "except along axis 0"),
    (node("softmax", 1, axis=2), [f32(2, 3)], InvalidArgument, r"axis 2 is outside \[-2, 2\)"),
    (node("reduce_sum", 1, axes=(0, -2)), [f32(2, 3)], InvalidArgument, "name an axis twice"),
    (node("squeeze", 1, axes=(0,)), [f32(2, 3)], InvalidArgument, "axis 0 has extent 2, only 1"),
    (node("split", 1, 2, sizes=(1, 2)), [f32(4)], InvalidArgument, "must add up to 4"),
    (
        node("slice", 1, starts=(0,), ends=(1,), steps=(0,)),
        [f32(4)],
        InvalidArgument,
        "a step is 0",
    ),
    (node("expand", 1, shape=(3,)), [f32(2)], InvalidArgument, r"does not broadcast with \[3\]"),
    (node("gather", 2, axis=0), [f32(3), f32(3)], InvalidArgument, "indices must be int32 or"),
    (
        node("gather", 2, axis=0),
        [Info(INT64, (2,), np.array([5, 6])), known(2)],
        InvalidArgument,
        r"Test 'gather': indices 2..2 leave axis 0 of extent 2; they must be in \[-2, 2\)",
    ),
    (node("where", 3), [f32(2), f32(2), f32(2)], InvalidArgument, "the condition must be bool"),
    (node("layer_normalization", 2, axis=-1), [f32(2, 4), f32(3)], InvalidArgument, r"to \[4\]"),
    (node("range", 0, start=0, limit=3, delta=0, dtype="int64"), [], InvalidArgument, "delta is 0"),
    (node("add", 1), [f32(2)], InvalidGraph, "1 inputs, 'add' needs 2; input 1 is absent"),
    (node("add", 3), [f32(2)] * 3, InvalidGraph, "3 inputs, 'add' takes at most 2"),
    (node("add", 2, 2), [f32(2)] * 2, InvalidGraph, "2 outputs, 'add' has 1"),
    (node("wobble", 1), [f32(2)], errors.NotImplemented, "'wobble' is not defined; define it"),
    (node("concat", 1, axis="x"), [f32(2)], InvalidGraph, "are not what 'concat' takes"),
    (node("cast", 1, to="float7"), [f32(2)], InvalidGraph, "cast to unknown dtype 'float7'"),
]


@pytest.mark.parametrize(
    ("given", "infos", "error", "message"), WRONG, ids=lambda v: getattr(v, "op", "")
)
def test_errors(
    given: Node, infos: list[Info | None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        infer_node(given, infos)


def test_an_operation_is_defined_once() -> None:
    with pytest.raises(InvalidArgument, match="'add' is defined twice"):
        define("add", 2, OPS["add"].infer, OPS["add"].reference)


def test_resolving_keeps_what_is_not_needed_as_a_value() -> None:
    given = Node("slice", ("x", "", "e"), ("y",), {"starts": (1,)}, "")
    resolved, kept = resolve(given, [f32(4), None, known(3)])
    assert (resolved.inputs, len(kept)) == (("x",), 1)
    assert resolved.attrs["starts"] == (1,)
    assert resolved.attrs["ends"] == (3,)


def test_a_tensor_has_no_more_axes_than_an_array() -> None:
    given = Node("expand", ("x",), ("y",), {"shape": (1,) * 33}, "Expand 'wide'")
    with pytest.raises(InvalidArgument, match="Expand 'wide': gives a tensor of more than 32 axes"):
        infer_node(given, [f32(1)])


def test_erf_is_exact_to_the_last_digits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.0, -0.0, 1e-300, np.inf, -np.inf]])
    right = [math.erf(value) for value in x]
    np.testing.assert_allclose(erf(x), right, rtol=4e-15, atol=0)
    assert math.copysign(1, erf(np.array(-0.0))) == -1
    assert math.isnan(erf(np.array(np.nan)))
    assert erf(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("a", "b", "right"),
    [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (2**62 + 1, 1, 2**62 + 1), (-6, 3, -2)],
)
def test_integers_divide_toward_zero(a: int, b: int, right: int) -> None:
    (result,) = evaluate(node("div", 2), [np.array([a]), np.array([b])])
    assert result.tolist() == [right]


def test_float32_stays_float32() -> None:
    """No reference widens: NumPy's rules for scalars and 0-d arrays would, here and there."""
    random = np.random.default_rng(0)
    checked = 0
    attrs: dict[str, Any] = {"alpha": 0.5, "beta": 0.5, "gamma": 1.5, "axis": 0}
    attrs |= {"size": 3, "kernel_shape": (3,), "norm": "MAX", "lambd": 0.5, "bias": 0.5}
    attrs |= {"power": 3.0}
    for name, definition in OPS.items():
        if definition.min_inputs not in (1, 2) or definition.values or name in ("cast", "concat"):
            continue
        if name in ("gather", "gather_elements", "gather_nd", "constant_of_shape", "tf_idf"):
            continue
        if definition.dynamic:
            continue  # it has no inference
        if name == "dynamic_quantize_linear":  # which makes bytes
            continue
        for shape in ((), (3,), (3, 3), (3, 3, 3)):
            arrays = [random.random(shape).astype(np.float32) for _ in range(definition.min_inputs)]
            given = node(name, len(arrays), **attrs)
            try:
                _, infos = infer_node(given, [Info(FLOAT32, shape) for _ in arrays])
            except (InvalidArgument, InvalidGraph):
                continue  # of another kind, or needs a higher rank, or attributes of its own
            results = evaluate(given, arrays)
            for info, result in zip(infos, results, strict=False):
                assert isinstance(result, np.ndarray), name
                assert (result.dtype, result.shape) == (np.dtype(info.dtype.numpy), info.shape), (
                    name
                )
                assert info.dtype in (FLOAT32, BOOL, INT64), name
            checked += 1
    assert checked > 100


def test_infinities_and_nans_raise_no_warning() -> None:
    x = np.array([0, -1, np.inf, -np.inf, np.nan], np.float32)
    with np.errstate(all="raise"):
        for name in ("exp", "log", "sqrt", "reciprocal", "softmax", "erf", "sigmoid", "gelu"):
            evaluate(node(name, 1, axis=0), [x])
        evaluate(node("div", 2), [x, x])
        evaluate(node("div", 2), [np.array([1], np.int32), np.array([0], np.int32)])


def test_int32_indices_and_scalars() -> None:
    info = Info(INT32, (), np.array(1, np.int32))
    assert infer_node(node("gather", 2, axis=0), [f32(4, 5), info])[1][0].shape == (5,)


def test_inference_of_many_nodes_is_fast() -> None:
    nodes = [node("add", 2), node("softmax", 1, axis=-1), node("matmul", 2)] * 200
    start = time.perf_counter()
    for given in nodes:
        infer_node(given, [f32(1, 12, 64, 64)] * len(given.inputs))
    assert time.perf_counter() - start < 0.1
