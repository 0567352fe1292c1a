"""Matrix products: a constant second operand is packed once a session, another at every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilework.core.dtypes import FLOAT32
from tilework.core.shapes import broadcast_two, count
from tilework.hal.kernels.gemm import (
    F32_GEMM,
    F32_GEMM_PACK_B,
    Activation,
    GemmParams,
    PackBParams,
)
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import Info
from tilework.plan import tiles
from tilework.plan.builder import Builder, is_constant, view_key
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.tensor import Tensor, collapse

ACTIVATIONS = {name.lower(): value for name, value in Activation.__members__.items()}
PACK_DISPATCHES = 64  # at most so many for one batch of matrices; beyond that a dense copy first


def matmul(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """matmul and fused_matmul of float32."""
    a, other, bias, residual = [*inputs, None, None][:4]
    assert a is not None and other is not None
    if a.dtype is not FLOAT32:
        return f"no kernel for {node.op} of {a.dtype}"
    attrs: Any = node.attrs
    result = results[0]
    if attrs.get("transpose_b", 0):
        rank = len(other.shape)
        other = other.transposed((*range(rank - 2), rank - 1, rank - 2))
    a, other = as_matrices(a, other)
    rows, inner, columns = a.shape[-2], a.shape[-1], other.shape[-1]
    if inner == 0:
        return "sums of nothing"
    batch = broadcast_two(a.shape[:-2], other.shape[:-2])
    assert batch is not None  # inference has refused it
    c = b.new(FLOAT32, (*batch, rows, columns))
    if c.size == 0:
        return [b.shaped(c, result.shape)]
    if residual is not None:
        residual = b.shaped(b.dense(residual), c.shape)
    if count(other.shape[:-2]) == 1:
        a, other = one_for_all(b, a, other)
        rows, batch = a.shape[0], ()
    if inner != 1 and a.strides[-1] != 1:
        a = b.copied(a)
    problem = _Problem(rows, columns, inner, batch)
    packed, walks, _ = _packed(b, other, problem)
    _emit(b, problem, a, packed, walks, bias, residual, c, attrs)
    return [b.shaped(c, result.shape)]


def as_matrices(a: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """A product's operands, where vectors have become matrices with one row or one column."""
    if len(a.shape) == 1:
        a = replace(a, shape=(1, *a.shape), strides=(0, *a.strides))
    if len(other.shape) == 1:
        other = replace(other, shape=(*other.shape, 1), strides=(*other.strides, 0))
    return a, other


