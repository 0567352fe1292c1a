"""Floats of two bytes: computed by the kernels of float32, rounded where they are stored.

What one operation has not stored yet the next reads as it was (`plan.twins`); an explicit Cast
rounds. What only moves elements has no need of this. A constant is widened once a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType
from tilework.core.shapes import with_extent
from tilework.hal.kernel import Kernel
from tilework.hal.kernels.convert import NARROW_HALF, WIDEN_HALF, Half, HalfParams
from tilework.ir.graph import Node
from tilework.ir.narrow import convert
from tilework.ir.opdefs.registry import Info
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.caches import WIDE_HALF
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Kind, Tensor
from tilework.plan.walk import dense_run, shaped

FORMATS: dict[DType, Half] = {FLOAT16: Half.FLOAT16, BFLOAT16: Half.BFLOAT16}
ELEMENTS = 32768  # a tile, by convert.wit


def through_float32(lowering: Lowering, twins: bool = True) -> Lowering:
    """`lowering`, between conversions where an operand or a result is a float of two bytes."""

    def lower(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        inputs = [
            replace(x, dtype=FLOAT32) if x is not None and x.dtype is WIDE_HALF else x
            for x in inputs
        ]
        if not any(info.dtype in FORMATS for info in results) and not any(
            x is not None and x.dtype in FORMATS for x in inputs
        ):
            return lowering(b, node, inputs, results)
        wide = [
            x if x is None or x.dtype not in FORMATS else widened(b, x, twins) for x in inputs
        ]
        infos = [
            Info(FLOAT32, info.shape) if info.dtype in FORMATS else info for info in results
        ]
        made = lowering(b, node, wide, infos)
        if isinstance(made, str):
            return made
        return [
            _result(b, y, info.dtype, twins) if info.dtype in FORMATS else y
            for y, info in zip(made, results, strict=False)
        ]

    return lower


def _result(b: Builder, y: Tensor, dtype: DType, twins: bool) -> Tensor:
    if y.storage.kind is Kind.RESIDENT and dtype is FLOAT16:  # a cache lies in float32
        return replace(y, dtype=WIDE_HALF)
    return narrowed(b, y, dtype, twins)


def stored(b: Builder, x: Tensor) -> Tensor:
    """The tensor in the dtype that the graph says, where it lies in a wider one."""
    if x.dtype is not WIDE_HALF:
        return x
    return narrowed(b, replace(x, dtype=FLOAT32), FLOAT16, twins=False)


def lies_in(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """Numbers of float16 as they lie in memory of `dtype`; any others as they are."""
    if x.dtype is FLOAT16 and dtype is WIDE_HALF:
        return replace(widened(b, x), dtype=WIDE_HALF)
    return stored(b, x) if dtype is FLOAT16 else x


def as_stored(lowering: Lowering) -> Lowering:
    """`lowering`, which moves elements, of the dtypes that the graph says."""

    def lower(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        return lowering(b, node, [x if x is None else stored(b, x) for x in inputs], results)

    return lower


def widened(b: Builder, x: Tensor, twins: bool = True) -> Tensor:
    """The same numbers in float32; with `twins` what they were rounded from, if that is there."""
    twin = b.twins.recall(x) if twins else None
    if twin is not None:
        return twin
    run, like = dense_run(b, x)
    if is_constant(x):
        y, fresh = b.prepared(f"widened({view_key(run)})", FLOAT32, run.shape)
    else:
        y, fresh = b.transient(FLOAT32, run.shape), True
        b.live[y.storage] = 0  # nobody else knows of it
    if fresh:
        _emit(b, WIDEN_HALF, run, y, x.dtype)
        array = b.arrays.get(x.storage)
        if array is not None and array.size == 1:
            b.arrays[y.storage] = convert(array, FLOAT32)
    whole = not run.offset and run.size * x.dtype.size == run.storage.nbytes
    if twins and whole and b.live.get(x.storage, 0) > 0:  # others will ask for it
        b.twins.remember(run, y, b.live, stored=False)
    return shaped(y, like)


def narrowed(b: Builder, x: Tensor, dtype: DType, twins: bool = True) -> Tensor:
    """Numbers of float32 in `dtype`."""
    if x.dtype is dtype:
        return x
    run, like = dense_run(b, x)
    y = b.new(dtype, run.shape)
    _emit(b, NARROW_HALF, run, y, dtype)
    if twins:
        b.twins.remember(y, run, b.live, stored=True)
    return shaped(y, like)


def _emit(b: Builder, kernel: Kernel, x: Tensor, y: Tensor, dtype: DType) -> None:
    tile, tiles = b.tiles(x.size, ELEMENTS)
    b.emit(kernel, (tiles, 1, 1), HalfParams(x.size, tile, FORMATS[dtype]), (x, y))


def cast(lowering: Lowering) -> Lowering:
    """Casts from and to floats of two bytes: by way of float32, which has all their numbers."""
    plain = through_float32(lowering, twins=False)

    def lower(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        x = inputs[0]
        assert x is not None
        target = results[0].dtype
        if x.dtype is target:
            return [x]
        # An integer that float32 rounds is beyond float16's largest number either way.
        whole = x.dtype.kind in "iu" and x.dtype.size > 2
        twice = x.dtype is FLOAT64 or (target is BFLOAT16 and whole)
        if target in FORMATS and twice:
            return f"no kernel that rounds {x.dtype} to {target} once"
        return plain(b, replace(node, attrs={**node.attrs, "to": "float32"}), inputs, results)

    return lower


def stepwise(lowering: Lowering, table: Mapping[str, Lowering]) -> Lowering:
    """Softmax: in float16 rounded after each step of ONNX's function body, by the kernels of the
    steps, `table`. bfloat16's sum is rounded after each addition, for which there is no kernel.
    """

    def lower(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        x = inputs[0]
        assert x is not None
        if x.dtype is BFLOAT16:
            return f"no kernel for {node.op} of {x.dtype}"
        if x.dtype is not FLOAT16:
            return lowering(b, node, inputs, results)
        axis: Any = node.attrs["axis"]
        whole = results[0]
        kept = Info(FLOAT16, with_extent(x.shape, axis, 1))
        reduced = {"axes": (axis,), "keepdims": 1}

        def step(op: str, info: Info, *operands: Tensor, **attrs: Any) -> Tensor:
            for tensor in operands:  # each may be read again, so nothing goes over it
                b.live[tensor.storage] = b.live.get(tensor.storage, 0) + 1
            made = table[op](b, Node(op, (), (), attrs), operands, [info])
            assert not isinstance(made, str)  # they have kernels
            for tensor in operands:
                b.live[tensor.storage] -= 1
            return made[0]

        b.twins.used = False  # each step is rounded
        power = step("exp", whole, step("sub", whole, x, step("reduce_max", kept, x, **reduced)))
        result = step("div", whole, power, step("reduce_sum", kept, power, **reduced))
        b.twins.used = True
        return [result]

    return lower


def exactly(lowering: Lowering) -> Lowering:
    """`lowering`, but not of bfloat16, which the standard rounds after steps that it makes one."""

    def lower(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
        if any(x is not None and x.dtype is BFLOAT16 for x in inputs):
            return f"no kernel that rounds {node.op} of bfloat16 after each step"
        return lowering(b, node, inputs, results)

    return lower
