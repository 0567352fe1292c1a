"""Cases of the elementwise kernels: every operation, special values, tails, broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.harness import INVALID_PARAMS, TOO_SHORT, Case, Tolerance, up
from tilework.hal.kernel import Kernel
from tilework.hal.kernels import elementwise as e
from tilework.ir.opdefs.elementwise import acosh

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Six = tuple[int, int, int, int, int, int]
ONES: Six = (1, 1, 1, 1, 1, 1)
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-45, -1e-40, 1e-38,
     3e38, -3e38, 88.8, -88.8, -103.9, 104.5, 0.92, 1.0001, -7.5, 16777217.0, 1e10],
    np.float32,
)  # fmt: skip


def random(n: int, scale: float = 3.0, seed: int = 0) -> Array:
    return (np.random.default_rng(seed + n).standard_normal(n) * scale).astype(np.float32)


# -- f32-unary -------------------------------------------------------------------------------------


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def sigmoid(x: Array) -> Array:
    e_ = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e_) / (1 + e_))


def hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.maximum(alpha * x + beta, 0), 1)


def round_off(scale: float) -> Tolerance:
    """For formulas that cancel: an error relative to the terms instead of the result."""
    return Tolerance(3, scale)


ALPHA, BETA = 0.25, 0.375
EXACT, TWO = Tolerance(0.5), Tolerance(2)
# op: what it is in float64, and how near the kernel comes
UNARY: dict[e.Unary, tuple[Callable[[Array], Array], Tolerance]] = {
    e.Unary.NEG: (np.negative, EXACT),
    e.Unary.ABS: (np.abs, EXACT),
    e.Unary.SIGN: (np.sign, EXACT),
    e.Unary.SQRT: (np.sqrt, EXACT),
    e.Unary.RECIPROCAL: (np.reciprocal, EXACT),
    e.Unary.SQUARE: (np.square, EXACT),
    e.Unary.FLOOR: (np.floor, EXACT),
    e.Unary.CEIL: (np.ceil, EXACT),
    e.Unary.ROUND: (np.rint, EXACT),
    e.Unary.EXP: (np.exp, TWO),
    e.Unary.LOG: (np.log, TWO),
    e.Unary.SIN: (np.sin, TWO),
    e.Unary.COS: (np.cos, TWO),
    e.Unary.ERF: (np.vectorize(math.erf), TWO),
    e.Unary.TANH: (np.tanh, TWO),
    e.Unary.SIGMOID: (sigmoid, Tolerance(2, 1.2e-38)),
    e.Unary.SOFTPLUS: (lambda x: np.logaddexp(x, 0), Tolerance(3, 1.7e-38)),
    e.Unary.SOFTSIGN: (lambda x: x / (1 + np.abs(x)), TWO),
    e.Unary.RELU: (lambda x: np.maximum(x, 0), EXACT),
    e.Unary.LEAKY_RELU: (lambda x: np.where(x < 0, ALPHA * x, x), EXACT),
    e.Unary.ELU: (lambda x: elu(x, ALPHA), TWO),
    e.Unary.SELU: (lambda x: BETA * elu(x, ALPHA), Tolerance(3)),
    e.Unary.HARD_SIGMOID: (lambda x: hard_sigmoid(x, ALPHA, BETA), round_off(1e-7)),
    e.Unary.HARD_SWISH: (lambda x: x * hard_sigmoid(x, ALPHA, BETA), round_off(4e-7)),
    e.Unary.GELU: (gelu, round_off(1e-6)),
    e.Unary.GELU_TANH: (
        lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        round_off(1e-6),
    ),
    e.Unary.SILU: (lambda x: x * sigmoid(ALPHA * x), round_off(1e-6)),
    e.Unary.CLIP: (lambda x: np.clip(x, ALPHA, BETA), EXACT),
    e.Unary.AFFINE: (lambda x: ALPHA * x + BETA, round_off(1e-7)),
}


def unary(op: e.Unary, x: Array, tile: int, note: str, in_place: bool = False) -> Case:
    formula, tolerance = UNARY[op]
    with np.errstate(all="ignore"):
        expected = formula(x.astype(np.float64))
    return Case(
        e.F32_UNARY,
        (up(x.size, tile), 1, 1),
        e.UnaryParams(x.size, tile, op, ALPHA, BETA),
        [x, np.zeros_like(x)],
        {1: expected},
        tolerance,
        same={1: 0} if in_place else {},
        note=f"{op.name.lower()} {note}",
    )


# -- broadcasting ----------------------------------------------------------------------------------


def padded(values: Sequence[int], fill: int) -> Six:
    a, b, c, d, e_, f = (fill,) * (6 - len(values)) + tuple(values)
    return a, b, c, d, e_, f


def strides_of(shape: Sequence[int], out: Sequence[int]) -> Six:
    """Elements between neighbours of a dense `shape` that is broadcast to `out`."""
    result: list[int] = []
    step = 1
    for extent, whole in zip(reversed(padded(shape, 1)), reversed(padded(out, 1)), strict=True):
        result.append(step if extent == whole and extent != 1 else 0)
        step *= extent
    return padded(result[::-1], 0)


def broadcast(
    kernel: Kernel,
    record: Callable[..., Any],
    op: Any,
    function: Callable[[Array, Array], Array],
    a: Array,
    b: Array,
    dtype: Any,
    tile: int,
    note: str,
    tolerance: Tolerance = EXACT,
    same: dict[int, int] | None = None,
) -> Case:
    """A kernel of two operands with a, b of any shapes that broadcast."""
    wide = np.float64 if a.dtype == np.float32 and dtype == np.float32 else a.dtype
    with np.errstate(all="ignore"):
        expected = function(a.astype(wide), b.astype(wide))
    out = expected.shape
    params = record(padded(out, 1), strides_of(a.shape, out), strides_of(b.shape, out), tile, op)
    return Case(
        kernel,
        (up(expected.size, tile), 1, 1),
        params,
        [a.ravel(), b.ravel(), np.zeros(expected.size, dtype)],
        {2: expected.ravel()},
        tolerance,
        same=same or {},
        note=f"{getattr(op, 'name', op).lower()} {note}",
    )


BINARY: dict[e.Binary, Callable[[Array, Array], Array]] = {
    e.Binary.ADD: np.add,
    e.Binary.SUB: np.subtract,
    e.Binary.MUL: np.multiply,
    e.Binary.DIV: np.divide,
    e.Binary.MIN: np.minimum,
    e.Binary.MAX: np.maximum,
    # NumPy takes a shared exponent of 0.5 for a square root, which differs at -inf
    e.Binary.POW: lambda a, b: np.power(*(v.copy() for v in np.broadcast_arrays(a, b))),
    e.Binary.FMOD: np.fmod,
    e.Binary.MOD: lambda a, b: np.mod(a.astype(np.float32), b.astype(np.float32)),
    e.Binary.PRELU: lambda a, b: np.where(a < 0, a * b, a),
}
POW = Tolerance(0.51)  # the nearest float, but for very near ties


def binary(op: e.Binary, a: Array, b: Array, tile: int, note: str, **more: Any) -> Case:
    tolerance = POW if op is e.Binary.POW else EXACT
    return broadcast(
        e.F32_BINARY,
        e.BinaryParams,
        op,
        BINARY[op],
        a,
        b,
        np.float32,
        tile,
        note,
        tolerance,
        **more,
    )


def quotient(a: Array, b: Array) -> Array:
    """Truncating, in Python's integers; 0 for x / 0; wraps to the type."""

    def one(x: int, y: int) -> int:
        size = abs(x) // abs(y) if y else 0
        signed = -size if (x < 0) != (y < 0) else size
        half = 1 << (8 * a.itemsize - 1)
        return (signed + half) % (2 * half) - half

    return np.asarray(np.frompyfunc(one, 2, 1)(a.astype(object), b.astype(object))).astype(a.dtype)


