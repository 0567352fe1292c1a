"""Cases of the other numbers: every operation on every type, edges, broadcasts, pieces of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.harness import Case, Tolerance, refused, short, up
from tilework.hal.kernels.numbers import NUMBER_PAIR, Number, Operation, PairParams
from tilework.ir.opdefs.registry import OPS

Array = NDArray[Any]
Six = tuple[int, int, int, int, int, int]
# operation -> the graph's, and its attributes
MEANING: dict[Operation, tuple[str, dict[str, int]]] = {
    Operation.ADD: ("add", {}),
    Operation.SUB: ("sub", {}),
    Operation.MUL: ("mul", {}),
    Operation.DIV: ("div", {}),
    Operation.LEAST: ("min", {}),
    Operation.LARGEST: ("max", {}),
    Operation.MOD: ("mod", {}),
    Operation.FMOD: ("mod", {"fmod": 1}),
    Operation.BITS_AND: ("bitwise_and", {}),
    Operation.BITS_OR: ("bitwise_or", {}),
    Operation.BITS_XOR: ("bitwise_xor", {}),
    Operation.SHIFT_LEFT: ("shift", {"left": 1}),
    Operation.SHIFT_RIGHT: ("shift", {"left": 0}),
    Operation.EQUAL: ("equal", {}),
    Operation.LESS: ("less", {}),
    Operation.LESS_EQUAL: ("less_or_equal", {}),
    Operation.GREATER: ("greater", {}),
    Operation.GREATER_EQUAL: ("greater_or_equal", {}),
}
NO_FLOATS = set(range(Operation.MOD, Operation.EQUAL))


def padded(values: Sequence[int], fill: int) -> Six:
    a, b, c, d, e, f = (fill,) * (6 - len(values)) + tuple(values)
    return a, b, c, d, e, f


def strides(array: Array, shape: tuple[int, ...]) -> Six:
    steps = np.broadcast_to(array, shape).strides
    return padded([step // array.itemsize for step in steps], 0)


def numbers(kind: Number, *shape: int, seed: int = 0, small: bool = False) -> Array:
    dtype = np.dtype(kind.name.lower())
    rng = np.random.default_rng(seed + sum(shape))
    if kind is Number.FLOAT64:
        values = rng.standard_normal(shape)
        edges: list[Any] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300]
    else:
        limits = np.iinfo(dtype)
        low = 0 if limits.min == 0 else -9
        values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        if small:
            values = rng.integers(low, 9, shape).astype(dtype)
        edges = [limits.min, limits.max, 0, 1, limits.max - 1, 64]
    flat = values.reshape(-1)
    chosen = rng.permutation(np.array([*edges, *edges], dtype))[: flat.size]
    flat[: chosen.size] = chosen
    return values.astype(dtype)


def pair(
    kind: Number, op: Operation, a: Array, b: Array, tile: int = 500, note: str = "",
    in_place: bool = False,
) -> Case:  # fmt: skip
    name, attrs = MEANING[op]
    expected = np.asarray(OPS[name].reference(attrs, a, b)[0])
    dtype = np.uint8 if op >= Operation.EQUAL else a.dtype
    shape = expected.shape
    params = PairParams(padded(shape, 1), strides(a, shape), strides(b, shape), tile, op, kind)
    return Case(
        NUMBER_PAIR, (up(expected.size, tile), 1, 1), params,
        [a.ravel(), b.ravel(), np.zeros(expected.size, dtype)],
        {2: expected.astype(dtype).ravel()}, Tolerance(0.5), same={2: 0} if in_place else {},
        note=f"{kind.name} {op.name} {note}",
    )  # fmt: skip


I8, U64, F64 = Number.INT8, Number.UINT64, Number.FLOAT64
WHOLE = pair(I8, Operation.ADD, numbers(I8, 30), numbers(I8, 30, seed=1))
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((4, 200), (200,)), ((4, 200), ()), ((), (3, 5)), ((7, 1, 3), (4, 1)), ((0, 3), (3,)),
    ((1,), (1,)),
    ((2, 1, 2, 1, 3), (1, 3, 1, 2, 1)),
]  # fmt: skip
CASES: list[Case] = [
    *(pair(kind, op, numbers(kind, 300), numbers(kind, 300, seed=1, small=small), 130, f"{small}")
      for kind in Number for op in Operation for small in (False, True)
      if kind is not F64 or op not in NO_FLOATS),
    *(pair(kind, op, numbers(kind, *a), numbers(kind, *b, seed=5), 37, f"{a} {b}")
      for kind in (I8, Number.UINT16, Number.UINT32, U64, F64)
      for op in (Operation.SUB, Operation.LESS) for a, b in SHAPES),
    *(pair(kind, Operation.SUB, numbers(kind, 300), numbers(kind, 300, seed=1), 90, "over a", True)
      for kind in Number),
    refused(WHOLE, tile_elements=0),
    *(refused(WHOLE, kind=F64, op=Operation(op)) for op in sorted(NO_FLOATS)),
    *short(WHOLE),
]  # fmt: skip
