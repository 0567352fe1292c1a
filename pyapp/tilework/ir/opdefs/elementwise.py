"""Operations that compute each element by itself, with NumPy's broadcasting.

unary (x) -> x's dtype: abs neg sign sqrt exp log reciprocal floor ceil round erf tanh sigmoid relu
sin cos ...; with attributes: gelu(approximate "none"|"tanh") clip(min, max; None: none) leaky_relu
elu celu thresholded_relu (alpha) selu(alpha, gamma) hard_sigmoid(alpha, beta) hard_swish
silu(alpha);
tests isnan isinf(detect_positive, detect_negative) -> bool;
binary (a, b), equal dtypes: add sub mul div(truncating for integers) mod(fmod 0|1) min max;
prelu (x, slope); pow (base, exponent of any number dtype) -> base's dtype; comparisons -> bool;
and or xor not; bitwise_and bitwise_or bitwise_xor bitwise_not;
shift(left 1|0) (x, by); where (condition bool, a, b).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tilework.core.dtypes import BOOL, DType
from tilework.core.growing import grows
from tilework.core.shapes import broadcast
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Array, Attrs, Infer, Info, define, fail

FLOATS = "f"
SIGNED = "fi"
NUMBERS = "fiu"
BOOLS = "b"
INTEGERS = "iu"
ANY = "fiubcs"

_WORDS = {
    "f": "floating-point",
    "fi": "signed",
    "fiu": "numeric",
    "b": "bool",
    "iu": "integer",
    "fiub": "numeric or bool",
    "fiubcs": "any",
}


def check_kind(node: Node, infos: Sequence[Info | None], kinds: str) -> None:
    """InvalidArgument unless every present input's dtype is of one of `kinds`."""
    for info in infos:
        if info is not None and info.dtype.kind not in kinds:
            raise fail(node, infos, f"'{node.op}' takes {_WORDS.get(kinds, kinds)} tensors")


def same_dtype(node: Node, infos: Sequence[Info | None]) -> DType:
    """The dtype that all present inputs share; InvalidArgument when they differ."""
    present = [info for info in infos if info is not None]
    first = present[0].dtype
    for info in present:
        if info.dtype is not first:
            raise fail(node, infos, f"'{node.op}' takes one dtype; cast one side to the other's")
    return first


def infer_unary(kinds: str) -> Infer:
    """Shape and dtype of the one input."""

    def infer(node: Node, infos: Sequence[Info]) -> list[Info]:
        check_kind(node, infos, kinds)
        return [Info(infos[0].dtype, infos[0].shape)]

    return infer


def infer_broadcast(kinds: str, result: DType | None = None) -> Infer:
    """Broadcast shape of all inputs, which share a dtype; `result` replaces that dtype."""

    def infer(node: Node, infos: Sequence[Info]) -> list[Info]:
        check_kind(node, infos, kinds)
        dtype = same_dtype(node, infos)
        return [Info(result or dtype, broadcast_infos(node, infos))]

    return infer


def broadcast_infos(node: Node, infos: Sequence[Info]) -> tuple[int, ...]:
    """The shape that all inputs broadcast to; InvalidArgument naming the node otherwise."""
    shape = broadcast(*[info.shape for info in infos])
    if shape is None:
        raise fail(node, infos, "shapes do not broadcast; extents must be equal or 1")
    return shape


def one(value: Any, dtype: Any = None) -> tuple[Array]:
    """A reference's single result, as an array even where NumPy gives a scalar."""
    if isinstance(value, np.ndarray) and value.dtype == object and grows(*value.flat):
        return (value,)
    return (np.asarray(value, dtype=dtype),)


def quiet(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """`function` without floating-point warnings: inf and nan are results, not accidents."""

    def run(attrs: Attrs, *arrays: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return function(attrs, *arrays)

    return run


# -- functions that NumPy does not have ------------------------------------------------------------

_ERF_STEP = 1 / 16
_ERF_END = 6.0  # erf(6) is 1 in float64
_ERF_ORDER = 8


@lru_cache(maxsize=1)
def _erf_table() -> Array:
    """Row n, column i: the n-th Taylor coefficient of erf at i * _ERF_STEP."""
    nodes = np.arange(0, _ERF_END + _ERF_STEP, _ERF_STEP)
    rows = [np.array([math.erf(x) for x in nodes])]
    # erf^(n+1)(x) = 2/sqrt(pi) (-1)^n H_n(x) exp(-x^2), H_n the physicists' Hermite polynomial
    slope = 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)
    before, hermite = np.zeros_like(nodes), np.ones_like(nodes)
    for n in range(_ERF_ORDER):
        rows.append((-1) ** n * hermite * slope / math.factorial(n + 1))
        before, hermite = hermite, 2 * nodes * hermite - 2 * n * before
    return np.stack(rows)


def erf(x: Array) -> Array:
    """erf in x's dtype, computed in float64 to about 1e-15 by Taylor expansion about a grid."""
    wide = np.abs(np.asarray(x, np.float64))
    inside = np.minimum(np.nan_to_num(wide, nan=0.0), _ERF_END)
    index = np.rint(inside / _ERF_STEP).astype(np.intp)
    away = inside - index * _ERF_STEP
    table = _erf_table()
    total = table[_ERF_ORDER][index]
    for row in table[_ERF_ORDER - 1 :: -1]:
        total = total * away + row[index]
    total = np.where(np.isnan(wide), np.nan, np.copysign(total, x))
    return np.asarray(total.astype(x.dtype))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow for large negative x."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)), dtype=x.dtype)


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(x, np.zeros((), x.dtype)), dtype=x.dtype)


