"""Quantised products, and numbers to bytes and back.

A constant matrix of weights is packed once a session, in the form that this engine multiplies
best (kernels/quant/panel.h); another at every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, INT8, UINT8, DType
from tilework.core.shapes import broadcast_two, count
from tilework.hal.kernels.quant import (
    F32_DEQUANTIZE,
    F32_QUANTIZE,
    F32_QUANTIZE_DYNAMIC,
    F32_RANGE,
    I8_GEMM,
    I8_GEMM_PACK_B,
    Activation,
    Dot,
    DynamicParams,
    GemmParams,
    PackParams,
    QuantizeParams,
    RangeParams,
    Target,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.layout import inverse, order
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.matmul import as_matrices, one_for_all
from tilework.plan.tensor import Tensor, collapse

ELEMENTS = 32768  # a tile, by quant.wit
RANGE = 65536
PACK_BYTES = 65536
MANY_ROWS = 64
SIDE = 4  # SIDE of kernels/quant/i8_gemm_pack_b.c
MATRICES = 64  # at most so many dispatches for one batch
BYTES = (UINT8, INT8)

ACTIVATIONS = {name.lower(): value for name, value in Activation.__members__.items()}


# -- one tensor -----------------------------------------------------------------------------------


def dynamic(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """dynamic_quantize_linear: the range first, then every tile finds scale and zero from it."""
    x = inputs[0]
    assert x is not None
    if x.size == 0:
        return "quantises nothing"
    x = b.dense(x)
    each, made = b.tiles(x.size, RANGE)
    ranges = b.new(FLOAT32, (2 * made,))
    b.emit(F32_RANGE, (made, 1, 1), RangeParams(x.size, each), (x, ranges))
    y, scale, zero = b.new(UINT8, x.shape), b.new(FLOAT32, ()), b.new(UINT8, ())
    each, parts = b.tiles(x.size, ELEMENTS)
    params = DynamicParams(count=x.size, ranges=made, tile=each)
    b.emit(F32_QUANTIZE_DYNAMIC, (parts, 1, 1), params, (x, ranges, y, scale, zero))
    return [y, scale, zero][: len(results)]


def linear(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """quantize_linear and dequantize_linear between float32 and bytes, by tensor or by axis."""
    x, scale, zero = [*inputs, None][:3]
    assert x is not None and scale is not None
    back = node.op == "dequantize_linear"
    to = results[0].dtype
    floats, bytes_ = (to, x.dtype) if back else (x.dtype, to)
    if floats is not FLOAT32 or scale.dtype is not FLOAT32 or bytes_ not in BYTES:
        return f"no kernel for {node.op} of {x.dtype} to {to} by {scale.dtype}"
    axis: Any = node.attrs.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    outer, along, inner = 1, 1, x.size
    if scale.size != 1 or len(scale.shape) > 1:
        if len(scale.shape) > 1:
            return "blocks of scales"
        outer, along = count(x.shape[:axis]), x.shape[axis]
        inner = count(x.shape[axis + 1 :])
    if zero is not None and zero.size != along:
        return "scales and zeros of different shapes"
    scale = b.dense(scale)
    if along == 1 and outer == 1:  # one line: cut into several, each with the one scale
        perm = order(x) or tuple(range(len(x.shape)))
        x = b.dense(x.transposed(perm))
        y = _lines(b, (x, scale, zero, b.new(to, x.shape)), bytes_, back)
        return [y.transposed(inverse(perm))]
    x = b.dense(x)
    y = b.new(to, x.shape)
    each = max(1, ELEMENTS // max(inner, 1))
    params = QuantizeParams(outer, along, inner, each, int(bytes_ is INT8))
    counts = (-(-outer * along // each) if x.size else 0, 1, 1)
    vector = None if zero is None else b.dense(zero)
    b.emit(F32_DEQUANTIZE if back else F32_QUANTIZE, counts, params, (x, scale, vector, y))
    return [y]


def _lines(
    b: Builder, operands: tuple[Tensor, Tensor, Tensor | None, Tensor], dtype: DType, back: bool
) -> Tensor:
    """One scale for all: whole lines of a tile's length, and what is left behind them."""
    x, scale, zero, y = operands
    each, _ = b.tiles(max(x.size, 1), ELEMENTS)
    kernel = F32_DEQUANTIZE if back else F32_QUANTIZE
    whole = x.size // each
    for first, lines, length in ((0, whole, each), (whole * each, 1, x.size - whole * each)):
        if lines * length == 0:
            continue
        size = lines * length
        part, target = (
            replace(t, shape=(size,), strides=(1,), offset=t.offset + first) for t in (x, y)
        )
        params = QuantizeParams(lines, 1, length, 1, int(dtype is INT8))
        b.emit(kernel, (lines, 1, 1), params, (part, scale, zero, target))
    return y


