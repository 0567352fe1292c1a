"""GF/s of the GEMM and attention kernels in headless Chromium, one thread, case by case.

    PYTHONPATH=pyapp .venv/bin/python -m tests.bench.kernels [milliseconds a case]

Prints the tables of kernels/gemm/README.md and kernels/attention/README.md. Needs the compiled
kernels (`python3 build.py build`) and a browser. Not a test: what it prints depends on the machine.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.kernel_page import Group, measured
from tilework.hal.kernels.attention import AttentionParams
from tilework.hal.kernels.gemm import Activation, GemmParams, PackBParams
from tilework.plan.tiles import (
    attention_tiles,
    gemm_tiles,
    pack_b_tile_panels,
    packed_b_elements,
)

SHAPES = [
    (1, 384, 1536), (2, 384, 1536), (3, 384, 1536), (7, 384, 1536),
    (16, 384, 384), (16, 384, 1536), (16, 1536, 384),
    (128, 384, 384), (128, 384, 1536), (128, 1536, 384), (256, 384, 1536), (256, 1536, 384),
    (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024),
]  # fmt: skip
LENGTHS = [(16, 32, 12), (128, 32, 12), (256, 32, 12), (512, 64, 4), (1024, 64, 4)]
PACKED = [256, 512, 1024]


def product(build: str, m: int, k: int, n: int, **extra: Any) -> dict[str, Any]:
    """f32_gemm of dense matrices, B packed."""
    cut = gemm_tiles(m, n, k, 1, 1)
    values: dict[str, Any] = dict.fromkeys(GemmParams._fields, 0) | {"m": m, "n": n, "k": k}
    values |= {"lda": k, "ldc": n, "ldr": n, "batch_inner": 1, "alpha": 1.0}
    values |= {"tile_m": cut.tile_m, "tile_n": cut.tile_n, "activation": Activation.NONE}
    return {
        "name": " ".join([build, *(a.name.lower() for a in extra.values())]),
        "module": f"{build}/gemm.wasm",
        "kernel": "f32_gemm",
        "counts": cut.counts(m, n),
        "params": list(GemmParams(**(values | extra)).pack()),
        "bindings": [m * k, packed_b_elements(k, n), n, 0, m * n],
        "scratch": cut.scratch,
        "flops": 2 * m * k * n,
    }


def attention(build: str, length: int, size: int, heads: int) -> dict[str, Any]:
    """f32_attention of one fused (length, 3 heads size) array, with a mask over the keys."""
    cut = attention_tiles(length, length, size, size, heads, 1, 1)
    width = heads * size
    whole, one = 3 * length * width, (0, size, 3 * width)  # strides of q, of k and of v
    strides = (*one, *one, *one, 0, size, width, 0, 0, 0, 1)
    params = AttentionParams._make(
        (length, length, size, size, *strides, cut.tile_rows, size**-0.5, 0)
    )
    return {
        "name": build,
        "module": f"{build}/attention.wasm",
        "kernel": "f32_attention",
        "counts": cut.counts(length, heads, 1),
        "params": list(params.pack()),
        "bindings": [whole, whole, whole, length, length * width],
        "scratch": cut.scratch,
        "flops": 4 * length * length * width,
    }


def pack(name: str, n: int, stride_k: int, stride_n: int) -> dict[str, Any]:
    """f32_gemm_pack_b of a square matrix; what it counts is bytes of B."""
    panels = pack_b_tile_panels(n, n, 1, 1)
    params = PackBParams(n, n, stride_k, stride_n, 0, n * n, panels, False)
    return {
        "name": name,
        "module": "relaxed/gemm.wasm",
        "kernel": "f32_gemm_pack_b",
        "counts": (-(-(n // 8) // panels), 1, 1),
        "params": list(params.pack()),
        "bindings": [n * n, n * n],
        "scratch": 0,
        "flops": 4 * n * n,
    }


def groups() -> list[Group]:
    made: list[Group] = []
    for m, k, n in SHAPES:
        cases = [product(build, m, k, n) for build in ("relaxed", "simd")]
        cases.append(product("relaxed", m, k, n, activation=Activation.GELU))
        made.append((f"{m} x {k} x {n}, GF/s", cases))
    for shape in LENGTHS:
        title = "attention S {}, D {}, H {}, GF/s".format(*shape)
        made.append((title, [attention(build, *shape) for build in ("relaxed", "simd")]))
    for n in PACKED:
        made.append((f"pack {n} x {n}, GB/s", [pack("rows", n, n, 1), pack("turned", n, 1, n)]))
    return made


def main(milliseconds: int) -> None:
    for title, timed in measured(groups(), milliseconds):
        shown = (f"{case['name']} {case['flops'] / t / 1e6:6.1f}" for case, t in timed)
        print(f"{title:36s}", "  ".join(shown), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