def one_for_all(b: Builder, a: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both without a batch, where `other` is one matrix: the batch of a is so many more rows."""
    other = replace(other, shape=other.shape[-2:], strides=other.strides[-2:])
    return b.shaped(a, (count(a.shape[:-1]), a.shape[-1])), other


@dataclass(frozen=True, slots=True)
class _Problem:
    """Extents of a product, and its batch."""

    rows: int
    columns: int
    inner: int
    batch: tuple[int, ...]


def panels(b: Builder, matrices: Tensor) -> tuple[Tensor, int]:
    """(matrices (…, k, n) in the panels of f32_gemm, elements a matrix)."""
    inner, columns = matrices.shape[-2:]
    packed, _, each = _packed(b, matrices, _Problem(0, columns, inner, matrices.shape[:-2]))
    return packed, each


def _packed(b: Builder, matrix: Tensor, problem: _Problem) -> tuple[Tensor, tuple[int, ...], int]:
    """(packed panels, the batch's strides over the packed matrices, elements a matrix)."""
    own = matrix.shape[:-2]
    each = tiles.packed_b_elements(problem.inner, problem.columns)
    matrices = count(own)
    firsts = is_constant(matrix) and matrices == 1
    shape = (matrices * each,)
    if firsts:
        shape = (each + tiles.packed_b_firsts(problem.inner, problem.columns),)
    if is_constant(matrix):
        packed, fresh = b.prepared(f"panels({view_key(matrix)})", FLOAT32, shape)
    else:
        packed, fresh = b.transient(FLOAT32, shape), True
    if fresh:
        _pack(b, matrix, packed, each, firsts)
    strides = []
    step = each
    for extent in reversed(own):
        strides.append(0 if extent == 1 else step)
        step *= extent
    lead = len(problem.batch) - len(own)
    return packed, (0,) * lead + tuple(reversed(strides)), each


def _pack(b: Builder, matrix: Tensor, packed: Tensor, each: int, firsts: bool) -> None:
    inner, columns = matrix.shape[-2:]
    sizes, (walk,) = collapse(matrix.shape[:-2], matrix.strides[:-2])
    if count(sizes[:-1]) > PACK_DISPATCHES:
        matrix = b.dense(matrix)
        sizes, (walk,) = collapse(matrix.shape[:-2], matrix.strides[:-2])
    matrices, step = (sizes[-1], walk[-1]) if sizes else (1, 0)
    panels = tiles.pack_b_tile_panels(inner, columns, matrices, b.threads)
    for number in range(count(sizes[:-1])):
        offset, rest = matrix.offset, number
        for extent, stride in zip(reversed(sizes[:-1]), reversed(walk[:-1]), strict=True):
            rest, index = divmod(rest, extent)
            offset += index * stride
        source = replace(
            matrix,
            shape=(matrices, inner, columns),
            strides=(step, *matrix.strides[-2:]),
            offset=offset,
        )
        target = packed
        if not firsts:
            target = replace(
                packed, shape=(matrices * each,), offset=packed.offset + number * matrices * each
            )
        params = PackBParams(
            k=inner,
            n=columns,
            stride_k=matrix.strides[-2],
            stride_n=matrix.strides[-1],
            batch_stride=step,
            packed_stride=each,
            tile_panels=panels,
            firsts=firsts,
        )
        strips = -(-columns // tiles.PANEL)
        counts = (-(-strips // panels), 1, matrices)
        b.emit(F32_GEMM_PACK_B, counts, params, (source, target))


def _emit(
    b: Builder,
    problem: _Problem,
    a: Tensor,
    packed: Tensor,
    walks_b: tuple[int, ...],
    bias: Tensor | None,
    residual: Tensor | None,
    c: Tensor,
    attrs: Any,
) -> None:
    rows, columns, inner, batch = problem.rows, problem.columns, problem.inner, problem.batch
    c_strides = _batch_strides(batch, rows * columns)
    # Two nested loops at most: the walk over A is the only one that may not join.
    wide = a.broadcast_to((*batch, rows, inner))
    sizes, walks = collapse(batch, wide.strides[:-2], walks_b, c_strides)
    if len(sizes) > 2:
        wide = b.copied(wide)
        sizes, walks = collapse(batch, wide.strides[:-2], walks_b, c_strides)
    if len(sizes) > 2:
        _each(b, problem, wide, packed, walks_b, bias, residual, c, attrs)
        return
    outer_inner = [(0, 0)[: 2 - len(walk)] + walk for walk in walks]
    inner_count = sizes[-1] if sizes else 1
    lda = wide.strides[-2] if rows > 1 else inner
    count_z = count(sizes)
    cut = tiles.gemm_tiles(rows, columns, inner, count_z, b.threads)
    params = GemmParams(
        m=rows,
        n=columns,
        k=inner,
        lda=lda,
        ldc=columns,
        ldr=columns,
        batch_inner=inner_count,
        a_outer=outer_inner[0][0],
        a_inner=outer_inner[0][1],
        b_outer=outer_inner[1][0],
        b_inner=outer_inner[1][1],
        c_outer=outer_inner[2][0],
        c_inner=outer_inner[2][1],
        r_outer=outer_inner[2][0],
        r_inner=outer_inner[2][1],
        tile_m=cut.tile_m,
        tile_n=cut.tile_n,
        alpha=float(attrs.get("alpha", 1.0)),
        activation=ACTIVATIONS[attrs.get("activation", "none")],
        rewrite=packed.size > tiles.packed_b_elements(inner, columns)
        and count_z == 1
        and tiles.gemm_rewrites(rows, cut, b.threads, b.weights),
    )
    vector = None if bias is None else b.dense(bias)
    b.emit(
        F32_GEMM,
        cut.counts(rows, columns, count_z),
        params,
        (wide, packed, vector, residual, c),
        cut.scratch,
    )


def _batch_strides(batch: tuple[int, ...], each: int) -> tuple[int, ...]:
    strides = []
    for extent in reversed(batch):
        strides.append(each)
        each *= extent
    return tuple(reversed(strides))


def _each(
    b: Builder,
    problem: _Problem,
    a: Tensor,
    packed: Tensor,
    walks: tuple[int, ...],
    bias: Tensor | None,
    residual: Tensor | None,
    c: Tensor,
    attrs: Any,
) -> None:
    """One dispatch for each index of the outermost axis, when the batch has more than two loops."""
    rest = _Problem(problem.rows, problem.columns, problem.inner, problem.batch[1:])
    for index in range(problem.batch[0]):
        parts = [
            None
            if tensor is None
            else replace(
                tensor,
                shape=tensor.shape[1:],
                strides=tensor.strides[1:],
                offset=tensor.offset + index * tensor.strides[0],
            )
            for tensor in (a, residual, c)
        ]
        panels = replace(packed, offset=packed.offset + index * walks[0])
        if walks[0]:
            panels = replace(panels, shape=(packed.size // problem.batch[0],))
        assert parts[0] is not None and parts[2] is not None
        _emit(b, rest, parts[0], panels, walks[1:], bias, parts[1], parts[2], attrs)


def gemm(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """alpha a b + beta c, of what the passes left: most are fused_matmul long before."""
    a, other, c = [*inputs, None][:3]
    assert a is not None and other is not None
    attrs: Any = node.attrs
    beta = attrs.get("beta", 1.0)
    c = None if beta == 0 else c
    if c is not None and (c.dtype is not FLOAT32 or beta != 1):
        return f"no kernel for {node.op} with {c.dtype} times {beta}"
    a = a.transposed((1, 0)) if attrs.get("transpose_a", 0) else a
    other = other.transposed((1, 0)) if attrs.get("transpose_b", 0) else other
    bias = residual = None
    if c is not None and c.shape == results[0].shape[1:]:
        bias = c
    elif c is not None:
        residual = c.broadcast_to(results[0].shape)
    product = Node("fused_matmul", (), (), {"alpha": attrs.get("alpha", 1.0)})
    return matmul(b, product, (a, other, bias, residual), results)


FLOATS: dict[str, Lowering] = {
    "gemm": gemm,
    "matmul": matmul,
    "fused_matmul": matmul,
}