def guarded(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: np.where(b == 0, 0, function(a, np.where(b == 0, 1, b))).astype(a.dtype)


INTEGER: dict[e.Integer, Callable[[Array, Array], Array]] = {
    e.Integer.ADD: np.add,
    e.Integer.SUB: np.subtract,
    e.Integer.MUL: np.multiply,
    e.Integer.DIV: quotient,
    e.Integer.MIN: np.minimum,
    e.Integer.MAX: np.maximum,
    e.Integer.MOD: guarded(np.mod),
    e.Integer.FMOD: guarded(np.fmod),
}
COMPARISON: dict[e.Comparison, Callable[[Array, Array], Array]] = {
    e.Comparison.EQUAL: np.equal,
    e.Comparison.LESS: np.less,
    e.Comparison.LESS_EQUAL: np.less_equal,
    e.Comparison.GREATER: np.greater,
    e.Comparison.GREATER_EQUAL: np.greater_equal,
}
LOGICAL: dict[e.Logical, Callable[[Array, Array], Array]] = {
    e.Logical.AND: np.logical_and,
    e.Logical.OR: np.logical_or,
    e.Logical.XOR: np.logical_xor,
    e.Logical.EQUAL: lambda a, b: (a != 0) == (b != 0),
}
I32 = (e.I32_BINARY, np.int32)
I64 = (e.I64_BINARY, np.int64)


def integers(n: int, dtype: Any, seed: int = 0, small: bool = False) -> Array:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed + n)
    values = (
        rng.integers(-4, 5, n, dtype) if small else rng.integers(limits.min, limits.max, n, dtype)
    )
    edge = np.array([limits.min, limits.max, 0, -1, 1, limits.min]).astype(dtype)
    values[: min(6, n)] = edge[: min(6, n)]
    return values