# -- products -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Follow:
    """What is done to the sums; zeros and scales as the kernel takes them."""

    target: Target
    dtype: DType
    a_zero: Tensor | None = None
    b_zero: Tensor | None = None
    a_scale: Tensor | None = None
    b_scale: Tensor | None = None
    y_scale: Tensor | None = None
    y_zero: Tensor | None = None
    bias: Tensor | None = None
    residual: Tensor | None = None
    by_row: int = 0  # 1: a's zeros are one for each row
    activation: Activation = Activation.NONE
    limits: tuple[int, int] = (0, 0)  # within which bytes stay


def byte_target(dtype: DType) -> Target:
    """The kernels' name for results of uint8 or int8."""
    return Target.SIGNED_BYTE if dtype is INT8 else Target.BYTE


def limits(attrs: Any, dtype: DType) -> tuple[int, int]:
    """What an activation leaves of the bytes."""
    low = -128 if dtype is INT8 else 0
    return int(attrs.get("least", low)), int(attrs.get("most", low + 255))


def needed_zero(b: Builder, zero: Tensor | None, dtype: DType) -> Tensor | None:
    """Weights' zeros, one for all where they are known to be alike: sums of rows cost time.

    Of int8 that is none where they are 0.
    """
    array = None if zero is None else b.arrays.get(zero.storage)
    if zero is None or array is None or array.size != zero.size or array.size == 0:
        return zero
    if (array != array.flat[0]).any():
        return zero
    if dtype is INT8 and array.flat[0] == 0:
        return None
    return replace(b.dense(zero), shape=(1,), strides=(1,))