def divide(a: Array, b: Array) -> Array:
    """a / b; integers truncate toward zero as in C, by 0 they give 0."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        inexact = (quotient * b != a) & (b != 0)
        quotient = quotient + (inexact & ((a < 0) != (b < 0))).astype(a.dtype)
    return np.asarray(quotient)


def power(a: Array, b: Array) -> Array:
    """a ** b in a's dtype; integer bases with a float or negative exponent go through float64."""
    if a.dtype.kind == "f":
        return np.asarray(np.power(a, b.astype(a.dtype) if b.dtype != a.dtype else b), a.dtype)
    if b.dtype.kind == "f" or (b.dtype.kind == "i" and bool(np.any(b < 0))):
        return np.asarray(np.power(a.astype(np.float64), b), dtype=np.float64).astype(a.dtype)
    return np.asarray(np.power(a, b.astype(a.dtype)))


def gelu(x: Array, approximate: str) -> Array:
    """x Phi(x), or its tanh form; Hendrycks and Gimpel 2016."""
    if approximate == "tanh":
        inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
        return np.asarray(x.dtype.type(0.5) * x * (1 + np.tanh(inner)), dtype=x.dtype)
    scaled = erf(np.asarray(x * x.dtype.type(math.sqrt(0.5))))
    return np.asarray(x.dtype.type(0.5) * x * (1 + scaled), dtype=x.dtype)


def acosh(x: Array) -> Array:
    """The inverse of cosh; NaN below 1.

    Also in a page: its libm, musl's, takes the logarithm of 2x - 1/(x + √(x² - 1)), which rounding
    makes a positive number for large negative x.
    """
    return np.where(x < 1, x.dtype.type(np.nan), np.arccosh(x))


# -- the table ---------------------------------------------------------------------------------

UNARY: dict[str, tuple[str, Callable[[Array], object]]] = {
    "abs": (NUMBERS, np.abs),
    "neg": (SIGNED, np.negative),
    "sign": (NUMBERS, np.sign),
    "sqrt": (FLOATS, np.sqrt),
    "reciprocal": (FLOATS, lambda x: x.dtype.type(1) / x),
    "exp": (FLOATS, np.exp),
    "log": (FLOATS, np.log),
    "floor": (FLOATS, np.floor),
    "ceil": (FLOATS, np.ceil),
    "round": (FLOATS, np.rint),  # halves to even
    "erf": (FLOATS, erf),
    "sin": (FLOATS, np.sin),
    "cos": (FLOATS, np.cos),
    "tan": (FLOATS, np.tan),
    "asin": (FLOATS, np.arcsin),
    "acos": (FLOATS, np.arccos),
    "atan": (FLOATS, np.arctan),
    "sinh": (FLOATS, np.sinh),
    "cosh": (FLOATS, np.cosh),
    "asinh": (FLOATS, np.arcsinh),
    "acosh": (FLOATS, acosh),
    "atanh": (FLOATS, np.arctanh),
    "tanh": (FLOATS, np.tanh),
    "sigmoid": (FLOATS, sigmoid),
    "softplus": (FLOATS, softplus),
    "softsign": (FLOATS, lambda x: x / (1 + np.abs(x))),
    "mish": (FLOATS, lambda x: x * np.tanh(softplus(x))),
    "relu": (NUMBERS, lambda x: np.maximum(x, x.dtype.type(0))),
    "not": (BOOLS, np.logical_not),
    "bitwise_not": (INTEGERS, np.bitwise_not),
    "identity": (ANY, lambda x: x),
}

BINARY: dict[str, tuple[str, Callable[[Array, Array], object]]] = {
    "add": (NUMBERS, np.add),
    "sub": (NUMBERS, np.subtract),
    "mul": (NUMBERS, np.multiply),
    "div": (NUMBERS, divide),
    "min": (NUMBERS, np.minimum),
    "max": (NUMBERS, np.maximum),
    "and": (BOOLS, np.logical_and),
    "or": (BOOLS, np.logical_or),
    "xor": (BOOLS, np.logical_xor),
    "bitwise_and": (INTEGERS, np.bitwise_and),
    "bitwise_or": (INTEGERS, np.bitwise_or),
    "bitwise_xor": (INTEGERS, np.bitwise_xor),
}

COMPARISON: dict[str, tuple[str, Callable[[Array, Array], object]]] = {
    "equal": (ANY, np.equal),
    "less": (NUMBERS, np.less),
    "less_or_equal": (NUMBERS, np.less_equal),
    "greater": (NUMBERS, np.greater),
    "greater_or_equal": (NUMBERS, np.greater_equal),
}


