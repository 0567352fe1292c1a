"""Packing, products and attention chained on a device, cut as the planner cuts them.

What one kernel computes is tested elsewhere; this is about tiles, barriers, scratch and threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from tests.kernels.bare_host import Array
from tilework.hal import Buffer, Device, open_device
from tilework.hal.kernels.attention import F32_ATTENTION, AttentionParams
from tilework.hal.kernels.gemm import (
    F32_GEMM,
    F32_GEMM_PACK_B,
    Activation,
    GemmParams,
    PackBParams,
)
from tilework.plan.tiles import (
    attention_tiles,
    gemm_tiles,
    pack_b_tile_panels,
    packed_b_elements,
)

pytestmark = pytest.mark.kernels


@pytest.fixture(scope="module", params=[1, 2], ids=["1-thread", "2-threads"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    opened = open_device(threads=request.param)
    yield opened
    opened.close()


def gemm_params(m: int, n: int, k: int, tile_m: int, tile_n: int) -> GemmParams:
    """One product of dense matrices."""
    return GemmParams(
        m, n, k, k, n, n, 1, 0, 0, 0, 0, 0, 0, 0, 0, tile_m, tile_n, 1.0, Activation.NONE, False
    )


@pytest.mark.parametrize(
    ("batch", "length", "heads", "size"),
    [(1, 16, 12, 32), (2, 130, 4, 32), (3, 9, 3, 20), (1, 600, 1, 64)],
)
def test_an_attention_layer(device: Device, batch: int, length: int, heads: int, size: int) -> None:
    """x + softmax(q k^T) v W with q, k, v = x U: as one program, run twice."""
    width, rows = heads * size, batch * length
    random = np.random.default_rng(length)
    x = random.uniform(-1, 1, (rows, width)).astype(np.float32)
    weights = [random.uniform(-1, 1, (width, n)).astype(np.float32) for n in (3 * width, width)]
    weights = [w / np.float32(math.sqrt(width)) for w in weights]
    buffers: list[Buffer] = []

    def put(array: Array) -> Buffer:
        buffers.append(device.allocate(array.nbytes))
        buffers[-1].write(np.ascontiguousarray(array))
        return buffers[-1]

    def empty(elements: int) -> Buffer:
        return put(np.full(elements, np.nan, np.float32))

    device_x, out = put(x), empty(rows * width)
    packed = [empty(packed_b_elements(*w.shape)) for w in weights]
    fused, context = empty(rows * 3 * width), empty(rows * width)
    commands = device.command_buffer("attention layer")
    for w, panels in zip(weights, packed, strict=True):
        k, n = w.shape
        tile = pack_b_tile_panels(k, n, 1, device.threads)
        params = PackBParams(k, n, n, 1, 0, packed_b_elements(k, n), tile, False)
        counts = (-(-((n + 7) // 8) // tile), 1, 1)
        commands.dispatch(F32_GEMM_PACK_B, counts, params, [put(w), panels])
    commands.barrier()
    cut = gemm_tiles(rows, 3 * width, width, 1, device.threads)
    commands.dispatch(
        F32_GEMM, cut.counts(rows, 3 * width),
        gemm_params(rows, 3 * width, width, cut.tile_m, cut.tile_n),
        [device_x, packed[0], None, None, fused],
    )  # fmt: skip
    commands.barrier()
    cells = attention_tiles(length, length, size, size, heads, batch, device.threads)
    part = (length * 3 * width, size, 3 * width)
    views = [fused.subspan(4 * i * width, fused.nbytes - 4 * i * width) for i in range(3)]
    commands.dispatch(
        F32_ATTENTION, cells.counts(length, heads, batch),
        AttentionParams(
            length, length, size, size, *part, *part, *part, length * width, size, width,
            0, 0, 0, 0, cells.tile_rows, 1 / math.sqrt(size), 0, 0.0,
        ),
        [*views, None, context], scratch=cells.scratch,
    )  # fmt: skip
    commands.barrier()
    cut = gemm_tiles(rows, width, width, 1, device.threads)
    commands.dispatch(
        F32_GEMM, cut.counts(rows, width), gemm_params(rows, width, width, cut.tile_m, cut.tile_n),
        [context, packed[1], None, device_x, out],
    )  # fmt: skip
    program = commands.finish()
    results = []
    for _ in range(2):
        device.submit(program)
        result = np.empty((rows, width), np.float32)
        out.read_into(result)
        results.append(result)
    program.free()
    for buffer in buffers:
        buffer.free()

    x64 = x.astype(np.float64)
    parts = (x64 @ weights[0]).reshape(batch, length, 3, heads, size).transpose(2, 0, 3, 1, 4)
    scores = parts[0] @ parts[1].swapaxes(-1, -2) / math.sqrt(size)
    soft = np.exp(scores - scores.max(-1, keepdims=True))
    soft /= soft.sum(-1, keepdims=True)
    mixed = (soft @ parts[2]).transpose(0, 2, 1, 3).reshape(rows, width)
    np.testing.assert_allclose(results[0], x64 + mixed @ weights[1], atol=5e-6, rtol=0)
    np.testing.assert_array_equal(results[0], results[1])