def matmul_integer(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums of int32."""
    a, other, a_zero, b_zero = [*inputs, None, None][:4]
    assert a is not None and other is not None
    by_row = a_zero is not None and a_zero.size != 1
    if by_row and (len(a.shape) != 2 or a_zero is None or len(a_zero.shape) != 1):
        return "a zero for each row of a batch"
    follow = Follow(
        Target.INT, results[0].dtype, a_zero=a_zero, b_zero=b_zero, by_row=int(by_row)
    )
    return _matmul(b, a, other, follow, results[0])


def quantized_matmul(
    b: Builder, node: Node, inputs: Operands, results: Sequence[Info]
) -> Lowered:
    """Scaled sums of float32, with what follows them."""
    a, other, a_scale, b_scale, a_zero, b_zero, bias, residual = [*inputs, *[None] * 4][:8]
    assert a is not None and other is not None
    if residual is not None:
        residual = b.dense(residual)
    follow = Follow(
        Target.FLOAT,
        FLOAT32,
        a_zero,
        b_zero,
        a_scale,
        b_scale,
        bias=bias,
        residual=residual,
        activation=ACTIVATIONS[str(node.attrs.get("activation", "none"))],
    )
    return _matmul(b, a, other, follow, results[0])


def qlinear_matmul(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums made bytes again."""
    a, a_scale, a_zero, other, b_scale, b_zero, y_scale, y_zero, bias = [*inputs, None][:9]
    assert a is not None and other is not None and a_scale is not None and a_zero is not None
    assert y_scale is not None and y_zero is not None
    if a_scale.dtype is not FLOAT32:
        return f"no kernel for scales of {a_scale.dtype}"
    if max(a_scale.size, a_zero.size, y_scale.size, y_zero.size) != 1:
        return "a scale or zero for each row"
    to = results[0].dtype
    follow = Follow(
        byte_target(to), to, a_zero, b_zero, a_scale, b_scale, y_scale, y_zero, bias,
        limits=limits(node.attrs, to),
    )  # fmt: skip
    return _matmul(b, a, other, follow, results[0])


def _matmul(b: Builder, a: Tensor, other: Tensor, follow: Follow, result: Info) -> Lowered:
    a, other = as_matrices(a, other)
    rows, inner, columns = a.shape[-2], a.shape[-1], other.shape[-1]
    if inner == 0:
        return "sums of nothing"
    for of_columns in (follow.b_zero, follow.b_scale):
        if of_columns is not None and (
            len(of_columns.shape) > 1 or of_columns.size not in (1, columns)
        ):
            return "a scale or zero for each matrix of a batch"
    if tiles.quant_scratch(1, inner) > SCRATCH:
        return f"sums of {inner} products do not fit scratch memory"
    batch = broadcast_two(a.shape[:-2], other.shape[:-2])
    assert batch is not None  # inference has refused it
    c = b.new(follow.dtype, (*batch, rows, columns))
    if c.size == 0:
        return [b.shaped(c, result.shape)]
    if count(other.shape[:-2]) == 1:
        a, other = one_for_all(b, a, other)
        rows, batch = a.shape[0], ()
    if count(batch) > MATRICES:
        return f"a batch of {count(batch)} matrices"
    if inner != 1 and a.strides[-1] != 1:
        a = b.copied(a)
    # Looking through weights pays when many rows are multiplied by them.
    looked = is_constant(other) or rows >= MANY_ROWS
    packed, each = pack(b, other, Dot.PROBED if looked else Dot.LIVE)
    wide = a.broadcast_to((*batch, rows, inner))
    walks = tiles.row_walks(other.shape[:-2], each)
    walks = (0,) * (len(batch) - len(walks)) + walks
    for number, index in enumerate(product(*map(range, batch))):
        one = replace(
            wide,
            shape=wide.shape[-2:],
            strides=wide.strides[-2:],
            offset=wide.offset + sum(i * s for i, s in zip(index, wide.strides, strict=False)),
        )
        panels = replace(
            packed,
            shape=(each,),
            strides=(1,),
            offset=packed.offset + sum(i * s for i, s in zip(index, walks, strict=True)),
        )
        size = rows * columns
        sums = replace(c, shape=(size,), strides=(1,), offset=c.offset + number * size)
        more = follow.residual
        if more is not None:
            more = replace(more, shape=(size,), strides=(1,), offset=more.offset + number * size)
        extents = (rows, inner, columns)
        gemm(b, extents, one, panels, other.dtype, replace(follow, residual=more), sums)
    return [b.shaped(c, result.shape)]


def pack(b: Builder, matrix: Tensor, dot: Dot = Dot.PROBED) -> tuple[Tensor, int]:
    """(panels of a matrix (..., k, n) of bytes, bytes that each matrix takes)."""
    inner, columns = matrix.shape[-2:]
    each = tiles.quant_packed_bytes(inner, columns)
    matrices = count(matrix.shape[:-2])
    shape = (matrices * each,)
    if is_constant(matrix):
        packed, fresh = b.prepared(f"byte panels({view_key(matrix)})", UINT8, shape)
    else:
        packed, fresh = b.transient(UINT8, shape), True
    if not fresh:
        return packed, each
    sizes, (walk,) = collapse(matrix.shape[:-2], matrix.strides[:-2])
    if len(sizes) > 1:
        matrix = b.dense(matrix)
        sizes, (walk,) = collapse(matrix.shape[:-2], matrix.strides[:-2])
    panels = -(-columns // tiles.PANEL)
    most = max(1, PACK_BYTES // max(1, inner * tiles.PANEL))
    tile = max(1, min(most, -(-panels * matrices // (2 * b.threads))))
    tile = -(-tile // SIDE) * SIDE
    params = PackParams(
        k=inner,
        n=columns,
        stride_k=matrix.strides[-2],
        stride_n=matrix.strides[-1],
        batch_stride=walk[-1] if walk else 0,
        packed_stride=each,
        tile_panels=tile,
        b_signed=int(matrix.dtype is INT8),
        dot=dot,
    )
    b.emit(I8_GEMM_PACK_B, (-(-panels // tile), 1, matrices), params, (matrix, packed))
    return packed, each


def gemm(
    b: Builder,
    extents: tuple[int, int, int],
    a: Tensor,
    packed: Tensor,
    packed_dtype: DType,
    follow: Follow,
    c: Tensor,
) -> None:
    """One product of (rows, inner) and (inner, columns); c is dense."""
    rows, inner, columns = extents
    cut = tiles.quant_tiles(rows, columns, inner, b.threads)
    params = GemmParams(
        m=rows,
        n=columns,
        k=inner,
        lda=a.strides[-2] if rows > 1 else inner,
        ldc=columns,
        ldr=columns,
        a_stride=0,
        b_stride=0,
        c_stride=0,
        by_row=follow.by_row,
        row_stride=0,
        tile_m=cut.tile_m,
        tile_n=cut.tile_n,
        a_signed=int(a.dtype is INT8),
        b_signed=int(packed_dtype is INT8),
        target=follow.target,
        activation=follow.activation,
        least=follow.limits[0],
        most=follow.limits[1],
    )
    small = (
        None if tensor is None else b.dense(tensor)
        for tensor in (
            follow.a_zero, needed_zero(b, follow.b_zero, packed_dtype), follow.a_scale,
            follow.b_scale, follow.y_scale, follow.y_zero, follow.bias,
        )
    )  # fmt: skip
    operands = (a, packed, *small, follow.residual, c)
    b.emit(I8_GEMM, cut.counts(rows, columns), params, operands, cut.scratch)


PLAIN: dict[str, Lowering] = {
    "quantize_linear": linear,
    "dequantize_linear": linear,
    "dynamic_quantize_linear": dynamic,
    "matmul_integer": matmul_integer,
    "quantized_matmul": quantized_matmul,
    "qlinear_matmul": qlinear_matmul,
}