def integer(
    kind: tuple[Kernel, Any], op: e.Integer, a: Array, b: Array, tile: int, note: str
) -> Case:
    return broadcast(kind[0], e.IntegerParams, op, INTEGER[op], a, b, kind[1], tile, note)


def compare(op: e.Comparison, a: Array, b: Array, tile: int, note: str) -> Case:
    kernels = {"float32": e.F32_COMPARE, "int32": e.I32_COMPARE, "int64": e.I64_COMPARE}
    kernel = kernels[a.dtype.name]
    return broadcast(kernel, e.CompareParams, op, COMPARISON[op], a, b, np.uint8, tile, note)


def logical(op: e.Logical, a: Array, b: Array, tile: int, note: str) -> Case:
    return broadcast(e.BOOL_LOGICAL, e.LogicalParams, op, LOGICAL[op], a, b, np.uint8, tile, note)


def where(condition: Array, a: Array, b: Array, tile: int, note: str) -> Case:
    expected = np.where(condition != 0, a, b)
    out = expected.shape
    params = e.WhereParams(
        padded(out, 1), strides_of(condition.shape, out), strides_of(a.shape, out),
        strides_of(b.shape, out), tile, a.itemsize,
    )  # fmt: skip
    bindings = [condition.ravel(), a.ravel(), b.ravel(), np.zeros(expected.size, a.dtype)]
    counts = (up(expected.size, tile), 1, 1)
    return Case(e.WHERE, counts, params, bindings, {3: expected.ravel()}, note=note)


def inverse(x: Array, tile: int, note: str) -> Case:
    return Case(
        e.BOOL_NOT, (up(x.size, tile), 1, 1), e.NotParams(x.size, tile),
        [x, np.full(x.size, 7, np.uint8)], {1: (x == 0).astype(np.uint8)}, note=note,
    )  # fmt: skip


# -- tables ----------------------------------------------------------------------------------------