def _unary(function: Callable[[Array], object]) -> Callable[..., tuple[Array, ...]]:
    return quiet(lambda attrs, x: one(function(x), x.dtype))


def _attributed(formula: Callable[[Array, Attrs], object]) -> Callable[..., tuple[Array, ...]]:
    return quiet(lambda attrs, x: one(formula(x, attrs), x.dtype))


def _binary(function: Callable[[Array, Array], object]) -> Callable[..., tuple[Array, ...]]:
    return quiet(lambda attrs, a, b: one(function(a, b)))


for _name, (_kinds, _function) in UNARY.items():
    define(_name, 1, infer_unary(_kinds), _unary(_function))
for _name, (_kinds, _pair) in BINARY.items():
    define(_name, 2, infer_broadcast(_kinds), _binary(_pair))
for _name, (_kinds, _pair) in COMPARISON.items():
    define(_name, 2, infer_broadcast(_kinds, BOOL), _binary(_pair))

# name -> (x, attrs) for functions with numbers in their attributes, all required
ATTRIBUTED: dict[str, Callable[[Array, Attrs], object]] = {
    "gelu": lambda x, a: gelu(x, str(a.get("approximate", "none"))),
    "leaky_relu": lambda x, a: np.where(x >= 0, x, x * x.dtype.type(a["alpha"])),
    "elu": lambda x, a: np.where(x > 0, x, a["alpha"] * np.expm1(x)),
    "selu": lambda x, a: a["gamma"] * np.where(x > 0, x, a["alpha"] * np.expm1(x)),
    "celu": lambda x, a: np.where(x > 0, x, a["alpha"] * np.expm1(x / a["alpha"])),
    "hard_sigmoid": lambda x, a: np.clip(a["alpha"] * x + a["beta"], 0, 1),
    "hard_swish": lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x, a: x * sigmoid(x * x.dtype.type(a.get("alpha", 1.0))),
    "shrink": lambda x, a: np.where(
        x < -a["lambd"], x + a["bias"], np.where(x > a["lambd"], x - a["bias"], 0)
    ),
    "thresholded_relu": lambda x, a: np.where(x > a["alpha"], x, 0),
}

for _name, _formula in ATTRIBUTED.items():
    define(
        _name, 1, infer_unary(NUMBERS if _name == "shrink" else FLOATS), _attributed(_formula)
    )


def _clip(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    low, high = attrs.get("min"), attrs.get("max")
    if low is not None:
        x = np.maximum(x, np.asarray(low, x.dtype))
    if high is not None:
        x = np.minimum(x, np.asarray(high, x.dtype))
    return one(x)


define("clip", 1, infer_unary(NUMBERS), quiet(_clip))


def _infer_test(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, FLOATS)
    return [Info(BOOL, infos[0].shape)]


def _isinf(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    positive, negative = attrs.get("detect_positive", 1), attrs.get("detect_negative", 1)
    return one(np.isinf(x) & ((positive != 0) & (x > 0) | (negative != 0) & (x < 0)))


define("isnan", 1, _infer_test, lambda attrs, x: one(np.isnan(x)))
define("isinf", 1, _infer_test, _isinf)
define(
    "prelu",
    2,
    infer_broadcast(NUMBERS),
    quiet(lambda attrs, x, slope: one(np.where(x < 0, x * slope, x), x.dtype)),
)
define(
    "mod",
    2,
    infer_broadcast(NUMBERS),
    quiet(lambda attrs, a, b: one(np.fmod(a, b) if attrs.get("fmod", 0) else np.mod(a, b))),
)


def _shift(attrs: Attrs, x: Array, by: Array) -> tuple[Array, ...]:
    """Shifts by less than 0 or all bits and more leave only copies of the sign, or zeros."""
    bits = 8 * x.dtype.itemsize
    inside = (by >= 0) & (by < bits)
    count = np.where(inside, by, 0).astype(x.dtype)
    if attrs["left"]:
        return one(np.where(inside, np.left_shift(x, count), x.dtype.type(0)), x.dtype)
    sign = (x < 0).astype(x.dtype)  # of x's dtype, for uint64 and int64 meet in float64
    return one(np.where(inside, np.right_shift(x, count), np.negative(sign)), x.dtype)


define("shift", 2, infer_broadcast(INTEGERS), quiet(_shift))


def _infer_pow(node: Node, infos: Sequence[Info]) -> list[Info]:
    check_kind(node, infos, NUMBERS)
    return [Info(infos[0].dtype, broadcast_infos(node, infos))]


define("pow", 2, _infer_pow, quiet(lambda attrs, a, b: (power(a, b),)))


def _infer_where(node: Node, infos: Sequence[Info]) -> list[Info]:
    if infos[0].dtype is not BOOL:
        raise fail(node, infos, "the condition must be bool")
    return [Info(same_dtype(node, infos[1:]), broadcast_infos(node, infos))]


define("where", 3, _infer_where, lambda attrs, c, a, b: one(np.where(c, a, b), a.dtype), raw=True)