def booleans(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + n).integers(0, 3, n).astype(np.uint8)


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((37,), (37,)), ((37,), (1,)), ((1,), (37,)), ((1,), (1,)), ((16,), (16,)),
    ((5, 19), (19,)), ((5, 19), (5, 1)), ((5, 1), (1, 19)), ((1, 19), (5, 19)), ((3, 4, 5), (4, 1)),
    ((2, 1, 3, 1, 2, 5), (1, 4, 1, 2, 2, 1)), ((2, 3, 4, 5, 1, 2), (2, 3, 4, 5, 6, 2)),
    ((0,), (0,)), ((3, 0), (1,)), ((7, 1), (7, 33)),
]  # fmt: skip
PAIRS = np.array([(x, y) for x in SPECIAL for y in SPECIAL], np.float32)
POWERS = np.array(
    [(x, y) for x in [*SPECIAL, 2.0, 3.0, -3.0, 1e-20, 0.9999] for y in
     [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -0.5, 1e-10, 2.5, np.inf, -np.inf, np.nan, 1e30,
      16777215.0, 127.0, -149.0]], np.float32,
)  # fmt: skip


def shaped(shape: tuple[int, ...], seed: int) -> Array:
    return random(math.prod(shape), seed=seed).reshape(shape)


RARE = {
    e.Rare.TAN: np.tan, e.Rare.ASIN: np.arcsin, e.Rare.ACOS: np.arccos, e.Rare.ATAN: np.arctan,
    e.Rare.SINH: np.sinh, e.Rare.COSH: np.cosh, e.Rare.ASINH: np.arcsinh, e.Rare.ACOSH: acosh,
    e.Rare.ATANH: np.arctanh,
}  # fmt: skip


def rare(op: e.Rare, x: Array, note: str, same: bool = False) -> Case:
    with np.errstate(all="ignore"):
        wanted = RARE[op](x.astype(np.float64))
        wanted[np.abs(wanted) > np.finfo(np.float32).max] *= np.inf
    return Case(
        e.F32_RARE,
        (up(x.size, 100), 1, 1),
        e.RareParams(x.size, 100, op),
        [x, x.copy() if same else np.full(x.size, 9, np.float32)],
        {1: wanted},
        Tolerance(1),
        same={1: 0} if same else {},
        note=f"{op.name} {note}",
    )


RARE_VALUES = np.concatenate(
    [
        np.linspace(-1, 1, 4001), np.linspace(-95, 95, 3001), np.geomspace(1e-38, 1e5, 2000),
        -np.geomspace(1e-30, 1e5, 2000), 1 - np.geomspace(1e-7, 0.5, 300),
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0],
    ]
).astype(np.float32)  # fmt: skip
CASES: list[Case] = [
    *(rare(op, RARE_VALUES, "all") for op in e.Rare),
    *(rare(op, (1 + np.geomspace(1e-7, 1e9, 900)).astype(np.float32), "above 1")
      for op in (e.Rare.ACOSH, e.Rare.ASINH)),
    rare(e.Rare.ATAN, RARE_VALUES[:150], "in place", True),
    Case(e.F32_RARE, (1, 1, 1), e.RareParams(4, 0, e.Rare.TAN), [RARE_VALUES[:4], RARE_VALUES[:4]],
         status=INVALID_PARAMS, note="tile of 0"),
    Case(e.F32_RARE, (1, 1, 1), e.RareParams(4, 8, e.Rare.TAN), [RARE_VALUES[:3], RARE_VALUES[:4]],
         status=TOO_SHORT, note="x too short"),
    *(unary(op, SPECIAL, 8, "special values") for op in UNARY),
    *(unary(op, random(103, 4.0), 32, "tiles") for op in UNARY),
    *(unary(e.Unary.EXP, random(n), 1 << 20, f"{n}") for n in (0, 1, 2, 3, 4, 5, 7, 8, 9)),
    *(unary(e.Unary.ABS, random(n), 1 << 20, f"{n}") for n in (0, 1, 2, 3, 4, 5, 7, 8, 9)),
    *(unary(op, random(1003), 100, "in place", True) for op in (e.Unary.GELU, e.Unary.AFFINE)),
    unary(e.Unary.RELU, random(33), 5, "tiles smaller than a vector"),
    *(binary(op, PAIRS[:, 0], PAIRS[:, 1], 100, "special values") for op in BINARY
      if op is not e.Binary.POW),
    binary(e.Binary.POW, POWERS[:, 0].copy(), POWERS[:, 1].copy(), 100, "special values"),
    *(binary(e.Binary.POW, SPECIAL, np.full(1, y, np.float32), 9, f"all to {y}")
      for y in (2.0, 0.5, -1.0, 1.0, 3.0, 0.0)),
    *(binary(op, shaped(a, 1), shaped(b, 2), tile, f"{a} {b} by {tile}")
      for a, b in SHAPES for tile, op in ((1 << 20, e.Binary.SUB), (7, e.Binary.DIV))),
    binary(e.Binary.POW, np.abs(shaped((9, 11), 3)), shaped((11,), 4), 13, "broadcast"),
    binary(e.Binary.ADD, random(99), random(99, seed=5), 20, "in place", same={2: 0}),
    binary(e.Binary.SUB, random(99), random(99, seed=5), 20, "in place of b", same={2: 1}),
    *(integer(kind, op, integers(203, kind[1]), integers(203, kind[1], 9, small), 50,
              f"{'small' if small else 'all'} divisors")
      for kind in (I32, I64) for op in INTEGER for small in (False, True)),
    *(integer(kind, op, integers(60, kind[1]).reshape(4, 15), integers(15, kind[1], 1, True), 7,
              "rows") for kind in (I32, I64) for op in INTEGER),
    *(integer(kind, e.Integer.ADD, integers(60, kind[1]).reshape(4, 15),
              integers(4, kind[1], 1).reshape(4, 1), 7, "columns") for kind in (I32, I64)),
    *(compare(op, PAIRS[:, 0].copy(), PAIRS[:, 1].copy(), 100, "special values")
      for op in COMPARISON),
    *(compare(op, integers(203, t, small=True), integers(203, t, 9, True), 50, np.dtype(t).name)
      for t in (np.int32, np.int64) for op in COMPARISON),
    *(compare(e.Comparison.LESS, shaped(a, 1), shaped(b, 2), 11, f"{a} {b}") for a, b in SHAPES),
    *(logical(op, booleans(203), booleans(203, 5), 50, "dense") for op in LOGICAL),
    *(logical(op, booleans(40).reshape(8, 5), booleans(8, 5).reshape(8, 1), 7, "columns")
      for op in LOGICAL),
    *(inverse(booleans(n), 30, f"{n}") for n in (0, 1, 15, 16, 17, 100)),
    *(where(booleans(math.prod(c)).reshape(c), integers(math.prod(a), t).reshape(a),
            integers(math.prod(b), t, 3).reshape(b), tile, f"{np.dtype(t).name} {c} {a} {b}")
      for t, tile in ((np.uint8, 64), (np.int16, 9), (np.int32, 10), (np.int64, 7))
      for c, a, b in (((37,), (37,), (37,)), ((37,), (1,), (37,)), ((37,), (37,), (1,)),
                      ((37,), (1,), (1,)), ((3, 1, 5), (2, 1), (3, 2, 5)), ((1,), (9,), (9,)),
                      ((0,), (0,), (1,)))),
    Case(e.F32_UNARY, (1, 1, 1), e.UnaryParams(4, 0, e.Unary.ABS, 0, 0),
         [random(4), random(4)], status=INVALID_PARAMS, note="tile of 0"),
    Case(e.F32_UNARY, (1, 1, 1), e.UnaryParams(5, 8, e.Unary.ABS, 0, 0),
         [random(4), random(5)], status=TOO_SHORT, note="x too short"),
    Case(e.F32_UNARY, (1, 1, 1), e.UnaryParams(5, 8, e.Unary.ABS, 0, 0),
         [random(5), random(4)], status=TOO_SHORT, note="y too short"),
    *(Case(e.F32_BINARY, (1, 1, 1), e.BinaryParams((1, 1, 1, 1, 3, 4), (0, 0, 0, 0, 4, 1),
           (0, 0, 0, 0, 0, 1), 64, e.Binary.ADD), [random(a), random(b), random(y)],
           status=TOO_SHORT, note=f"lengths {a} {b} {y}")
      for a, b, y in ((11, 4, 12), (12, 3, 12), (12, 4, 11), (0, 4, 12))),
    Case(e.F32_BINARY, (1, 1, 1), e.BinaryParams((1 << 31,) * 6, ONES, ONES, 64, e.Binary.ADD),
         [random(4)] * 3, status=TOO_SHORT, note="sizes that wrap around"),
    Case(e.F32_BINARY, (1, 1, 1), e.BinaryParams((1, 1, 1, 1, 2, 2), (0, 0, 0, 0, 1 << 31, 1 << 31),
         ONES, 64, e.Binary.ADD), [random(4)] * 3, status=TOO_SHORT, note="strides that wrap"),
    Case(e.WHERE, (1, 1, 1), e.WhereParams(ONES, ONES, ONES, ONES, 64, 3),
         [booleans(4), random(4), random(4), random(4)], status=INVALID_PARAMS, note="3 bytes"),
]  # fmt: skip


@st.composite
def _shapes(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = draw(st.integers(1, 6))
    extents = draw(st.lists(st.integers(0, 5), min_size=rank, max_size=rank))
    extents[-1] *= draw(st.sampled_from([1, 1, 7]))
    masks = [draw(st.lists(st.booleans(), min_size=rank, max_size=rank)) for _ in range(2)]
    # where both would be 1, a keeps the extent, so that `extents` is the result's shape
    a = tuple(1 if m and not n else x for x, m, n in zip(extents, *masks, strict=True))
    b = tuple(1 if n else x for x, n in zip(extents, masks[1], strict=True))
    return a, b


@st.composite
def _binary(draw: Draw) -> Case:
    a, b = draw(_shapes())
    op = draw(st.sampled_from([o for o in BINARY if o not in (e.Binary.FMOD, e.Binary.MOD)]))
    seed, tile = draw(st.integers(0, 1000)), draw(st.sampled_from([1, 3, 16, 50, 1 << 20]))
    first = np.abs(shaped(a, seed)) if op is e.Binary.POW else shaped(a, seed)
    return binary(op, first, shaped(b, seed + 1), tile, "drawn")


@st.composite
def _compare(draw: Draw) -> Case:
    a, b = draw(_shapes())
    dtype = draw(st.sampled_from([np.float32, np.int32, np.int64]))
    first = np.round(shaped(a, draw(st.integers(0, 99)))).astype(dtype)
    second = np.round(shaped(b, draw(st.integers(0, 99)))).astype(dtype)
    tile = draw(st.sampled_from([1, 3, 16, 50, 1 << 20]))
    return compare(draw(st.sampled_from(list(COMPARISON))), first, second, tile, "drawn")


@st.composite
def _where(draw: Draw) -> Case:
    a, b = draw(_shapes())
    dtype = draw(st.sampled_from([np.uint8, np.float32, np.int64]))
    first, second = shaped(a, 1).astype(dtype), shaped(b, 2).astype(dtype)
    out = np.broadcast_shapes(a, b)
    shape = tuple(1 if draw(st.booleans()) else x for x in out)
    condition = booleans(math.prod(shape), draw(st.integers(0, 99))).reshape(shape)
    return where(condition, first, second, draw(st.sampled_from([1, 3, 16, 50, 1 << 20])), "drawn")


DRAWN: dict[str, st.SearchStrategy[Case]] = {
    "binary": _binary(),
    "compare": _compare(),
    "where": _where(),
}
